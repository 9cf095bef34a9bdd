/**
 * Compares query() with a guest's CPUID in the lab and on this host: each entry of five tables and 500 absent leaves,
 * for the vendors Intel and AMD. The lab's kernels are NODE_KVM_LAB_KERNEL; by default 7.2.
 * With NODE_KVM_LAB_EMULATOR=bochs, KVM is kvm_intel.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type CpuidEntry2, CpuidTable } from "../../lib/cpuid/index.ts";
import { guestFolder } from "../../lib/lab/machine/guest.ts";
import { runInLab } from "../../lib/lab/machine/machine.ts";
import { kernelOrProblem } from "./kernel-or-problem.ts";

const NAMES = (process.env["NODE_KVM_LAB_KERNEL"] ?? "7.2").split(",");
const EMULATOR = process.env["NODE_KVM_LAB_EMULATOR"] === "bochs" ? "bochs" : "qemu";
const PROGRAM = fileURLToPath(new URL("cpuid-query.js", import.meta.url));
const FILE = "/tmp/guests.json.gz";

type Answer = Pick<CpuidEntry2, "function" | "index" | "eax" | "ebx" | "ecx" | "edx">;

/** One guest's results, in the form that cpuid-query.js writes. */
interface Guest {
  readonly name: string;
  readonly table: string;
  readonly cpuid: readonly CpuidEntry2[];
  readonly stored: readonly CpuidEntry2[];
  readonly state: { readonly cr4: number; readonly apicBase: number; readonly xcr0: number };
  readonly results: readonly Answer[];
}

/** The content of the file that cpuid-query.js writes. */
interface Written {
  readonly supported: readonly CpuidEntry2[];
  readonly guests: readonly Guest[];
}

/** Returns a result of query() in the form of a guest's result. */
function answer(
  table: CpuidTable,
  { function: fn, index }: Answer,
  options: Parameters<CpuidTable["query"]>[2],
): Answer {
  const { eax, ebx, ecx, edx } = table.query(fn, index, options);
  return { function: fn, index, eax, ebx, ecx, edx };
}

function parsed(gzipped: Uint8Array): Written {
  return JSON.parse(gunzipSync(gzipped).toString()) as Written;
}

/** Compares each guest's CPUID with query() of the table that KVM_GET_CPUID2 returned. */
function expectStored({ guests }: Written): void {
  for (const { stored, results, name, table } of guests) {
    const read = CpuidTable.from(stored);
    const predicted = results.map((one) => answer(read, one, {}));
    expect(predicted, `${name}, ${table}`).toEqual(results);
  }
}

describe.each(NAMES)("query() on Linux %s", (kernelName) => {
  let problem: string | undefined;
  let written: Written = { supported: [], guests: [] };
  beforeAll(async () => {
    const kernel = await kernelOrProblem(kernelName);
    if (typeof kernel === "string") {
      problem = kernel;
      return;
    }
    const result = await runInLab({
      kernel,
      emulator: EMULATOR,
      command: ["node", "cpuid-query.js", FILE],
      files: { [`${guestFolder()}/cpuid-query.js`]: PROGRAM },
      wanted: [FILE],
      timeout: 300_000,
    });
    expect(result.stderr.toString()).toBe("");
    expect(result).toMatchObject({ kind: "exited", status: 0 });
    if (result.kind !== "exited") throw new Error(result.kind);
    written = parsed(result.files.get(FILE) ?? new Uint8Array());
  }, 600_000);
  beforeEach(({ skip }) => {
    if (problem !== undefined) skip(problem);
  });

  test("returns results for 20 guests, with at least 525 leaves each", () => {
    expect(written.guests).toHaveLength(20);
    expect(Math.min(...written.guests.map(({ results }) => results.length))).toBeGreaterThanOrEqual(
      525,
    );
  });

  test("agrees with each guest's CPUID if it gets the table that was set and the vCPU's state", () => {
    const { guests, supported } = written;
    for (const { cpuid, state, results, name, table } of guests) {
      const sent = CpuidTable.from(cpuid);
      const predicted = results.map((one) => answer(sent, one, { ...state, host: supported }));
      expect(predicted, `${name}, ${table}`).toEqual(results);
    }
  });

  test("agrees with each guest's CPUID if it gets the table of KVM_GET_CPUID2 and no state", () => {
    expectStored(written);
  });

  test("returns different results for the two vendors", () => {
    const of = (name: string): readonly unknown[] =>
      written.guests
        .filter((one) => one.name === name && one.table === "highest-basic-leaf-d")
        .map(({ results }) => results.filter(({ eax }) => eax !== 0).length);
    expect(of("GenuineIntel")).not.toEqual(of("AuthenticAMD"));
  });
});

test("query() on this host agrees with the CPUID of 20 guests if it gets the table of KVM_GET_CPUID2", ({
  skip,
  onTestFinished,
}) => {
  skip(!existsSync("/dev/kvm"), "this host has no /dev/kvm");
  const folder = mkdtempSync(join(tmpdir(), "node-kvm-query-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "guests.json.gz");
  execFileSync(process.execPath, [PROGRAM, file]);
  const written = parsed(readFileSync(file));
  expect(written.guests).toHaveLength(20);
  expect(written.guests.flatMap(({ results }) => results).length).toBeGreaterThan(20 * 525);
  expectStored(written);
});
