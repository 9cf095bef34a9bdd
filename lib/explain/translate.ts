/** Where an address of the guest leads. KVM_TRANSLATE is not asked: its walk sets accessed bits. */
import type { Sregs } from "../abi/generated/structs.ts";
import { hasBit } from "../oracle/bits.ts";

/** Eight bytes at a guest physical address; `undefined` where no slot is. */
export type ReadWord = (this: void, gpa: bigint) => bigint | undefined;

const [PG, LA57, LMA] = [31, 12, 10];
const [PRESENT, LARGE] = [0, 7];
const TABLE = 0x000f_ffff_ffff_f000n;

/**
 * The guest physical address of a linear one, without paging or with long mode's tables.
 *
 * @returns `undefined` when a table maps nothing, cannot be read, or is of another mode.
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

/** The linear address of an instruction: long mode does without the base of CS. */
export function linearRip({ cs, efer }: Sregs, rip: bigint): bigint {
  return hasBit(efer, LMA) && cs.l === 1 ? rip : (cs.base + rip) & 0xffff_ffffn;
}
