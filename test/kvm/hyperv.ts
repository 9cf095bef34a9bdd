/**
 * Hyper-V for claims: CPUID tables with chosen Hyper-V features, and vCPUs with such a table whose guest makes one
 * access to an MSR or one hypercall. hyperv-features.test.ts has the MSRs and the hypercalls.
 */
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
export const FAST = 1n << 16n;

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

/** The options of a vCPU whose guest has only the Hyper-V features of the table (KVM_CAP_HYPERV_ENFORCE_CPUID). */
export interface EnforcedOptions {
  readonly features: Features;
  /** Whether the vCPU has an APIC in the kernel. */
  readonly apic?: boolean | undefined;
  /** Whether the vCPU has an APIC in the kernel and KVM_CAP_HYPERV_SYNIC2. */
  readonly synic?: boolean | undefined;
}

function enforced(kit: Kit, program: Program, options: EnforcedOptions): Sandbox {
  const { features, synic = false, apic = synic } = options;
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
  box.vcpu.enableCap({ cap: "KVM_CAP_HYPERV_ENFORCE_CPUID", enable: 1 });
  if (synic) box.vcpu.enableCap({ cap: "KVM_CAP_HYPERV_SYNIC2" });
  return box;
}

/** Creates a vCPU whose guest reads an MSR, writes a value and reads the MSR again. */
export function msrGuest(kit: Kit, msr: number, value: bigint, options: EnforcedOptions): Sandbox {
  const box = enforced(kit, ACCESS, options);
  setMsrOperands(box, msr, value);
  return box;
}

/** Sets the operands of {@link ACCESS}. */
export function setMsrOperands(box: Sandbox, msr: number, value: bigint): void {
  const operands = { rcx: BigInt(msr), rsi: value & 0xffff_ffffn, rdi: value >> 32n };
  box.vcpu.setRegs({ ...box.program.regs, ...operands });
}

/** Creates a vCPU whose guest can make hypercalls, and makes one. The parameters are 0, or the addresses of two pages of zeros. */
export function callGuest(kit: Kit, control: bigint, options: EnforcedOptions): Sandbox {
  const { features, ...rest } = options;
  const needed: Features =
    "only" in features ? { only: ["hv_hypercall_msrs", ...features.only] } : features;
  const box = enforced(kit, CALL, { ...rest, features: needed });
  const isFast = (control & FAST) !== 0n;
  const parameters = isFast ? { rdi: 0n, r8: 0n } : { rdi: INPUT_PAGE, r8: OUTPUT_PAGE };
  box.vcpu.setRegs({ ...box.program.regs, rsi: control, ...parameters });
  return box;
}

/** Runs a guest until it sends values, and returns them; returns another ucall in a list of its own. */
export function valuesOf(box: Sandbox): readonly unknown[] {
  const ucall = box.next();
  return ucall.kind === "sync" ? ucall.values : [ucall];
}
