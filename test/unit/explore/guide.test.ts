/**
 * Tests that the guide of the oracle lists what the model lists: the rows of kernels, the stages, and the limits of the
 * model.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  KERNEL_ROW_NAMES,
  type KernelRowName,
  LIFECYCLE_STAGE_NAMES,
  LIFECYCLE_STAGES,
  NOT_MODELLED,
} from "../../../lib/oracle/index.ts";

const GUIDE = readFileSync(
  join(import.meta.dirname, "..", "..", "..", "docs", "guides", "oracle.md"),
  "utf8",
);

/** Returns the text of a section of the guide, with each line break as a space. */
function section(title: string): string {
  const [, after = ""] = GUIDE.split(`\n## ${title}\n`);
  return after.split("\n## ")[0] ?? "";
}

test("the guide has the rows in the order of their probes", () => {
  const rows = section("Rows: what differs between kernels").matchAll(/^\| `([\w-]+)` /gm);
  expect(Array.from(rows, ([, name]) => name)).toEqual(KERNEL_ROW_NAMES);
});

test("the guide lists what is not modelled in the same sentences", () => {
  const text = section("Not modelled").replaceAll(/\n {2}/g, " ");
  const lines = text.matchAll(/^- (.*)$/gm);
  expect(Array.from(lines, ([, sentence]) => sentence)).toEqual(NOT_MODELLED);
});

test("the guide has the rows and the commits of the stages, from the oldest to the newest", () => {
  const [title = [], , ...lines] = section("The fingerprint of a kernel")
    .split("\n")
    .filter((line) => line.startsWith("| "))
    .map((line) => line.split("|").map((cell) => cell.trim().replaceAll("`", "")));
  const columns = title.slice(4, -1) as KernelRowName[];
  const marks = (name: (typeof LIFECYCLE_STAGE_NAMES)[number]): readonly string[] =>
    columns.map((row) => {
      const holds = LIFECYCLE_STAGES[name].rows[row];
      return holds === undefined ? "" : { true: "yes", false: "no" }[`${holds}`];
    });
  const expected = LIFECYCLE_STAGE_NAMES.map((name) => [name, ...marks(name)]);
  expect(lines.map(([, name, , , ...cells]) => [name, ...cells.slice(0, -1)])).toEqual(expected);
  const commits = (text: string): readonly string[] => text.match(/\b[0-9a-f]{12}\b/g) ?? [];
  expect(lines.map(([, , , since = ""]) => commits(since))).toEqual(
    LIFECYCLE_STAGE_NAMES.map((name) => commits(LIFECYCLE_STAGES[name].source)),
  );
});
