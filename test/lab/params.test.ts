/** Tests of `lab run --params`: a parameter of KVM's modules changes verdicts, and no claim fails because of it. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "../unit/examples/program.ts";
import { kernelOrProblem } from "./kernel-or-problem.ts";

const KERNEL = "7.2";
const kernel = await kernelOrProblem(KERNEL);

interface Matrix {
  readonly columns: readonly {
    readonly name: string;
    readonly report: {
      readonly results: readonly { readonly id: string; readonly verdict: string }[];
    };
  }[];
}

test("claims about refused MSRs are skipped in a KVM that ignores unknown MSRs, and no claim about MSRs fails", ({
  skip,
}) => {
  if (typeof kernel === "string") skip(kernel);
  const main = join(ROOT, "dist", "cli", "main.js");
  const params = ["--params", "default", "--params", "kvm.ignore_msrs=1"];
  const args = ["lab", "run", "--kernel", KERNEL, ...params, "--reporter", "json", "msr"];
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], {
    encoding: "utf8",
  });
  expect({ status, stderr: status === 0 ? "" : stderr }).toEqual({ status: 0, stderr: "" });
  const { columns } = JSON.parse(stdout) as Matrix;
  const verdicts = columns.map(({ name, report }) => [
    name.includes("ignore_msrs"),
    report.results.find(({ id }) => id === "pv-msrs-hidden")?.verdict,
  ]);
  expect(verdicts).toEqual([
    [false, "pass"],
    [true, "skip"],
  ]);
});
