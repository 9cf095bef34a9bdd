/** Runs one program on one vCPU with one memory, for tests, examples and the CLI. guest/ builds the programs. */
import type { CpuidEntry2Input } from "../abi/cpuid2.ts";
import { decodeUcall, isUcall, type Program, type Ucall } from "../guest/index.ts";
import { inspectAs } from "../inspect.ts";
import type { Exit } from "../kvm/exits/exit.ts";
import { explainExit } from "../kvm/exits/explain.ts";
import type { Kvm } from "../kvm/kvm.ts";
import { GuestMemory } from "../kvm/memory/guest-memory.ts";
import type { Vcpu } from "../kvm/vcpu.ts";
import type { Vm } from "../kvm/vm.ts";
import { refuseMisfit } from "../options.ts";

/** The options of {@link Sandbox}. */
export interface SandboxOptions {
  /** The guest program, which `guest()` of `node-kvm/guest` creates. */
  readonly program: Program;
  /** The vCPU's CPUID table; the table is empty if omitted. */
  readonly cpuid?: Iterable<CpuidEntry2Input>;
  /**
   * A function that is called with the VM before the vCPU is created, for example to enable capabilities or to create
   * the irqchip.
   */
  readonly prepare?: (vm: Vm) => void;
}

/**
 * A VM with one vCPU and a loaded program. The vCPU is ready to run.
 *
 * The constructor makes the calls in an order that works on every kernel: VM, memory, `prepare`, vCPU, CPUID, special
 * registers, registers.
 *
 * @example
 * ```ts run
 * import { Kvm } from "node-kvm";
 * import { Sandbox } from "node-kvm/machine";
 * import { guest } from "node-kvm/guest";
 *
 * using kvm = Kvm.open();
 * using box = new Sandbox(kvm, { program: guest("real", (g) => g.rdtsc().sync().done()) });
 * console.log(box.syncs().length);
 * ```
 *
 * ```text output
 * 1
 * ```
 */
export class Sandbox {
  readonly vm: Vm;
  readonly vcpu: Vcpu;
  readonly memory: GuestMemory;
  readonly program: Program;

  /** Creates the VM and loads the program, without running it. */
  constructor(kvm: Kvm, options: SandboxOptions) {
    if (typeof kvm?.createVm !== "function") {
      throw new TypeError("new Sandbox(): use a Kvm, from Kvm.open(), and options with a program");
    }
    refuseMisfit("new Sandbox()", options, ["program"], ["cpuid", "prepare"], "option");
    const { program, cpuid, prepare } = options;
    const opened: { close(): void }[] = [];
    this.program = program;
    try {
      this.memory = GuestMemory.allocate(program.memorySize);
      opened.unshift(this.memory);
      this.vm = kvm.createVm();
      opened.unshift(this.vm);
      this.vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory: this.memory });
      prepare?.(this.vm);
      this.vcpu = this.vm.createVcpu(0);
      opened.unshift(this.vcpu);
      if (cpuid !== undefined) this.vcpu.setCpuid2(cpuid);
      program.load(this.memory.bytes);
      this.reset();
    } catch (error) {
      // The handles are closed here, because the caller never receives this object.
      for (const handle of opened) handle.close();
      throw error;
    }
  }

  /** Resets the vCPU to the program's first instruction; its CPUID table is unchanged. */
  reset(): void {
    this.vcpu.setSregs(this.program.sregs(this.vcpu.getSregs()));
    this.vcpu.setRegs(this.program.regs);
  }

  /** Runs the guest until its next ucall. */
  next(): Ucall {
    const exit = this.vcpu.runSync({ throughSignals: true });
    const ucall = this.ucall(exit);
    if (ucall !== undefined) return ucall;
    const reason = explainExit(exit, this.vcpu);
    const suffix = reason === undefined ? "" : `: ${reason}`;
    throw new Error(`the guest exited without a ucall: ${describe(exit)}${suffix}`);
  }

  /** Decodes the ucall of an exit; `undefined` if the exit is not a ucall. */
  ucall(exit: Exit): Ucall | undefined {
    if (exit.kind !== "io" || exit.direction !== "out" || !isUcall(exit)) return undefined;
    return decodeUcall(this.memory.bytes, exit.values[0] ?? 0);
  }

  /** Runs the guest until the program ends, and returns the values of each sync. */
  syncs(): readonly (readonly bigint[])[] {
    const all: (readonly bigint[])[] = [];
    for (;;) {
      const ucall = this.next();
      if (ucall.kind === "done") return all;
      if (ucall.kind === "fault") {
        const { vector, errorCode, rip } = ucall;
        throw new Error(
          `exception ${vector} in the guest at 0x${rip.toString(16)}, error code ${errorCode}`,
        );
      }
      all.push(ucall.values);
    }
  }

  /** Closes the vCPU, the VM and the memory. */
  close(): void {
    this.vcpu.close();
    this.vm.close();
    this.memory.close();
  }

  /** Closes everything at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }

  static {
    inspectAs(Sandbox, (it) => ({
      mode: it.program.mode,
      vm: it.vm,
      vcpu: it.vcpu,
      memory: it.memory,
    }));
  }
}

function describe(exit: Exit): string {
  return JSON.stringify(exit, (_, value: unknown) =>
    typeof value === "bigint" ? `0x${value.toString(16)}` : value,
  );
}
