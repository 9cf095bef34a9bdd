/** Exits that need no JavaScript, as data: what a vCPU's runs answer, ignore or collect by themselves. native/exit_filter.cc does it. */

/** What a rule may say about the writes that it has. */
type FilteredWrite = "ignore" | "collect";

/** A rule for ports. */
export interface PioRule {
  /** The first port. */
  readonly pio: number;
  /** How many ports; 1 when left out. */
  readonly length?: number;
  /** Only accesses of so many bytes: 1, 2 or 4. */
  readonly size?: number;
  /** What a read gives; without it reads are exits. String instructions read it again and again. */
  readonly read?: number;
  /** What becomes of writes; without it they are exits. */
  readonly write?: FilteredWrite;
}

/** A rule for guest physical addresses without memory. */
export interface MmioRule {
  /** The first address. */
  readonly mmio: bigint;
  /** How many bytes; `size` or else 1 when left out. An access must lie in them as a whole. */
  readonly length?: bigint;
  /** Only accesses of so many bytes: 1 to 8. */
  readonly size?: number;
  /** What a read gives; without it reads are exits. */
  readonly read?: bigint;
  /** What becomes of writes; without it they are exits. */
  readonly write?: FilteredWrite;
}

/** A rule for MSRs whose accesses are exits: KVM_CAP_X86_USER_SPACE_MSR. */
export interface MsrRule {
  /** The first MSR. */
  readonly msr: number;
  /** How many MSRs; 1 when left out. */
  readonly length?: number;
  /** What RDMSR gives; without it reads are exits. */
  readonly read?: bigint;
  /** That WRMSR does nothing; without it writes are exits. */
  readonly write?: "ignore";
}

/** A rule of an exit filter. Of several that have an access, the first one counts. */
export type ExitRule = PioRule | MmioRule | MsrRule;

// struct FilterRule of native/exit_filter.h.
const BYTES = 40;
const [FIRST, LAST, VALUE, SPACE, WRITE, ANSWERS, SIZE] = [0, 8, 16, 24, 28, 32, 36];
const [PIO, MMIO, MSR] = [0, 1, 2];
const WRITES = { exit: 0, ignore: 1, collect: 2 } as const;

/** The ring that collected writes come in, in bytes: WriteRing of native/exit_filter.h. */
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

/** Makes a rule's numbers alike. */
function plain(rule: ExitRule, wrong: (what: string) => RangeError): Plain {
  const u64 = (field: string, value: unknown): bigint => {
    const isWhole = typeof value === "bigint" || Number.isInteger(value);
    const number = isWhole ? BigInt(value as bigint) : -1n;
    if (number < 0n || number >= U64) throw wrong(`${field}: ${String(value)}: not in 64 bits`);
    return number;
  };
  const { write = "exit" } = rule;
  const read = rule.read === undefined ? undefined : u64("read", rule.read);
  if ("msr" in rule) {
    const { msr, length = 1 } = rule;
    const [first, many] = [u64("msr", msr), u64("length", length)];
    return { space: MSR, first, length: many, size: 0, read, write };
  }
  const { size = 0, length = size || 1 } = rule;
  const many = u64("length", length);
  if ("pio" in rule) {
    return { space: PIO, first: u64("pio", rule.pio), length: many, size, read, write };
  }
  if (!("mmio" in rule)) throw wrong("it has none of pio, mmio and msr");
  return { space: MMIO, first: u64("mmio", rule.mmio), length: many, size, read, write };
}

function checked(rule: ExitRule, wrong: (what: string) => RangeError): Plain {
  const one = plain(rule, wrong);
  const { space, first, length, size, write } = one;
  if (!(write in WRITES)) throw wrong(`write: "${write}" is neither "ignore" nor "collect"`);
  if (space === MSR && write === "collect") throw wrong("writes of MSRs are not collected");
  if (length < 1n) throw wrong(`length: ${length} is less than 1`);
  if (first + length > U64) throw wrong(`${first} and ${length} more: not in 64 bits`);
  if (!Number.isInteger(size) || size < 0 || size > 8) throw wrong(`size: ${size} is not 1 to 8`);
  return one;
}

/**
 * Encodes rules for the native filter.
 *
 * @throws RangeError that names the rule and what is wrong with it.
 */
export function encodeRules(rules: readonly ExitRule[]): Uint8Array {
  const bytes = new Uint8Array(rules.length * BYTES);
  const view = new DataView(bytes.buffer);
  for (const [i, rule] of rules.entries()) {
    const one = checked(rule, (what) => new RangeError(`exit filter: rule ${i}: ${what}`));
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
