/**
 * Runs the suite on many kernels and CPU models. Several machines run at a time, and each makes a column of
 * report/matrix.ts. archive/ queries the package archive, cache/ stores files on disk, kernels/ provides kernels,
 * machine/ runs one machine, bochs/ is the second emulator, process/ runs the system's programs, and bisect.ts finds a
 * change between kernels.
 */
import { availableParallelism, totalmem } from "node:os";
import { type Column, isGreenMatrix, toMatrix } from "../report/matrix.ts";
import { printable } from "../report/printable.ts";
import { MalformedReport, readReport } from "../report/received.ts";
import { containsPattern, count, type Report, type Result, splitName } from "../report/result.ts";
import { LabError } from "./error.ts";
import { shortRelease } from "./kernels/catalogue.ts";
import type { Kernel } from "./kernels/kernels.ts";
import { formatModuleParam, type ModuleParam } from "./kernels/module-params.ts";
import { HELD, WORK_PORT } from "./machine/init.ts";
import { CLAIMS, claimsRunner, suiteProgram } from "./machine/installation.ts";
import {
  type EmulatorName,
  type LabOptions,
  type LabResult,
  type MachineStart,
  MEMORY,
  type Restore,
  runInLab,
} from "./machine/machine.ts";

/** One machine of a campaign. */
export interface Lane {
  readonly kernel: Kernel;
  /** The name of a CPU model of the emulator. */
  readonly cpu: string;
  /** The emulator; by default QEMU. */
  readonly emulator?: EmulatorName;
  /** The parameters of the kernel's modules; none by default. */
  readonly params?: readonly ModuleParam[];
}

/** The options of a campaign. */
export interface CampaignOptions {
  readonly lanes: readonly Lane[];
  /** A pattern: only claims whose `id: sentence` contains it, ignoring case, are judged. */
  readonly pattern?: string;
  /**
   * The user's own claims as a program: the text of a JSON document of suite/program.ts. If `program` is omitted, the
   * suite's own claims are judged.
   */
  readonly program?: string;
  /** Whether the claims that fail or deviate report their calls; by default, they do not. */
  readonly evidence?: boolean;
  /** The names of the claims of the suite that are run; a report must contain exactly these claims. */
  readonly claims?: readonly string[];
  /** The path of the user's own Bochs. */
  readonly bochs?: string;
  /** The number of machines that run at a time; by default {@link defaultParallel}. */
  readonly parallel?: number;
  readonly signal?: AbortSignal;
  /** A function that is called for each step of a machine. */
  readonly onProgress?: (lane: Lane, step: LaneStep) => void;
  /**
   * The way in which a QEMU machine starts; by default `boot`. `boot`: always booted. `saved`: a machine is restored
   * from a machine that was saved before any VM was created in it. If a claim fails in the restored machine, the claims
   * are judged again after a boot. `warm`: a machine is restored from a saved machine that has judged all claims
   * before. A warm start is faster, but its result is not a valid judgement.
   */
  readonly start?: LaneStart;
  /** The function that runs a machine; by default runInLab(). @internal */
  readonly run?: (options: LabOptions) => Promise<LabResult>;
}

/** The way in which a campaign's machines start. */
export type LaneStart = "saved" | "boot" | "warm";

/** The default way in which a campaign's machines start. */
export const DEFAULT_START: LaneStart = "boot";

/**
 * Returns the default number of machines that run at a time. This default is the number of this process's CPUs plus
 * one, because a machine is idle at times; it is smaller if the host has too little memory.
 */
export function defaultParallel(): number {
  const room = Math.floor(totalmem() / (2 * MEMORY * 2 ** 20));
  return Math.max(1, Math.min(availableParallelism() + 1, room));
}

/** The state of a machine of the campaign: its files are prepared, it starts, it judges claims, or it has ended. */
export type LaneStep =
  | { readonly kind: "prepares" }
  | { readonly kind: "starts"; readonly how: MachineStart }
  | { readonly kind: "judged"; readonly claims: number }
  | { readonly kind: "ended"; readonly column: Column };

/** Returns the name of a machine's column in the report. */
export function laneName({ kernel, cpu, params = [] }: Lane): string {
  return [shortRelease(kernel.name), cpu, ...params.map(formatModuleParam)].join(" ");
}

/**
 * Runs all machines of a campaign; returns one column for each machine, in the order of `lanes`.
 *
 * After the signal was aborted, the column of each unfinished machine reports the interruption; the caller checks the
 * signal.
 */
export async function runCampaign(options: CampaignOptions): Promise<readonly Column[]> {
  const { parallel = 1 } = options;
  if (!(parallel >= 1)) {
    throw new RangeError(`runCampaign(): parallel: expected 1 or more, got ${parallel}`);
  }
  const columns = new Array<Column>(options.lanes.length);
  const queue = options.lanes.entries();
  const worker = async (): Promise<void> => {
    for (const [position, lane] of queue) {
      if (options.signal?.aborted === true) {
        columns[position] = unjudged(laneName(lane), "interrupted before the machine was booted");
        continue;
      }
      options.onProgress?.(lane, { kind: "prepares" });
      const column = await runLane(lane, options);
      columns[position] = column;
      options.onProgress?.(lane, { kind: "ended", column });
    }
  };
  const workers = Math.min(options.parallel ?? defaultParallel(), options.lanes.length);
  await Promise.all(Array.from({ length: workers }, worker));
  return columns;
}

/**
 * Runs the suite on one kernel. If there are fewer lanes than machines may run, several machines judge a share of the
 * claims each. An error of the lab becomes the problem of the column.
 */
async function runLane(lane: Lane, options: CampaignOptions): Promise<Column> {
  const start = options.start ?? DEFAULT_START;
  const count = shareCount(options);
  const shares = Array.from({ length: count }, (_, index) => new ClaimsShare(index, count));
  const judge = (how: LaneStart): Promise<readonly (readonly [Column, boolean])[]> =>
    allOrNone(options, (own) => shares.map((share) => judgeLane(lane, own, how, share, shares)));
  try {
    const judged = await judge(start);
    const join = (parts: typeof judged): Column =>
      joinColumns(
        parts.map(([part]) => part),
        selectedClaims(options),
      );
    const column = join(judged);
    if (!judged.some(([, restored]) => restored)) return column;
    if (isGreenMatrix(toMatrix([column]))) return start === "warm" ? noticed(column, WARM) : column;
    for (const { progress } of shares) progress.restart();
    return noticed(join(await judge("boot")), JUDGED_AGAIN);
  } catch (error) {
    const isInterrupted = error instanceof LabError && error.code === "ERR_LAB_INTERRUPTED";
    if (isInterrupted) {
      return unjudged(laneName(lane), interrupted(shares.map(({ progress }) => progress)));
    }
    // Any error becomes the problem of only one column; the other columns are still reported.
    const problem = error instanceof LabError ? error.message : `the lab failed: ${String(error)}`;
    return unjudged(laneName(lane), problem);
  }
}

/** A machine's share of the claims: every `count`-th claim, from the claim `index` on. */
class ClaimsShare {
  readonly index: number;
  readonly count: number;
  readonly progress: SuiteProgress = new SuiteProgress();

  constructor(index: number, count: number) {
    this.index = index;
    this.count = count;
  }

  /** The value of the option `--share` of suite/main.ts; `undefined` for all claims. */
  get argument(): string | undefined {
    return this.count === 1 ? undefined : `${this.index}/${this.count}`;
  }

  has(_: unknown, position: number): boolean {
    return position % this.count === this.index;
  }
}

/** A machine is started only for at least this many claims, because the start takes as long as about 20 claims. */
const LEAST_SHARE = 40;

/** Returns the number of machines that judge the claims of one lane. */
function shareCount(options: CampaignOptions): number {
  // By default there are not more machines than CPUs, because a start takes more time than an idle CPU would save.
  const { lanes, parallel = Math.min(defaultParallel(), availableParallelism()) } = options;
  const claims = selectedClaims(options)?.length ?? 0;
  const machines = Math.floor(parallel / lanes.length);
  return Math.max(1, Math.min(machines, Math.floor(claims / LEAST_SHARE)));
}

/** Runs the machines of one lane. If one of them fails, the others are ended first. */
async function allOrNone<T>(
  options: CampaignOptions,
  start: (own: CampaignOptions) => readonly Promise<T>[],
): Promise<readonly T[]> {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  if (options.signal?.aborted === true) abort();
  options.signal?.addEventListener("abort", abort, { once: true });
  const machines = start({ ...options, signal: controller.signal });
  try {
    return await Promise.all(machines);
  } catch (error) {
    abort();
    await Promise.allSettled(machines);
    throw error;
  } finally {
    options.signal?.removeEventListener("abort", abort);
  }
}

/**
 * Joins the columns of the machines that judged the shares of one lane.
 *
 * @param claims - the names of all claims of the lane, in the order of the joined report.
 */
function joinColumns(columns: readonly Column[], claims: readonly string[] = []): Column {
  const [first, ...others] = columns;
  if (first === undefined) throw new Error("a lane has at least one machine");
  if (others.length === 0) return first;
  const reports = columns.flatMap(({ report }) => (report === undefined ? [] : [report]));
  const places = new Map(claims.map((name, place) => [name, place]));
  const placeOf = (result: Result): number => places.get(nameOf(result)) ?? claims.length;
  const results = reports
    .flatMap((report) => report.results)
    .toSorted((one, other) => placeOf(one) - placeOf(other));
  const report = reports[0] && { ...reports[0], results };
  const hosts = new Set(reports.map(({ kernel, vendor }) => `${kernel} with ${vendor}`));
  const differ = `the machines of one kernel report ${Array.from(hosts).join(" and ")}`;
  const missing = report === undefined ? undefined : describeMissing(report, claims);
  const problems = new Set([
    ...columns.flatMap(({ problem }) => problem ?? []),
    ...(missing === undefined ? [] : [missing]),
    ...(hosts.size > 1 ? [printable(differ)] : []),
  ]);
  const notices = new Set(columns.flatMap(({ notice }) => notice ?? []));
  const end = columns.find((column) => column.end !== undefined)?.end;
  return {
    name: first.name,
    report,
    warnings: Array.from(new Set(columns.flatMap(({ warnings }) => warnings))),
    ...(problems.size === 0 ? {} : { problem: Array.from(problems).join("; ") }),
    ...(notices.size === 0 ? {} : { notice: Array.from(notices).join("; ") }),
    ...(end === undefined ? {} : { end }),
  };
}

const WARM = "judged in a kernel that had VMs before: not a valid judgement";
const JUDGED_AGAIN = "judged after a boot, because a claim failed in the restored machine";

function noticed(column: Column, notice: string): Column {
  const before = column.notice === undefined ? "" : `${column.notice}; `;
  return { ...column, notice: `${before}${notice}` };
}

/** Judges the claims on a kernel once; the second value is true if the machine was restored. */
async function judgeLane(
  lane: Lane,
  options: CampaignOptions,
  start: LaneStart,
  share: ClaimsShare,
  shares: readonly ClaimsShare[],
): Promise<readonly [Column, boolean]> {
  const { pattern, program, evidence = false } = options;
  const result = await (options.run ?? runInLab)({
    kernel: lane.kernel,
    cpu: lane.cpu,
    ...(lane.emulator === undefined ? {} : { emulator: lane.emulator }),
    ...(lane.params === undefined ? {} : { params: lane.params }),
    ...(options.bochs === undefined ? {} : { bochs: options.bochs }),
    root: program === undefined ? "suite" : "claims",
    command: [
      "node",
      NO_OPT,
      ...(program === undefined ? [suiteProgram()] : [claimsRunner(), `--program=${PROGRAM}`]),
      ...(pattern === undefined ? [] : [`--pattern=${pattern}`]),
      ...(share.argument === undefined ? [] : [`--share=${share.argument}`]),
      ...(evidence ? ["--evidence"] : []),
    ],
    ...(program === undefined ? {} : { files: { [PROGRAM]: Buffer.from(program) } }),
    ...(start === "boot" ? {} : { restore: heldRunner(start === "warm", options, share) }),
    ...(isStock(lane) ? { memory: STOCK_MEMORY } : {}),
    kernelArguments: KERNEL_ARGUMENTS,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    mostOutput: MOST_OUTPUT,
    onStart: (how) => {
      if (share.index === 0) options.onProgress?.(lane, { kind: "starts", how });
    },
    onStderr: (bytes) => {
      share.progress.push(bytes);
      const claims = shares.reduce((sum, { progress }) => sum + progress.claims, 0);
      options.onProgress?.(lane, { kind: "judged", claims });
    },
  });
  const claims = selectedClaims(options)?.filter(share.has, share);
  const isShare = share.argument !== undefined;
  return [toColumn(laneName(lane), result, claims, isShare), result.restored];
}

/** Returns the names of the claims that a report must have; `undefined` if the suite's claims are unknown. */
function selectedClaims({ claims, pattern }: CampaignOptions): readonly string[] | undefined {
  return claims?.filter((name) => containsPattern(name, pattern));
}

/**
 * Arguments of the kernel for the suite. Without debugfs, KVM creates and removes fewer files for each VM and vCPU. The
 * memory of a claim's VM would be one huge page, which the kernel clears as a whole.
 */
const KERNEL_ARGUMENTS = ["debugfs=off", "transparent_hugepage=never"];

/**
 * The memory for the suite on a kernel of the catalogue, MiB. A saved machine's memory is verified at each use, so a
 * machine with less memory starts faster. A user's own kernel may have a sanitizer, which needs more memory.
 */
const STOCK_MEMORY = 512;

function isStock({ kernel, emulator = "qemu" }: Lane): boolean {
  return emulator === "qemu" && !kernel.name.startsWith("own:");
}

/**
 * Disables V8's optimising compiler: each claim runs once, and on the only CPU of an emulated machine the compiler
 * takes more time than its code saves. `--no-lazy` compiles all functions before the machine is saved.
 */
const NO_OPT = "--no-opt";

/** The path in the guest of the user's own claims. */
const PROGRAM = `${CLAIMS}/program.json`;

/**
 * The command of a machine that is saved: the suite's program, which has loaded all claims, or the runner of the user's
 * own claims. Each restored machine then gets the pattern and the user's claims; a saved machine thus never contains
 * old claims.
 */
function heldRunner(
  isWarm: boolean,
  { pattern, program, evidence }: CampaignOptions,
  { argument: share }: ClaimsShare,
): Restore {
  const runner = program === undefined ? [suiteProgram()] : [claimsRunner(), `--folder=${CLAIMS}`];
  const waits = ["--held", `/dev/ttyS${WORK_PORT}`, "--mark", HELD];
  return {
    command: [
      ...["node", NO_OPT, "--no-lazy", ...runner, ...waits],
      ...(isWarm ? ["--warm", "1"] : []),
    ],
    work: (seed) => Buffer.from(JSON.stringify({ pattern, program, share, evidence, seed })),
  };
}

/**
 * The maximum size of a report in bytes. A usual report has 30 kB, or 200 kB with the calls of claims, and the suite
 * never makes a larger report than this limit.
 */
const MOST_OUTPUT = 16 * 2 ** 20;

function unjudged(name: string, problem: string): Column {
  return { name, report: undefined, problem, warnings: [] };
}

/** Parses the lines of the suite's --progress, `fail ID`. */
class SuiteProgress {
  /** The number of claims that were judged so far. */
  claims: number = 0;
  /** The ids of failed claims. */
  failed: string[] = [];
  #rest = "";

  /** Resets the counts, because another machine starts. */
  restart(): void {
    this.claims = 0;
    this.failed = [];
    this.#rest = "";
  }

  push(bytes: Buffer): void {
    const lines = (this.#rest + bytes.toString("latin1")).split("\n");
    this.#rest = (lines.pop() ?? "").slice(0, LONGEST_LINE);
    this.claims += lines.length;
    for (const line of lines) {
      const id = /^fail ([\w-]{1,80})$/.exec(line)?.[1];
      if (id !== undefined && this.failed.length < MOST_NAMED) this.failed.push(id);
    }
  }
}

/** Describes the results of a lane that was interrupted. */
function interrupted(machines: readonly SuiteProgress[]): string {
  const claims = machines.reduce((sum, machine) => sum + machine.claims, 0);
  const failed = machines.flatMap((machine) => machine.failed);
  if (claims === 0) return "interrupted before a claim was judged";
  const names = failed.length === 0 ? "none failed" : `failed: ${failed.join(", ")}`;
  return `interrupted after ${claims} claims; ${names}`;
}

/** The maximum length of a line of the suite. */
const LONGEST_LINE = 200;
/** The maximum number of failed claims that the column of an interrupted machine lists. */
const MOST_NAMED = 100;

/**
 * Makes a column of the report from the result of a machine.
 *
 * @param claims - the names of the claims that the report must have; not checked by default.
 * @param isShare - whether the machine judged a share of the claims. Such a machine may skip all its claims, and
 *   joinColumns() describes missing claims.
 */
export function toColumn(
  name: string,
  result: LabResult,
  claims?: readonly string[],
  isShare: boolean = false,
): Column {
  const { warnings } = result;
  const retried = result.attempts > 1 ? "the emulator hung and was started again" : undefined;
  const column = { name, warnings, ...(retried === undefined ? {} : { notice: retried }) };
  if (result.kind !== "exited") {
    return { ...column, report: undefined, problem: describeEnd(result), end: result.kind };
  }
  try {
    const report = readReport(result.stdout.toString());
    refuseUnknownClaims(report, claims);
    const problem = isShare
      ? problemOfShare(report, result)
      : (describeFailure(report, result) ?? describeMissing(report, claims));
    return { ...column, report, ...(problem === undefined ? {} : { problem }) };
  } catch (error) {
    if (!(error instanceof MalformedReport)) throw error;
    const why = `the suite did not report (status ${result.status}): ${error.message}`;
    return { ...column, report: undefined, problem: why + lastWords(result) };
  }
}

/** As {@link describeFailure}, but a machine may skip all claims of its share. */
function problemOfShare(report: Report, result: Exited): string | undefined {
  const { results } = report;
  const isSkipped = results.length > 0 && results.every(({ verdict }) => verdict === "skip");
  if (isSkipped && result.status === 1 && !hasTrouble(result)) return undefined;
  return describeFailure(report, result);
}

/**
 * Describes a problem of a run that the report does not show. For example, claims that were not judged must not count
 * as passed.
 */
function describeFailure(report: Report, result: Exited): string | undefined {
  const { pass, fail, skip, deviation } = count(report.results);
  const judged = pass + fail + deviation;
  if (judged === 0) {
    const skipped = skip === 0 ? "" : `, ${skip} were skipped`;
    return `no claim was judged${skipped} (status ${result.status})${lastWords(result)}`;
  }
  // A report with failed claims and the status for failed claims is complete.
  // A file of claims that could not be loaded is an additional problem.
  if (fail > 0 && result.status === 1 && !hasTrouble(result)) return undefined;
  if (fail === 0 && result.status === 0) return undefined;
  const ended = `the suite ended with status ${result.status}`;
  return `${ended} after ${judged} claims, of which ${fail} failed${lastWords(result)}`;
}

const nameOf = ({ id, title }: Result): string => `${id}: ${title}`;

/** Rejects a report with an unknown claim, because no other machine would have a result of this claim. */
function refuseUnknownClaims({ results }: Report, claims: readonly string[] | undefined): void {
  const unknown = results.find((result) => claims?.includes(nameOf(result)) === false);
  if (unknown === undefined) return;
  const name = printable(nameOf(unknown)).slice(0, LONGEST_LINE);
  throw new MalformedReport(`the suite has no claim "${name}"`);
}

/** Lists the selected claims that the report lacks. */
function describeMissing(
  { results }: Report,
  claims: readonly string[] | undefined,
): string | undefined {
  const judged = new Set(results.map(nameOf));
  const missing = claims?.filter((name) => !judged.has(name)).map((name) => splitName(name).id);
  if (missing === undefined || missing.length === 0) return undefined;
  const more = missing.length > 3 ? `, and ${missing.length - 3} more` : "";
  return `the report lacks ${missing.slice(0, 3).join(", ")}${more}`;
}

type Exited = Extract<LabResult, { readonly kind: "exited" }>;

/** The line that the suite writes to stderr for each claim with `--progress`. */
const PROGRESS = /^(pass|fail|skip|deviation) /;
/** The lines of Node's stack trace below the message of an exception. */
const STACK = /^\s+at |^Node\.js v/;
/** The start of messages that do not belong to a claim, such as a file that could not be loaded. */
const TROUBLE = /^node-kvm: /;

function stderrLines({ stderr }: Exited): readonly string[] {
  return stderr
    .toString()
    .split("\n")
    .filter((line) => line.trim() !== "" && !PROGRESS.test(line) && !STACK.test(line));
}

function hasTrouble(result: Exited): boolean {
  return stderrLines(result).some((line) => TROUBLE.test(line));
}

/** Returns the last lines of stderr, after a semicolon. */
function lastWords(result: Exited): string {
  const lines = stderrLines(result).slice(-3);
  return lines.length === 0 ? "" : `; stderr ends with: ${lines.join(" | ")}`;
}

function describeEnd(result: Exclude<LabResult, { kind: "exited" }>): string {
  switch (result.kind) {
    case "crashed":
      return `the kernel crashed: ${result.oops.split("\n")[0] ?? ""}`;
    case "hung":
      return result.why === "silent"
        ? "the machine hung twice"
        : "the machine was not ready in time";
    case "no-kvm":
      return `no KVM: ${result.why}`;
    case "refused":
      return `the machine was ended: ${result.why}`;
    default:
      return result satisfies never;
  }
}
