/** Tests of the advice that `node-kvm test` gives on a host without KVM. */
import { afterEach, expect, test, vi } from "vitest";
import { adviceWithoutKvm } from "../../../lib/cli/lab-instead.ts";

afterEach(() => {
  vi.unstubAllEnvs();
});

test("if NODE_KVM_DEVICE names a missing device, the advice is to correct the variable, and not to use QEMU", () => {
  vi.stubEnv("NODE_KVM_DEVICE", "/dev/nope");
  expect(adviceWithoutKvm()).toBe(
    "NODE_KVM_DEVICE is /dev/nope: unset it to use /dev/kvm, or set it to the path of a KVM device",
  );
});

test("if there is no device and NODE_KVM_DEVICE is not set, the advice is to use the lab", () => {
  vi.stubEnv("NODE_KVM_DEVICE", undefined);
  expect(adviceWithoutKvm()).toContain("node-kvm lab run");
});
