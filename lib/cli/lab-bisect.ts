/** `node-kvm lab bisect`: between which kernels a claim's verdict changes. */
import { BISECT_STATUS, bisect, type Judgement } from "../lab/bisect.ts";
import { type LaneStart, runCampaign } from "../lab/campaign.ts";
import { LabError } from "../lab/error.ts";
import { listKernels } from "../lab/kernels/kernels.ts";
import type { EmulatorName } from "../lab/machine/machine.ts";
import { throwIfAborted } from "../lab/process/command.ts";
import { printable } from "../report/printable.ts";
import { claimsWithId } from "./lab-claims.ts";
import { cpuModels } from "./lab-emulator.ts";
import { findKernel, interruptible, refuseUnusedModules } from "./lab-kernel.ts";

/** Which claim, between which kernels. */
export interface LabBisectOptions {
  /** The claim's short name. */
  readonly claim: string;
  readonly good: string;
  readonly bad: string;
  /** A CPU model of the emulator's; its own default when left out. */
  readonly cpu?: string | undefined;
  readonly emulator: EmulatorName;
  /** The user's own Bochs. */
  readonly bochs?: string | undefined;
  /** How QEMU's machines start. */
  readonly start?: LaneStart | undefined;
}

/** What judging one kernel takes. */
type Judge = Omit<LabBisectOptions, "good" | "bad"> & { readonly claims: readonly string[] };

/** Finds the change in the catalogue and prints it; returns the exit status. */
export async function labBisect(options: LabBisectOptions): Promise<number> {
  const claims = claimsWithId(options.claim);
  return interruptible(async (signal) => {
    const rows = await listKernels({ signal });
    const releases = rows.filter(({ obtainable }) => obtainable).map(({ release }) => release);
    const end = async (word: string): Promise<string> =>
      (await findKernel(word, undefined, signal)).release;
    const [good, bad] = [await end(options.good), await end(options.bad)];
    const judge = async (release: string): Promise<Judgement> => {
      const judgement = await judgeOn(release, undefined, { ...options, claims }, signal);
      process.stderr.write(`${printable(release)}: ${judgement}\n`);
      return judgement;
    };
    const turn = await bisect(releases, good, bad, judge);
    const found =
      `${options.claim} holds on ${turn.good} and not on ${turn.bad}` +
      `${turn.skipped.length === 0 ? "" : `; could not say: ${turn.skipped.join(", ")}`}` +
      ` (${turn.asked} of ${releases.length} kernels asked)`;
    process.stdout.write(`${printable(found)}\n`);
    return 0;
  });
}

/** Judges one kernel of the user's own and returns the status that `git bisect run` wants. */
export async function labBisectStep(
  kernel: string,
  modules: string | undefined,
  options: Omit<Judge, "claims">,
): Promise<number> {
  refuseUnusedModules([kernel], modules);
  const claims = claimsWithId(options.claim);
  return interruptible(async (signal) => {
    const judgement = await judgeOn(kernel, modules, { ...options, claims }, signal).catch(
      withoutKernel,
    );
    process.stderr.write(`${printable(options.claim)}: ${judgement}\n`);
    return BISECT_STATUS[judgement];
  });
}

/** A commit that left no kernel, or not all of its modules, cannot be judged. */
function withoutKernel(error: unknown): Judgement {
  const { code } = error instanceof LabError ? error : { code: undefined };
  if (code !== "ERR_LAB_NOT_A_KERNEL" && code !== "ERR_LAB_MODULE") throw error;
  process.stderr.write(`node-kvm: ${(error as LabError).message}\n`);
  return "skip";
}

async function judgeOn(
  word: string,
  modules: string | undefined,
  { claim, claims, cpu, emulator, bochs, start }: Judge,
  signal: AbortSignal,
): Promise<Judgement> {
  const kernel = await findKernel(word, modules, signal);
  const [column] = await runCampaign({
    lanes: cpuModels(cpu === undefined ? [] : [cpu], emulator).map((model) => ({
      kernel,
      ...model,
    })),
    claims,
    pattern: `${claim}:`,
    signal,
    ...(bochs === undefined ? {} : { bochs }),
    ...(start === undefined ? {} : { start }),
  });
  throwIfAborted(signal);
  const result = column?.report?.results.find(({ id }) => id === claim);
  // A run with a problem was cut short, or was not the claim's alone: it does not judge.
  if (column?.problem !== undefined || result === undefined || result.verdict === "skip") {
    return "skip";
  }
  return result.verdict === "pass" ? "good" : "bad";
}
