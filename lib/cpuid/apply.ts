/** Applies the differences of two tables to the first table, which results in the second. diff.ts finds differences. */
import { describe, refuseMissing, toList } from "../options.ts";
import { type CpuidChange, type CpuidFieldChange, formatChange } from "./diff.ts";
import type { CpuidEntry2 } from "./entry.ts";
import { readField, writeField } from "./field.ts";
import { CpuidTable } from "./table.ts";

const KINDS: readonly string[] = ["field", "added", "removed", "flags", "index", "order", "count"];

/** Reports a change that does not fit the table. */
const misfit = (change: CpuidChange, why: string): RangeError =>
  new RangeError(`applyDiff(): ${formatChange(change)}: ${why}`);

/** Writes a field's new value; throws if the table's value is not the old value of the change. */
function applyField(entry: CpuidEntry2, change: CpuidFieldChange): CpuidEntry2 {
  const { register, low, high, before, after } = change;
  const has = readField(entry[register], low, high);
  if (has !== before) throw misfit(change, `the table has ${has}`);
  return { ...entry, [register]: writeField(entry[register], low, high, after) };
}

/**
 * Applies a change of a field, the index or the flags to an entry; for any other change, returns the entry unchanged.
 */
function applyTo(entry: CpuidEntry2, change: CpuidChange): CpuidEntry2 {
  if (change.kind === "field") return applyField(entry, change);
  if (change.kind !== "flags" && change.kind !== "index") return entry;
  if (entry[change.kind] !== change.before) {
    throw misfit(change, `the table has ${entry[change.kind]}`);
  }
  return { ...entry, [change.kind]: change.after };
}

/**
 * Applies differences to the table in which diff() found them: `applyDiff(a, diff(a, b))` equals `b` in everything that
 * KVM compares, including order, flags and duplicates. If diff() was called with `ignore`, the ignored fields keep the
 * values of `a`.
 *
 * @throws RangeError if the table lacks the entry or the old value of a change; TypeError for anything but a change.
 */
export function applyDiff(
  table: Iterable<CpuidEntry2>,
  changes: Iterable<CpuidChange>,
): CpuidTable {
  const entries: readonly CpuidEntry2[] = [...CpuidTable.from(toList("applyDiff()", table))];
  const list = toList("applyDiff(): changes", changes);
  for (const change of list) {
    refuseMissing("applyDiff(): changes", change, ["kind"]);
    if (!KINDS.includes(change.kind)) {
      throw new TypeError(`applyDiff(): changes: unknown kind ${describe(change.kind)}`);
    }
  }
  const made: (CpuidEntry2 | undefined)[] = [...entries];
  const added = new Map<number, CpuidEntry2>();
  const moved = new Map<number, number>();
  for (const change of list) {
    if (change.kind === "count") continue;
    if (change.kind === "added") {
      added.set(change.position, change.entry);
      continue;
    }
    const at = change.position ?? -1;
    const old = made[at];
    if (old === undefined || old.function !== change.function) {
      throw misfit(change, `the table has no such entry at position ${at}`);
    }
    if (change.kind === "removed") made[at] = undefined;
    else if (change.kind === "order") moved.set(at, change.after);
    else made[at] = applyTo(old, change);
  }
  return arrange(made, added, moved);
}

/** Places added and moved entries at their positions, and fills the gaps with the other entries in their order. */
function arrange(
  made: readonly (CpuidEntry2 | undefined)[],
  added: ReadonlyMap<number, CpuidEntry2>,
  moved: ReadonlyMap<number, number>,
): CpuidTable {
  const placed = new Map(added);
  for (const [from, to] of moved) {
    const entry = made[from];
    if (entry === undefined) continue;
    if (placed.has(to)) throw new RangeError(`applyDiff(): two changes put an entry at ${to}`);
    placed.set(to, entry);
  }
  const others = made.filter((entry, i) => entry !== undefined && !moved.has(i));
  const count = placed.size + others.length;
  const beyond = [...placed.keys()].find((position) => position >= count);
  if (beyond !== undefined) {
    throw new RangeError(`applyDiff(): position ${beyond} in a table of ${count} entries`);
  }
  const result: CpuidEntry2[] = [];
  let next = 0;
  for (let i = 0; i < count; i += 1) {
    const entry = placed.get(i) ?? others[next++];
    if (entry !== undefined) result.push(entry);
  }
  return CpuidTable.from(result);
}
