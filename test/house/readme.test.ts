/** Tests that the README's first program equals the first example. The test code-blocks.test.ts runs the program. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { blocksOfMarkdown } from "./code-blocks.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const read = (file: string): string => readFileSync(join(ROOT, file), "utf8");

test("the README's first program equals the first example", () => {
  const [program] = blocksOfMarkdown("README.md", read("README.md")).filter(
    ({ language }) => language === "js",
  );
  const example = read("examples/01-frozen-cpuid.js");
  expect(example.replace(/^(\/\/.*\n)+/, "").replace(/\n\/\/ Prints:[\s\S]*$/, "")).toBe(
    program?.code,
  );
});
