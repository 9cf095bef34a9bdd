/** The rules for extended state: XCR0 against leaf 0xD, and the header and MXCSR of an XSAVE area. */
import { KVM_MAX_XCRS } from "../abi/generated/constants.ts";
import type { Xcrs } from "../abi/generated/structs.ts";
import type { CpuidEntry2, CpuidTable } from "../cpuid/index.ts";
import { type BitNames, bitsOf, type ForbiddenBits, forbiddenBits, hasBit } from "./bits.ts";
import { type Rules, refused, undecided, verdictIf } from "./verdict.ts";

/** The components of XCR0, by their bits (arch/x86/include/asm/fpu/types.h). */
export const XFEATURES: BitNames = {
  0: "x87",
  1: "SSE",
  2: "AVX",
  3: "BNDREGS",
  4: "BNDCSR",
  5: "opmask",
  6: "ZMM_Hi256",
  7: "Hi16_ZMM",
  9: "PKRU",
  11: "CET_U",
  12: "CET_S",
  17: "TILECFG",
  18: "TILEDATA",
};

const [X87, SSE, AVX] = [0, 1, 2] as const;

/** A feature with several components: XCR0 must contain either all of them or none. */
interface WholeFeature {
  readonly name: string;
  readonly bits: readonly number[];
}

const AVX512: WholeFeature = { name: "AVX-512", bits: [5, 6, 7] };
/** The features whose components XCR0 may contain only together (arch/x86/kvm/x86.c:__kvm_set_xcr). */
const TOGETHER: readonly WholeFeature[] = [
  { name: "MPX", bits: [3, 4] },
  AVX512,
  { name: "AMX", bits: [17, 18] },
];

/** A finding about XCR0. */
export type Xcr0Finding =
  | { readonly kind: "xcr0-without-x87"; readonly xcr0: bigint }
  | {
      readonly kind: "xcr0-dependency";
      readonly xcr0: bigint;
      /** The components that require the component `needed`. */
      readonly bits: readonly number[];
      readonly feature: string;
      readonly needed: number;
    }
  | {
      readonly kind: "xcr0-beyond-cpuid";
      readonly xcr0: bigint;
      readonly bits: readonly number[];
      /** The components in leaf 0xD.0 of the vCPU's table; undefined if the table does not have the leaf. */
      readonly allowed: bigint | undefined;
    }
  | {
      readonly kind: "xcr0-part-of-feature";
      readonly xcr0: bigint;
      readonly feature: string;
      readonly missing: readonly number[];
    };

/** Returns the components in eax and edx of an entry of leaf 0xD.0; undefined without the entry. */
export function componentsIn(leaf: CpuidEntry2 | undefined): bigint | undefined {
  return leaf && (BigInt(leaf.edx) << 32n) | BigInt(leaf.eax);
}

/** Returns the components in leaf 0xD.0 of a table; undefined if the table does not have the leaf. */
export function componentsOf(table: CpuidTable): bigint | undefined {
  return componentsIn(table.find(0xd, 0));
}

function beyondCpuid(xcr0: bigint, allowed: bigint | undefined): Xcr0Finding | undefined {
  // x87 is valid without leaf 0xd, so XCR0 = 1 is accepted on every vCPU.
  const bits = bitsOf(xcr0 & ~((allowed ?? 0n) | 1n));
  return bits.length === 0 ? undefined : { kind: "xcr0-beyond-cpuid", xcr0, bits, allowed };
}

function partOfFeature(xcr0: bigint): Xcr0Finding | undefined {
  for (const { name, bits } of TOGETHER) {
    const missing = bits.filter((bit) => !hasBit(xcr0, bit));
    if (missing.length > 0 && missing.length < bits.length) {
      return { kind: "xcr0-part-of-feature", xcr0, feature: name, missing };
    }
  }
  return undefined;
}

function dependency(xcr0: bigint, feature: WholeFeature, needed: number): Xcr0Finding | undefined {
  const { name, bits } = feature;
  if (!bits.some((bit) => hasBit(xcr0, bit)) || hasBit(xcr0, needed)) return undefined;
  return { kind: "xcr0-dependency", xcr0, bits, feature: name, needed };
}

/**
 * Finds why KVM refuses a value of XCR0 (arch/x86/kvm/x86.c:__kvm_set_xcr).
 *
 * @param table - the vCPU's table; undefined if it is unknown.
 */
export function xcr0Finding(xcr0: bigint, table: CpuidTable | undefined): Xcr0Finding | undefined {
  return findIn(xcr0, () => table && beyondCpuid(xcr0, componentsOf(table)));
}

/**
 * Finds why KVM refuses a value of XCR0 on a vCPU that may set these components.
 *
 * @param allowed - the components of leaf 0xD.0; undefined if the vCPU's table does not have the leaf.
 */
export function xcr0FindingWithin(
  xcr0: bigint,
  allowed: bigint | undefined,
): Xcr0Finding | undefined {
  return findIn(xcr0, () => beyondCpuid(xcr0, allowed));
}

function findIn(xcr0: bigint, beyond: () => Xcr0Finding | undefined): Xcr0Finding | undefined {
  if (!hasBit(xcr0, X87)) return { kind: "xcr0-without-x87", xcr0 };
  return (
    dependency(xcr0, { name: "AVX", bits: [AVX] }, SSE) ??
    beyond() ??
    partOfFeature(xcr0) ??
    dependency(xcr0, AVX512, AVX)
  );
}

/** The argument of KVM_SET_XCRS, and the state of the vCPU; an undefined member is unknown. */
export interface SetXcrsAsked {
  readonly xcrs: Xcrs | undefined;
  readonly table: CpuidTable | undefined;
  /** The result of KVM_CHECK_EXTENSION for KVM_CAP_XCRS. */
  readonly capability: number | undefined;
}

/** A finding about KVM_SET_XCRS. */
export type SetXcrsFinding =
  | Xcr0Finding
  | ForbiddenBits
  | { readonly kind: "too-many-xcrs"; readonly nrXcrs: number; readonly most: number }
  | { readonly kind: "no-xsave" };

/** The rules of KVM_SET_XCRS. */
export const SET_XCRS_RULES: Rules<SetXcrsAsked, SetXcrsFinding> = {
  "too many registers": {
    source: "arch/x86/kvm/x86.c:kvm_vcpu_ioctl_x86_set_xcrs",
    judge: ({ xcrs: { nrXcrs } = { nrXcrs: 0 } }) =>
      verdictIf(nrXcrs > KVM_MAX_XCRS, { kind: "too-many-xcrs", nrXcrs, most: KVM_MAX_XCRS }),
  },
  flags: {
    source: "arch/x86/kvm/x86.c:kvm_vcpu_ioctl_x86_set_xcrs",
    judge: ({ xcrs }) => refused(forbiddenBits(xcrs?.flags ?? 0, 0, "linux", "flags")),
  },
  XCR0: {
    // KVM uses the first XCR0 of the list, and ignores all later entries.
    source: "arch/x86/kvm/x86.c:kvm_vcpu_ioctl_x86_set_xcrs",
    judge: ({ xcrs, table }) => {
      const sent = xcrs?.xcrs.slice(0, xcrs.nrXcrs).find(({ xcr }) => xcr === 0)?.value;
      return refused(sent === undefined ? undefined : xcr0Finding(sent, table));
    },
  },
  "no XSAVE": {
    source: "arch/x86/kvm/x86.c:kvm_vcpu_ioctl_x86_set_xcrs",
    judge: ({ capability }) => verdictIf(capability === 0, { kind: "no-xsave" }),
  },
};

/** The offsets in an XSAVE area (SDM volume 1, 13.4). */
const [MXCSR, XSTATE_BV, XCOMP_BV, RESERVED, HEADER_END] = [24, 512, 520, 528, 576] as const;
/** The bits of MXCSR that every CPU with SSE2 has, and the bit of AMD's misaligned exception mode. */
const MXCSR_BITS = 0xffff;
const MXCSR_MM = 17;
/** KVM checks MXCSR if an area has one of these components: x87, SSE and AVX. */
const WITH_MXCSR = 7n;

/** The size of the area that KVM_GET_XSAVE returns; without KVM_CAP_XSAVE2, also the size for KVM_SET_XSAVE. */
const XSAVE_BYTES = 4096;

/** An XSAVE area that is passed to KVM; an undefined member is unknown. */
export interface SetXsaveAsked {
  readonly area: Uint8Array | undefined;
  readonly supported: CpuidTable | undefined;
}

/** A finding about an XSAVE area. */
export type XsaveFinding =
  | ForbiddenBits
  | { readonly kind: "compacted-area"; readonly xcompBv: bigint }
  | { readonly kind: "reserved-byte"; readonly offset: number }
  | { readonly kind: "misaligned-mode"; readonly mxcsr: number }
  | { readonly kind: "short-area"; readonly bytes: number; readonly needed: number }
  | { readonly kind: "larger-state"; readonly size: number; readonly room: number };

/** Makes a rule that applies only to areas with a whole header. */
const area =
  (judge: (view: DataView, asked: SetXsaveAsked) => XsaveFinding | undefined) =>
  (asked: SetXsaveAsked): XsaveFinding | undefined => {
    const bytes = asked.area;
    if (bytes === undefined || bytes.byteLength < HEADER_END) return undefined;
    return judge(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), asked);
  };

/** Returns the MXCSR that KVM checks; 0 if the area has no component with which KVM checks MXCSR. */
const mxcsrOf = (view: DataView): number =>
  (view.getBigUint64(XSTATE_BV, true) & WITH_MXCSR) === 0n ? 0 : view.getUint32(MXCSR, true);

const components = area((view, { supported }) => {
  const allowed = supported && componentsOf(supported);
  const features = view.getBigUint64(XSTATE_BV, true);
  return allowed === undefined
    ? undefined
    : forbiddenBits(features, allowed, "guests", "xstate_bv");
});

const compacted = area((view) => {
  const xcompBv = view.getBigUint64(XCOMP_BV, true);
  return xcompBv === 0n ? undefined : { kind: "compacted-area", xcompBv };
});

const reservedHeader = area((view) => {
  const header = new Uint8Array(view.buffer, view.byteOffset + RESERVED, HEADER_END - RESERVED);
  const at = header.findIndex((byte) => byte !== 0);
  return at < 0 ? undefined : { kind: "reserved-byte", offset: RESERVED + at };
});

const mxcsr = area((view) =>
  forbiddenBits(mxcsrOf(view), MXCSR_BITS | (1 << MXCSR_MM), "x86", "mxcsr"),
);

const misalignedMode = area((view) =>
  hasBit(BigInt(mxcsrOf(view)), MXCSR_MM)
    ? { kind: "misaligned-mode", mxcsr: mxcsrOf(view) }
    : undefined,
);

/** The rules of KVM_SET_XSAVE for the content of the area. */
export const SET_XSAVE_RULES: Rules<SetXsaveAsked, XsaveFinding> = {
  components: {
    source: "arch/x86/kernel/fpu/xstate.c:validate_user_xstate_header",
    judge: (asked) => refused(components(asked)),
  },
  "compact form": {
    source: "arch/x86/kernel/fpu/xstate.c:validate_user_xstate_header",
    judge: (asked) => refused(compacted(asked)),
  },
  "reserved header": {
    source: "arch/x86/kernel/fpu/xstate.c:validate_user_xstate_header",
    judge: (asked) => refused(reservedHeader(asked)),
  },
  mxcsr: {
    source: "arch/x86/kernel/fpu/core.c:fpu_copy_uabi_to_guest_fpstate",
    judge: (asked) => refused(mxcsr(asked)),
  },
  "mxcsr of AMD": {
    source: "arch/x86/kernel/fpu/core.c:fpu_copy_uabi_to_guest_fpstate",
    judge: (asked) => undecided(misalignedMode(asked)),
  },
};

/** The size of the memory for an XSAVE area, and the size of the state; an undefined member is unknown. */
export interface XsaveSizeAsked {
  readonly bytes: number | undefined;
  /** The size of the state, which is the result of KVM_CHECK_EXTENSION for KVM_CAP_XSAVE2. */
  readonly size: number | undefined;
}

/** The rule of KVM_SET_XSAVE and KVM_GET_XSAVE2 for the size of the memory (EFAULT). */
export const XSAVE_SIZE_RULES: Rules<XsaveSizeAsked, XsaveFinding> = {
  short: {
    source: "arch/x86/kvm/x86.c:kvm_arch_vcpu_ioctl",
    judge: ({ bytes, size }) =>
      refused(
        bytes !== undefined && size !== undefined && bytes < size
          ? { kind: "short-area", bytes, needed: size }
          : undefined,
      ),
  },
};

/** The rule of KVM_GET_XSAVE for the size of the state (EINVAL). */
export const GET_XSAVE_RULES: Rules<Pick<XsaveSizeAsked, "size">, XsaveFinding> = {
  "larger state": {
    source: "arch/x86/kvm/x86.c:kvm_vcpu_ioctl_x86_get_xsave",
    judge: ({ size }) =>
      refused(
        size !== undefined && size > XSAVE_BYTES
          ? { kind: "larger-state", size, room: XSAVE_BYTES }
          : undefined,
      ),
  },
};
