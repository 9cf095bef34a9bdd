/**
 * Tests of `node-kvm explore` on a kernel in the lab: the model agrees with KVM, and a model that lacks a row of the
 * kernel is refuted by a list, whose programs reproduce the answers.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ROOT } from "../unit/examples/program.ts";
import { kernelOrProblem } from "./kernel-or-problem.ts";

const KERNEL = "6.12";
const kernel = await kernelOrProblem(KERNEL);
const problem = typeof kernel === "string" ? kernel : undefined;

const folder = mkdtempSync(join(tmpdir(), "node-kvm-explore-"));
afterAll(() => rmSync(folder, { recursive: true }));

function nodeKvm(...args: readonly string[]) {
  const command = join(ROOT, "dist", "cli", "main.js");
  const { status, stdout, stderr } = spawnSync(process.execPath, [command, ...args], {
    cwd: folder,
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

/** The members of the JSON report that the tests read. */
interface Report {
  readonly verdict: string;
  readonly rows: readonly string[];
  readonly undecided: readonly unknown[];
  readonly steps: number;
  readonly disagreement?: {
    readonly operations: readonly unknown[];
    readonly predicted: string;
    readonly observed: string;
  };
}

function explore(...args: readonly string[]): { readonly status: number | null } & Report {
  const { status, stdout } = nodeKvm("explore", "--kernel", KERNEL, "--json", ...args);
  return { status, ...(JSON.parse(stdout) as Report) };
}

const title = problem === undefined ? `Linux ${KERNEL}` : `Linux ${KERNEL} (${problem})`;

describe.skipIf(problem !== undefined)(title, () => {
  test("answers 500 steps as the model with the kernel's rows predicts", () => {
    expect(explore("--seed", "1", "--steps", "500")).toMatchObject({
      status: 0,
      verdict: "agreement",
      rows: expect.arrayContaining(["eager", "cr4-before-cpuid", "compares-incoming"]) as unknown,
      undecided: [],
      steps: 500,
    });
  });

  test("refutes a model without one of its rows by at most two operations, whose list and C program show the answer", () => {
    const args = ["--seed", "1", "--without", "cr4-before-cpuid", "--repro", folder];
    const { status, verdict, disagreement } = explore(...args);
    expect({ status, verdict }).toEqual({ status: 1, verdict: "disagreement" });
    expect(disagreement).toMatchObject({ predicted: "EINVAL", observed: "ok" });
    const length = disagreement?.operations.length ?? 0;
    expect(length).toBeLessThanOrEqual(2);
    const files = readdirSync(folder).toSorted();
    expect(files.map((file) => file.replace(/^.*\./, ""))).toEqual(["c", "json", "ts"]);
    const [c = "", json = ""] = files;
    expect(explore("--replay", json)).toMatchObject({
      status: 0,
      verdict: "agreement",
      steps: length,
    });
    expect(explore("--replay", json, "--without", "cr4-before-cpuid").status).toBe(1);
    const { status: compiled } = spawnSync("cc", ["-static", "-o", "program", c], { cwd: folder });
    expect(compiled).toBe(0);
    const exec = [
      "lab",
      "exec",
      "--kernel",
      KERNEL,
      "--file",
      "program:/program",
      "--",
      "/program",
    ];
    const ran = nodeKvm(...exec);
    expect(ran.status).toBe(0);
    expect(ran.stdout).toContain("every value is as recorded");
  });
});
