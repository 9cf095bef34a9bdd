/** Tests of Host: the names come from the host's files and its kernel, never from the device. */
import { existsSync, readFileSync } from "node:fs";
import { expect, test, vi } from "vitest";
import { kernelRelease, vendorModule } from "../../../lib/kvm/host.ts";
import { defaultDevice } from "../../../lib/kvm/kvm.ts";

test("Host's kernel release equals /proc/sys/kernel/osrelease", () => {
  expect(kernelRelease()).toBe(readFileSync("/proc/sys/kernel/osrelease", "utf8").trim());
});

test("Host names the loaded vendor module, or none if no vendor module is loaded", () => {
  const loaded = ["kvm_intel", "kvm_amd", "kvm_pvm"].filter((name) =>
    existsSync(`/sys/module/${name}`),
  );
  expect(vendorModule()).toBe(loaded[0]);
});

test("the path of the device is /dev/kvm if NODE_KVM_DEVICE does not name another device", () => {
  vi.stubEnv("NODE_KVM_DEVICE", undefined);
  expect(defaultDevice()).toBe("/dev/kvm");
  vi.stubEnv("NODE_KVM_DEVICE", "/dev/kvm-other");
  expect(defaultDevice()).toBe("/dev/kvm-other");
  vi.unstubAllEnvs();
});
