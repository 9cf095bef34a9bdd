/**
 * Compares the written values with the values that are read back, part by part. The comparison finds values that KVM
 * has accepted without storing them. MAY_DIFFER lists values that may differ, because they count or because KVM derives
 * them.
 */
import { isBytes } from "../abi/bytes.ts";
import type { CpuidEntry2, MsrEntry } from "../abi/generated/structs.ts";
import { diff, formatChange } from "../cpuid/diff.ts";
import { isOwned } from "../oracle/runtime-bits.ts";
import type { StateDifference } from "./error.ts";
import { COUNTING_MSRS } from "./msrs.ts";
import type { Part } from "./parts.ts";
import { fromBytes, toBytes } from "./shape.ts";
import type { VcpuState } from "./state.ts";

type Members = Readonly<Record<string, unknown>>;
type Scalar = number | bigint;

/** A place at which two values of a part differ. */
interface Place {
  /** The path inside the part: `cs.base`, `regs[0x390]`. */
  readonly path: string;
  readonly wrote: Scalar | undefined;
  readonly reads: Scalar | undefined;
  /** The struct or array that contains the place: first the written value, then the value that was read back. */
  readonly owner: readonly [wrote: Members, reads: Members];
  /** The whole part that was written. */
  readonly whole: Members;
  /** The TSC that was read back; undefined if the state has no TSC. */
  readonly tsc: bigint | undefined;
}

interface Exception {
  /** The names of the parts in which the values may differ. */
  readonly parts: readonly string[];
  /** A pattern for the path inside the part. */
  readonly path: RegExp;
  /** Returns whether this difference is allowed; if omitted, all differences at the path are allowed. */
  readonly when?: (place: Place) => boolean;
  /** The reason why the values may differ. */
  readonly why: string;
}

const big = (value: Scalar | undefined): bigint => BigInt(value ?? 0);

/** Returns whether every bit that was written as 1 reads as 1; KVM may have set further bits. */
const hasGained = ({ wrote, reads }: Place): boolean => (big(wrote) & ~big(reads)) === 0n;

const isUnset =
  (flag: number) =>
  ({ whole }: Place): boolean =>
    (Number(whole["flags"]) & flag) === 0;

/** The bits of an I/O APIC entry that change when the interrupt is delivered: delivery status and remote IRR. */
const REDIRECTION_STATUS = (1n << 12n) | (1n << 14n);
const MP_STATE_SIPI_RECEIVED = 4;
/** The MSRs from HV_X64_MSR_STIMER0_CONFIG to HV_X64_MSR_STIMER3_COUNT. */
const STIMERS = /^0x400000b[0-7]$/;

/**
 * The values that may differ from the written ones, with the reason; all other values must be equal. For CPUID tables,
 * KVM_OWNED of lib/oracle is the list of bits that may differ.
 */
export const MAY_DIFFER: readonly Exception[] = [
  {
    parts: ["msrs"],
    path: new RegExp(`^(${COUNTING_MSRS.map(({ index }) => hex(index)).join("|")})$`),
    why: "these MSRs count (COUNTING_MSRS)",
  },
  {
    parts: ["msrs"],
    path: /^0x6e0$/,
    when: ({ wrote, reads, tsc }) => big(reads) === 0n && tsc !== undefined && big(wrote) <= tsc,
    why: "IA32_TSC_DEADLINE reads as 0 after the deadline (lapic.c:apic_timer_expired)",
  },
  {
    parts: ["msrs"],
    path: STIMERS,
    when: ({ wrote }) => (big(wrote) & 1n) === 1n || big(wrote) > 1n,
    why: "a synthetic timer that has expired is disabled (hyperv.c:stimer_expiration)",
  },
  {
    parts: ["sregs", "sregs2"],
    path: /^(cs|ds|es|fs|gs|ss|tr|ldt)\./,
    when: ({ owner }) => owner.every((segment) => segment["unusable"] === 1),
    why: "the fields of an unusable segment have no effect, and kvm_intel and kvm_amd keep different fields",
  },
  {
    parts: ["sregs2"],
    path: /^flags$/,
    when: hasGained,
    why: "KVM sets KVM_SREGS2_FLAGS_PDPTRS_VALID if the guest has PAE paging",
  },
  {
    parts: ["sregs2"],
    path: /^pdptrs\[/,
    when: isUnset(1),
    why: "the PDPTRs are written only with KVM_SREGS2_FLAGS_PDPTRS_VALID",
  },
  {
    parts: ["sregs"],
    path: /^interruptBitmap\[/,
    why: "KVM_SET_VCPU_EVENTS writes the pending interrupt again",
  },
  {
    parts: ["lapic"],
    path: /^regs\[0x(30|a0|390)\]$/,
    why: "KVM derives the version and the PPR, and the timer's current count decreases",
  },
  {
    parts: ["lapic"],
    path: /^regs\[0x2[0-7]0\]$/,
    when: hasGained,
    why: "an interrupt that has arrived since the write sets a bit of the IRR",
  },
  {
    parts: ["lapic"],
    path: /^regs\[0x1[89a-f]0\]$/,
    why: "each interrupt that arrives changes its bit of the TMR",
  },
  {
    parts: ["vcpuEvents"],
    path: /^(flags|sipiVector)$/,
    why: "the flags show which fields are valid, and KVM never reports a SIPI vector",
  },
  {
    parts: ["vcpuEvents"],
    path: /^nmi\.pending$/,
    when: isUnset(1),
    why: "nmi.pending is written only with KVM_VCPUEVENT_VALID_NMI_PENDING",
  },
  {
    parts: ["vcpuEvents"],
    path: /^interrupt\.shadow$/,
    when: (place) => isUnset(4)(place) || (hasGained(place) && place.wrote !== 0),
    why: "interrupt.shadow is written only with KVM_VCPUEVENT_VALID_SHADOW; on AMD, one bit represents both kinds of shadow (svm_get_interrupt_shadow)",
  },
  {
    parts: ["vcpuEvents"],
    path: /^smi\./,
    when: isUnset(8),
    why: "the SMI fields are written only with KVM_VCPUEVENT_VALID_SMM",
  },
  {
    parts: ["vcpuEvents"],
    path: /^(exception\.pending|exceptionHasPayload|exceptionPayload)$/,
    when: isUnset(0x10),
    why: "the payload fields are written only with KVM_VCPUEVENT_VALID_PAYLOAD",
  },
  {
    parts: ["vcpuEvents"],
    path: /^tripleFault\./,
    when: isUnset(0x20),
    why: "the triple fault is written only with KVM_VCPUEVENT_VALID_TRIPLE_FAULT",
  },
  {
    parts: ["mpState"],
    path: /^$/,
    when: ({ wrote }) => wrote === MP_STATE_SIPI_RECEIVED,
    why: "KVM_GET_MP_STATE processes the pending SIPI, as KVM_RUN does",
  },
  {
    parts: ["picMaster", "picSlave"],
    path: /^(irr|lastIrr)$/,
    why: "irr and lastIrr change with the interrupt lines, such as the line of the timer",
  },
  {
    parts: ["ioapic"],
    path: /^irr$/,
    why: "KVM delivers pending interrupts at once (ioapic.c:kvm_ioapic_inject_all)",
  },
  {
    parts: ["ioapic"],
    path: /^redirtbl\[/,
    when: ({ wrote, reads }) => ((big(wrote) ^ big(reads)) & ~REDIRECTION_STATUS) === 0n,
    why: "delivering the interrupt changes the delivery status and the remote IRR",
  },
  {
    parts: ["clock"],
    path: /^clock$/,
    when: ({ wrote, reads }) => big(reads) >= big(wrote),
    why: "the clock of kvmclock runs",
  },
  {
    parts: ["clock"],
    path: /^(flags|realtime|hostTsc)$/,
    why: "KVM_GET_CLOCK sets these fields, and KVM_SET_CLOCK with flags 0 ignores them",
  },
  {
    parts: ["pit2"],
    path: /\.countLoadTime$/,
    why: "the value is the host's time at which the count was loaded",
  },
  {
    parts: ["pit2"],
    path: /\.count$/,
    when: ({ wrote, reads }) => big(wrote) % 0x10000n === 0n && big(reads) === 0x10000n,
    why: "a count of 0 means 0x10000 (i8254.c:pit_load_count)",
  },
];

/** Reserved fields: KVM ignores the written value, and returns 0. */
const RESERVED = /(^|\.)(pad|padding|reserved)\d*(\[|$)/;

/** The written value of one part of a vCPU or a VM, and the value that was read back. */
interface ReadBack {
  /** The object: `vm`, `vcpu 0`. */
  readonly object: string;
  readonly part: Part;
  /** The MSRs that KVM rejected. */
  readonly refused?: ReadonlySet<number>;
  /** The part's value in the saved state. */
  readonly wrote: unknown;
  /** The value that was read back. */
  readonly reads: unknown;
  /** The saved state of the vCPU, for parts whose comparison depends on other parts. */
  readonly state?: VcpuState;
}

/** Returns each place at which a part reads back differently, except the places that may differ. */
export function differences(back: ReadBack): readonly StateDifference[] {
  const { object, part, wrote, reads } = back;
  const found = (path: string, a: unknown, b: unknown): StateDifference => ({
    object,
    part: part.name,
    path: path.startsWith("[") || path === "" ? `${part.name}${path}` : `${part.name}.${path}`,
    wrote: a,
    reads: b,
    isRefused: false,
  });
  if (reads === undefined) return [found("", "the saved value", undefined)];
  if (part.name === "cpuid") {
    const changes = diff(wrote as readonly CpuidEntry2[], reads as readonly CpuidEntry2[]);
    return changes
      .filter((change) => !isOwned(change))
      .map((change) => ({
        ...found("", undefined, undefined),
        path: `cpuid ${formatChange(change).split(": ")[0]}`,
        wrote:
          "before" in change ? change.before : change.kind === "removed" ? "present" : "absent",
        reads: "after" in change ? change.after : change.kind === "removed" ? "absent" : "present",
      }));
  }
  return placesOf(back)
    .filter((place) => !mayDiffer(part.name, place))
    .map((place) => ({
      ...found(part.name === "msrs" ? `[${place.path}]` : place.path, place.wrote, place.reads),
      isRefused: part.name === "msrs" && (back.refused?.has(Number(place.path)) ?? false),
    }));
}

function mayDiffer(part: string, place: Place): boolean {
  if (RESERVED.test(place.path)) return true;
  return MAY_DIFFER.some(
    ({ parts, path, when }) =>
      parts.includes(part) && path.test(place.path) && (when?.(place) ?? true),
  );
}

function placesOf({ part, wrote, reads, state }: ReadBack): readonly Place[] {
  if (part.name === "msrs")
    return msrPlaces(wrote as readonly MsrEntry[], reads as readonly MsrEntry[]);
  if (part.name === "xsave") return xsavePlaces(wrote as Uint8Array, reads as Uint8Array, state);
  if (part.name === "nestedState") return nestedPlaces(wrote as Uint8Array, reads as Uint8Array);
  // The conversion to the kernel's bytes and back sets omitted fields to zero.
  const whole = fromBytes(part.shape, toBytes(part.shape, wrote));
  const xcrs = part.name === "xcrs" ? (whole as Members)["nrXcrs"] : undefined;
  const places = compare("", whole, reads, [{}, {}], Object(whole));
  if (xcrs === undefined) return places;
  // KVM_SET_XCRS reads only the first nrXcrs entries, but KVM_GET_XCRS always returns XCR0.
  const written = new RegExp(
    `^xcrs\\[(${Array.from({ length: Math.min(Number(xcrs), 16) }, (_, i) => i).join("|") || "none"})\\]`,
  );
  return places.filter(({ path }) => written.test(path));
}

/** Compares two values of the same shape, to any depth. */
function compare(
  path: string,
  wrote: unknown,
  reads: unknown,
  owner: Place["owner"],
  whole: Members,
): readonly Place[] {
  if (isBytes(wrote)) return words(path, wrote, reads as Uint8Array, owner, whole);
  if (typeof wrote !== "object" || wrote === null) {
    const [a, b] = [wrote as Scalar, reads as Scalar];
    return a === b ? [] : [{ path, wrote: a, reads: b, owner, whole, tsc: undefined }];
  }
  const inner = [wrote as Members, reads as Members] as const;
  return Object.keys(wrote).flatMap((name) => {
    const dotted = path === "" ? name : `${path}.${name}`;
    const at = Array.isArray(wrote) ? `${path}[${name}]` : dotted;
    return compare(at, inner[0][name], inner[1][name], inner, whole);
  });
}

const NOTHING: Place["owner"] = [{}, {}];

/** Compares bytes as 32-bit words; the path of a word contains its offset: `regs[0x20]`. */
function words(
  path: string,
  wrote: Uint8Array,
  reads: Uint8Array,
  owner: Place["owner"],
  whole: Members,
): readonly Place[] {
  const at = (bytes: Uint8Array, offset: number): number => {
    const [a = 0, b = 0, c = 0, d = 0] = bytes.subarray(offset, offset + 4);
    return (a | (b << 8) | (c << 16) | (d << 24)) >>> 0;
  };
  return Array.from({ length: Math.ceil(wrote.length / 4) }, (_, i) => i * 4)
    .filter((offset) => at(wrote, offset) !== at(reads, offset))
    .map((offset) => ({
      path: `${path}[${hex(offset)}]`,
      wrote: at(wrote, offset),
      reads: at(reads, offset),
      owner,
      whole,
      tsc: undefined,
    }));
}

/** MSRs are written in order, so the last value of an MSR is compared; a missing value counts as 0. */
function msrPlaces(wrote: readonly MsrEntry[], reads: readonly MsrEntry[]): readonly Place[] {
  const has = new Map(reads.map(({ index, data }) => [index, data]));
  const written = new Map(wrote.map(({ index, data }) => [index, data]));
  return Array.from(written)
    .filter(([index, data]) => (has.get(index) ?? 0n) !== data)
    .map(([index, data]) => ({
      path: hex(index),
      wrote: data,
      reads: has.get(index),
      owner: NOTHING,
      whole: {},
      tsc: has.get(0x10),
    }));
}

const XSTATE_BV = 512;
/** The ranges of x87 and SSE, without the MXCSR mask, which KVM sets to the host's value. SDM volume 1, 13.4.1. */
const LEGACY: readonly (readonly [bit: number, first: number, end: number])[] = [
  [0, 0, 24],
  [1, 24, 28],
  [0, 32, 160],
  [1, 160, 416],
];

/**
 * Compares the components whose bits are 1 in the written XSTATE_BV; all other components are in their initial state.
 */
function xsavePlaces(
  wrote: Uint8Array,
  reads: Uint8Array,
  state: VcpuState | undefined,
): readonly Place[] {
  const features = (bytes: Uint8Array): bigint =>
    new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(XSTATE_BV, true);
  const [bits, left] = [features(wrote), features(reads)];
  // In leaf 0xD.i, EAX is the size of component i, and EBX is its offset.
  const extended = (state?.cpuid ?? [])
    .filter((e) => e.function === 0xd && e.index >= 2 && e.index < 63)
    .map((e) => [e.index, e.ebx, e.ebx + e.eax] as const);
  const places = [...LEGACY, ...extended]
    .filter(([bit]) => ((bits >> BigInt(bit)) & 1n) === 1n)
    .flatMap(([, first, end]) => {
      const inside = ({ path }: Place): boolean => {
        const offset = Number(path.slice(1, -1));
        return offset >= first && offset < end;
      };
      return words("", wrote, reads, NOTHING, {}).filter(inside);
    });
  const lost = (bits & ~left) !== 0n;
  const header = { path: "xstate_bv", wrote: bits, reads: left, owner: NOTHING, whole: {} };
  return lost ? [{ ...header, tsc: undefined }, ...places] : places;
}

/**
 * Compares the flags, the format, and the addresses of the nested hypervisor's structs. Other bytes are not compared:
 * KVM derives the data after the header from the vCPU's registers, the size depends on this data, and the deadline of
 * the VMX timer counts.
 */
function nestedPlaces(wrote: Uint8Array, reads: Uint8Array): readonly Place[] {
  const [SIZE, DEADLINE] = [4, 32];
  return words("", wrote.subarray(0, DEADLINE), reads.subarray(0, DEADLINE), NOTHING, {}).filter(
    ({ path }) => path !== `[${hex(SIZE)}]`,
  );
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
