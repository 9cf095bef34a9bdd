/** The tools of a claim: VMs, vCPUs in the usual states, requirements. A kit closes all its handles at its end. */
import { readFileSync } from "node:fs";
import type { CpuidFieldName } from "../cpuid/index.ts";
import { guest, type Program } from "../guest/index.ts";
import { type Capability, CpuidTable, fromSupported, Kvm, type Vcpu, type Vm } from "../index.ts";
import { Sandbox } from "../machine/index.ts";

/** A requirement of a claim that this host does not meet. The claim is skipped, with the message as reason. */
export class Unmet extends Error {
  override readonly name: string = "Unmet";
}

/** A vCPU in a sandbox, with its table as it was sent and as KVM stored it. */
export interface Configured {
  readonly box: Sandbox;
  readonly vcpu: Vcpu;
  /** The argument of KVM_SET_CPUID2. */
  readonly sent: CpuidTable;
  /** The result of KVM_GET_CPUID2 before the first run. */
  readonly stored: CpuidTable;
}

/** The parts of a configured vCPU. */
export interface Setup {
  /** The CPUID table; the host's supported table for vCPU 0 if omitted. */
  readonly table?: CpuidTable;
  /** The guest's program; {@link ONE_WRITE} if omitted. */
  readonly program?: Program;
  /** A function that is called with the VM before its vCPU is created, for example to enable a capability. */
  readonly prepare?: (vm: Vm) => void;
}

/** A guest in long mode that writes to a port: the shortest program after which a vCPU has run. */
export const ONE_WRITE: Program = guest("long", (g) => g.done());

/** An object with a resource, such as a handle. */
export interface Closable {
  /** Releases the resource. */
  close(): void;
}

/** The tools of one claim. */
export class Kit {
  readonly #open: Closable[] = [];
  readonly #unmet: (reason: string) => never;
  /** The device. */
  readonly kvm: Kvm;

  /**
   * Opens the device.
   *
   * @param unmet - ends the claim if a requirement is not met; throws {@link Unmet} if omitted.
   */
  constructor(unmet?: (reason: string) => never) {
    this.#unmet =
      unmet ??
      ((reason) => {
        throw new Unmet(reason);
      });
    this.kvm = this.keep(Kvm.open());
  }

  /** Adds a handle to those that are closed at the end of the claim, and returns it. */
  keep<T extends Closable>(handle: T): T {
    this.#open.push(handle);
    return handle;
  }

  /** Closes all handles of the kit, the last one first. A claim does not have to call it. */
  close(): void {
    for (const handle of this.#open.splice(0).reverse()) handle.close();
  }

  /** The host's supported CPUID table, with the APIC id of vCPU 0. */
  get supported(): CpuidTable {
    return fromSupported(this.kvm.getSupportedCpuid());
  }

  /** Creates a VM with one vCPU, which has no CPUID table and has not run. */
  fresh(): Vcpu {
    return this.keep(this.keep(this.kvm.createVm()).createVcpu(0));
  }

  /** Creates a sandbox: a VM with a program and one vCPU, which has its CPUID table and has not run. */
  configured(setup: Setup = {}): Configured {
    const sent = setup.table ?? this.supported;
    const box = this.keep(
      new Sandbox(this.kvm, {
        program: setup.program ?? ONE_WRITE,
        cpuid: sent,
        ...(setup.prepare === undefined ? {} : { prepare: setup.prepare }),
      }),
    );
    return { box, vcpu: box.vcpu, sent, stored: tableOf(box.vcpu) };
  }

  /** Creates the same as {@link configured}, and runs the vCPU to the guest's first write to a port. */
  ran(setup: Setup = {}): Configured {
    const configured = this.configured(setup);
    configured.box.next();
    return configured;
  }

  /** Skips the claim with this reason unless the condition holds. */
  require(condition: boolean, reason: string): void {
    if (!condition) this.#unmet(reason);
  }

  /** Skips the claim unless /dev/kvm has a capability. */
  requireCapability(capability: Capability): void {
    this.require(this.kvm.checkExtension(capability) !== 0, `no ${capability} here`);
  }

  /** Skips the claim unless Linux uses a feature of the CPU, which has this name in /proc/cpuinfo. */
  requireCpuFlag(flag: string): void {
    const flags = /^flags\s*:(.*)/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "";
    this.require(flags.split(" ").includes(flag), `this CPU has no ${flag}`);
  }

  /** Skips the claim unless a vCPU with the host's supported table has these CPUID features. */
  requireVcpuHas(...names: readonly CpuidFieldName[]): void {
    const { stored } = this.configured();
    for (const name of names) this.require(stored.has(name), `a vCPU has no ${name} here`);
  }
}

/** Reads a vCPU's CPUID table with KVM_GET_CPUID2. */
export function tableOf(vcpu: Vcpu): CpuidTable {
  return CpuidTable.from(vcpu.getCpuid2());
}

/** Inverts bits of a vCPU's CR4 with KVM_SET_SREGS. */
export function toggleCr4(vcpu: Vcpu, mask: bigint): void {
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cr4: sregs.cr4 ^ mask });
}
