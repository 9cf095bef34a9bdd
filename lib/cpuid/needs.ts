/**
 * Finds the instruction sets that code needs, and the instruction sets that a table lacks. instruction-features.ts
 * lists their CPUID bits, elf.ts finds the code of an ELF file, and guest/decode.ts contains a decoder.
 */
import {
  describe,
  refuseMisfit,
  refuseMissing,
  toBytes,
  toList,
  toU64,
  type WideInteger,
} from "../options.ts";
import type { CpuidEntry2Input } from "./entry.ts";
import { type CpuidFieldName, field, formatBits, readField } from "./field.ts";
import { INSTRUCTION_FEATURES, WITHOUT_SUPPORT } from "./instruction-features.ts";
import { CpuidTable } from "./table.ts";

/** One instruction, as a decoder returns it. */
export interface DecodedInstruction {
  /** The address. */
  readonly ip: bigint;
  /** The mnemonic in lower case, such as `vpaddd`; undefined for bytes that are not an instruction. */
  readonly mnemonic: string | undefined;
  /** All instruction sets that the instruction needs, by iced-x86's names, such as `AVX512VL`. */
  readonly features: readonly string[];
}

/** A decoder of x86 code, such as `instructionDecoder()` of `node-kvm/guest`. */
export interface CodeDecoder {
  /** Decodes code from its first byte to its last, in order. */
  decode(
    code: Uint8Array,
    options: { readonly bitness: 16 | 32 | 64; readonly ip: bigint },
  ): Iterable<DecodedInstruction>;
}

/** Code at an address, such as a section of an ELF file. */
export interface CodePart {
  /** The address of the first byte. */
  readonly address: WideInteger;
  readonly bytes: Uint8Array;
}

/** The options of {@link needs}. */
export interface NeedsOptions {
  readonly decoder: CodeDecoder;
  /** The width of the code in bits; 64 by default. */
  readonly bitness?: 16 | 32 | 64;
  /** The address of the first byte, if the code is one array; 0 by default. */
  readonly ip?: WideInteger;
}

/** An instruction set that code needs. */
export interface CodeNeed {
  /** The decoder's name of the instruction set, such as `AVX2`. */
  readonly feature: string;
  /** The fields that report the instruction set; one of them is enough. The list is empty for a bit without a name. */
  readonly fields: readonly CpuidFieldName[];
  /** The place of the first field, such as `0x7.0:ebx[5]`. */
  readonly where: string;
  /** Whether the table has the instruction set. */
  readonly isMet: boolean;
  /**
   * The effect of the instruction on a CPU without the instruction set. `invalid-opcode`: #UD, which ends a process
   * with SIGILL. `other-instruction`: the CPU executes the instruction in `runsAs`, which has other results.
   */
  readonly effect: "invalid-opcode" | "other-instruction";
  /** The instruction that the CPU executes instead, such as `BSF`; undefined if the effect is #UD. */
  readonly runsAs: string | undefined;
  /** The number of instructions in the code that need the instruction set. */
  readonly count: number;
  /** The first instruction that needs the instruction set. */
  readonly first: { readonly ip: bigint; readonly mnemonic: string };
}

/** The result of {@link needs}. */
export interface CodeNeeds {
  /** The number of decoded instructions. */
  readonly instructions: number;
  /** The number of places that are not an instruction, such as data between functions. */
  readonly invalid: number;
  /** Every instruction set that CPUID reports, in the order of its first instruction. */
  readonly needs: readonly CodeNeed[];
  /** The instruction sets that the table lacks. */
  readonly missing: readonly CodeNeed[];
  /** The decoder's names of instruction sets that this package does not know. */
  readonly unknown: readonly string[];
}

/** The count of one instruction set. */
interface Counted {
  readonly feature: string;
  readonly runsAs: string | undefined;
  readonly first: CodeNeed["first"];
  count: number;
}

/** The fields that report an instruction set, and whether a table has it. */
interface Report {
  readonly fields: readonly CpuidFieldName[];
  readonly where: string;
  readonly isMet: boolean;
}

function placeOf(name: CpuidFieldName): string {
  const { function: fn, index, register, low, high } = field(name);
  const first = typeof index === "number" ? index : index.first;
  return formatBits({ function: fn, index: first, register, low, high });
}

/** Returns the fields of an instruction set; undefined if CPUID does not report it. */
function reportOf(table: CpuidTable, feature: string): Report | undefined {
  const known = Object.hasOwn(INSTRUCTION_FEATURES, feature)
    ? INSTRUCTION_FEATURES[feature]
    : undefined;
  if (known === undefined || known.kind === "none") return undefined;
  if (known.kind === "any") {
    const [first] = known.fields;
    if (first === undefined) return undefined;
    const isMet = known.fields.some((name) => table.has(name));
    return { fields: known.fields, where: placeOf(first), isMet };
  }
  const { function: fn, index, register, bit } = known.bit;
  const value = table.find(fn, index)?.[register] ?? 0;
  const where = formatBits({ function: fn, index, register, low: bit, high: bit });
  return { fields: [], where, isMet: readField(value, bit, bit) === 1 };
}

const BITNESS: readonly unknown[] = [16, 32, 64];

function toParts(code: Uint8Array | Iterable<CodePart>, ip: WideInteger): readonly CodePart[] {
  if (ArrayBuffer.isView(code)) return [{ address: ip, bytes: toBytes("needs()", code) }];
  return toList("needs(): code", code).map((part, i) => {
    const where = `needs(): code[${i}]`;
    refuseMissing(where, part, ["address", "bytes"]);
    return {
      address: toU64(`${where}: address`, part.address),
      bytes: toBytes(`${where}: bytes`, part.bytes),
    };
  });
}

/**
 * Decodes code, and reports the instruction sets that the code uses, and the instruction sets that a table lacks. The
 * function decodes all bytes in order. The result may therefore include code that a program skips after a check of
 * CPUID, and data between functions may be decoded as instructions.
 *
 * Instructions that a CPU without support executes as NOP, such as ENDBR64, are not reported.
 *
 * @param code - the bytes, or several pieces of code with their addresses, as `elfCode()` returns them.
 * @throws TypeError for a missing decoder or an unknown option.
 *
 * @example
 * ```ts run
 * import { CpuidTable, needs } from "node-kvm/cpuid";
 * import { instructionDecoder } from "node-kvm/guest";
 *
 * const vpaddd = Uint8Array.of(0xc5, 0xfd, 0xfe, 0xc0);
 * const table = CpuidTable.from([{ function: 1 }, { function: 7, flags: 1 }]);
 * const { missing } = needs(vpaddd, table, { decoder: instructionDecoder(), ip: 0x1000 });
 * for (const { feature, where, first } of missing) {
 *   console.log(`0x${first.ip.toString(16)} ${first.mnemonic} needs ${feature} (${where})`);
 * }
 * ```
 *
 * ```text output
 * 0x1000 vpaddd needs AVX2 (0x7.0:ebx[5])
 * ```
 */
export function needs(
  code: Uint8Array | Iterable<CodePart>,
  table: Iterable<CpuidEntry2Input>,
  options: NeedsOptions,
): CodeNeeds {
  refuseMisfit("needs()", options, ["decoder"], ["bitness", "ip"], "option");
  const { decoder, bitness = 64, ip = 0n } = options;
  if (typeof decoder.decode !== "function") {
    throw new TypeError(
      `needs(): decoder: expected instructionDecoder(), got ${describe(decoder)}`,
    );
  }
  if (!BITNESS.includes(bitness)) {
    throw new TypeError(`needs(): bitness is 16, 32 or 64, not ${describe(bitness)}`);
  }
  const own = CpuidTable.from(toList("needs(): table", table));
  const counted = new Map<string, Counted>();
  const unknown = new Set<string>();
  let [instructions, invalid] = [0, 0];
  for (const { address, bytes } of toParts(code, toU64("needs(): ip", ip))) {
    for (const one of decoder.decode(bytes, { bitness, ip: BigInt(address) })) {
      if (one.mnemonic === undefined) {
        invalid += 1;
        continue;
      }
      instructions += 1;
      count(one, one.mnemonic, counted, unknown);
    }
  }
  const all = [...counted.values()].flatMap((it): readonly CodeNeed[] => {
    const report = reportOf(own, it.feature);
    const effect = it.runsAs === undefined ? "invalid-opcode" : "other-instruction";
    return report === undefined ? [] : [{ ...it, ...report, effect }];
  });
  const missing = all.filter(({ isMet }) => !isMet);
  return { instructions, invalid, needs: all, missing, unknown: [...unknown] };
}

/** Counts the instruction sets of one instruction. */
function count(
  { ip, features }: DecodedInstruction,
  mnemonic: string,
  counted: Map<string, Counted>,
  unknown: Set<string>,
): void {
  const without = Object.hasOwn(WITHOUT_SUPPORT, mnemonic) ? WITHOUT_SUPPORT[mnemonic] : undefined;
  if (without?.isHarmless === true) return;
  for (const feature of features) {
    if (!Object.hasOwn(INSTRUCTION_FEATURES, feature)) {
      unknown.add(feature);
      continue;
    }
    const key = `${feature} ${without?.runsAs ?? ""}`;
    const before = counted.get(key);
    if (before !== undefined) before.count += 1;
    else counted.set(key, { feature, runsAs: without?.runsAs, first: { ip, mnemonic }, count: 1 });
  }
}

/** Formats a need as `0x401136 vpaddd needs AVX2: 0x7.0:ebx[5] avx2 (3 instructions)`. */
export function formatNeed(need: CodeNeed): string {
  refuseMissing("formatNeed()", need, ["feature", "where", "first", "count", "fields", "effect"]);
  const { first, feature, where, fields, count: times, runsAs } = need;
  const names = fields.length === 0 ? "reserved" : fields.join(" or ");
  const otherwise = runsAs === undefined ? "" : `, and runs as ${runsAs} without it`;
  const plural = times === 1 ? "" : "s";
  return `0x${first.ip.toString(16)} ${first.mnemonic} needs ${feature}: ${where} ${names} (${times} instruction${plural})${otherwise}`;
}
