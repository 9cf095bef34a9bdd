/** Tests the suite's runner on this host, with one process for each file and with one process for all files. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Report } from "../../lib/report/result.ts";

const PROGRAM = join(import.meta.dirname, "..", "..", "dist", "suite", "main.js");

interface Run {
  readonly status: number | null;
  readonly stderr: string;
  readonly report: Report;
}

function run(...args: readonly string[]): Run {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...args], {
    encoding: "utf8",
  });
  const { results, ...report } = JSON.parse(stdout) as Report;
  return {
    status,
    stderr,
    report: { ...report, results: results.map((result) => ({ ...result, duration: 0 })) },
  };
}

test("running the suite with a process for each file gives the same report as with one process", () => {
  const one = run();
  const many = run("--own-processes");
  expect(one.report.results.length).toBeGreaterThan(70);
  expect(many.report).toEqual(one.report);
  expect(many.status).toBe(one.status);
  const lines = one.report.results.map(({ verdict, id }) => `${verdict} ${id}\n`).join("");
  expect([one.stderr, many.stderr]).toEqual([lines, lines]);
});

test("a suite fails and prints the reason if its pattern selects no claim", () => {
  const { status, stderr, report } = run("--pattern=no such claim");
  expect(report.results).toEqual([]);
  expect([status, stderr]).toEqual([1, 'node-kvm: no claim contains "no such claim"\n']);
});
