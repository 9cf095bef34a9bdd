/** Why extended state was refused: XCR0 against leaf 0xD, and the header and MXCSR of an XSAVE area. */
import { isBytes } from "../abi/bytes.ts";
import { KVM_MAX_XCRS } from "../abi/generated/constants.ts";
import { Xcrs } from "../abi/generated/structs.ts";
import type { CpuidTable } from "../cpuid/index.ts";
import { supportedTable, vcpuTable } from "./cpuid-rules.ts";
import {
  capability,
  type Evidence,
  type Reasons,
  type Refusal,
  type Rule,
  sentStruct,
} from "./refusal.ts";
import { claim, fault, open } from "./verdict.ts";
import { type BitNames, bitsOf, firstOf, hasBit, hex, unknownBits, writeBits } from "./wording.ts";

/** The components of XCR0, by their bits. */
const XFEATURES: BitNames = {
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
/** Components that come all together or not at all, each with its name. */
const TOGETHER: readonly (readonly [name: string, bits: readonly number[]])[] = [
  ["MPX", [3, 4]],
  ["AVX-512", [5, 6, 7]],
  ["AMX", [17, 18]],
];

/** Where things are in an XSAVE area (SDM volume 1, 13.4). */
const [MXCSR, XSTATE_BV, XCOMP_BV, RESERVED, HEADER_END] = [24, 512, 520, 528, 576] as const;
/** Bits that MXCSR has on every CPU with SSE2; AMD's misaligned mode is bit 17. */
const MXCSR_BITS = 0xffff;
const MXCSR_MM = 1 << 17;

/** The causes of KVM_SET_XCRS. */
export const SET_XCRS: Reasons = {
  EINVAL: {
    "too many registers": (refusal) => {
      const { nrXcrs = 0 } = sentStruct(refusal, Xcrs) ?? {};
      return claim(
        nrXcrs > KVM_MAX_XCRS,
        `nrXcrs ${nrXcrs}: the struct has room for ${KVM_MAX_XCRS}`,
      );
    },
    flags: (refusal) => fault(unknownBits("flags", sentStruct(refusal, Xcrs)?.flags ?? 0, 0)),
    XCR0: (refusal) => {
      const xcrs = sentStruct(refusal, Xcrs);
      return fault(xcrs && explainFirstXcr0(xcrs, refusal.evidence));
    },
    "no XSAVE": ({ evidence }) =>
      claim(
        capability(evidence, "KVM_CAP_XCRS") === 0,
        "the host has no XSAVE (KVM_CAP_XCRS is 0)",
      ),
  },
};

// KVM takes the first XCR0 in the list, and nothing else (kvm_vcpu_ioctl_x86_set_xcrs).
function explainFirstXcr0(xcrs: Xcrs, evidence: Evidence): string | undefined {
  const xcr0 = xcrs.xcrs.slice(0, xcrs.nrXcrs).find(({ xcr }) => xcr === 0)?.value;
  return xcr0 === undefined ? undefined : explainXcr0(xcr0, vcpuTable(evidence));
}

function explainXcr0(xcr0: bigint, table: CpuidTable | undefined): string | undefined {
  const name = `XCR0 ${hex(xcr0)}`;
  const has = (bit: number): boolean => hasBit(xcr0, bit);
  if (!has(X87)) return `${name}: bit 0 x87 must be 1`;
  if (has(AVX) && !has(SSE)) return `${name}: bit 2 AVX needs bit 1 SSE`;
  return firstOf(
    () => explainBeyond(name, xcr0, table),
    () => explainTogether(name, xcr0),
    () => (has(5) && !has(AVX) ? `${name}: bits 5 to 7 (AVX-512) need bit 2 AVX` : undefined),
  );
}

function explainBeyond(
  name: string,
  xcr0: bigint,
  table: CpuidTable | undefined,
): string | undefined {
  if (table === undefined) return undefined;
  const leaf = table.find(0xd, 0);
  const allowed = leaf === undefined ? 0n : (BigInt(leaf.edx) << 32n) | BigInt(leaf.eax);
  const extra = bitsOf(xcr0 & ~(allowed | 1n));
  if (extra.length === 0) return undefined;
  const told = leaf === undefined ? "has no leaf 0xd" : `has ${hex(allowed)} in 0xd.0:eax and edx`;
  return `${name}: ${writeBits(extra, XFEATURES)} not in this vCPU's CPUID, which ${told}`;
}

function explainTogether(name: string, xcr0: bigint): string | undefined {
  for (const [feature, bits] of TOGETHER) {
    const missing = bits.filter((bit) => !hasBit(xcr0, bit));
    if (missing.length > 0 && missing.length < bits.length) {
      return `${name}: ${feature} comes whole, not without ${writeBits(missing, XFEATURES)}`;
    }
  }
  return undefined;
}

const short: Rule = (refusal) => fault(explainShort(refusal));

/** Judges the XSAVE area that was sent, if it has a whole header. */
const area =
  (judge: (view: DataView, bytes: Uint8Array, evidence: Evidence) => ReturnType<Rule>): Rule =>
  (refusal) => {
    const bytes = areaOf(refusal);
    if (bytes === undefined || bytes.byteLength < HEADER_END) return undefined;
    return judge(
      new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
      bytes,
      refusal.evidence,
    );
  };

/** MXCSR is looked at when x87, SSE or AVX comes along. */
const mxcsrOf = (view: DataView): number =>
  (view.getBigUint64(XSTATE_BV, true) & 7n) === 0n ? 0 : view.getUint32(MXCSR, true);

/** The causes of KVM_SET_XSAVE (arch/x86/kernel/fpu: fpu_copy_uabi_to_guest_fpstate, validate_user_xstate_header). */
export const SET_XSAVE: Reasons = {
  EINVAL: {
    components: area((view, _, evidence) => {
      const leaf = supportedTable(evidence)?.find(0xd, 0);
      if (leaf === undefined) return undefined;
      const allowed = (BigInt(leaf.edx) << 32n) | BigInt(leaf.eax);
      const features = view.getBigUint64(XSTATE_BV, true);
      return fault(
        unknownBits("xstate_bv", features, allowed, "this KVM's guests have", XFEATURES),
      );
    }),
    "compact form": area((view) =>
      claim(
        view.getBigUint64(XCOMP_BV, true) !== 0n,
        `xcomp_bv ${hex(view.getBigUint64(XCOMP_BV, true))} must be 0: KVM takes the standard form only`,
      ),
    ),
    "reserved header": area((_, bytes) => {
      const reserved = bytes.subarray(RESERVED, HEADER_END).findIndex((byte) => byte !== 0);
      return claim(
        reserved >= 0,
        `byte ${RESERVED + reserved} is reserved in the XSAVE header, and not 0`,
      );
    }),
    mxcsr: area((view) =>
      fault(unknownBits("mxcsr", mxcsrOf(view), MXCSR_BITS | MXCSR_MM, "x86 has")),
    ),
    "mxcsr of AMD": area((view) =>
      open(
        (mxcsrOf(view) & MXCSR_MM) === 0
          ? undefined
          : `mxcsr ${hex(mxcsrOf(view))}: bit 17 MM is reserved on a CPU without misaligned SSE`,
      ),
    ),
  },
  EFAULT: { short },
};

/** The causes of KVM_GET_XSAVE2. */
export const GET_XSAVE2: Reasons = { EFAULT: { short } };

function explainShort({ argument, evidence }: Refusal): string | undefined {
  const size = capability(evidence, "KVM_CAP_XSAVE2");
  if (!isBytes(argument) || size === undefined) return undefined;
  return argument.byteLength < size
    ? `${argument.byteLength} bytes, and the state takes ${size} (KVM_CAP_XSAVE2)`
    : undefined;
}

function areaOf({ argument, sent }: Refusal): Uint8Array | undefined {
  if (isBytes(argument)) return argument;
  const { region } = sent;
  return Array.isArray(region) ? new Uint8Array(Uint32Array.from(region).buffer) : undefined;
}

/** The causes of KVM_GET_XSAVE. */
export const GET_XSAVE: Reasons = {
  EINVAL: {
    "larger state": ({ evidence }) => {
      const size = capability(evidence, "KVM_CAP_XSAVE2");
      return claim(
        size !== undefined && size > 4096,
        `the state is up to ${size} bytes, and this call gives 4096: KVM_GET_XSAVE2 gives all`,
      );
    },
  },
};
