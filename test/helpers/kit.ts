/** What a claim is judged with: VMs, vCPUs in the usual states, requirements. All closed at its end. */
import { readFileSync } from "node:fs";
import { type Capability, CpuidTable, fromSupported, Kvm, type Vcpu, type Vm } from "node-kvm";
import type { CpuidFieldName } from "node-kvm/cpuid";
import { guest, type Program } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";

/** A requirement of a claim that this host does not meet: the claim is skipped with the message. */
export class Unmet extends Error {}

/** A vCPU and its table: as it was sent, and as KVM stored it. */
export interface Configured {
  readonly box: Sandbox;
  readonly vcpu: Vcpu;
  /** What KVM_SET_CPUID2 was given. */
  readonly sent: CpuidTable;
  /** What KVM_GET_CPUID2 returned afterwards, before anything ran. */
  readonly stored: CpuidTable;
}

/** What a configured vCPU is made from; the rest is usual. */
export interface Setup {
  /** The table; the host's supported one when left out. */
  readonly table?: CpuidTable;
  /** What it runs; one write to a port when left out. */
  readonly program?: Program;
  /** Done to the VM before its vCPU is made. */
  readonly prepare?: (vm: Vm) => void;
}

/** Speaks once, for ever: the shortest way to have run. */
export const SPEAK: Program = guest("long", (g) => g.done());

/** One claim's tools. */
export class Kit {
  readonly #open: { close(): void }[] = [];
  /** The device. */
  readonly kvm: Kvm = this.keep(Kvm.open());

  /** Closes something together with the claim. */
  keep<T extends { close(): void }>(handle: T): T {
    this.#open.push(handle);
    return handle;
  }

  /** Closes everything, the last first. */
  close(): void {
    for (const handle of this.#open.reverse()) handle.close();
  }

  /** The host's supported table, for vCPU 0. */
  get supported(): CpuidTable {
    return fromSupported(this.kvm.getSupportedCpuid());
  }

  /** A vCPU that was never given a table, alone in a new VM. */
  fresh(): Vcpu {
    return this.keep(this.keep(this.kvm.createVm()).createVcpu(0));
  }

  /** A VM with a program and a vCPU that has its table; it has not run. */
  configured(setup: Setup = {}): Configured {
    const sent = setup.table ?? this.supported;
    const box = this.keep(
      new Sandbox(this.kvm, {
        program: setup.program ?? SPEAK,
        cpuid: sent,
        ...(setup.prepare === undefined ? {} : { prepare: setup.prepare }),
      }),
    );
    return { box, vcpu: box.vcpu, sent, stored: tableOf(box.vcpu) };
  }

  /** The same, and it has run: its guest has written to a port. */
  ran(setup: Setup = {}): Configured {
    const configured = this.configured(setup);
    configured.box.next();
    return configured;
  }

  /** Asks for a capability of /dev/kvm; the claim is skipped where there is none. */
  requireCapability(capability: Capability): void {
    if (this.kvm.checkExtension(capability) === 0) throw new Unmet(`no ${capability} here`);
  }

  /** Asks for a feature of the host's CPU that Linux uses, by its name in /proc/cpuinfo. */
  requireCpuFlag(flag: string): void {
    const flags = /^flags\s*:(.*)/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "";
    if (!flags.split(" ").includes(flag)) throw new Unmet(`this CPU has no ${flag}`);
  }

  /** Asks for a feature that a vCPU has once it is given the host's table. */
  requireVcpuHas(...names: readonly CpuidFieldName[]): void {
    const { stored } = this.configured();
    for (const name of names) {
      if (!stored.has(name)) throw new Unmet(`a vCPU has no ${name} here`);
    }
  }
}

/** The vCPU's table as KVM has it. */
export function tableOf(vcpu: Vcpu): CpuidTable {
  return CpuidTable.from(vcpu.getCpuid2());
}
