/**
 * Hyper-V for claims: CPUID tables with chosen Hyper-V features, and vCPUs with such a table whose guest makes one
 * access to an MSR or one hypercall. hyperv-features.test.ts has the MSRs and the hypercalls.
 */
import type { Vcpu } from "node-kvm";
import { KVM_MP_STATE_RUNNABLE, type Regs } from "node-kvm/abi";
import type { CpuidFieldName, CpuidTable } from "node-kvm/cpuid";
import { type GuestBuilder, guest, type Program } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";
import type { Kit } from "node-kvm/test";

/** The vectors of #UD and #GP. */
export const UD = 6n;
export const GP = 13n;

/** The leaves with features: features, recommendations, and the debugger's (hyperv.c:kvm_hv_set_cpuid). */
const FEATURE_LEAVES: readonly number[] = [0x4000_0003, 0x4000_0004, 0x4000_0082];

/** The feature that the CPUID database does not name: kernel debugging is allowed. */
export const SYNDBG = "0x40000082:eax[1]";
const SYNDBG_LEAF = 0x4000_0082;
const SYNDBG_BIT = 1 << 1;

/** A Hyper-V feature: the name of its CPUID field, or {@link SYNDBG}. */
export type Feature = CpuidFieldName | typeof SYNDBG;

/** The Hyper-V features of a guest: all that KVM supports except one, or only these. */
export type Features = { readonly without: Feature } | { readonly only: readonly Feature[] };

/** Returns the host's supported table without the leaves of any hypervisor. */
export function withoutHyperv(kit: Kit): CpuidTable {
  return kit.supported.filter((entry) => entry.function >>> 16 !== 0x4000);
}

let supported: CpuidTable | undefined;

/**
 * Returns the host's supported table with the Hyper-V leaves that KVM supports in place of KVM's own leaves. The table
 * is read once per process, because an emulated CPU needs as long for it as for the guest of a claim.
 */
export function withHyperv(kit: Kit): CpuidTable {
  kit.requireCapability("KVM_CAP_SYS_HYPERV_CPUID");
  supported ??= withoutHyperv(kit).append(...kit.kvm.getSupportedHvCpuid());
  return supported;
}

/** Skips the claim if KVM does not report a Hyper-V feature as supported. */
export function requireFeature(kit: Kit, feature: Feature): void {
  const all = withHyperv(kit);
  const value =
    feature === SYNDBG ? (all.find(SYNDBG_LEAF)?.eax ?? 0) & SYNDBG_BIT : (all.get(feature) ?? 0);
  kit.require(value !== 0, `KVM does not support the Hyper-V feature ${feature} here`);
}

function change(table: CpuidTable, feature: Feature, value: 0 | 1): CpuidTable {
  if (feature !== SYNDBG) return table.with({ [feature]: value });
  return table.withEntry({ function: SYNDBG_LEAF, index: 0, eax: value * SYNDBG_BIT });
}

/** Returns a table with these Hyper-V features; skips the claim if KVM does not support one of the named features. */
export function tableWith(kit: Kit, features: Features): CpuidTable {
  const named = "only" in features ? features.only : [features.without];
  for (const feature of named) requireFeature(kit, feature);
  const all = withHyperv(kit);
  if ("without" in features) return change(all, features.without, 0);
  const none = all.map((entry) =>
    FEATURE_LEAVES.includes(entry.function) ? { ...entry, eax: 0, ebx: 0, ecx: 0, edx: 0 } : entry,
  );
  return named.reduce((table, feature) => change(table, feature, 1), none);
}

/** Bit 16 of a hypercall's input: the parameters are in registers instead of memory. */
export const FAST: bigint = 1n << 16n;

/** The MSRs without which a guest cannot make a hypercall. */
export const GUEST_OS_ID = 0x4000_0000;
export const HYPERCALL = 0x4000_0001;

/** An identification of a Linux guest; any value except 0 enables hypercalls. */
export const LINUX = 0x8100_0006_0000_0000n;

/** The page into which KVM writes the instructions of a hypercall, and the pages of its input and output. */
const CODE_PAGE = 0x9_0000;
/** The value of the MSR {@link HYPERCALL} that enables hypercalls. */
export const HYPERCALL_ENABLED: bigint = BigInt(CODE_PAGE | 1);
const INPUT_PAGE = 0x9_1000n;
const OUTPUT_PAGE = 0x9_2000n;

// The host passes the operands in registers, so each program is assembled only once.

/**
 * Reads the MSR in ECX, writes RDI:RSI to the MSR, and reads it again. Sends the value and the vector of the first
 * RDMSR, the vector of WRMSR, and the value and the vector of the second RDMSR.
 */
export const ACCESS: Program = guest("long", (g) =>
  g
    .attempt(readMsr)
    .attempt((inner) => inner.asm((a) => a.mov("rax", "rsi").mov("rdx", "rdi").wrmsr()))
    .attempt(readMsr)
    .sync()
    .done(),
);

/** Makes the hypercall RSI with the parameters RDI and R8; sends its result and the vector of the exception. */
const CALL: Program = guest("long", (g) =>
  g
    .wrmsr(GUEST_OS_ID, LINUX)
    .wrmsr(HYPERCALL, HYPERCALL_ENABLED)
    .attempt((inner) =>
      inner
        .asm((a) => a.mov("rcx", "rsi").mov("rdx", "rdi").mov("eax", CODE_PAGE))
        .asm((a) => a.emit("Call_rm64", "rax"))
        .record("rax"),
    )
    .sync()
    .done(),
);

function readMsr(g: GuestBuilder): GuestBuilder {
  return g.asm((a) => a.rdmsr().shl("rdx", 32).or("rax", "rdx")).record("rax");
}

/** The needs of a guest in addition to its Hyper-V features. */
export interface GuestNeeds {
  /** Whether the vCPU has an APIC in the kernel. */
  readonly apic?: boolean | undefined;
  /** Whether the vCPU has an APIC in the kernel and KVM_CAP_HYPERV_SYNIC2. */
  readonly synic?: boolean | undefined;
}

/** A program with its operands, and the Hyper-V features of its guest. */
interface Job extends GuestNeeds {
  readonly program: Program;
  readonly operands: Partial<Regs>;
  readonly features: Features;
}

/** Creates a vCPU whose guest has only the Hyper-V features of its table (KVM_CAP_HYPERV_ENFORCE_CPUID). */
function enforced(kit: Kit, job: Job): Sandbox {
  const { program, features, synic = false, apic = synic } = job;
  kit.requireCapability("KVM_CAP_HYPERV_ENFORCE_CPUID");
  if (apic) kit.requireCapability("KVM_CAP_SPLIT_IRQCHIP");
  const box = kit.keep(
    new Sandbox(kit.kvm, {
      program,
      cpuid: tableWith(kit, features),
      prepare: (vm) => {
        if (apic) vm.enableCap({ cap: "KVM_CAP_SPLIT_IRQCHIP", ioapicPins: 24 });
      },
    }),
  );
  prepareVcpu(box.vcpu, job);
  return box;
}

function prepareVcpu(vcpu: Vcpu, { program, operands, synic = false }: Job): void {
  vcpu.enableCap({ cap: "KVM_CAP_HYPERV_ENFORCE_CPUID", enable: 1 });
  if (synic) vcpu.enableCap({ cap: "KVM_CAP_HYPERV_SYNIC2" });
  vcpu.setRegs({ ...program.regs, ...operands });
}

/** The values that two guests of one VM send. */
export interface Compared {
  /** The values of the guest that lacks only one feature. */
  readonly lacking: readonly unknown[];
  /** The values of the guest that has only the features in question. */
  readonly having: readonly unknown[];
}

/**
 * Runs two guests of one VM: the first one has all Hyper-V features except the first of `features`, and the second one
 * has only these features. One VM instead of two saves a third of the time under emulation.
 */
function compared(kit: Kit, job: Omit<Job, "features">, features: GateFeatures): Compared {
  const box = enforced(kit, { ...job, features: { without: features[0] } });
  const only = { ...job, features: { only: features } };
  const second = kit.keep(box.vm.createVcpu(1));
  second.setCpuid2(tableWith(kit, only.features));
  second.setSregs(job.program.sregs(second.getSregs()));
  // A second vCPU with an APIC in the kernel waits for INIT and SIPI by default.
  if (job.apic === true || job.synic === true) second.setMpState(KVM_MP_STATE_RUNNABLE);
  prepareVcpu(second, only);
  const lacking = valuesOf(box);
  const ucall = box.ucall(second.runSync());
  return { lacking, having: ucall?.kind === "sync" ? ucall.values : [ucall] };
}

/** The features of an MSR or of a hypercall; the first one is the feature that a guest lacks. */
export type GateFeatures = readonly [Feature, ...Feature[]];

const msrOperands = (msr: number, value: bigint): Partial<Regs> => ({
  rcx: BigInt(msr),
  rsi: value & 0xffff_ffffn,
  rdi: value >> 32n,
});

/** Creates a vCPU whose guest reads an MSR, writes a value and reads the MSR again. */
export function msrGuest(
  kit: Kit,
  msr: number,
  value: bigint,
  options: GuestNeeds & { readonly features: Features },
): Sandbox {
  return enforced(kit, { ...options, program: ACCESS, operands: msrOperands(msr, value) });
}

/** Accesses an MSR as {@link msrGuest} does, in a guest that lacks a feature and in one that has it. */
export function compareMsr(
  kit: Kit,
  msr: number,
  value: bigint,
  { features, ...needs }: GuestNeeds & { readonly features: GateFeatures },
): Compared {
  const job = { ...needs, program: ACCESS, operands: msrOperands(msr, value) };
  return compared(kit, job, features);
}

/** Returns the operands of {@link CALL}. The parameters are zeros, or the addresses of two pages of zeros. */
function callOperands(control: bigint): Partial<Regs> {
  const isFast = (control & FAST) !== 0n;
  const parameters = isFast ? { rdi: 0n, r8: 0n } : { rdi: INPUT_PAGE, r8: OUTPUT_PAGE };
  return { rsi: control, ...parameters };
}

/** Creates a vCPU whose guest makes a hypercall. */
export function callGuest(kit: Kit, control: bigint, features: Features): Sandbox {
  return enforced(kit, { program: CALL, operands: callOperands(control), features });
}

/** Makes a hypercall in a guest that lacks a feature and in one that has it. */
export function compareCall(
  kit: Kit,
  control: bigint,
  { features, ...needs }: GuestNeeds & { readonly features: GateFeatures },
): Compared {
  const job = { ...needs, program: CALL, operands: callOperands(control) };
  return compared(kit, job, [...features, "hv_hypercall_msrs"]);
}

/** Runs a guest until it sends values, and returns them; returns another ucall in a list of its own. */
export function valuesOf(box: Sandbox): readonly unknown[] {
  const ucall = box.next();
  return ucall.kind === "sync" ? ucall.values : [ucall];
}
