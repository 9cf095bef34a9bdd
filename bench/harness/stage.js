// The VMs for the rows of a question: each row has separate VMs, in JavaScript or in C.
import { CpuidTable, fromSupported, Kvm } from "node-kvm";
import { Sandbox } from "node-kvm/machine";
import { program } from "./guests.js";
import { timed } from "./rounds.js";
import { Yardstick } from "./yardstick.js";

/** The objects that one setting of a question opens. */
export class Stage {
  kvm = Kvm.open();
  /**
   * The supported CPUID table as KVM stores it: kvm_pvm changes some bits, and after a run, KVM accepts only the
   * changed table.
   */
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

  /** The guest program of this question, for the ring of the setting. */
  get program() {
    return program(this.#guest, this.ring);
  }

  /** Registers a handle, which is closed with the stage. @template {{ close(): void }} T @param {T} handle @returns {T} */
  keep(handle) {
    this.#opened.unshift(handle);
    return handle;
  }

  /** Creates a VM with one vCPU and the guest. */
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

  /** Starts the C side and sends it the contents of its VMs, without creating a VM. */
  async yardstick() {
    const yardstick = this.keep(new Yardstick(this.#yardstick));
    const sandbox = new Sandbox(this.kvm, { program: this.program, cpuid: this.cpuid });
    await yardstick.describe(sandbox, this.cpuid);
    sandbox.close();
    return yardstick;
  }

  /** Prepares the measurement of one row. @param {object} row @param {number} n operations a sample */
  async contender(row, n) {
    if (row.command === undefined) {
      const sample = await row.start(this);
      return { measure: () => timed(sample, n) };
    }
    const yardstick = await this.yardstick();
    for (const line of ["make 1", ...(row.lines ?? [])]) await yardstick.ask(line);
    return { measure: () => yardstick.ask(`${row.command} ${n}`) };
  }

  /** Closes all handles, in reverse order. */
  async close() {
    for (const handle of this.#opened) await handle.close();
    this.kvm.close();
  }
}
