/**
 * Tests of `node-kvm info` and `fingerprint()` on kernels of the lab: the stage of the kernel's CPUID code and the rows
 * that the kernel has; fingerprint.js is the program in the guest. The kernels are NODE_KVM_LAB_KERNEL (names of the catalogue, separated by commas); by default 7.2.
 */
import { fileURLToPath } from "node:url";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Fingerprint } from "../../lib/explore/index.ts";
import { guestFolder } from "../../lib/lab/machine/guest.ts";
import { runInLab } from "../../lib/lab/machine/machine.ts";
import type { LifecycleStageName } from "../../lib/oracle/index.ts";
import { kernelOrProblem } from "./kernel-or-problem.ts";

const NAMES = (process.env["NODE_KVM_LAB_KERNEL"] ?? "7.2").split(",");

const PROGRAM = fileURLToPath(new URL("fingerprint.js", import.meta.url));

/** The fingerprint of a kernel. */
interface Expected {
  readonly stage: LifecycleStageName;
  readonly holds: readonly string[];
  readonly undecided: readonly string[];
}

/** The rows of Linux before 6.14. */
const BEFORE_6_14 = [
  ...["cr4-before-cpuid", "disables-exits-late", "eager", "checks-same-apic-base"],
  ...["keeps-pv-features", "writable-platform-info"],
];
const BEFORE_6_18 = ["xss-any-table", "xss-any-write"];
const BEFORE_6_4 = ["leaves-get-count", "writable-feature-msrs", "efer-before-cpuid"];
/** Decided only on a kernel that has disables-exits-late and not stale-base. */
const PV = "pv-each-update";

/** The fingerprints of the kernels on which this test was run, by their names. */
const EXPECTED: Readonly<Record<string, Expected>> = {
  "5.10": {
    stage: "replaces-table",
    holds: [
      ...[...BEFORE_6_4, ...BEFORE_6_14, ...BEFORE_6_18, PV],
      ...["without-xsave2", "never-frozen", "fixed-base", "hides-nested-leaf"],
    ],
    undecided: ["compares-incoming", "lazy"],
  },
  "6.1": {
    stage: "stale-base",
    holds: [
      ...[...BEFORE_6_4, ...BEFORE_6_14, ...BEFORE_6_18],
      ...["compares-incoming", "stale-base", "masks-sgx-attributes"],
    ],
    // Debian's kernel has no support for Xen guests.
    undecided: [PV, "rewrites-xen-leaf"],
  },
  "6.12": {
    stage: "incoming-base",
    holds: [...BEFORE_6_14, ...BEFORE_6_18, PV, "compares-incoming", "rewrites-xen-leaf"],
    undecided: [],
  },
  "6.16": {
    stage: "loses-updates",
    holds: ["lazy", ...BEFORE_6_18, "efer-before-cpuid"],
    undecided: [PV],
  },
  "6.18": { stage: "applies-updates", holds: ["efer-before-cpuid"], undecided: [PV] },
  "7.2": { stage: "applies-updates", holds: [], undecided: [PV] },
};

/** The line that fingerprint.js prints. */
interface Called {
  readonly results: readonly Fingerprint[];
  readonly before: readonly string[];
  readonly after: readonly string[];
  readonly explain: boolean;
}

describe.each(NAMES)("node-kvm info on Linux %s", (name) => {
  let problem: string | undefined;
  let fingerprint: Fingerprint | undefined;
  let called: Called | undefined;
  beforeAll(async () => {
    const kernel = await kernelOrProblem(name);
    if (typeof kernel === "string") {
      problem = kernel;
      return;
    }
    const result = await runInLab({
      kernel,
      command: ["sh", "-c", "node-kvm info --json && node fingerprint.js"],
      files: { [`${guestFolder()}/fingerprint.js`]: PROGRAM },
    });
    expect(result.stderr.toString()).toBe("");
    expect(result).toMatchObject({ kind: "exited", status: 0, warnings: [] });
    const [, json = "", line = ""] = /^(.*^}\n)(.*)$/ms.exec(result.stdout.toString()) ?? [];
    fingerprint = (JSON.parse(json) as { readonly lifecycle: Fingerprint }).lifecycle;
    called = JSON.parse(line) as Called;
  }, 600_000);
  beforeEach(({ skip }) => {
    if (problem !== undefined) skip(problem);
  });

  const namesWith = (verdict: string): readonly string[] | undefined =>
    fingerprint?.rows
      .filter((row) => row.verdict === verdict)
      .map<string>(({ row }) => row)
      .toSorted();

  test("prints the stage, the rows that hold, and the undecided rows", () => {
    expect(EXPECTED[name]).toBeDefined();
    expect(fingerprint?.stage?.name).toBe(EXPECTED[name]?.stage);
    expect(namesWith("holds")).toEqual(EXPECTED[name]?.holds.toSorted());
    expect(namesWith("undecided")).toEqual(EXPECTED[name]?.undecided.toSorted());
  });

  test("gives a reason for each undecided row, and no reason for the other rows", () => {
    const rows = fingerprint?.rows ?? [];
    expect(rows.length).toBeGreaterThan(20);
    expect(rows.map(({ reason }) => reason !== undefined)).toEqual(
      rows.map(({ verdict }) => verdict === "undecided"),
    );
  });

  test("has the fingerprint that two calls of fingerprint() in one process return", () => {
    expect(called?.results).toEqual([fingerprint, fingerprint]);
  });

  test("has probes that close their VMs and vCPUs, and leave the device as it was", () => {
    expect(called?.before).toEqual(["/dev/kvm"]);
    expect(called?.after).toEqual(called?.before);
    expect(called?.explain).toBe(true);
  });
});
