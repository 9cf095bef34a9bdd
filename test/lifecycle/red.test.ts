/**
 * Tests that every claim of the suite can fail. The tests run the suite with each injected fault (lib/suite/faults.ts);
 * every claim that is judged here must fail for at least one fault. The claim's own assertion must fail, and not an
 * earlier call.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { FAULTS } from "node-kvm/test";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { deviceProblem } from "./run-node.ts";

const problem = deviceProblem();

interface Verdicts {
  readonly results: readonly {
    readonly id: string;
    readonly verdict: string;
    readonly reason?: string;
  }[];
}

/** The suite without vitest, which starts faster. */
const SUITE = fileURLToPath(new URL("../../dist/suite/main.js", import.meta.url));

function judge(fault?: string): Verdicts["results"] {
  const env = { ...process.env, ...(fault === undefined ? {} : { NODE_KVM_FAULT: fault }) };
  const { stdout } = spawnSync(process.execPath, [SUITE], {
    env,
    encoding: "utf8",
    maxBuffer: 2 ** 26,
  });
  const report: unknown = JSON.parse(stdout);
  return (report as Verdicts).results;
}

/** Returns whether an assertion failed; the reason of an unexpected KvmError begins with the name of the ioctl. */
const isRed = ({ verdict, reason = "" }: Verdicts["results"][number]): boolean =>
  verdict === "fail" && !reason.startsWith("KVM_");

/**
 * Claims about the one rule that a fault breaks: they must fail with the fault, and the claims of the second list must
 * not fail. Claims that do not hold on this host without the fault are not compared.
 */
const RULES: Readonly<Record<string, readonly [red: readonly string[], green: readonly string[]]>> =
  {
    "accepts-changes": [
      ["change-feature", "change-count-none"],
      ["resend-original", "vaddr-errno"],
    ],
    "refuses-the-same": [["resend-original", "resend-get", "silent-cr4"], ["change-feature"]],
    "compares-osxsave": [["ignore-osxsave"], ["resend-get", "ignore-apic", "change-feature"]],
    "compares-padding": [["padding-free"], ["resend-original", "change-feature"]],
    "ignores-order": [["change-order"], ["change-feature", "change-flags"]],
    "ignores-flags": [["change-flags"], ["change-feature", "change-order", "change-index"]],
    "keeps-osxsave": [["osxsave-on-cr4"], ["resend-original", "xsave-size", "change-feature"]],
    "keeps-xsave-size": [["xsave-size"], ["osxsave-on-cr4", "resend-original"]],
    "keeps-pv-unhalt": [["unhalt-first-set"], ["unhalt-kept", "osxsave-on-cr4"]],
    "keeps-refused-tables": [["rollback-table", "rollback-first"], ["resend-original"]],
    "ignores-replacements": [
      ["set-zero", "base-move"],
      ["resend-original", "change-feature"],
    ],
    "counts-each-run": [["immediate-exit"], ["resend-original", "change-feature"]],
  };

describe("the suite with injected faults", () => {
  let judged: readonly string[] = [];
  let holding: readonly string[] = [];
  const red = new Map<string, readonly string[]>();

  beforeAll(() => {
    if (problem !== undefined) return;
    const results = judge();
    const ids = (...verdicts: readonly string[]): readonly string[] =>
      results.filter(({ verdict }) => verdicts.includes(verdict)).map(({ id }) => id);
    judged = ids("pass", "deviation");
    holding = ids("pass");
    for (const fault of FAULTS) {
      red.set(
        fault,
        judge(fault)
          .filter(isRed)
          .map(({ id }) => id),
      );
    }
  });

  beforeEach(({ skip }) => {
    if (problem !== undefined) skip(problem);
  });

  test("judges at least 35 claims on this host", () => {
    expect(judged.length).toBeGreaterThanOrEqual(35);
  });

  test.each(FAULTS)("has a failed claim on a kernel that %s", (fault) => {
    expect(red.get(fault)).not.toHaveLength(0);
  });

  test.for(Object.entries(RULES))(
    "shows the rule that a kernel breaks that %s",
    ([fault, [fails, holds]], { skip }) => {
      const failing = fails.filter((id) => holding.includes(id));
      skip(failing.length === 0, `none of the claims holds here: ${fails.join(", ")}`);
      expect(red.get(fault)).toEqual(expect.arrayContaining(failing));
      const keeping = holds.filter((id) => holding.includes(id));
      expect(keeping.filter((id) => red.get(fault)?.includes(id))).toEqual([]);
    },
  );

  test("fails every judged claim for at least one injected fault", () => {
    const seen = new Set(Array.from(red.values()).flat());
    expect(judged.filter((id) => !seen.has(id))).toEqual([]);
  });
});
