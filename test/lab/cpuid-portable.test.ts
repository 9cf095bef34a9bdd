/**
 * Tests that portable() predicts whether restoreState() succeeds between two CPU models, in both directions. The kernel
 * is NODE_KVM_LAB_KERNEL; by default 6.12.
 */
import { fileURLToPath } from "node:url";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type CpuidEntry2, portable } from "../../lib/cpuid/index.ts";
import type { Kernel } from "../../lib/lab/kernels/kernels.ts";
import { guestFolder } from "../../lib/lab/machine/guest.ts";
import { runInLab } from "../../lib/lab/machine/machine.ts";
import { kernelOrProblem } from "./kernel-or-problem.ts";

const KERNEL = process.env["NODE_KVM_LAB_KERNEL"] ?? "6.12";
const PROGRAM = fileURLToPath(new URL("cpuid-portable.js", import.meta.url));

/** A CPU model with AVX, and a CPU model without XSAVE. Both models have SVM, which KVM needs. */
const MODELS = ["max", "Opteron_G3"] as const;
type Model = (typeof MODELS)[number];

/** The line that cpuid-portable.js prints. */
interface Printed {
  readonly supported: readonly CpuidEntry2[];
  readonly cpuid?: readonly CpuidEntry2[];
  readonly ended?: string;
  readonly error?: string;
}

/** Runs cpuid-portable.js in one machine, once for each act: to save or to restore. */
async function run(
  kernel: Kernel,
  cpu: Model,
  acts: readonly string[],
  files: Readonly<Record<string, Uint8Array>> = {},
): Promise<{ readonly printed: readonly Printed[]; readonly state: Uint8Array | undefined }> {
  const result = await runInLab({
    kernel,
    cpu,
    command: ["sh", "-c", acts.map((act) => `node cpuid-portable.js ${act}`).join(" && ")],
    files: { [`${guestFolder()}/cpuid-portable.js`]: PROGRAM, ...files },
    wanted: ["/tmp"],
  });
  expect(result.stderr.toString()).toBe("");
  expect(result).toMatchObject({ kind: "exited", status: 0 });
  if (result.kind !== "exited") throw new Error(result.kind);
  const lines = result.stdout.toString().trim().split("\n");
  const printed = lines.map((line) => JSON.parse(line) as Printed);
  return { printed, state: result.files.get(fileOf(cpu)) };
}

const fileOf = (model: Model): string => `/tmp/${model}`;

let problem: string | undefined;
const saved = new Map<Model, Printed>();
const restored = new Map<string, Printed>();
beforeAll(async () => {
  const kernel = await kernelOrProblem(KERNEL);
  if (typeof kernel === "string") {
    problem = kernel;
    return;
  }
  const files: Record<string, Uint8Array> = {};
  for (const model of MODELS) {
    const { printed, state } = await run(kernel, model, [`save ${fileOf(model)}`]);
    const [first] = printed;
    if (first === undefined || state === undefined) throw new Error(`${model} saved nothing`);
    saved.set(model, first);
    files[fileOf(model)] = state;
  }
  for (const to of MODELS) {
    const acts = MODELS.map((from) => `restore ${fileOf(from)}`);
    const { printed } = await run(kernel, to, acts, files);
    for (const [i, from] of MODELS.entries()) {
      const one = printed[i];
      if (one !== undefined) restored.set(`${from} to ${to}`, one);
    }
  }
}, 1_200_000);
beforeEach(({ skip }) => {
  if (problem !== undefined) skip(problem);
});

describe.each([
  ["max", "max", true],
  ["Opteron_G3", "Opteron_G3", true],
  ["Opteron_G3", "max", true],
  ["max", "Opteron_G3", false],
] as const)("a guest of the model %s on the model %s", (from, to, isPortable) => {
  const outcome = (): Printed | undefined => restored.get(`${from} to ${to}`);

  test(`is ${isPortable ? "" : "not "}portable`, () => {
    const guest = saved.get(from)?.cpuid ?? [];
    const result = portable(guest, outcome()?.supported ?? [], { tsc: "same" });
    expect(guest.length).toBeGreaterThan(10);
    expect(result.reasons.length === 0).toBe(isPortable);
    expect(result.isPortable).toBe(isPortable);
  });

  test(`is ${isPortable ? "restored, and ends" : "refused by restoreState()"}`, () => {
    expect(outcome()?.ended ?? outcome()?.error).toMatch(isPortable ? /^done$/ : /./);
    expect(outcome()?.error === undefined).toBe(isPortable);
  });
});
