/**
 * Hyper-V for claims: CPUID tables with chosen Hyper-V features, and vCPUs with such a table whose guest makes one
 * access to an MSR or one hypercall. hyperv-features.test.ts has the MSRs and the hypercalls.
 */
import type { CpuidFieldName, CpuidTable } from "node-kvm/cpuid";
import { type GuestBuilder, guest, type Program } from "node-kvm/guest";
import type { Sandbox } from "node-kvm/machine";
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

/** Returns the host's supported table with the Hyper-V leaves that KVM supports in place of KVM's own leaves. */
export function withHyperv(kit: Kit): CpuidTable {
  kit.requireCapability("KVM_CAP_SYS_HYPERV_CPUID");
  return withoutHyperv(kit).append(...kit.kvm.getSupportedHvCpuid());
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
const INPUT_PAGE = 0x9_1000n;
const OUTPUT_PAGE = 0x9_2000n;
const ENABLE = 1;

// The host passes the operands in registers, so each program is assembled only once.

/** Reads the MSR in ECX, and sends the value and the vector of the exception. */
export const RDMSR: Program = guest("long", (g) => g.attempt(readMsr).sync().done());

/** Writes EDX:EAX to the MSR in ECX and reads the MSR; sends the vector of WRMSR, the value and the vector of RDMSR. */
export const WRMSR: Program = guest("long", (g) =>
  g
    .attempt((inner) => inner.asm((a) => a.wrmsr()))
    .attempt(readMsr)
    .sync()
    .done(),
);

/** Makes the hypercall RSI with the parameters RDI and R8; sends its result and the vector of the exception. */
export const CALL: Program = guest("long", (g) =>
  g
    .wrmsr(GUEST_OS_ID, LINUX)
    .wrmsr(HYPERCALL, CODE_PAGE | ENABLE)
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

/** The options of a guest whose Hyper-V features are enforced. */
export interface GuestOptions {
  readonly features: Features;
  /** Whether the synthetic interrupt controller is enabled. */
  readonly synic?: boolean | undefined;
}

/**
 * Creates a vCPU with an APIC in the kernel, whose guest has only the Hyper-V features of the table
 * (KVM_CAP_HYPERV_ENFORCE_CPUID).
 */
export function enforced(kit: Kit, program: Program, options: GuestOptions): Sandbox {
  kit.requireCapability("KVM_CAP_HYPERV_ENFORCE_CPUID");
  kit.requireCapability("KVM_CAP_SPLIT_IRQCHIP");
  const { box } = kit.configured({
    table: tableWith(kit, options.features),
    program,
    prepare: (vm) => vm.enableCap({ cap: "KVM_CAP_SPLIT_IRQCHIP", ioapicPins: 24 }),
  });
  box.vcpu.enableCap({ cap: "KVM_CAP_HYPERV_ENFORCE_CPUID", enable: 1 });
  if (options.synic === true) box.vcpu.enableCap({ cap: "KVM_CAP_HYPERV_SYNIC2" });
  return box;
}

/** Sets the operands of {@link RDMSR} or {@link WRMSR}. */
export function setMsrOperands(box: Sandbox, msr: number, value: bigint = 0n): Sandbox {
  const operands = { rcx: BigInt(msr), rax: value & 0xffff_ffffn, rdx: value >> 32n };
  box.vcpu.setRegs({ ...box.program.regs, ...operands });
  return box;
}

/** Sets the operands of {@link CALL}; the parameters are 0, or two pages of zeros. */
export function setCallOperands(box: Sandbox, control: bigint): Sandbox {
  const isFast = (control & FAST) !== 0n;
  const parameters = isFast ? { rdi: 0n, r8: 0n } : { rdi: INPUT_PAGE, r8: OUTPUT_PAGE };
  box.vcpu.setRegs({ ...box.program.regs, rsi: control, ...parameters });
  return box;
}

/** Runs the guest until it sends its values; any other end of the run is in the result, for the claim's assertion. */
export function valuesOf(box: Sandbox): readonly bigint[] {
  const ucall = box.next();
  return ucall.kind === "sync" ? ucall.values : [];
}
