/** `node-kvm lab bisect`: finds the kernels between which a claim's verdict changes. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { BISECT_STATUS, bisect, type Judgement } from "../lab/bisect.ts";
import { type Lane, type LaneStart, type LaneStep, runCampaign } from "../lab/campaign.ts";
import { LabError } from "../lab/error.ts";
import { listKernels } from "../lab/kernels/kernels.ts";
import type { EmulatorName } from "../lab/machine/machine.ts";
import { throwIfAborted } from "../lab/process/command.ts";
import { wrap } from "../report/lines.ts";
import { printable } from "../report/printable.ts";
import { patternOf } from "../report/text.ts";
import { CommandError } from "./failure.ts";
import { interruptible } from "./interrupt.ts";
import { claimsWithId, loadOwnClaims } from "./lab-claims.ts";
import { cpuModels } from "./lab-emulator.ts";
import { findKernel, refuseFault, refuseUnusedModules } from "./lab-kernel.ts";
import { LabProgress } from "./lab-progress.ts";
import { refuseWarm } from "./own-claims.ts";
import { lineWidth } from "./terminal.ts";

/** The claim and the kernels. */
export interface LabBisectOptions {
  /** The short name of the claim. */
  readonly claim: string;
  /** Files and folders of claims, which are judged instead of the suite's claims. */
  readonly paths: readonly string[];
  readonly good: string;
  readonly bad: string;
  /** The name of a CPU model of the emulator; the emulator's default if omitted. */
  readonly cpu?: string | undefined;
  readonly emulator: EmulatorName;
  /** The path of the user's own Bochs. */
  readonly bochs?: string | undefined;
  /** The way in which QEMU's machines start: booted or restored. */
  readonly start?: LaneStart | undefined;
}

/** The options for judging one kernel. */
type Judge = Omit<LabBisectOptions, "good" | "bad" | "paths"> & {
  /** The names of all claims of the user's program, or of the suite. */
  readonly claims: readonly string[];
  /** The program of the user's own claims; if omitted, the suite's claims are judged. */
  readonly program: string | undefined;
};

/** Finds the kernels of the catalogue between which the verdict changes, and prints them; returns the exit status. */
export async function labBisect(options: LabBisectOptions): Promise<number> {
  refuseFault();
  using own = await loadOwnClaims(options.paths);
  refuseWarm(own, options.start);
  const program = own?.program;
  const progress = new LabProgress();
  return await interruptible(async (signal) => {
    const claims = await claimsWithId(options.claim, own, signal);
    const rows = await listKernels({ signal });
    const releases = rows.filter(({ obtainable }) => obtainable).map(({ release }) => release);
    const end = async (word: string): Promise<string> =>
      (await findKernel(word, undefined, signal, progress)).release;
    const [good, bad] = [await end(options.good), await end(options.bad)];
    progress.begin({ machines: mostJudged(releases, good, bad), isMost: true, claims: 1 });
    const judge = async (release: string): Promise<Judgement> => {
      const judge: Judge = { ...options, claims, program };
      const judgement = await judgeOn(release, undefined, judge, signal, progress);
      progress.event(`${release}: ${judgement}`);
      return judgement;
    };
    const turn = await bisect(releases, good, bad, judge);
    progress.end();
    const found =
      `${options.claim} holds on ${turn.good} but not on ${turn.bad}` +
      `${turn.skipped.length === 0 ? "" : `; not judged: ${turn.skipped.join(", ")}`}` +
      ` (${turn.asked} of ${releases.length} kernels judged)`;
    process.stdout.write(
      `${wrap(printable(found), lineWidth(process.stdout), { rest: "  " }).join("\n")}\n`,
    );
    return 0;
  }).finally(() => progress.end());
}

/**
 * Returns the maximum number of kernels that a bisection judges, if each can be judged: the two ends, and the middle of
 * each remaining range.
 */
function mostJudged(releases: readonly string[], good: string, bad: string): number {
  const between = Math.abs(releases.indexOf(good) - releases.indexOf(bad)) - 1;
  return 2 + Math.max(0, Math.ceil(Math.log2(between + 1)));
}

/** Judges one kernel that the user has built; returns the status that `git bisect run` expects. */
export async function labBisectStep(
  kernel: string,
  modules: string | undefined,
  options: Omit<LabBisectOptions, "good" | "bad">,
): Promise<number> {
  refuseUnusedModules([kernel], modules);
  refuseFault();
  refuseMissingPath("--kernel", kernel);
  if (modules !== undefined) refuseMissingPath("--modules", modules);
  using own = await loadOwnClaims(options.paths);
  refuseWarm(own, options.start);
  const program = own?.program;
  return await interruptible(async (signal) => {
    const claims = await claimsWithId(options.claim, own, signal);
    const judge: Judge = { ...options, claims, program };
    const judgement = await judgeOn(kernel, modules, judge, signal).catch(withoutKernel);
    process.stderr.write(`${printable(options.claim)}: ${judgement}\n`);
    return BISECT_STATUS[judgement];
  });
}

/** The path of the image that a kernel's build makes, relative to its tree. */
const IMAGE = join("arch", "x86", "boot", "bzImage");

/**
 * Rejects a path that does not exist, except for the image of an existing kernel tree. A commit that does not build
 * leaves no image and is skipped, but a misspelt path would be wrong for every commit.
 */
function refuseMissingPath(option: string, path: string): void {
  if (existsSync(path)) return;
  const tree = path.endsWith(`/${IMAGE}`) ? path.slice(0, -IMAGE.length) : undefined;
  if (tree !== undefined && existsSync(tree)) return;
  throw new CommandError(`${option}: ${path} does not exist`);
}

/** A commit whose build left no kernel, or not all of its modules, cannot be judged. */
function withoutKernel(error: unknown): Judgement {
  const { code } = error instanceof LabError ? error : { code: undefined };
  if (code !== "ERR_LAB_NOT_A_KERNEL" && code !== "ERR_LAB_MODULE") throw error;
  process.stderr.write(`node-kvm: ${(error as LabError).message}\n`);
  return "skip";
}

async function judgeOn(
  word: string,
  modules: string | undefined,
  { claim, claims, program, cpu, emulator, bochs, start }: Judge,
  signal: AbortSignal,
  progress?: LabProgress,
): Promise<Judgement> {
  const kernel = await findKernel(word, modules, signal, progress);
  const [column] = await runCampaign({
    lanes: cpuModels(cpu === undefined ? [] : [cpu], emulator).map((model) => ({
      kernel,
      ...model,
    })),
    claims,
    ...(program === undefined ? {} : { program }),
    pattern: patternOf(claim),
    signal,
    ...(progress === undefined
      ? {}
      : { onProgress: (lane: Lane, step: LaneStep) => progress.step(lane, step) }),
    ...(bochs === undefined ? {} : { bochs }),
    ...(start === undefined ? {} : { start }),
  });
  throwIfAborted(signal);
  const result = column?.report?.results.find(({ id }) => id === claim);
  // A run with a problem was interrupted, or had failures outside of the claim, so its result is not used.
  if (column?.problem !== undefined || result === undefined || result.verdict === "skip") {
    return "skip";
  }
  return result.verdict === "pass" ? "good" : "bad";
}
