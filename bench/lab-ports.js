// Measures how fast the lab reads a guest's serial ports: a script replaces the emulator and writes as fast as it can.
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "rolldown";
import { total } from "./harness/limits.js";

/** The limit is one second for 50 MB; an operation of each row is one megabyte. */
const MB = 1e6;
const limit = total(1e9 / 50);

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Bundles the code of the lab's machine, because it is not an entry of the package and dist/ has no file for it. */
async function builtLab() {
  const folder = join(ROOT, "build/bench");
  const [cache, machine] = ["cache", "machine"].map((name) =>
    join(ROOT, `lib/lab/${name}/${name}.ts`),
  );
  await build({
    input: { cache, machine },
    platform: "node",
    transform: { target: "es2023" },
    output: { dir: folder },
  });
  const { LabCache } = await import(join(folder, "cache.js"));
  const { runInLab } = await import(join(folder, "machine.js"));
  return { LabCache, runInLab };
}

/** Makes a machine whose QEMU is a script that writes the given number of megabytes. @param {(mb: number) => string} script */
const machine = (script, more) => async (stage) => {
  const folder = mkdtempSync(join(tmpdir(), "lab-ports-"));
  stage.keep({ close: () => rmSync(folder, { recursive: true }) });
  mkdirSync(join(folder, "modules"));
  writeFileSync(
    join(folder, "modules/modules.builtin"),
    ["kvm-amd", "kvm"].map((name) => `kernel/arch/x86/kvm/${name}.ko\n`).join(""),
  );
  writeFileSync(join(folder, "base"), "");
  const { LabCache, runInLab } = await builtLab();
  const program = join(folder, "qemu-system-x86_64");
  return async (mb) => {
    writeFileSync(program, `#!/bin/sh\n${script(mb)}\nprintf 'end\\n' >&6\n`);
    chmodSync(program, 0o755);
    // The folder of the current row comes first in PATH; the lab then starts the script in this folder as QEMU.
    process.env.PATH = `${folder}:${process.env.PATH.replace(`${folder}:`, "")}`;
    const result = await runInLab({
      kernel: { name: "", release: "", vmlinuz: "/k", modules: join(folder, "modules") },
      command: ["true"],
      base: join(folder, "base"),
      cache: new LabCache(join(folder, "cache")),
      ...more,
    });
    if (result.kind !== "exited") throw new Error(`the machine ${result.kind}: ${result.why}`);
    return mb;
  };
};

const OK = "printf 'status 0 0 0\\n' >&6";

export const question = {
  name: "lab-ports",
  asks: "How long does the lab take for a megabyte of a guest's serial ports?",
  note: "The limit is 50 MB/s. The time includes starting the script.",
  guest: "port",
  // The script and the lab each run on a separate CPU, as QEMU does.
  pinned: false,
  operations: 50,
  rows: [
    {
      what: "stdout, passed on",
      start: machine(
        (mb) => `head -c ${mb * MB} /dev/zero >&4; printf 'status 0 ${mb * MB} 0\\n' >&6`,
        { onStdout: () => undefined },
      ),
      limit,
    },
    {
      what: "stdout, kept",
      start: machine(
        (mb) => `head -c ${mb * MB} /dev/zero >&4; printf 'status 0 ${mb * MB} 0\\n' >&6`,
      ),
      limit,
    },
    {
      what: "a file",
      start: machine(
        (mb) => `${OK}; printf 'file ${mb * MB} /out\\n' >&6; head -c ${mb * MB} /dev/zero >&6`,
        { wanted: ["/out"] },
      ),
      limit,
    },
    {
      what: "the kernel's log, lines of 60 bytes",
      operations: 16,
      start: machine(
        (mb) => `yes '[    0.123456] ${"x".repeat(44)}' | head -c ${mb * MB} >&3; ${OK}`,
      ),
      limit,
    },
  ],
};
