/** Makes the lines of the page's results: the faults of one table, and the comparisons of several tables. */

import { formatLoss } from "../cpuid/baseline.ts";
import type { CpuidFileTable } from "../cpuid/formats/dump.ts";
import {
  baseline,
  type CpuidDifference,
  type CpuidLintFinding,
  type CpuidLintProfile,
  type CpuidTable,
  compare,
  diff,
  formatChange,
  lint,
  portable,
} from "../cpuid/index.ts";
import { LINT_PROFILES } from "../cpuid/lint/profiles.ts";
import type { Lines, Offer, ResultLine } from "./protocol.ts";
import { counted } from "./words.ts";

const TONES: Readonly<Record<CpuidLintFinding["severity"], ResultLine["tone"]>> = {
  error: "bad",
  warning: "known",
  info: "quiet",
};

/** The profiles that {@link lintLines} accepts. */
export const PROFILES: Offer["profiles"] = Object.entries(LINT_PROFILES)
  .map(([name, { title }]) => ({ name, title }))
  // The default profile is the profile for a guest's table, as in the command line.
  .toSorted((a, b) => Number(b.name === "guest") - Number(a.name === "guest"));

function toProfile(name: string): CpuidLintProfile {
  const found = PROFILES.find((profile) => profile.name === name);
  if (found === undefined) throw new Error(`there are no rules for ${name}`);
  return found.name as CpuidLintProfile;
}

/** Returns the words after the place with which a sentence begins. */
function afterPlace(where: string, message: string): string {
  return message.startsWith(where) ? message.slice(where.length).replace(/^:? /, "") : message;
}

/** Lists the faults of a table. */
export function lintLines({ table, isComplete, lines }: CpuidFileTable, profile: string): Lines {
  const result = lint([table], { profile: toProfile(profile), isComplete, lines: [lines] });
  const found = result.findings.map(
    ({ rule, severity, where, message, remedy, line }): ResultLine => ({
      kind: `${severity} ${rule}`,
      tone: TONES[severity],
      where,
      text: afterPlace(where, message),
      more: remedy,
      line: line ?? 0,
    }),
  );
  const open = result.notJudged.map(
    ({ rule, reason }): ResultLine => ({
      kind: rule,
      tone: "quiet",
      where: "",
      text: reason,
      more: "",
      line: 0,
    }),
  );
  const judged = `${counted(result.judged.length, "rule")} judged, ${result.notJudged.length} not judged`;
  const omitted = result.omitted > 0 ? `; ${result.omitted} more are not listed` : "";
  const title =
    result.verdict === "nothing judged"
      ? "No rule was judged."
      : `${counted(found.length, "finding")}${omitted}; ${judged}.`;
  const folded = { title: `Rules that were not judged: ${open.length}`, lines: open };
  return { title, lines: found, folded };
}

/** Lists the differences of two tables, field by field. */
export function diffLines(before: CpuidFileTable, after: CpuidFileTable): Lines {
  const lines = diff(before.table, after.table).map((change): ResultLine => {
    const text = formatChange(change);
    return {
      kind: change.kind === "field" ? change.fieldKind : change.kind,
      tone: change.kind === "field" && change.fieldKind === "feature" ? "known" : "quiet",
      where: change.where,
      text: text.startsWith(`${change.where} `) ? text.slice(change.where.length + 1) : text,
      more: "",
      line: 0,
    };
  });
  const { relation } = compare(before.table, after.table);
  const title = `${counted(lines.length, "difference")}. In features for a guest, the first table is ${RELATIONS[relation]} the second.`;
  return { title, lines };
}

const RELATIONS = {
  identical: "identical to",
  subset: "a subset of",
  superset: "a superset of",
  incompatible: "incompatible with",
} as const;

/** The label of the list in which the user chooses {@link TSC_CHOICES}. */
export const TSC_LABEL = "TSC frequency there";

/** The values of the option `tsc` of portable(), with their texts. */
export const TSC_CHOICES: Offer["tsc"] = [
  { name: "unknown", title: "unknown" },
  { name: "same", title: "the same" },
  { name: "scaled", title: "scaled by KVM" },
];

function toTsc(name: string): "same" | "scaled" | "unknown" {
  const found = (["same", "scaled", "unknown"] as const).find((one) => one === name);
  if (found === undefined) throw new Error(`there is no TSC frequency ${name}`);
  return found;
}

/** Lists the reasons why a guest that started with the first table can or cannot continue on the second. */
export function portableLines(from: CpuidFileTable, to: CpuidFileTable, tsc: string): Lines {
  const { isPortable, reasons, notes } = portable(from.table, to.table, { tsc: toTsc(tsc) });
  const blocking = reasons.map(({ kind, difference, message }): ResultLine => {
    const where = difference?.where ?? "";
    // The rest of the reason about the TSC is for programs and the command line; the page has a list for it.
    const text = afterPlace(where, message).replace(
      /; pass \{ tsc: .*/,
      `; choose it under "${TSC_LABEL}"`,
    );
    return { kind, tone: "bad", where, text, more: "", line: 0 };
  });
  const guest = "A guest that started with the first table";
  const isOnlyTsc = reasons.every(({ kind }) => kind === "tsc");
  const title = isPortable
    ? `${guest} can continue on the second.`
    : isOnlyTsc
      ? `${guest} can continue on the second, if the TSC frequency is the same.`
      : `${guest} cannot continue on the second: ${counted(reasons.length, "reason")}.`;
  return {
    title,
    lines: [...blocking, ...notes.map(noteLine)],
  };
}

function noteLine(text: string): ResultLine {
  return { kind: "note", tone: "quiet", where: "", text, more: "", line: 0 };
}

/** Lists the features that each host loses in the baseline, and returns the baseline if there is one. */
export function baselineLines(
  hosts: readonly { readonly label: string; readonly table: CpuidTable }[],
): Lines & { readonly table: CpuidTable | undefined } {
  if (hosts.length === 0) throw new Error("choose at least one table");
  const result = baseline(hosts.map(({ table }) => table));
  if (result.kind === "vendors") {
    return { title: `There is no baseline: ${result.why}.`, lines: [], table: undefined };
  }
  const lines = hosts.flatMap(({ label }, i) => {
    const losses = result.losses[i] ?? [];
    const head: ResultLine = {
      kind: losses.length === 0 ? "loses nothing" : `loses ${losses.length}`,
      tone: losses.length === 0 ? "good" : "known",
      where: "",
      text: label,
      more: "",
      line: 0,
    };
    return [head, ...losses.map(lossLine)];
  });
  return {
    title: `The baseline of ${counted(hosts.length, "table")} has ${counted(result.table.length, "entry").replace("entrys", "entries")}.`,
    lines: [...lines, ...result.notes.map(noteLine)],
    table: result.table,
  };
}

function lossLine(loss: CpuidDifference): ResultLine {
  const { where } = loss;
  const text = afterPlace(where, formatLoss(loss));
  return { kind: "lost", tone: "quiet", where, text, more: "", line: 0 };
}
