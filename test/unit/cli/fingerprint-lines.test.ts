/** Tests of the lines of `node-kvm info` about a fingerprint, and of their absence without a usable device. */
import { describe, expect, test } from "vitest";
import { fingerprintLines } from "../../../lib/cli/fingerprint-lines.ts";
import type { Fingerprint, FingerprintRow } from "../../../lib/explore/index.ts";
import { LIFECYCLE_STAGES } from "../../../lib/oracle/index.ts";
import { command } from "./command.ts";

const FACTS = { behaviour: "KVM does something", where: "before Linux 9", source: "cpuid.c" };
const HELD: FingerprintRow = { row: "eager", verdict: "holds", ...FACTS, fix: "0123 (Linux 9)" };
const ABSENT: FingerprintRow = { row: "lazy", verdict: "absent", ...FACTS };
const UNDECIDED: FingerprintRow = {
  ...{ row: "stale-base", verdict: "undecided", ...FACTS },
  reason: "a capability is missing",
};
const STAGE: Fingerprint["stage"] = {
  name: "loses-updates",
  ...LIFECYCLE_STAGES["loses-updates"],
};
const TITLE = "how KVM handles CPUID tables, decided by calls and not by the version of the kernel";

describe("the lines", () => {
  test("have the sentence, the kernels and the source of the stage and of each difference", () => {
    expect(fingerprintLines({ stage: STAGE, rows: [HELD, ABSENT, UNDECIDED] })).toEqual([
      TITLE,
      `  stage loses-updates: ${LIFECYCLE_STAGES["loses-updates"].behaviour}`,
      "    kernels: Linux 6.15 to 6.18; stable updates of 6.18 have the fix; commits: since 93da6af3ae56 (Linux 6.15)",
      "  differences from Linux 7.2",
      "    eager: KVM does something",
      "      kernels: before Linux 9; source: cpuid.c; fixed by 0123 (Linux 9)",
      "  undecided on this host",
      "    stale-base: a capability is missing",
    ]);
  });

  test("name the reason of an undecided stage, and no list that is empty", () => {
    const reason = "swaps-tables or applies-updates; undecided: eager";
    expect(fingerprintLines({ stage: undefined, reason, rows: [ABSENT] })).toEqual([
      TITLE,
      `  stage undecided: ${reason}`,
      "  differences from Linux 7.2: none",
    ]);
  });
});

test.each([[["info"]], [["info", "--json"]]])(
  "node-kvm %j prints no fingerprint without a usable device",
  (args) => {
    const { status, stdout } = command(args, { env: { NODE_KVM_DEVICE: "/nowhere/kvm" } });
    expect(status).toBe(1);
    expect(stdout).toContain("/nowhere/kvm");
    expect(stdout).not.toMatch(/CPUID|lifecycle|stage/);
  },
);
