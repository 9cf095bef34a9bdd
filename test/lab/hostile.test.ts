/**
 * Tests of a hostile guest with real boots of Linux 6.12: the guest's command writes to the ports that the guest's init
 * uses. The table test/unit/lab/machine/hostile.ts contains the reaction to each message. These tests show that the
 * messages reach the host, and that the report of a suite without judged claims is not green.
 */
import { existsSync } from "node:fs";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { runCampaign } from "../../lib/lab/campaign.ts";
import type { Kernel } from "../../lib/lab/kernels/kernels.ts";
import { guestFolder } from "../../lib/lab/machine/guest.ts";
import { type LabOptions, type LabResult, runInLab } from "../../lib/lab/machine/machine.ts";
import { isGreenMatrix, toMatrix } from "../../lib/report/matrix.ts";
import { kernelOrProblem } from "./kernel-or-problem.ts";

const KERNEL = "6.12";

let kernel: Kernel;
let problem: string | undefined;
beforeAll(async () => {
  const found = await kernelOrProblem(KERNEL);
  if (typeof found === "string") problem = found;
  else kernel = found;
}, 600_000);
beforeEach(({ skip }) => {
  if (problem !== undefined) skip(problem);
});

/** Runs shell commands as root of the guest; afterwards the guest sleeps, so that only the host can end it. */
function run(script: string): Promise<LabResult> {
  return runInLab({ kernel, command: ["sh", "-c", `${script}\nsleep 1000`], wanted: ["/out"] });
}

describe("a real guest is killed after too much output or malformed output:", () => {
  afterEach(() => {
    expect(existsSync("/node-kvm-hostile")).toBe(false);
  });

  test.each([
    [
      "that names a path outside of the requested ones",
      "printf 'status 0 0 0\\nfile 6 /out/../../../../node-kvm-hostile\\nhostil' >/dev/ttyS3",
      '"file 6 /out/../../../../node-kvm-hostile" on ttyS3, which is not normalised',
    ],
    [
      "that sends a file and one below it",
      "printf 'status 0 0 0\\nfile 0 /out/a\\nfile 0 /out/a/b\\nend\\n' >/dev/ttyS3",
      '"file /out/a/b" on ttyS3, though /out/a is a file',
    ],
    [
      "that announces 10^14 bytes",
      "printf 'status 0 0 0\\nfile 100000000000000 /out/a\\n' >/dev/ttyS3",
      '"file 100000000000000 /out/a" on ttyS3, which exceeds the limit of 268435456 bytes',
    ],
    [
      "that writes a line without an end",
      "head -c 20000 /dev/zero | tr '\\0' a >/dev/ttyS3",
      "a line of more than 8192 bytes on ttyS3",
    ],
    ["that floods the port of its init", "yes '' >/dev/ttyS3", "more than 200000 lines on ttyS3"],
  ])("%s", async (_, script, why) => {
    expect(await run(script)).toMatchObject({ kind: "refused", why: `the guest wrote ${why}` });
  });
});

describe("the report of a suite in a real guest", () => {
  /** Judges the claims that match a pattern, with an additional claim file in the suite. */
  async function problemOf(pattern: string, more: LabOptions["files"] = {}): Promise<string> {
    const columns = await runCampaign({
      lanes: [{ kernel, cpu: "max" }],
      pattern,
      run: (options) => runInLab({ ...options, files: more }),
    });
    expect(isGreenMatrix(toMatrix(columns))).toBe(false);
    return columns[0]?.problem ?? "";
  }

  test("is not green if no claim has the selected name", async () => {
    expect(await problemOf("nosuchclaim")).toBe(
      'no claim was judged (status 1); stderr ends with: node-kvm: no claim contains "nosuchclaim"',
    );
  });

  test("is not green if the suite throws an exception after a claim", async () => {
    const place = `${guestFolder()}/dist/suite/main.js`;
    const result = { id: "resend-get", title: "a sentence", verdict: "pass", duration: 1 };
    const report = { kernel: "6.12", vendor: "kvm_amd", results: [result] };
    const program = `console.log('${JSON.stringify(report)}');\nthrow new Error("this file is broken");\n`;
    expect(await problemOf("resend-get", { [place]: Buffer.from(program) })).toMatch(
      /^the suite ended with status \d+ after 1 claims, of which 0 failed; .*this file is broken/,
    );
  });
});
