/** Creates machines whose emulator is a shell script, so that a test defines the guest's output on its ports. */
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { onTestFinished, vi } from "vitest";
import { LabCache } from "../../../../lib/lab/cache/cache.ts";
import type { Kernel } from "../../../../lib/lab/kernels/kernels.ts";
import { type LabOptions, type LabResult, runInLab } from "../../../../lib/lab/machine/machine.ts";
import { temporaryFolder } from "../temporary.ts";

/** The descriptors of ttyS0 to ttyS3 in the shell script. */
export const FD = [3, 4, 5, 6] as const;

/** The output of a guest that boots and runs its command. */
export const BOOTED = "printf '[ 0.1] Linux version 6.12\\r\\n' >&3; printf 'up\\nrun\\n' >&6";

/** Puts a script in place of QEMU into a new folder in PATH, until the end of the test. */
export class ScriptedEmulator {
  readonly folder: string = temporaryFolder();

  constructor(script: string) {
    mkdirSync(join(this.folder, "modules"));
    writeFileSync(
      join(this.folder, "modules/modules.builtin"),
      ["kvm-amd", "kvm"].map((name) => `kernel/arch/x86/kvm/${name}.ko\n`).join(""),
    );
    writeFileSync(join(this.folder, "base"), "");
    const program = join(this.folder, "qemu-system-x86_64");
    writeFileSync(program, `#!/bin/sh\n${script}\n`);
    chmodSync(program, 0o755);
    vi.stubEnv("PATH", `${this.folder}:${process.env["PATH"]}`);
    onTestFinished(() => void vi.unstubAllEnvs());
  }

  /** Returns a kernel that the script recognises by `-kernel /k/NAME` among its arguments. */
  kernel(name = "6.12"): Kernel {
    return { name, release: name, vmlinuz: `/k/${name}`, modules: join(this.folder, "modules") };
  }

  /** Runs a command in a machine with the scripted emulator. */
  run(more: Partial<LabOptions> = {}): Promise<LabResult> {
    return runInLab({
      kernel: this.kernel(),
      command: ["true"],
      base: join(this.folder, "base"),
      cache: new LabCache(join(this.folder, "cache")),
      ...more,
    });
  }
}
