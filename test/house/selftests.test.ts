/**
 * Tests of docs/selftests.md, which maps the assertions of the kernel's selftests to the suite's claims: each claim
 * exists, each assertion has a claim or a reason, and no file is missing.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { claims, covers } from "./claims.ts";

const DOCUMENT = join(import.meta.dirname, "..", "..", "docs", "selftests.md");

/** The kernel's selftests that are about CPUID, without the suffix `_test`. */
const FILES = [
  "cpuid",
  "cr4_cpuid_sync",
  "feature_msrs",
  "hyperv_cpuid",
  "hyperv_features",
  "kvm_pv",
  "monitor_mwait",
  "msrs",
  "platform_info",
  "set_sregs",
  "smaller_maxphyaddr",
  "xcr0_cpuid",
  "xss_msr",
];

/** A row of the document. */
interface Row {
  readonly file: string;
  readonly assertion: string;
  /** The number of assertions that the row stands for: 4 for "4–7.". */
  readonly count: number;
  /** The ids in backticks in the column "claim". */
  readonly ids: readonly string[];
  readonly reason: string | undefined;
}

const REASON = /^(?:none|not judged): (.+)$/;

function countOf(assertion: string): number {
  const [, first, last] = /^(?:\w+ )?(\d+)–(\d+)\./.exec(assertion) ?? [];
  return first === undefined ? 1 : Number(last) - Number(first) + 1;
}

/** Lists the rows of the tables in a document; each section has the name of a file. */
function rowsOf(text: string): readonly Row[] {
  const sections = text.split(/^## /m).slice(1);
  return sections.flatMap((section) => {
    const [file = "", ...lines] = section.split("\n");
    const cells = lines
      .filter((line) => line.startsWith("|"))
      .slice(2)
      .map((line) => line.split("|").map((cell) => cell.trim()));
    return cells.map(([, assertion = "", claim = ""]) => {
      const reason = REASON.exec(claim)?.[1];
      const ids = Array.from(claim.matchAll(/`([^`]+)`/g), ([, id = ""]) => id);
      return {
        file,
        assertion,
        count: countOf(assertion),
        ids: reason === undefined ? ids : [],
        reason,
      };
    });
  });
}

/** Lists the ids that no claim of the suite has. */
const unknownIds = (rows: readonly Row[]): readonly string[] =>
  rows
    .flatMap(({ file, ids }) => ids.map((id) => ({ file, id })))
    .filter(({ id }) => !claims.some((claim) => covers(claim.id, id)))
    .map(({ file, id }) => `${file}: ${id}`);

/** Lists the rows that have neither a claim nor a reason. */
const unansweredRows = (rows: readonly Row[]): readonly string[] =>
  rows
    .filter(({ ids, reason }) => ids.length === 0 && reason === undefined)
    .map(({ file, assertion }) => `${file}: ${assertion}`);

const text = readFileSync(DOCUMENT, "utf8");
const rows = rowsOf(text);

test("docs/selftests.md has a section for each of the 13 selftests, in alphabetical order", () => {
  expect(Array.from(text.matchAll(/^## (\w+)$/gm), ([, name]) => name)).toEqual(FILES);
});

test("each section of docs/selftests.md has a table of assertions", () => {
  const files = Array.from(text.matchAll(/^## (\w+)$/gm), ([, name]) => name);
  expect(files.filter((file) => !rows.some((row) => row.file === file))).toEqual([]);
});

test("each claim in docs/selftests.md is a claim of the suite", () => {
  expect(unknownIds(rows)).toEqual([]);
});

test("each row of docs/selftests.md has a claim or a reason", () => {
  expect(unansweredRows(rows)).toEqual([]);
});

test("no assertion in docs/selftests.md is listed twice", () => {
  const all = rows.map(({ file, assertion }) => `${file}: ${assertion}`);
  expect(all.filter((row, i) => all.indexOf(row) !== i)).toEqual([]);
});

test("at least 250 assertions of the kernel's selftests are covered by a claim", () => {
  const sum = (some: readonly Row[]): number => some.reduce((total, { count }) => total + count, 0);
  const covered = sum(rows.filter(({ ids }) => ids.length > 0));
  console.log(
    `assertions of the kernel's selftests: ${covered} covered, ${sum(rows) - covered} not covered`,
  );
  expect(covered).toBeGreaterThanOrEqual(250);
});

describe("the check of docs/selftests.md finds a planted fault", () => {
  const table = (...planted: readonly string[]): readonly Row[] =>
    rowsOf(
      ["# T", "", "## cpuid", "| assertion | claim |", "| --- | --- |", ...planted].join("\n"),
    );

  test("reports an id that no claim has", () => {
    expect(unknownIds(table("| 1. A. | `set-256`, `no-such-claim` |"))).toEqual([
      "cpuid: no-such-claim",
    ]);
  });

  test("accepts the id of a claim that a loop defines", () => {
    expect(unknownIds(table("| 1. A. | `cr4-needs-umip` |"))).toEqual([]);
  });

  test.each(["", "not judged:", "later", "check 42"])(
    "reports a row with %j as its claim",
    (claim) => {
      expect(unansweredRows(table(`| 1. A. | ${claim} |`))).toEqual(["cpuid: 1. A."]);
    },
  );

  test("ignores the ids in a reason", () => {
    const [row] = table("| 1. A. | not judged: `set-256` checks another rule |");
    expect(row).toMatchObject({ ids: [], reason: "`set-256` checks another rule" });
  });

  test.each([
    ["4–7. A.", 4],
    ["MSR 3. A.", 1],
    ["A.", 1],
  ])("counts the assertions of %j", (assertion, count) => {
    expect(countOf(assertion)).toBe(count);
  });
});
