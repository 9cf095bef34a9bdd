/** Tests of the answers of `node-kvm cpuid` in this process: a move, a wrong word of --ignore, and a CPU number. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { cpuidDiff, cpuidNeeds, cpuidPortable } from "../../../lib/cli/cpuid.ts";
import { loadTables } from "../../../lib/cli/cpuid-source.ts";
import { modelTable, printTable } from "../../../lib/cpuid/index.ts";

let folder = "";
let invariant = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "cpuid-"));
  invariant = join(folder, "invariant.raw");
  writeFileSync(invariant, printTable(modelTable("EPYC-Milan").with({ constant_tsc: 1 })));
});
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => vi.restoreAllMocks());

/** Runs a command and returns its status and its text, with single spaces between words. */
function ran(run: () => number): readonly [status: number, text: string] {
  const lines: string[] = [];
  vi.spyOn(process.stdout, "write").mockImplementation((text) => lines.push(String(text)) > 0);
  const status = run();
  return [status, lines.join("").replace(/\s+/g, " ").trimEnd()];
}

describe("portable", () => {
  test("states the TSC frequency as the condition if nothing else differs, with the option, and has status 1", () => {
    const [status, text] = ran(() => cpuidPortable(invariant, invariant, {}));
    expect(status).toBe(1);
    expect(text).toMatch(/^portable, if the TSC frequency is the same 0x80000007\.0:edx\[8\] /);
    expect(text).toContain("(--tsc same)");
  });

  test("prints only the result with --tsc same", () => {
    expect(ran(() => cpuidPortable(invariant, invariant, { tsc: "same" }))).toEqual([
      0,
      "portable",
    ]);
  });

  test("counts the TSC as a reason if a feature is missing, too", () => {
    const [status, text] = ran(() => cpuidPortable(invariant, "model:x86-64-v1", {}));
    expect(status).toBe(1);
    expect(text).toMatch(/^not portable: \d+ reasons .* \(--tsc same\)/);
  });
});

describe("diff --ignore", () => {
  const words = "feature, negated, size, topology, id, runtime-owned, apic-id, order";
  test.each([
    ["toplogy", `"toplogy" is neither one of ${words} nor a field's name; did you mean topology?`],
    ["size,avx9", `"avx9" is neither one of ${words} nor a field's name; did you mean avx?`],
    ["zzzzzzzz", `"zzzzzzzz" is neither one of ${words} nor a field's name`],
  ])("refuses %s, with the accepted words", (ignore, message) => {
    expect(() => cpuidDiff(invariant, invariant, { ignore })).toThrow(`--ignore: ${message}`);
  });

  test("accepts each kind, each group and a field", () => {
    const ignore = `${words.replaceAll(" ", "")},avx2`;
    expect(ran(() => cpuidDiff(invariant, "model:EPYC-Milan", { ignore: "constant_tsc" }))[0]).toBe(
      0,
    );
    expect(ran(() => cpuidDiff(invariant, invariant, { ignore }))).toEqual([0, ""]);
  });
});

test.each(["host#1", "supported#0", "model:EPYC-Milan#2"])(
  "the table %s is refused, because it has no CPU number",
  (source) => {
    const name = source.replace(/#.*/, "");
    expect(() => loadTables(source)).toThrow(
      `${name} has no CPU number; only a file has CPUs, as FILE#N`,
    );
  },
);

test("the error of needs for a file that is not an ELF file names the missing header", () => {
  expect(() => cpuidNeeds(invariant, "model:EPYC-Milan", {})).toThrow(
    `${invariant}: the file does not begin with an ELF header`,
  );
});
