/**
 * Tests that lib/ runs a guest with throughSignals() if it needs the guest's result. Otherwise, a profiler's signal
 * could end the run with the exit `intr`.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { expect, test } from "vitest";

const PROJECT = join(import.meta.dirname, "..", "..");
const FOLDERS = ["lib", "test/kvm", "test/helpers", "bench"];

/** The source locations that handle or expect the exit `intr`, each with the reason. */
const LOOKED_AT: Readonly<Record<string, string>> = {
  "lib/worker/serve-vcpu.ts": "runs on when the kick was not for its run",
  "test/kvm/has-run.test.ts": "one claim sets immediate_exit, and wants intr",
  "bench/immediate-exit.js": "sets immediate_exit, and wants intr",
};

const CALL = /\bvcpu\.runSync\(\)|\.runSync\(\)[;.]/g;

function callsIn(text: string): number {
  const code = text.replaceAll(/^\s*(?:\/?\*|\/\/).*$/gm, "");
  return code.match(CALL)?.length ?? 0;
}

const files = FOLDERS.flatMap((folder) =>
  readdirSync(join(PROJECT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(ts|js)$/.test(entry.name))
    .map((entry) => relative(PROJECT, join(entry.parentPath, entry.name))),
);

test("code of lib/ that needs the guest's exit runs the guest with throughSignals()", () => {
  const calls = files.map((file) => callsIn(readFileSync(join(PROJECT, file), "utf8")));
  const found = files.filter((_, i) => calls[i] !== 0);
  expect(new Set(found)).toEqual(new Set(Object.keys(LOOKED_AT)));
  expect(calls.reduce((sum, count) => sum + count, 0)).toBe(found.length);
});

test("the search for runs without throughSignals() finds a planted run, and ignores a run in a comment", () => {
  expect(callsIn("const exit = this.vcpu.runSync();\n")).toBe(1);
  expect(callsIn("/** Not vcpu.runSync(). */\n * vcpu.runSync();\n")).toBe(0);
});
