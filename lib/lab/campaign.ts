/**
 * The suite on many kernels and CPU models: some machines at a time, each result a column. One
 * machine is machine.ts; putting columns side by side is report/matrix.ts.
 */
import { availableParallelism, totalmem } from "node:os";
import { type Column, isGreenMatrix, toMatrix } from "../report/matrix.ts";
import { printable } from "../report/printable.ts";
import { MalformedReport, readReport } from "../report/received.ts";
import { containsPattern, count, type Report, type Result, splitName } from "../report/result.ts";
import { LabError } from "./error.ts";
import type { Kernel } from "./kernels/kernels.ts";
import { HELD, WORK_PORT } from "./machine/init.ts";
import { suiteProgram } from "./machine/installation.ts";
import {
  type EmulatorName,
  type LabOptions,
  type LabResult,
  MEMORY,
  type Restore,
  runInLab,
} from "./machine/machine.ts";

/** One machine of a campaign. */
export interface Lane {
  readonly kernel: Kernel;
  /** A CPU model of the emulator's. */
  readonly cpu: string;
  /** QEMU when left out. */
  readonly emulator?: EmulatorName;
}

/** What is run on each machine. */
export interface CampaignOptions {
  readonly lanes: readonly Lane[];
  /** Only claims whose `id: sentence` contains this, in either case. */
  readonly pattern?: string;
  /** The names of all claims that the suite has; a report that lacks one of these, or has another, does not hold. */
  readonly claims?: readonly string[];
  /** The user's own Bochs. */
  readonly bochs?: string;
  /** How many machines at a time; {@link defaultParallel} when left out. */
  readonly parallel?: number;
  readonly signal?: AbortSignal;
  /** Hears of each step of a lane. */
  readonly onProgress?: (lane: Lane, step: LaneStep) => void;
  /**
   * How a machine of QEMU's starts; {@link DEFAULT_START} when left out. `boot`: always booted. `saved`: restored from
   * one that was saved before any VM was made there; what it finds wrong is judged once more after a boot. `warm`:
   * restored from one that has judged all claims before, which is quicker and not a judgement of record.
   */
  readonly start?: LaneStart;
  /** The function that runs a machine; the default is the lab's. @internal */
  readonly run?: (options: LabOptions) => Promise<LabResult>;
}

/** How a campaign's machines start. */
export type LaneStart = "saved" | "boot" | "warm";

/** How machines start when nothing is said. */
export const DEFAULT_START: LaneStart = "boot";

/**
 * How many machines run at a time when nothing is said: one more than this process may use CPUs, because a machine also
 * waits; fewer where the host's memory has no room for them.
 */
export function defaultParallel(): number {
  const room = Math.floor(totalmem() / (2 * MEMORY * 2 ** 20));
  return Math.max(1, Math.min(availableParallelism() + 1, room));
}

/** Where a lane is: a booting machine, claims judged so far, or its end. */
export type LaneStep =
  | { readonly kind: "boots" }
  | { readonly kind: "judged"; readonly claims: number }
  | { readonly kind: "ended"; readonly column: Column };

/** What a column is called. */
export function laneName({ kernel, cpu }: Lane): string {
  return `${kernel.name.replace(/-cloud-amd64$/, "")} ${cpu}`;
}

/**
 * Runs all lanes; the columns come in the order of the lanes.
 *
 * When the signal comes, the lanes that had not ended get a column with that problem: the caller
 * asks the signal whether the campaign is whole.
 */
export async function runCampaign(options: CampaignOptions): Promise<readonly Column[]> {
  const columns = new Array<Column>(options.lanes.length);
  const queue = options.lanes.entries();
  const worker = async (): Promise<void> => {
    for (const [position, lane] of queue) {
      if (options.signal?.aborted === true) {
        columns[position] = unjudged(laneName(lane), "interrupted before it was booted");
        continue;
      }
      options.onProgress?.(lane, { kind: "boots" });
      const column = await runLane(lane, options);
      columns[position] = column;
      options.onProgress?.(lane, { kind: "ended", column });
    }
  };
  const workers = Math.min(options.parallel ?? defaultParallel(), options.lanes.length);
  await Promise.all(Array.from({ length: workers }, worker));
  return columns;
}

/** Runs the suite on one machine. What the lab itself cannot do is a problem of the column. */
async function runLane(lane: Lane, options: CampaignOptions): Promise<Column> {
  const progress = new SuiteProgress();
  const start = options.start ?? DEFAULT_START;
  try {
    const [column, restored] = await judgeLane(lane, options, start, progress);
    if (!restored) return column;
    if (isGreenMatrix(toMatrix([column]))) return start === "warm" ? noticed(column, WARM) : column;
    progress.restart();
    const [again] = await judgeLane(lane, options, "boot", progress);
    return noticed(again, JUDGED_AGAIN);
  } catch (error) {
    const isInterrupted = error instanceof LabError && error.code === "ERR_LAB_INTERRUPTED";
    if (isInterrupted) return unjudged(laneName(lane), progress.interrupted());
    // Whatever it is, the other columns are worth having.
    const problem = error instanceof LabError ? error.message : `the lab failed: ${String(error)}`;
    return unjudged(laneName(lane), problem);
  }
}

const WARM = "judged in a kernel that had VMs before: for quick loops, not for the record";
const JUDGED_AGAIN = "judged after a boot, because a restored machine's verdict was red";

function noticed(column: Column, notice: string): Column {
  const before = column.notice === undefined ? "" : `${column.notice}; `;
  return { ...column, notice: `${before}${notice}` };
}

/** Judges a kernel once; the second value is whether the machine was restored. */
async function judgeLane(
  lane: Lane,
  options: CampaignOptions,
  start: LaneStart,
  progress: SuiteProgress,
): Promise<readonly [Column, boolean]> {
  const { pattern } = options;
  const result = await (options.run ?? runInLab)({
    kernel: lane.kernel,
    cpu: lane.cpu,
    ...(lane.emulator === undefined ? {} : { emulator: lane.emulator }),
    ...(options.bochs === undefined ? {} : { bochs: options.bochs }),
    root: "suite",
    command: [
      "node",
      NO_OPT,
      suiteProgram(),
      ...(pattern === undefined ? [] : [`--pattern=${pattern}`]),
    ],
    ...(start === "boot" ? {} : { restore: heldSuite(start === "warm", pattern) }),
    ...(isStock(lane) ? { memory: STOCK_MEMORY } : {}),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    mostOutput: MOST_OUTPUT,
    onStderr: (bytes) => {
      progress.push(bytes);
      options.onProgress?.(lane, { kind: "judged", claims: progress.claims });
    },
  });
  return [toColumn(laneName(lane), result, chosenClaims(options)), result.restored];
}

/** The names of the claims that a report must have; `undefined` when the suite's are not known. */
function chosenClaims({ claims, pattern }: CampaignOptions): readonly string[] | undefined {
  return claims?.filter((name) => containsPattern(name, pattern));
}

/**
 * MiB that are enough for the suite on a kernel of the catalogue. A saved machine is compared with its checksum at each
 * use, so a smaller one is there sooner. A kernel of the user's own may have a sanitizer, which takes more.
 */
const STOCK_MEMORY = 512;

function isStock({ kernel, emulator = "qemu" }: Lane): boolean {
  return emulator === "qemu" && !kernel.name.startsWith("own:");
}

/**
 * Keeps V8's optimising compiler off: each claim runs once, and on the only CPU of an emulated machine the compiler
 * takes more time than its code saves. `--no-lazy` compiles all functions at once, before the machine is saved.
 */
const NO_OPT = "--no-opt";

/** The suite's program, which has loaded all claims, in a machine that is saved; what it judges comes later. */
function heldSuite(isWarm: boolean, pattern: string | undefined): Restore {
  const program = ["node", NO_OPT, "--no-lazy", suiteProgram()];
  const waits = ["--held", `/dev/ttyS${WORK_PORT}`, "--mark", HELD];
  return {
    command: [...program, ...waits, ...(isWarm ? ["--warm", "1"] : [])],
    work: (seed) =>
      Buffer.from(JSON.stringify({ ...(pattern === undefined ? {} : { pattern }), seed })),
  };
}

/** A report has 30 kB; one with all its reasons as long as they may be is none of the suite's. */
const MOST_OUTPUT = 16 * 2 ** 20;

function unjudged(name: string, problem: string): Column {
  return { name, report: undefined, problem, warnings: [] };
}

/** Reads the lines of the suite's --progress, `fail ID`, as they come. */
class SuiteProgress {
  /** How many claims were judged. */
  claims: number = 0;
  #failed: string[] = [];
  #rest = "";

  /** Forgets what another machine said. */
  restart(): void {
    this.claims = 0;
    this.#failed = [];
    this.#rest = "";
  }

  push(bytes: Buffer): void {
    const lines = (this.#rest + bytes.toString("latin1")).split("\n");
    this.#rest = (lines.pop() ?? "").slice(0, LONGEST_LINE);
    this.claims += lines.length;
    for (const line of lines) {
      const id = /^fail ([\w-]{1,80})$/.exec(line)?.[1];
      if (id !== undefined && this.#failed.length < MOST_NAMED) this.#failed.push(id);
    }
  }

  /** What is known of a machine that was ended. */
  interrupted(): string {
    const failed = this.#failed.length === 0 ? "none failed" : `failed: ${this.#failed.join(", ")}`;
    return this.claims === 0
      ? "interrupted before a claim was judged"
      : `interrupted after ${this.claims} claims; ${failed}`;
  }
}

/** A longer line is none of the suite's. */
const LONGEST_LINE = 200;
/** How many failed claims an interrupted machine's column names. */
const MOST_NAMED = 100;

/**
 * What a machine's end means for its column.
 *
 * @param claims - the names of the claims that its report must have; not checked when left out.
 */
export function toColumn(name: string, result: LabResult, claims?: readonly string[]): Column {
  const { warnings } = result;
  const retried = result.attempts > 1 ? "the emulator hung and was started again" : undefined;
  const column = { name, warnings, ...(retried === undefined ? {} : { notice: retried }) };
  if (result.kind !== "exited") {
    return { ...column, report: undefined, problem: describeEnd(result) };
  }
  try {
    const report = readReport(result.stdout.toString());
    refuseUnknownClaims(report, claims);
    const problem = describeFailure(report, result) ?? describeMissing(report, claims);
    return { ...column, report, ...(problem === undefined ? {} : { problem }) };
  } catch (error) {
    if (!(error instanceof MalformedReport)) throw error;
    const why = `the suite did not report (status ${result.status}): ${error.message}`;
    return { ...column, report: undefined, problem: why + lastWords(result) };
  }
}

/** Says what is wrong with a run whose claims do not say it: what was not judged cannot hold. */
function describeFailure(report: Report, result: Exited): string | undefined {
  const { pass, fail, skip, deviation } = count(report.results);
  const judged = pass + fail + deviation;
  if (judged === 0) {
    const skipped = skip === 0 ? "" : `, ${skip} were skipped`;
    return `no claim was judged${skipped} (status ${result.status})${lastWords(result)}`;
  }
  // One that fails for a claim has said all; one that could not load a file says so beside it.
  if (fail > 0 && result.status === 1 && !hasTrouble(result)) return undefined;
  if (fail === 0 && result.status === 0) return undefined;
  const ended = `the suite ended with status ${result.status}`;
  return `${ended} after ${judged} claims, of which ${fail} failed${lastWords(result)}`;
}

const nameOf = ({ id, title }: Result): string => `${id}: ${title}`;

/** A claim that the suite does not have would be a row that every other machine lacks. */
function refuseUnknownClaims({ results }: Report, claims: readonly string[] | undefined): void {
  const unknown = results.find((result) => claims?.includes(nameOf(result)) === false);
  if (unknown === undefined) return;
  const name = printable(nameOf(unknown)).slice(0, LONGEST_LINE);
  throw new MalformedReport(`the suite has no claim "${name}"`);
}

/** Names the claims that were to be judged and are not in the report. */
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

/** What the suite writes on stderr for each claim, as `--progress` asks. */
const PROGRESS = /^(pass|fail|skip|deviation) /;
/** What Node writes below the message of an exception. */
const STACK = /^\s+at |^Node\.js v/;
/** How the command writes what is no claim's: a file that could not be loaded, say. */
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

/** The last lines of stderr, after a colon. */
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
        ? "the machine hung, twice"
        : "the machine was not ready in time";
    case "no-kvm":
      return `no KVM: ${result.why}`;
    case "refused":
      return `the machine was ended: ${result.why}`;
    default:
      return result satisfies never;
  }
}
