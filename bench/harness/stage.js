// What a question's rows are measured on: a VM of its own for each, on either side.
import { CpuidTable, fromSupported, Kvm } from "node-kvm";
import { Sandbox } from "node-kvm/machine";
import { program } from "./guests.js";
import { timed } from "./rounds.js";
import { Yardstick } from "./yardstick.js";

/** Everything that one setting of a question opens. */
export class Stage {
  kvm = Kvm.open();
  /** What KVM keeps of the table that it supports: kvm_pvm changes it, and takes it after a run only so. */
  cpuid = this.#kept(fromSupported(this.kvm.getSupportedCpuid()));
  #opened = [];
  #guest;
  #yardstick;

  /** @param {{ guest: string, ring?: string, yardstick: string }} options */
  constructor({ guest, ring = "ring 0", yardstick }) {
    this.ring = ring;
    this.#guest = guest;
    this.#yardstick = yardstick;
  }

  /** The guest of this question, in this ring. */
  get program() {
    return program(this.#guest, this.ring);
  }

  /** Keeps something until the stage is closed. @template {{ close(): void }} T @param {T} handle @returns {T} */
  keep(handle) {
    this.#opened.unshift(handle);
    return handle;
  }

  /** Makes a VM with one vCPU and the guest. */
  sandbox() {
    return this.keep(new Sandbox(this.kvm, { program: this.program, cpuid: this.cpuid }));
  }

  #kept(table) {
    const vm = this.kvm.createVm();
    const vcpu = vm.createVcpu(0);
    vcpu.setCpuid2(table);
    const kept = CpuidTable.from(vcpu.getCpuid2());
    vm.close();
    return kept;
  }

  /** Starts the C side, told what its VMs are made of; none is made yet. */
  async yardstick() {
    const yardstick = this.keep(new Yardstick(this.#yardstick));
    const sandbox = new Sandbox(this.kvm, { program: this.program, cpuid: this.cpuid });
    await yardstick.describe(sandbox, this.cpuid);
    sandbox.close();
    return yardstick;
  }

  /** Makes one row ready. @param {object} row @param {number} n operations a sample */
  async contender(row, n) {
    if (row.command === undefined) {
      const sample = await row.start(this);
      return { measure: () => timed(sample, n) };
    }
    const yardstick = await this.yardstick();
    for (const line of ["make 1", ...(row.lines ?? [])]) await yardstick.ask(line);
    return { measure: () => yardstick.ask(`${row.command} ${n}`) };
  }

  /** Closes everything, the last first. */
  async close() {
    for (const handle of this.#opened) await handle.close();
    this.kvm.close();
  }
}
