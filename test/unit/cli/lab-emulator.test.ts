/** Tests which emulator an option selects, and which KVM module is loaded for the emulator. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { cpuModels } from "../../../lib/cli/lab-emulator.ts";
import { LabCache } from "../../../lib/lab/cache/cache.ts";
import { type LabResult, runInLab } from "../../../lib/lab/machine/machine.ts";
import { temporaryFolder } from "../lab/temporary.ts";

afterEach(() => {
  vi.unstubAllEnvs();
});

describe("the CPU model of a lab command", () => {
  test("is a model of the selected emulator if no prefix names another emulator", () => {
    expect(cpuModels(["max,-la57", "bochs:ryzen"], "qemu")).toEqual([
      { emulator: "qemu", cpu: "max,-la57" },
      { emulator: "bochs", cpu: "ryzen" },
    ]);
  });

  test("is the emulator's default model if the option is omitted", () => {
    expect(cpuModels([], "qemu")).toEqual([{ emulator: "qemu", cpu: "max" }]);
    expect(cpuModels([], "bochs")).toEqual([{ emulator: "bochs", cpu: "corei7_haswell_4770" }]);
  });
});

/** Requests a machine in Bochs with a kernel that has one of KVM's two vendor modules built in. */
function run(builtin: "kvm-amd" | "kvm-intel", cpu?: string): Promise<LabResult> {
  vi.stubEnv("NODE_KVM_BOCHS", "/nowhere/bochs");
  const folder = temporaryFolder();
  mkdirSync(join(folder, "modules"));
  writeFileSync(join(folder, "modules/modules.builtin"), `kernel/arch/x86/kvm/${builtin}.ko\n`);
  writeFileSync(join(folder, "base"), "");
  return runInLab({
    kernel: { name: "6.12", release: "", vmlinuz: "/k", modules: join(folder, "modules") },
    command: ["true"],
    base: join(folder, "base"),
    cache: new LabCache(join(folder, "cache")),
    emulator: "bochs",
    ...(cpu === undefined ? {} : { cpu }),
  });
}

describe("a lab machine in Bochs", () => {
  test("loads kvm_intel if its CPU model is an Intel CPU", async () => {
    await expect(run("kvm-amd")).rejects.toThrow("there is no module kvm_intel");
    await expect(run("kvm-intel")).rejects.toThrow("the emulator /nowhere/bochs does not exist");
  });

  test("loads kvm_amd if its CPU model is an AMD CPU", async () => {
    await expect(run("kvm-intel", "ryzen")).rejects.toThrow("there is no module kvm_amd");
    await expect(run("kvm-amd", "ryzen")).rejects.toThrow(
      "the emulator /nowhere/bochs does not exist",
    );
  });
});
