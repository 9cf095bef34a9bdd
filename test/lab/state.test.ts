/**
 * Tests of saved states with real boots: guests continue in another process, and in another machine.
 * NODE_KVM_LAB_KERNEL and NODE_KVM_LAB_KERNEL_AFTER select the kernels, by names of the catalogue; the default is 6.1.
 */
import { fileURLToPath } from "node:url";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { findKernel } from "../../lib/cli/lab-kernel.ts";
import { LabError } from "../../lib/lab/error.ts";
import type { Kernel } from "../../lib/lab/kernels/kernels.ts";
import { guestFolder } from "../../lib/lab/machine/guest.ts";
import { runInLab } from "../../lib/lab/machine/machine.ts";
import { findQemu } from "../../lib/lab/machine/qemu.ts";
import { type Counted, countedIn, GUESTS, LONG, MOVES } from "../lifecycle/counted.ts";

const BEFORE = process.env["NODE_KVM_LAB_KERNEL"] ?? "6.1";
const AFTER = process.env["NODE_KVM_LAB_KERNEL_AFTER"] ?? BEFORE;
const PROGRAM = fileURLToPath(new URL("../lifecycle/counting.js", import.meta.url));
const FOLDER = "/tmp/states";

type Files = Readonly<Record<string, string | Uint8Array>>;

/** Runs counting.js twice, in two processes: once to save and once to restore. */
async function count(
  kernel: Kernel,
  acts: readonly string[],
  files: Files,
): Promise<{ readonly counted: readonly Counted[]; readonly files: Files }> {
  const guests = GUESTS.map(([guest]) => guest);
  const commands = acts.map(
    (act) => `node counting.js '${JSON.stringify({ act, guests, folder: FOLDER })}'`,
  );
  const result = await runInLab({
    kernel,
    command: ["sh", "-c", ["mkdir -p /tmp/states", ...commands].join(" && ")],
    files: { [`${guestFolder()}/counting.js`]: PROGRAM, ...files },
    wanted: [FOLDER],
    timeout: 300_000,
  });
  expect(result.stderr.toString()).toBe("");
  expect(result).toMatchObject({ kind: "exited", status: 0, warnings: [] });
  if (result.kind !== "exited") throw new Error(result.kind);
  return { counted: countedIn(result.stdout.toString()), files: Object.fromEntries(result.files) };
}

let problem: string | undefined;
let here: readonly Counted[] = [];
let elsewhere: readonly Counted[] = [];
beforeAll(async () => {
  try {
    findQemu();
    const { signal } = new AbortController();
    const [before, after] = [
      await findKernel(BEFORE, undefined, signal),
      await findKernel(AFTER, undefined, signal),
    ];
    const first = await count(before, ["save", "restore"], {});
    here = first.counted;
    elsewhere = (await count(after, ["restore"], first.files)).counted;
  } catch (error) {
    if (!(error instanceof LabError)) throw error;
    problem = error.message;
  }
}, 600_000);
beforeEach(({ skip }) => {
  if (problem !== undefined) skip(problem);
});

describe.each(GUESTS)("a guest (%s) %s whose state was restored", (guest, _, [before, after]) => {
  const of = (all: readonly Counted[]) => all.filter((one) => one.guest === guest);

  test("continues with its next number in another process", () => {
    expect(of(here).map(({ said }) => said)).toEqual([before, after, after]);
  });

  test("continues with its next number in another machine", () => {
    expect(of(elsewhere).map(({ said }) => said)).toEqual([after, after]);
  });

  test("continues with the same number if the state is restored again into the same vCPU", () => {
    const restored = [...of(here), ...of(elsewhere)].filter(({ form }) => form !== undefined);
    expect(restored.map(({ again }) => again)).toEqual([after, after, after, after]);
  });

  test("has the saved state, except for parts that change with time", () => {
    const different = of(here).flatMap((one) => one.different ?? []);
    expect(different.filter((name) => !MOVES.includes(name))).toEqual([]);
  });

  test("has a TSC that neither decreases nor jumps", () => {
    const tscs = [...of(here), ...of(elsewhere)].flatMap(({ tsc }) => (tsc ? [tsc] : []));
    const leaps = tscs.map(([was, is]) => is - was);
    expect(leaps.filter((cycles) => cycles <= 0 || cycles > LONG)).toEqual([]);
    expect(leaps).toHaveLength(4);
  });
});
