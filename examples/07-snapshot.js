// A guest that counts is saved to files by one process, and continues in a second process.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { fromSupported, Kvm } from "node-kvm";
import { guest } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";
import { stateFromJson, stateToJson } from "node-kvm/state";

const PORT = 0x80;
const program = guest("long", (g) =>
  g.asm((a) => a.label("again").inc("ebx").mov("eax", "ebx").out(32, PORT).jmp("again")),
);

/** @param {string} who @param {Sandbox} box */
function count(who, box) {
  const exits = [box.vcpu.runSync(), box.vcpu.runSync(), box.vcpu.runSync()];
  const values = exits.map((exit) =>
    exit.kind === "io" && exit.direction === "out" ? exit.values : [],
  );
  console.log(`${who}: ${values.join(" ")}`);
}

const kvm = Kvm.open();
const box = new Sandbox(kvm, { program, cpuid: fromSupported(kvm.getSupportedCpuid()) });
const { vm, vcpu, memory } = box;
const [, , given] = process.argv;
if (given === undefined) {
  count("this process", box);
  const folder = mkdtempSync(join(tmpdir(), "snapshot-"));
  try {
    writeFileSync(join(folder, "state.json"), stateToJson(vm.saveState([vcpu])));
    writeFileSync(join(folder, "memory"), memory.read(0, program.memorySize));
    execFileSync(process.execPath, [fileURLToPath(import.meta.url), folder], { stdio: "inherit" });
  } finally {
    rmSync(folder, { recursive: true });
  }
} else {
  memory.write(0, readFileSync(join(given, "memory")));
  vm.restoreState(stateFromJson(readFileSync(join(given, "state.json"), "utf8")), [vcpu]);
  count("another process", box);
}
box.close();
kvm.close();

// Prints:
// this process: 1 2 3
// another process: 4 5 6
