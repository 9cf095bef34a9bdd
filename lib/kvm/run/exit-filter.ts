/**
 * Encodes the rules of exit filters. During a vCPU's runs, native/exit_filter.cc answers, ignores or collects the exits
 * that a rule matches, without calling JavaScript.
 */
import { describe, refuseMissing, refuseUnknown, toU64 } from "../../options.ts";

/** A rule for ports. */
export interface PioRuleInput {
  /** The first port of the range. */
  readonly pio: bigint | number;
  /** The number of ports; 1 if omitted. */
  readonly length?: bigint | number;
  /** The size of matching accesses in bytes: 1, 2 or 4; any size if omitted. */
  readonly size?: number;
  /**
   * The value that the guest reads. Each element of a string instruction reads the same value. If omitted, reads cause
   * exits.
   */
  readonly read?: bigint | number;
  /** The action for writes; if omitted, writes cause exits. */
  readonly write?: "ignore" | "collect";
}

/** A rule for guest physical addresses without memory. */
export interface MmioRuleInput {
  /** The first guest physical address of the range. */
  readonly mmio: bigint | number;
  /**
   * The number of bytes; the default is `size`, or 1 if `size` is also omitted. An access matches if all of its bytes
   * are in the range.
   */
  readonly length?: bigint | number;
  /** The size of matching accesses in bytes, 1 to 8; any size if omitted. */
  readonly size?: number;
  /** The value that the guest reads; if omitted, reads cause exits. */
  readonly read?: bigint | number;
  /** The action for writes; if omitted, writes cause exits. */
  readonly write?: "ignore" | "collect";
}

/** A rule for MSRs whose accesses KVM_CAP_X86_USER_SPACE_MSR passes to user space. */
export interface MsrRuleInput {
  /** The first MSR. */
  readonly msr: bigint | number;
  /** The number of MSRs; 1 if omitted. */
  readonly length?: bigint | number;
  /** The value that RDMSR returns; if omitted, reads cause exits. */
  readonly read?: bigint | number;
  /** The action for WRMSR, which can only be ignored; if omitted, writes cause exits. */
  readonly write?: "ignore";
}

/** A rule of an exit filter. If several rules match an access, the first matching rule applies. */
export type ExitRuleInput = PioRuleInput | MmioRuleInput | MsrRuleInput;

// The size and the offsets of struct FilterRule in native/exit_filter.h.
const BYTES = 40;
const [FIRST, LAST, VALUE, SPACE, WRITE, ANSWERS, SIZE] = [0, 8, 16, 24, 28, 32, 36];
const [PIO, MMIO, MSR] = [0, 1, 2];
const WRITES = { exit: 0, ignore: 1, collect: 2 } as const;

/** The size in bytes of the ring for collected writes: the class WriteRing in native/exit_filter.h. */
export const FILTER_RING_BYTES = 65_536;

interface Plain {
  readonly space: number;
  readonly first: bigint;
  readonly length: bigint;
  readonly size: number;
  readonly read: bigint | undefined;
  readonly write: keyof typeof WRITES;
}

const U64 = 2n ** 64n;
const PORTS = 0x1_0000n;

/**
 * The address spaces. `name` is the member of a rule that selects the address space; `members` are the allowed members.
 */
const SPACES = [
  { name: "pio", space: PIO, members: ["pio", "length", "size", "read", "write"] },
  { name: "mmio", space: MMIO, members: ["mmio", "length", "size", "read", "write"] },
  { name: "msr", space: MSR, members: ["msr", "length", "read", "write"] },
] as const;

/** Checks a rule and converts its members to one form. */
function plain(rule: ExitRuleInput, where: string): Plain {
  refuseMissing(where, rule, []);
  const given = { ...rule } as Readonly<Record<string, unknown>>;
  const named = SPACES.filter(({ name }) => given[name] !== undefined);
  const [only] = named;
  if (only === undefined) {
    const members = Array.from(new Set(SPACES.flatMap((one) => one.members)));
    refuseUnknown(where, given, members, "member");
    throw new TypeError(`${where}: it has none of pio, mmio and msr`);
  }
  refuseUnknown(where, given, only.members, "member");
  const u64 = (name: string, value: unknown): bigint => toU64(`${where}: ${name}`, value);
  const { size = 0, write = "exit" } = given;
  const isSize = typeof size === "number" && Number.isInteger(size) && size >= 0 && size <= 8;
  if (!isSize) throw new RangeError(`${where}: size: ${describe(size)} is not 1 to 8`);
  if (typeof write !== "string" || !Object.hasOwn(WRITES, write)) {
    throw new RangeError(`${where}: write: ${describe(write)} is neither "ignore" nor "collect"`);
  }
  return {
    space: only.space,
    first: u64(only.name, given[only.name]),
    length: u64("length", given["length"] ?? (size || 1)),
    size,
    read: given["read"] === undefined ? undefined : u64("read", given["read"]),
    write: write as Plain["write"],
  };
}

function checked(rule: ExitRuleInput, where: string): Plain {
  const one = plain(rule, where);
  const { space, first, length, write, size, read } = one;
  const wrong = (what: string): RangeError => new RangeError(`${where}: ${what}`);
  if (space === MSR && write === "collect") throw wrong("writes of MSRs are not collected");
  if (length < 1n) throw wrong(`length: ${length} is less than 1`);
  if (first + length > U64) throw wrong(`${first} and ${length} more: not in 64 bits`);
  if (space === PIO && first + length > PORTS) throw wrong(`pio: ports end at ${PORTS - 1n}`);
  if (space === PIO && ![0, 1, 2, 4].includes(size)) throw wrong(`size: ${size} is not 1, 2 or 4`);
  if (read !== undefined && size > 0 && read >> BigInt(8 * size) !== 0n) {
    throw wrong(`read: ${read} does not fit ${8 * size} bits`);
  }
  return one;
}

/**
 * Encodes rules for the native filter.
 *
 * @throws TypeError or RangeError that names the invalid rule and its fault.
 */
export function encodeRules(rules: readonly ExitRuleInput[]): Uint8Array {
  if (!Array.isArray(rules)) {
    throw new TypeError(`setExitFilter(): expected an array of rules, got ${describe(rules)}`);
  }
  const all = rules.map((rule, i) => checked(rule as ExitRuleInput, `setExitFilter(): rule ${i}`));
  const bytes = new Uint8Array(all.length * BYTES);
  const view = new DataView(bytes.buffer);
  for (const [i, one] of all.entries()) {
    const at = i * BYTES;
    view.setBigUint64(at + FIRST, one.first, true);
    view.setBigUint64(at + LAST, one.first + one.length - 1n, true);
    view.setBigUint64(at + VALUE, one.read ?? 0n, true);
    view.setUint32(at + SPACE, one.space, true);
    view.setUint32(at + WRITE, WRITES[one.write], true);
    view.setUint32(at + ANSWERS, one.read === undefined ? 0 : 1, true);
    view.setUint32(at + SIZE, one.size, true);
  }
  return bytes;
}
