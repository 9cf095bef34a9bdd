/** Tests that the guide of the oracle lists what the model lists: the rows of kernels, and what is not modelled. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { KERNEL_ROW_NAMES, NOT_MODELLED } from "../../../lib/oracle/index.ts";

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
