/** The edits of a CPUID table: small JSON values, so that an operation with a table stays short and can be pasted. */
import {
  type CpuidEntry2,
  type CpuidFieldName,
  type CpuidRegister,
  field,
  isIndexed,
  KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
  readField,
  writeField,
} from "../cpuid/index.ts";

/** The table to which the edits of an operation are applied; `stored` is the table that the model predicts. */
export type TableBase = "supported" | "stored" | "none";

/**
 * An edit of a table. An edit whose entry is missing changes nothing, so that each edit can be removed from a list.
 *
 * `toggle` inverts the lowest bit of a field. `flip` inverts a bit of the entry at a position, which is taken modulo the
 * number of entries. The other edits name an entry by its function and index.
 */
export type TableEdit =
  | readonly ["toggle", CpuidFieldName]
  | readonly ["flip", position: number, register: CpuidRegister, bit: number]
  | readonly ["flipIn", fn: number, index: number, register: CpuidRegister, bit: number]
  | readonly ["drop", fn: number, index: number]
  | readonly ["dropAt", position: number]
  | readonly ["duplicate", fn: number, index: number, where: "before" | "end"]
  | readonly ["swap", fn: number, index: number, position: number]
  | readonly ["flag", fn: number, index: number, bit: number]
  | readonly ["index", fn: number, index: number, value: number]
  | readonly ["flagIndex", fn: number, index: number, value: number]
  | readonly ["padding", position: number, word: number, value: number]
  | readonly ["width", bits: number]
  | readonly ["physicalBits", bits: number]
  | readonly ["maxExtended", leaf: number]
  | readonly ["unhalt", bit: 0 | 1]
  | readonly ["signature"]
  | readonly ["moveKvm", base: number]
  | readonly ["add", fn: number, index: number, flags: number, value: number]
  | readonly ["fill", count: number];

type Entries = readonly CpuidEntry2[];

const KVM_FIRST = 0x4000_0000;
const KVM_LAST = 0x4000_ffff;
/** The first word of KVM's signature, "KVMK". */
const SIGNATURE = 0x4b4d564b;

/** Makes an entry; the members that are not given are 0. */
export function plainEntry(given: Partial<CpuidEntry2>): CpuidEntry2 {
  const { function: fn = 0, index = 0, flags = 0, eax = 0, ebx = 0, ecx = 0, edx = 0 } = given;
  return { function: fn, index, flags, eax, ebx, ecx, edx, padding: given.padding ?? [0, 0, 0] };
}

/**
 * Finds an entry by its function and its index, without regard to its flags. The index of a function without sub-leaves
 * only selects between several entries of the function, because an earlier edit may have changed it.
 */
function at(entries: Entries, fn: number, index: number): number {
  const exact = entries.findIndex((e) => e.function === fn && e.index === index);
  return exact < 0 && !isIndexed(fn) ? entries.findIndex((e) => e.function === fn) : exact;
}

/** Replaces members of the entry at a position; a position outside of the table changes nothing. */
function patch(
  entries: Entries,
  position: number,
  change: (e: CpuidEntry2) => Partial<CpuidEntry2>,
): Entries {
  const old = entries[position];
  return old === undefined ? entries : entries.with(position, { ...old, ...change(old) });
}

const flipped = (register: CpuidRegister, bit: number) => (e: CpuidEntry2) => ({
  [register]: (e[register] ^ (1 << bit)) >>> 0,
});

const modulo = (entries: Entries, position: number): number =>
  entries.length === 0 ? -1 : position % entries.length;

const isKvmLeaf = ({ function: fn }: CpuidEntry2): boolean => fn >= KVM_FIRST && fn <= KVM_LAST;

function toggle(entries: Entries, name: CpuidFieldName): Entries {
  const { function: fn, index, register, low } = field(name);
  const position = at(entries, fn, typeof index === "number" ? index : index.first);
  return patch(entries, position, (e) => ({
    [register]: writeField(e[register], low, low, 1 - readField(e[register], low, low)),
  }));
}

function swap(entries: Entries, first: number, second: number): Entries {
  const [a, b] = [entries[first], entries[second]];
  return a === undefined || b === undefined ? entries : entries.with(first, b).with(second, a);
}

function duplicate(entries: Entries, position: number, where: "before" | "end"): Entries {
  const old = entries[position];
  if (old === undefined) return entries;
  return where === "end" ? [...entries, old] : entries.toSpliced(position, 0, old);
}

/** Applies one edit. */
function applyEdit(entries: Entries, edit: TableEdit): Entries {
  switch (edit[0]) {
    case "toggle":
      return toggle(entries, edit[1]);
    case "flip":
      return patch(entries, modulo(entries, edit[1]), flipped(edit[2], edit[3]));
    case "flipIn":
      return patch(entries, at(entries, edit[1], edit[2]), flipped(edit[3], edit[4]));
    case "drop": {
      const position = at(entries, edit[1], edit[2]);
      return entries.filter((_, i) => i !== position);
    }
    case "dropAt": {
      const position = modulo(entries, edit[1]);
      return entries.filter((_, i) => i !== position);
    }
    case "duplicate":
      return duplicate(entries, at(entries, edit[1], edit[2]), edit[3]);
    case "swap":
      return swap(entries, at(entries, edit[1], edit[2]), modulo(entries, edit[3]));
    case "flag":
      return patch(entries, at(entries, edit[1], edit[2]), ({ flags }) => ({
        flags: (flags ^ (1 << edit[3])) >>> 0,
      }));
    case "index":
      return patch(entries, at(entries, edit[1], edit[2]), () => ({ index: edit[3] }));
    case "flagIndex":
      return patch(entries, at(entries, edit[1], edit[2]), ({ flags }) => ({
        flags: (flags | KVM_CPUID_FLAG_SIGNIFCANT_INDEX) >>> 0,
        index: edit[3],
      }));
    case "padding":
      return patch(entries, modulo(entries, edit[1]), ({ padding }) => ({
        padding: padding.with(edit[2], edit[3]),
      }));
    case "width":
      return patch(entries, at(entries, 0x8000_0008, 0), ({ eax }) => ({
        eax: writeField(eax, 8, 15, edit[1]),
      }));
    case "physicalBits":
      return patch(entries, at(entries, 0x8000_0008, 0), ({ eax }) => ({
        eax: writeField(eax, 0, 7, edit[1]),
      }));
    case "maxExtended":
      return patch(entries, at(entries, 0x8000_0000, 0), () => ({ eax: edit[1] }));
    case "unhalt":
      return entries.map((e) =>
        isKvmLeaf(e) && (e.function & 0xff) === 1
          ? { ...e, eax: writeField(e.eax, 7, 7, edit[1]) }
          : e,
      );
    case "signature":
      return entries.map((e) =>
        isKvmLeaf(e) && (e.function & 0xff) === 0
          ? { ...e, ebx: e.ebx === SIGNATURE ? 0xdead_beef : SIGNATURE }
          : e,
      );
    case "moveKvm":
      return entries.map((e) =>
        isKvmLeaf(e) ? { ...e, function: edit[1] + (e.function & 0xff) } : e,
      );
    case "add":
      return [
        ...entries,
        plainEntry({
          function: edit[1],
          index: edit[2],
          flags: edit[3],
          eax: edit[4],
          ebx: edit[4],
          ecx: edit[4],
          edx: edit[4],
        }),
      ];
    case "fill": {
      const missing = Math.max(0, edit[1] - entries.length);
      return [
        ...entries,
        ...Array.from({ length: missing }, () => plainEntry({ function: 0x2000 })),
      ];
    }
    default:
      return edit satisfies never;
  }
}

/** Applies edits in their order. */
export function applyEdits(entries: Entries, edits: Iterable<TableEdit>): Entries {
  let table = entries;
  for (const edit of edits) table = applyEdit(table, edit);
  return table;
}
