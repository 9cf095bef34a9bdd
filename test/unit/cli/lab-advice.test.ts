/** Tests of the advice that `node-kvm test` gives on a host without KVM. */
import { afterEach, expect, test, vi } from "vitest";
import { adviceWithoutKvm } from "../../../lib/cli/lab-instead.ts";

afterEach(() => {
  vi.unstubAllEnvs();
});

test("a device that NODE_KVM_DEVICE names is corrected there, and QEMU is not recommended", () => {
  vi.stubEnv("NODE_KVM_DEVICE", "/dev/nope");
  expect(adviceWithoutKvm()).toBe(
    "NODE_KVM_DEVICE is /dev/nope: unset it to use /dev/kvm, or set it to the path of a KVM device",
  );
});

test("without the variable, the lab is recommended", () => {
  vi.stubEnv("NODE_KVM_DEVICE", undefined);
  expect(adviceWithoutKvm()).toContain("node-kvm lab run");
});
