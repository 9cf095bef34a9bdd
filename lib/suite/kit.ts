/**
 * The kit of a claim: it creates VMs and vCPUs in the usual states, checks the claim's requirements, and closes all its
 * handles at the end of the claim.
 */
import type { CpuidFieldName } from "../cpuid/index.ts";
import { guest, type Program } from "../guest/index.ts";
import { type Capability, CpuidTable, fromSupported, Kvm, type Vcpu, type Vm } from "../index.ts";
import { Sandbox } from "../machine/index.ts";
import { hasCpuFlag, ignoredMsrsReason } from "./cpuinfo.ts";

/**
 * Reports a requirement of a claim that this host does not meet. The claim is skipped, and the error's message is the
 * reason.
 */
export class Unmet extends Error {
  override readonly name: string = "Unmet";
}

/** A vCPU in a sandbox, with the CPUID table that was passed to KVM and the table that KVM stored. */
export interface Configured {
  readonly box: Sandbox;
  readonly vcpu: Vcpu;
  /** The entries that were passed to KVM_SET_CPUID2. */
  readonly sent: CpuidTable;
  /** The entries that KVM_GET_CPUID2 returned before the first run. */
  readonly stored: CpuidTable;
}

/** The options for a configured vCPU. */
export interface Setup {
  /** The CPUID table; the host's supported table for vCPU 0 if omitted. */
  readonly table?: CpuidTable;
  /** The guest's program; {@link ONE_WRITE} if omitted. */
  readonly program?: Program;
  /** A function that is called with the VM before its vCPU is created, for example to enable a capability. */
  readonly prepare?: (vm: Vm) => void;
}

/** A guest in long mode that only writes to a port: the shortest program that makes KVM run the vCPU. */
export const ONE_WRITE: Program = guest("long", (g) => g.done());

/** An object that owns a resource, such as a handle. */
export interface Closable {
  /** Releases the resource. */
  close(): void;
}

/** The tools of one claim. */
export class Kit {
  readonly #open: Closable[] = [];
  readonly #unmet: (reason: string) => never;
  #supported: CpuidTable | undefined;
  /** The device. */
  readonly kvm: Kvm;

  /**
   * Opens the device.
   *
   * @param unmet - a function that ends the claim if a requirement is not met; by default, it throws {@link Unmet}.
   */
  constructor(unmet?: (reason: string) => never) {
    this.#unmet =
      unmet ??
      ((reason) => {
        throw new Unmet(reason);
      });
    this.kvm = this.keep(Kvm.open());
  }

  /** Registers a handle, so that it is closed at the end of the claim, and returns the handle. */
  keep<T extends Closable>(handle: T): T {
    this.#open.push(handle);
    return handle;
  }

  /** Closes all handles of the kit in reverse order. A claim does not have to call this method. */
  close(): void {
    for (const handle of this.#open.splice(0).reverse()) handle.close();
  }

  /** The host's supported CPUID table, with the APIC id of vCPU 0. The kit reads the table from KVM once. */
  get supported(): CpuidTable {
    this.#supported ??= fromSupported(this.kvm.getSupportedCpuid());
    return this.#supported;
  }

  /** Creates a VM with one vCPU. The vCPU has no CPUID table and has not run. */
  fresh(): Vcpu {
    return this.keep(this.keep(this.kvm.createVm()).createVcpu(0));
  }

  /** Creates a sandbox: a VM with a program and one vCPU. The vCPU has its CPUID table and has not run. */
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

  /** Creates a sandbox as {@link configured} does, and runs the vCPU until the guest's first write to a port. */
  ran(setup: Setup = {}): Configured {
    const configured = this.configured(setup);
    configured.box.next();
    return configured;
  }

  /** Skips the claim with this reason if the condition is false. */
  require(condition: boolean, reason: string): void {
    if (!condition) this.#unmet(reason);
  }

  /** Skips the claim if /dev/kvm does not have a capability. */
  requireCapability(capability: Capability): void {
    this.require(this.kvm.checkExtension(capability) !== 0, `no ${capability} here`);
  }

  /**
   * Skips the claim if /proc/cpuinfo does not list a CPU feature with this name, because Linux does not use the
   * feature.
   */
  requireCpuFlag(flag: string): void {
    this.require(hasCpuFlag(flag), `this CPU has no ${flag}`);
  }

  /**
   * Skips the claim if KVM ignores accesses to MSRs that it refuses otherwise: the module parameter kvm.ignore_msrs is
   * on, or cannot be read.
   */
  requireStrictMsrs(): void {
    const reason = ignoredMsrsReason();
    this.require(reason === undefined, reason ?? "");
  }

  /** Skips the claim if a vCPU with the host's supported CPUID table does not have all of these CPUID features. */
  requireVcpuHas(...names: readonly CpuidFieldName[]): void {
    const vcpu = this.fresh();
    vcpu.setCpuid2(this.supported);
    const stored = tableOf(vcpu);
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
