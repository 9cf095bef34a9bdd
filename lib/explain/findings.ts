/**
 * Formats the oracle's findings as sentences without a full stop, one sentence for each kind of finding. lib/oracle has
 * the rules.
 */
import { type CpuidChange, formatChange } from "../cpuid/diff.ts";
import { type CpuidFieldName, field, formatBits } from "../cpuid/field.ts";
import type { ForbiddenBits } from "../oracle/bits.ts";
import type { BitFinding, MissingFeature } from "../oracle/features.ts";
import type { Finding } from "../oracle/index.ts";
import { apply, type Rules as OracleRules, type RuleVerdict } from "../oracle/verdict.ts";
import { XFEATURES } from "../oracle/xsave.ts";
import { type Causes, fault, only, open, type Verdict } from "./verdict.ts";
import { hex, writeBits, writeForbidden } from "./wording.ts";

/** Formats the places of features in CPUID: `0x7.0:ecx[7] cet_ss, 0x7.0:edx[20] ibt`. */
export function placesOf(names: readonly CpuidFieldName[]): string {
  return names
    .map((name) => {
      const { function: fn, index, register, low, high } = field(name);
      const first = typeof index === "number" ? index : index.first;
      return `${formatBits({ function: fn, index: first, register, low, high })} ${name}`;
    })
    .join(", ");
}

/** Formats a bit of a register that a vCPU may not set: `CR4 bit 12 LA57: not in this vCPU's CPUID (...)`. */
function bit(register: string, { bit, name, cause, features }: BitFinding): string {
  const place = `${register} ${writeBits([bit], { [bit]: name })}`;
  switch (cause) {
    case "reserved":
      return `${place}: reserved`;
    case "unsupported":
      return `${place}: this KVM cannot give it to a guest (${placesOf(features)})`;
    case "absent":
      return `${place}: not in this vCPU's CPUID (${placesOf(features)})`;
    case "no-table":
      return (
        `${place}: not in this vCPU's CPUID (${placesOf(features)}): ` +
        "it has no table yet; call KVM_SET_CPUID2 first"
      );
    default:
      return cause satisfies never;
  }
}

function missing({ feature, by }: MissingFeature): string {
  return by === "kvm"
    ? `this KVM cannot give ${feature} to a guest (${placesOf([feature])})`
    : `${feature} is not in this vCPU's CPUID (${placesOf([feature])})`;
}

const ALLOWED_BY: Readonly<Record<ForbiddenBits["allowedBy"], string>> = {
  linux: "Linux 7.2 has",
  guests: "this KVM's guests have",
  register: "the register has",
  x86: "x86 has",
};

const MOST_BITS = 8;

/** Formats reserved bits; a long sequence of adjacent bits is written as its first and last bit. */
function reserved(bits: readonly number[]): string {
  const isLong = bits.length > MOST_BITS;
  const written = isLong ? `bits ${bits[0]} to ${bits.at(-1)}` : writeBits(bits);
  return `${written} ${bits.length === 1 ? "is" : "are"} reserved`;
}

const MOST_CHANGES = 4;

function changes(list: readonly CpuidChange[]): string {
  const shown = list
    .slice(0, MOST_CHANGES)
    .map((change) => formatChange(change, { before: "ran with", after: "got" }));
  const rest = list.length - shown.length;
  return shown.join("; ") + (rest > 0 ? `; and ${rest} more` : "");
}

const PMU_PLACE = "(0xa.0:eax[7:0])";

/** The function that writes the sentence, for each kind of finding. */
const WORDS: {
  readonly [K in Finding["kind"]]: (finding: Extract<Finding, { kind: K }>) => string;
} = {
  "reserved-bits": ({ register, value, bits }) =>
    register === undefined ? reserved(bits) : `${register} ${hex(value)}: ${reserved(bits)}`,
  "reserved-range": ({ low, high }) => `bits ${low}-${high} are reserved`,
  "forbidden-bits": ({ name, value, bits, allowed, allowedBy }) =>
    writeForbidden(
      name === undefined ? undefined : `${name} ${hex(value)}`,
      bits,
      `${ALLOWED_BY[allowedBy]} ${hex(allowed)}`,
      name === "xstate_bv" ? XFEATURES : {},
    ),
  "feature-bits": ({ register, bits }) => bits.map((one) => bit(register, one)).join("; "),
  "missing-feature": missing,
  "wide-address": ({ name, address, width }) =>
    `${name === undefined ? "the value" : `${name} ${hex(address)}`} is wider than the ${width} bits ` +
    `of this vCPU's physical addresses (${placesOf(["phys_addr_bits"])})`,
  contradiction: ({ states }) => {
    const [last, ...others] = states.toReversed();
    const set = others.map(([name]) => name).toReversed();
    const value = others[0]?.[1];
    return `${set.join(" and ")} ${set.length > 1 ? "are" : "is"} ${value}, and ${last?.[0]} is ${last?.[1]}`;
  },
  "x2apic-not-enabled": ({ base }) =>
    `apicBase ${hex(base)}: bit 10 EXTD (x2APIC) without bit 11 EN`,
  "no-x2apic": ({ base }) =>
    `apicBase ${hex(base)}: bit 10 EXTD: x2apic is not in this vCPU's CPUID (${placesOf(["x2apic"])})`,
  lmsle: () => "EFER bit 13 LMSLE: this KVM does not support it",
  "not-pae-paging": () =>
    "KVM_SREGS2_FLAGS_PDPTRS_VALID is set, but CR0.PG, CR4.PAE and EFER.LMA are not those of PAE paging",

  "too-many-entries": ({ nent, most }) =>
    `${nent} entries, but KVM accepts at most ${most} (KVM_MAX_CPUID_ENTRIES)`,
  "missing-entries": ({ nent, sent }) => `nent is ${nent}, but only ${sent} entries were passed`,
  "too-few-entries": ({ nent }) => `nent is ${nent}, but the table has more entries`,
  "no-amx-permission": ({ bit }) =>
    `0xd.0:eax[${bit}] requests AMX tile data, but this process has no permission to give these to a guest ` +
    "(arch_prctl ARCH_REQ_XCOMP_GUEST_PERM)",
  "virtual-address-width": ({ width, allowed }) =>
    `0x80000008.0:eax[15:8] virt_addr_bits: ${width}, and KVM accepts only ` +
    `${allowed.slice(0, -1).join(", ")} or ${allowed.at(-1)}`,
  "changed-table": ({ changes: all, culprits }) => {
    if (culprits.length > 0) return `the table changed after KVM_RUN: ${changes(culprits)}`;
    const own = all.length === 0 ? "" : `: ${changes(all)}`;
    return `the vCPU has run, and its new table may differ from the old one only in bits that KVM itself writes${own}`;
  },

  "too-many-xcrs": ({ nrXcrs, most }) => `nrXcrs ${nrXcrs}: the struct has room for ${most}`,
  "no-xsave": () => "the host has no XSAVE (KVM_CAP_XCRS is 0)",
  "xcr0-without-x87": ({ xcr0 }) => `XCR0 ${hex(xcr0)}: bit 0 x87 must be 1`,
  "xcr0-dependency": ({ xcr0, bits, feature, needed }) =>
    bits.length === 1
      ? `XCR0 ${hex(xcr0)}: ${writeBits(bits, XFEATURES)} needs ${writeBits([needed], XFEATURES)}`
      : `XCR0 ${hex(xcr0)}: bits ${bits[0]} to ${bits.at(-1)} (${feature}) need ${writeBits([needed], XFEATURES)}`,
  "xcr0-beyond-cpuid": ({ xcr0, bits, allowed }) =>
    `XCR0 ${hex(xcr0)}: ${writeBits(bits, XFEATURES)} not in this vCPU's CPUID, which ` +
    (allowed === undefined ? "has no leaf 0xd" : `has ${hex(allowed)} in 0xd.0:eax and edx`),
  "xcr0-part-of-feature": ({ xcr0, feature, missing: bits }) =>
    `XCR0 ${hex(xcr0)}: ${feature} is incomplete without ${writeBits(bits, XFEATURES)}`,
  "compacted-area": ({ xcompBv }) =>
    `xcomp_bv ${hex(xcompBv)} must be 0: KVM accepts only the standard form`,
  "reserved-byte": ({ offset }) => `byte ${offset} of the XSAVE header is reserved, but is not 0`,
  "misaligned-mode": ({ mxcsr }) =>
    `mxcsr ${hex(mxcsr)}: bit 17 MM is reserved on a CPU without misaligned SSE`,
  "short-area": ({ bytes, needed }) =>
    `${bytes} bytes, but the state has ${needed} (KVM_CAP_XSAVE2)`,
  "larger-state": ({ size, room }) =>
    `the state has up to ${size} bytes, but this call returns ${room}: KVM_GET_XSAVE2 returns all`,

  "memory-type": ({ type, byte }) =>
    byte === undefined
      ? `type ${type} is not a memory type`
      : `byte ${byte} is ${type}, which is not a memory type`,
  "host-lacks": ({ feature }) =>
    feature === "ibpb"
      ? "the host's CPU has no IBPB (or for bit 7 no SBPB)"
      : "the host's CPU has no L1D flush",
  "not-canonical": () => "the address is not canonical",
  "write-only": () => "this MSR can only be written",
  "no-such-msr": () => "this KVM has no such MSR",
  "no-feature-of-msr": () => "this vCPU's CPUID lacks the feature to which this MSR belongs",
  "feature-msr-after-run": ({ current }) =>
    `this MSR describes the CPU, and cannot change after KVM_RUN: it is ${hex(current)}`,
  "feature-msr-bits": ({ extra, absent, value }) => {
    const source = `KVM_GET_MSRS of /dev/kvm returns ${hex(value)}`;
    return extra.length > 0
      ? `${writeBits(extra)} not in this KVM: ${source}`
      : `${writeBits(absent)} must be 1: ${source}`;
  },
  "no-feature-msr": () => "this KVM has no such feature MSR",
  "derived-vmx-msr": () =>
    "KVM derives this MSR from the true controls: write those (0x48d to 0x490)",
  "fixed-vmx-msr": () => "KVM derives this MSR from the vCPU's CPUID",
  "control-bits": ({ bits }) =>
    bits
      .map(
        ({ bit, name, missing: lack }) => `${writeBits([bit], { [bit]: name })}: ${missing(lack)}`,
      )
      .join("; "),
  "no-lmce": () =>
    "bit 20 LMCE_ENABLED: KVM_X86_SETUP_MCE gave this vCPU no LMCE (bit 27 of mcgCap)",
  "no-pmu": ({ by }) =>
    by === "kvm"
      ? `this KVM gives its guests no Intel PMU ${PMU_PLACE}`
      : `this vCPU's CPUID has no Intel PMU ${PMU_PLACE}`,
  "no-pmu-counter": () =>
    "the PMU of leaf 0xa in this vCPU's CPUID does not have this counter, or not these bits",
  "no-lapic": () => "this MSR needs the LAPIC in the kernel (KVM_CREATE_IRQCHIP)",
  "no-memory": ({ address }) => `address ${hex(address)} is not in a memory slot`,
  "missing-pv-features": ({ features }) =>
    `this vCPU's CPUID lacks ${placesOf(features)}, and KVM_CAP_ENFORCE_PV_FEATURE_CPUID is enabled`,
};

/** Formats a finding as a sentence without a full stop. */
export function word(finding: Finding): string {
  const words = WORDS[finding.kind] as (finding: Finding) => string;
  return words(finding);
}

function worded(verdict: RuleVerdict<Finding> | undefined, source?: string): Verdict | undefined {
  const text = verdict && word(verdict.finding);
  if (verdict?.is === "undecided") return open(text);
  return source === undefined ? fault(text) : only(source, text);
}

/**
 * Makes causes from the oracle's rules.
 *
 * @param ask - a function that makes the argument of the oracle's rules from a refused call; it returns undefined if
 *   the call's argument is unknown.
 */
export function causesOf<T, Asked>(
  rules: OracleRules<Asked, Finding>,
  ask: (refused: T) => Asked | undefined,
): Causes<T> {
  return Object.fromEntries(
    Object.entries(rules).map(([name, rule]) => [
      name,
      (refused: T) => {
        const asked = ask(refused);
        const source = rule.isOnlySource === true ? rule.source : undefined;
        return asked === undefined ? undefined : worded(apply(rule, asked), source);
      },
    ]),
  );
}
