/** Lists the changes of one step of the builder, field by field, with their reasons. build.ts contains the steps. */
import { refuseMissing } from "../options.ts";
import { diff } from "./diff.ts";
import { CPUID_REGISTERS, type CpuidEntry2, entry, formatLeaf } from "./entry.ts";
import type { CpuidFieldName } from "./field.ts";

/** One change of a step. */
export interface CpuidBuildChange {
  /** The name of the builder's method, such as `features`. */
  readonly step: string;
  /** The place: bits as `0x7.0:ebx[5]`, an entry without set bits as `0x7.1`, flags as `0x7.1:flags`. */
  readonly where: string;
  /** The field; undefined for bits that are not in the database, and for an entry. */
  readonly name: CpuidFieldName | undefined;
  /** The value before the step; undefined if the entry was absent. */
  readonly before: number | undefined;
  /** The value after the step; undefined if the entry is absent. */
  readonly after: number | undefined;
  /** The reason for the change, without a full stop. */
  readonly reason: string;
}

/** A change to which the step and the reason are not yet added. */
export type CpuidBuildDifference = Omit<CpuidBuildChange, "step" | "reason">;

const keyOf = ({ function: fn, index }: CpuidEntry2): string => formatLeaf(fn, index);

const cleared = (e: CpuidEntry2): CpuidEntry2 =>
  entry({ function: e.function, index: e.index, flags: e.flags });

const isClear = (e: CpuidEntry2): boolean => CPUID_REGISTERS.every((register) => e[register] === 0);

/** Formats the place of a change in an entry. */
const leafOf = (where: string): string => where.split(":")[0] ?? where;

/**
 * Lists the differences of two tables in the order of the second table; fields that only the first table has come last.
 * If one table lacks an entry, each field of the entry that is not 0 is a change.
 */
export function differences(
  before: Iterable<CpuidEntry2>,
  after: Iterable<CpuidEntry2>,
): readonly CpuidBuildDifference[] {
  const left = new Map<string, CpuidEntry2[]>();
  for (const e of before) {
    const list = left.get(keyOf(e));
    if (list) list.push(e);
    else left.set(keyOf(e), [e]);
  }
  const added: CpuidEntry2[] = [];
  const theirs = [...after];
  const mine = theirs.map((e) => {
    const old = left.get(keyOf(e))?.shift();
    if (old === undefined) added.push(e);
    return old ?? cleared(e);
  });
  const removed = [...left.values()].flat();
  const isNew = new Set(added.map(keyOf));
  const isGone = new Set(removed.map(keyOf));
  const found = diff([...mine, ...removed], [...theirs, ...removed.map(cleared)]).flatMap(
    (change): readonly CpuidBuildDifference[] => {
      if (change.kind === "flags") {
        const { before: was, after: is } = change;
        return [{ where: `${change.where}:flags`, name: undefined, before: was, after: is }];
      }
      if (change.kind !== "field") return [];
      const { where, name, before: was, after: is } = change;
      const leaf = leafOf(where);
      return [
        {
          where,
          name,
          before: isNew.has(leaf) ? undefined : was,
          after: isGone.has(leaf) ? undefined : is,
        },
      ];
    },
  );
  const empty = (e: CpuidEntry2): Pick<CpuidBuildDifference, "where" | "name"> => ({
    where: keyOf(e),
    name: undefined,
  });
  return [
    ...found,
    ...added.filter(isClear).map((e) => ({ ...empty(e), before: undefined, after: 0 })),
    ...removed.filter(isClear).map((e) => ({ ...empty(e), before: 0, after: undefined })),
  ];
}

const hex = (value: number): string => (value < 10 ? `${value}` : `0x${value.toString(16)}`);

/** Formats a change as `features: 0x7.0:ebx[5] avx2: 0 -> 1, because it was asked for`. */
export function formatBuildChange(change: CpuidBuildChange): string {
  refuseMissing("formatBuildChange()", change, ["step", "where", "reason"]);
  const { step, where, name, before, after, reason } = change;
  const value = (number: number | undefined): string =>
    number === undefined ? "absent" : hex(number);
  const subject = name === undefined ? where : `${where} ${name}`;
  return `${step}: ${subject}: ${value(before)} -> ${value(after)}, because ${reason}`;
}
