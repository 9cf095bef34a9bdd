/**
 * Tests with real boots of one kernel that the suite's runner, which the lab uses in its guests, gives the same
 * verdicts as vitest.
 */
import { describe, expect, test } from "vitest";
import type { Kernel } from "../../lib/lab/kernels/kernels.ts";
import { suiteProgram } from "../../lib/lab/machine/installation.ts";
import { type LabOptions, runInLab } from "../../lib/lab/machine/machine.ts";
import type { Report } from "../../lib/report/result.ts";
import { kernelOrProblem } from "./kernel-or-problem.ts";

const KERNEL = process.env["NODE_KVM_LAB_KERNEL"] ?? "6.1";
/** A pattern of the claims that are judged; all claims (an empty pattern) take ten minutes. */
const PATTERN = process.env["NODE_KVM_LAB_PATTERN"] ?? "silent";
const MODULES = process.env["NODE_KVM_LAB_MODULES"];

const kernel = await kernelOrProblem(KERNEL, MODULES);

/** Returns the report that a command prints in the lab, sorted by the claims' names and without times. */
async function reportOf(options: Pick<LabOptions, "command" | "root">): Promise<Report> {
  const result = await runInLab({ kernel: kernel as Kernel, timeout: 900_000, ...options });
  expect(result).toMatchObject({ kind: "exited", status: 0, warnings: [] });
  const report = JSON.parse(result.stdout.toString()) as Report;
  const results = report.results.map((each) => ({ ...each, duration: 0 }));
  return { ...report, results: results.toSorted((a, b) => (a.id < b.id ? -1 : 1)) };
}

const title = typeof kernel === "string" ? `on ${KERNEL} (${kernel})` : `on ${KERNEL}`;

describe.skipIf(typeof kernel === "string")(title, () => {
  test("the runner in one process and the runner with a process for each file give the same report", async () => {
    const vitest = await reportOf({ command: ["node-kvm", "test", PATTERN, "--reporter", "json"] });
    const bundle = ["node", suiteProgram(), `--pattern=${PATTERN}`];
    expect(vitest.results.length).toBeGreaterThan(15);
    expect(await reportOf({ command: bundle, root: "suite" })).toEqual(vitest);
    expect(await reportOf({ command: [...bundle, "--own-processes"], root: "suite" })).toEqual(
      vitest,
    );
  }, 3_000_000);
});
