/** Applies the fixes of lint's findings to a table. */
import { describe, refuseMissing, toList } from "../../options.ts";
import { type CpuidEntry2, type CpuidEntry2Input, entry } from "../entry.ts";
import { CpuidTable } from "../table.ts";
import type { CpuidLintFinding } from "./lint.ts";
import type { CpuidLintEdit } from "./rule.ts";

/** Whether an entry precedes another in the order of functions and indexes. */
const isBefore = (a: CpuidEntry2, b: CpuidEntry2): boolean =>
  a.function < b.function || (a.function === b.function && a.index < b.index);

function insert(entries: CpuidEntry2[], made: CpuidEntry2): void {
  const isThere = entries.some((e) => e.function === made.function && e.index === made.index);
  if (isThere) return;
  const after = entries.findLastIndex((e) => isBefore(e, made));
  entries.splice(after + 1, 0, made);
}

/**
 * Applies the edits of findings to the table that was linted, and returns the new table. Findings without a fix are
 * skipped. Edits of the same bits are applied in the order of the findings.
 *
 * @throws RangeError if the table has no entry at the position of a finding, as with a finding of another table.
 */
export function fixTable(
  table: Iterable<CpuidEntry2Input>,
  findings: Iterable<Pick<CpuidLintFinding, "fix">>,
): CpuidTable {
  const entries: (CpuidEntry2 | undefined)[] = Array.from(CpuidTable.from(table));
  const removed = new Set<number>();
  const inserted: CpuidEntry2[] = [];
  const count = entries.length;
  const change = (position: number, edit: (e: CpuidEntry2) => CpuidEntry2Input): void => {
    const old = entries[position];
    if (old === undefined) {
      throw new RangeError(`fixTable(): no entry at ${describe(position)}, there are ${count}`);
    }
    entries[position] = entry(edit(old));
  };
  const apply = (edit: CpuidLintEdit): void => {
    switch (edit.kind) {
      case "bits": {
        const { register, mask, value } = edit;
        change(edit.position, (e) => ({
          ...e,
          [register]: ((e[register] & ~mask) | (value & mask)) >>> 0,
        }));
        return;
      }
      case "flags": {
        const { mask, value } = edit;
        change(edit.position, (e) => ({ ...e, flags: ((e.flags & ~mask) | (value & mask)) >>> 0 }));
        return;
      }
      case "padding":
        change(edit.position, (e) => ({ ...e, padding: [0, 0, 0] }));
        return;
      case "remove":
        change(edit.position, (e) => e);
        removed.add(edit.position);
        return;
      case "insert":
        inserted.push(entry(edit.entry));
        return;
      default:
        edit satisfies never;
    }
  };
  for (const [i, finding] of toList("fixTable()", findings).entries()) {
    refuseMissing(`fixTable(): [${i}]`, finding, []);
    for (const edit of finding.fix ?? []) apply(edit);
  }
  const kept = entries.filter((e, i): e is CpuidEntry2 => e !== undefined && !removed.has(i));
  for (const made of inserted) insert(kept, made);
  return CpuidTable.from(kept);
}
