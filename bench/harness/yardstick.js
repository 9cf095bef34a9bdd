// The C side of the benchmark: compiles yardstick.c, and sends commands to a process that runs it.
import { execFileSync, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Cpuid2, encode, Regs, Sregs } from "node-kvm/abi";

const SOURCE = fileURLToPath(new URL("../yardstick.c", import.meta.url));

/** Compiles the program, statically because a lab guest has no shared libraries. @param {string} to */
export function compile(to) {
  const flags = ["-O2", "-static", "-pthread", "-Wall", "-Werror"];
  execFileSync("cc", [...flags, "-o", to, SOURCE], { stdio: "inherit" });
}

/** @param {Uint8Array} bytes */
const hex = (bytes) => Buffer.from(bytes).toString("hex");

/** A process that runs the yardstick with separate VMs. */
export class Yardstick {
  #process;
  #answers;

  /** @param {string} path the compiled program */
  constructor(path) {
    this.#process = spawn(path, [], { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface({ input: this.#process.stdout });
    this.#answers = lines[Symbol.asyncIterator]();
  }

  /** The process id, for measuring its memory. */
  get pid() {
    return this.#process.pid;
  }

  /** Sends one command and returns its result. @param {string} line @returns {Promise<{ ns: number, operations: number }>} */
  async ask(line) {
    this.#process.stdin.write(`${line}\n`);
    const { value = "error it has ended", done } = await this.#answers.next();
    if (done || value.startsWith("error ")) {
      throw new Error(`${line.slice(0, 40)}: ${value.slice("error ".length)}`);
    }
    const [ns, operations] = value.split(" ").map(Number);
    return { ns, operations };
  }

  /**
   * Sends the contents of a VM: the same bytes that the sandbox passes to KVM.
   *
   * @param {import("node-kvm/machine").Sandbox} sandbox created, and not yet run
   * @param {Iterable<import("node-kvm/abi").CpuidEntry2Input>} cpuid its table
   */
  async describe({ program, vcpu }, cpuid) {
    await this.ask(`memory ${program.memorySize}`);
    for (const { gpa, bytes } of program.image()) await this.ask(`load ${gpa} ${hex(bytes)}`);
    await this.ask(`cpuid ${hex(encode(Cpuid2, { entries: Array.from(cpuid) }))}`);
    await this.ask(`sregs ${hex(encode(Sregs, program.sregs(vcpu.getSregs())))}`);
    await this.ask(`regs ${hex(encode(Regs, program.regs))}`);
  }

  /** Ends the process, which closes its VMs. */
  close() {
    this.#process.stdin.end();
  }
}
