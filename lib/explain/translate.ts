/**
 * Translates virtual addresses of the guest into physical ones. This code does not use KVM_TRANSLATE, because
 * KVM_TRANSLATE sets accessed bits in the page tables.
 */
import type { Sregs } from "../abi/generated/structs.ts";
import { hasBit } from "../oracle/bits.ts";

/** Reads eight bytes at a guest physical address; undefined if the address is outside of all slots. */
export type ReadWord = (this: void, gpa: bigint) => bigint | undefined;

const [PG, LA57, LMA] = [31, 12, 10];
const [PRESENT, LARGE] = [0, 7];
const TABLE = 0x000f_ffff_ffff_f000n;

/**
 * Translates a linear address, either without paging or with the page tables of long mode.
 *
 * @returns the guest physical address; undefined if a table does not map the address, cannot be read, or belongs to
 *   another paging mode.
 */
export function translate(linear: bigint, sregs: Sregs, read: ReadWord): bigint | undefined {
  if (!hasBit(sregs.cr0, PG)) return linear & 0xffff_ffffn;
  if (!hasBit(sregs.efer, LMA)) return undefined;
  let table = sregs.cr3 & TABLE;
  for (let level = hasBit(sregs.cr4, LA57) ? 5 : 4; level > 0; level -= 1) {
    const shift = BigInt(12 + 9 * (level - 1));
    const entry = read(table + 8n * ((linear >> shift) & 0x1ffn));
    if (entry === undefined || !hasBit(entry, PRESENT)) return undefined;
    if (level === 1 || (level <= 3 && hasBit(entry, LARGE))) {
      const inside = (1n << shift) - 1n;
      return (entry & TABLE & ~inside) | (linear & inside);
    }
    table = entry & TABLE;
  }
  return undefined;
}

/** Returns the linear address of an instruction; long mode ignores the base of CS. */
export function linearRip({ cs, efer }: Sregs, rip: bigint): bigint {
  return hasBit(efer, LMA) && cs.l === 1 ? rip : (cs.base + rip) & 0xffff_ffffn;
}
