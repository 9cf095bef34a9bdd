/** Tests of Host: the names come from the host's files and its kernel, never from the device. */
import { existsSync, readFileSync } from "node:fs";
import { expect, onTestFinished, test, vi } from "vitest";
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

test("the vendor module is undefined if this process may not read /sys/module", async () => {
  vi.resetModules();
  vi.doMock("node:fs", () => ({
    existsSync: () => {
      throw Object.assign(new Error("Access to this API has been restricted"), {
        code: "ERR_ACCESS_DENIED",
      });
    },
  }));
  onTestFinished(() => {
    vi.doUnmock("node:fs");
    vi.resetModules();
  });
  const host = await import("../../../lib/kvm/host.ts");
  expect(host.vendorModule()).toBeUndefined();
});
