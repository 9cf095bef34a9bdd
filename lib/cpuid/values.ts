/**
 * Reads the vendor, the brand string, the signature and the address sizes of a CPUID table. cache-values.ts reads the
 * caches, and topology-values.ts reads the topology.
 */
import {
  CPUID_REGISTERS,
  type CpuidEntry2,
  type CpuidRegister,
  locate,
  toEntries,
} from "./entry.ts";
import { type CpuidFieldName, field, readField } from "./field.ts";

/** The place of a text: the registers that contain it, in order. */
type TextPlace = readonly (readonly [fn: number, registers: readonly CpuidRegister[]])[];

/** The vendor's name (SDM volume 2, CPUID leaf 0). */
const VENDOR: TextPlace = [[0, ["ebx", "edx", "ecx"]]];

/** The processor's brand string (SDM volume 2, CPUID leaves 0x80000002 to 0x80000004). */
const BRAND: TextPlace = [0x8000_0002, 0x8000_0003, 0x8000_0004].map((fn) => [fn, CPUID_REGISTERS]);

/** Reads a text up to its first NUL; undefined if the text is empty or a leaf is absent. */
function textIn(entries: readonly CpuidEntry2[], place: TextPlace): string | undefined {
  const codes: number[] = [];
  for (const [fn, registers] of place) {
    const found = entries[locate(entries, fn)];
    if (found === undefined) return undefined;
    for (const register of registers) {
      const value = found[register];
      codes.push(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24);
    }
  }
  const end = codes.indexOf(0);
  const text = String.fromCharCode(...(end < 0 ? codes : codes.slice(0, end)));
  return text.trim() === "" ? undefined : text;
}

/** Reads a native field from the entry that contains it. */
export function valueIn(found: CpuidEntry2, name: CpuidFieldName): number {
  const { register, low, high } = field(name);
  return readField(found[register], low, high);
}

/**
 * Returns the unchanged vendor string of leaf 0, such as `GenuineIntel` or `  Shanghai  `, up to the first NUL.
 *
 * @returns undefined if leaf 0 is absent or the name is empty.
 * @throws TypeError for anything but an iterable of entries.
 */
export function vendorOf(table: Iterable<CpuidEntry2>): string | undefined {
  return textIn(toEntries("vendorOf()", table), VENDOR);
}

/**
 * Returns the brand string of leaves 0x80000002 to 0x80000004, up to the first NUL and without spaces at its ends.
 *
 * @returns undefined if one of the leaves is absent or the string is empty.
 * @throws TypeError for anything but an iterable of entries.
 */
export function brandOf(table: Iterable<CpuidEntry2>): string | undefined {
  return textIn(toEntries("brandOf()", table), BRAND)?.trim();
}

/** The lowest base family whose model is extended (x86_model in arch/x86/lib/cpu.c of Linux). */
export const LEAST_EXTENDED_FAMILY = 6;

/** Family, model and stepping, as in the manuals and in /proc/cpuinfo. */
export interface CpuidSignature {
  /** The base family, plus the extended family if the base is 15: 0 to 270. */
  readonly family: number;
  /** The base model, plus 16 times the extended model if the base family is 6 or more: 0 to 255. */
  readonly model: number;
  /** 0 to 15. */
  readonly stepping: number;
}

/**
 * Returns family, model and stepping of leaf 1 (SDM volume 2, CPUID, "DisplayFamily"; APM volume 3, Fn0000_0001_EAX).
 * The manuals extend the model of the families 6 and 15 only. Linux extends it for every family from 6 on (x86_model in
 * arch/x86/lib/cpu.c), which Zhaoxin's family 7 needs.
 *
 * @returns undefined if leaf 1 is absent.
 * @throws TypeError for anything but an iterable of entries.
 */
export function signatureOf(table: Iterable<CpuidEntry2>): CpuidSignature | undefined {
  const entries = toEntries("signatureOf()", table);
  const found = entries[locate(entries, 1)];
  if (found === undefined) return undefined;
  const base = valueIn(found, "base_family_id");
  const extended = base >= LEAST_EXTENDED_FAMILY ? valueIn(found, "ext_model") << 4 : 0;
  return Object.freeze({
    family: base === 15 ? base + valueIn(found, "ext_family") : base,
    model: extended + valueIn(found, "base_model"),
    stepping: valueIn(found, "stepping"),
  });
}

/** The widths of addresses, in bits. */
export interface CpuidAddressSizes {
  /** The width of a physical address. */
  readonly physical: number;
  /** The width of a linear address; 0 if the table does not report it. */
  readonly virtual: number;
  /**
   * The width of a guest's physical address with nested paging; undefined if it equals the width of a physical address.
   */
  readonly guestPhysical: number | undefined;
}

/**
 * Returns the address sizes of leaf 0x80000008. Without that leaf, software assumes 36 physical and 32 linear bits if
 * the CPU has PAE, and KVM assumes 36 physical bits (cpuid_query_maxphyaddr).
 *
 * @returns undefined if the leaf is absent.
 * @throws TypeError for anything but an iterable of entries.
 */
export function addressSizesOf(table: Iterable<CpuidEntry2>): CpuidAddressSizes | undefined {
  const entries = toEntries("addressSizesOf()", table);
  const found = entries[locate(entries, 0x8000_0008)];
  if (found === undefined) return undefined;
  const guest = valueIn(found, "guest_phys_addr_bits");
  return Object.freeze({
    physical: valueIn(found, "phys_addr_bits"),
    virtual: valueIn(found, "virt_addr_bits"),
    guestPhysical: guest === 0 ? undefined : guest,
  });
}

/** The vendors whose CPUs have AMD's leaves for caches and topology. */
const AMD_LIKE: ReadonlySet<string> = new Set(["AuthenticAMD", "HygonGenuine"]);

/** Whether AMD's leaves describe caches and topology: the vendor is AMD or Hygon. */
export function isAmdLike(entries: readonly CpuidEntry2[]): boolean {
  return AMD_LIKE.has(textIn(entries, VENDOR) ?? "");
}

/**
 * Finds the entries of a leaf's sub-leaves 0, 1 and so on, as a guest's CPUID instruction does. The list ends before
 * the first absent sub-leaf and before a terminator. An entry without SIGNIFICANT_INDEX, which matches every index, is
 * returned once.
 *
 * @param most - the maximum number of sub-leaves that are read.
 */
export function walk(
  entries: readonly CpuidEntry2[],
  fn: number,
  most: number,
  isEnd: (found: CpuidEntry2) => boolean,
): readonly CpuidEntry2[] {
  const list: CpuidEntry2[] = [];
  for (let index = 0; index < most; index += 1) {
    const found = entries[locate(entries, fn, index)];
    if (found === undefined || isEnd(found) || found === list.at(-1)) break;
    list.push(found);
  }
  return list;
}
