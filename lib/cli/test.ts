/** `node-kvm test`: runs the suite of this package, or the user's own claims, on this host's KVM. */
import { once } from "node:events";
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { TestCase, TestModule, Vitest } from "vitest/node";
import { AddonError, KvmError } from "../errors.ts";
import { kernelRelease, vendorModule } from "../kvm/host.ts";
import { Kvm } from "../kvm/kvm.ts";
import { packageFolder } from "../package.ts";
import { boundTexts, type Evidence } from "../report/evidence.ts";
import { KSFT_SKIP } from "../report/ktap.ts";
import type { Column } from "../report/matrix.ts";
import { printable, printableLines } from "../report/printable.ts";
import { isGreen, judged, type Report, type Result, splitName } from "../report/result.ts";
import { claimLine, counted, summary } from "../report/text.ts";
import { hostFacts } from "../suite/host-facts.ts";
import { needsOwnProcesses } from "../suite/isolation.ts";
import { STATUS } from "./exit-status.ts";
import { CommandError, reasonOf } from "./failure.ts";
import { interruptible, signalsHandled } from "./interrupt.ts";
import { claimsWith, howToList, loadOwnClaims } from "./lab-claims.ts";
import { adviceWithoutKvm, type InsteadReport, judgeInLab } from "./lab-instead.ts";
import type { OwnClaims } from "./own-claims.ts";
import {
  checkDocument,
  DOCUMENTS,
  type DocumentName,
  type EvidenceChoice,
  hasEvidence,
  reportDocument,
} from "./report-document.ts";
import { checkReproStyle, type ReproStyle } from "./repro-style.ts";
import { lineWidth, paintFor } from "./terminal.ts";
import { TestProgress } from "./test-progress.ts";

/** The formats of a report: live text, or one document at the end. */
export const REPORTERS: readonly ("text" | DocumentName)[] = ["text", ...DOCUMENTS];

/** The options of `node-kvm test`: the claims and the report. */
export interface SuiteOptions {
  /** Files and folders of claims, which are judged instead of the suite's claims. */
  readonly paths: readonly string[];
  /** A pattern; only claims whose `id: sentence` contains it are judged. By default, all claims are judged. */
  readonly pattern: string | undefined;
  readonly reporter: "text" | DocumentName;
  /** Whether a JSON report has the calls of claims that fail or deviate. */
  readonly evidence: boolean;
  /** KCIDB's name of the submitting system; only with the reporter `kcidb`. */
  readonly origin: string | undefined;
  /** Whether a host without a usable KVM is a failure. */
  readonly requireKvm: boolean;
  /** Whether to judge a kernel of the lab if the host has no usable KVM. */
  readonly orLab: boolean;
  /** Whether to print a line for each claim on standard error, for every reporter. */
  readonly progress: boolean;
  /** The folder for C files of failed claims; if omitted, no C files are written. */
  readonly repro: string | undefined;
  /** Whether claims that hold also get a C file. */
  readonly reproAll: boolean;
  /** The style of the C files; `program` if omitted. */
  readonly reproStyle?: ReproStyle | undefined;
}

/**
 * The time limit is long, because no claim measures time, and the clock of an emulated machine may run several times
 * too fast.
 */
const TIMEOUT_MS = 300_000;

const PACKAGE = packageFolder();

/**
 * The command that judges a claim on this host again and writes its calls as C; the pattern of the claim is appended to
 * these words.
 */
const REPEAT = ["node-kvm", "test", "--repro", "."];

/**
 * Runs the suite; returns the exit status, which is 0 only if all results are as expected.
 *
 * The report of an interrupted run contains the claims that were judged before the interruption.
 */
export async function runSuite(options: SuiteOptions): Promise<number> {
  if (options.repro === undefined && options.reproAll) {
    throw new CommandError("--repro-all needs --repro, which names the folder");
  }
  checkReproStyle(options);
  checkDocument(options.reporter, options);
  if (options.repro !== undefined) makeFolder("--repro", options.repro);
  using own = await loadOwnClaims(options.paths);
  if (own !== undefined) await claimsWith(options.pattern, own);
  const problem = deviceProblem();
  if (problem !== undefined) {
    process.stderr.write(`node-kvm: no claim can be judged on this host: ${problem}\n`);
    if (options.requireKvm) return STATUS.trouble;
    const instead = options.orLab ? await judgeInLab(options, own) : undefined;
    if (instead !== undefined) {
      if (options.repro !== undefined) {
        process.stderr.write("node-kvm: C files are written only for this host's KVM\n");
      }
      return printInstead(instead, options);
    }
    process.stderr.write(`node-kvm: ${printable(adviceWithoutKvm())}\n`);
  }
  return await interruptible((signal) => judgeAndReport(options, own, signal));
}

async function judgeAndReport(
  options: SuiteOptions,
  own: OwnClaims | undefined,
  signal: AbortSignal,
): Promise<number> {
  const p = paintFor(process.stdout);
  const width = lineWidth(process.stdout);
  const started = new Date();
  const live = options.reporter === "text";
  const command = [...REPEAT, ...options.paths];
  const print = (result: Result): void => {
    if (live) process.stdout.write(`${claimLine(result, p, { width, command })}\n`);
    if (options.progress) process.stderr.write(`${result.verdict} ${printable(result.id)}\n`);
  };
  const progress = new TestProgress();
  if (own !== undefined) progress.beginClaims(own.count(options.pattern));
  const onResult = (result: Result): void => progress.ended(result, () => print(result));
  const environment = claimEnvironment(options);
  const running =
    own === undefined
      ? collect(options.pattern, environment, onResult, signal, progress)
      : collectOwn(own, options, onResult, signal);
  const run = await running.finally(() => progress.end());
  const { report } = run;
  if (report.results.length === 0 && !signal.aborted && run.errors.length === 0) {
    process.stderr.write(`node-kvm: ${whyNothing(report, options)}\n`);
    return STATUS.trouble;
  }
  process.stdout.write(
    options.reporter === "text"
      ? `\n${summary(report, p, { width })}\n`
      : reportDocument(report, options.reporter, { origin: options.origin, started }),
  );
  if (options.repro !== undefined) {
    process.stderr.write(
      `node-kvm: ${counted(run.reproducers, "C file")} written to ${options.repro}\n`,
    );
  }
  if (signal.aborted) {
    process.stderr.write(
      `node-kvm: interrupted after ${counted(report.results.length, "claim")}\n`,
    );
    return STATUS.interrupted;
  }
  for (const error of run.errors) process.stderr.write(`node-kvm: ${printableLines(error)}\n`);
  if (judged(report) === 0) {
    if (run.errors.length === 0) {
      process.stderr.write(`node-kvm: ${whyNothing(report, options)}\n`);
    }
    return options.reporter === "ktap" && run.errors.length === 0 ? KSFT_SKIP : STATUS.trouble;
  }
  if (!isGreen(report)) return STATUS.finding;
  return run.errors.length === 0 ? STATUS.ok : STATUS.trouble;
}

/** Creates the folder that an option names, and checks that it is writable. */
function makeFolder(option: string, name: string): void {
  try {
    makeEach(resolve(name));
    accessSync(name, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new CommandError(`${option}: ${name} cannot be written: ${reasonOf(error)}`);
  }
}

/**
 * Creates a folder and its parents. The option `recursive` of mkdir is not used, because such a call never returns
 * below /proc.
 */
function makeEach(path: string): void {
  if (existsSync(path)) return;
  makeEach(dirname(path));
  mkdirSync(path);
}

function whyNothing({ results }: Report, { pattern }: SuiteOptions): string {
  if (results.length > 0) return `no claim was judged: all ${results.length} were skipped`;
  return pattern === undefined
    ? "no claim was found"
    : `no claim contains "${printable(pattern)}"; ${howToList()}`;
}

function printInstead(
  { report, problems }: InsteadReport,
  { reporter, origin }: SuiteOptions,
): number {
  const p = paintFor(process.stdout);
  const width = lineWidth(process.stdout);
  const lines = report.results.map((result) => claimLine(result, p, { width }));
  process.stdout.write(
    reporter === "text"
      ? `${lines.join("\n")}\n\n${summary(report, p, { width })}\n`
      : reportDocument(report, reporter, { origin, started: new Date() }),
  );
  for (const text of problems) process.stderr.write(`node-kvm: ${printable(text)}\n`);
  return isGreen(report) && problems.length === 0 ? STATUS.ok : STATUS.finding;
}

/** Judges this host's KVM as one column of a matrix; if the signal is aborted, the column has the results so far. */
export async function judgeHost(
  options: EvidenceChoice & Pick<SuiteOptions, "pattern">,
  own: OwnClaims | undefined,
  signal: AbortSignal,
): Promise<Column> {
  const column = { name: "host", report: undefined, warnings: [] };
  if (signal.aborted) return { ...column, problem: "interrupted before a claim was judged" };
  try {
    const problem = deviceProblem();
    if (problem !== undefined) return { ...column, problem };
    const { report, errors } =
      own === undefined
        ? await collect(options.pattern, claimEnvironment(options), () => {}, signal)
        : await collectOwn(own, options, () => {}, signal);
    if (signal.aborted) {
      const problem = `interrupted after ${report.results.length} claims`;
      return { ...column, report, problem };
    }
    return { ...column, report, ...(errors.length === 0 ? {} : { problem: errors.join("; ") }) };
  } catch (error) {
    // The machines of a campaign are reported even if the column of the host fails.
    if (!(error instanceof AddonError || error instanceof CommandError)) throw error;
    return { ...column, problem: error.message };
  }
}

function deviceProblem(): string | undefined {
  try {
    Kvm.open().close();
    return undefined;
  } catch (error) {
    if (error instanceof KvmError) return error.message;
    throw error;
  }
}

interface Run {
  readonly report: Report;
  /** Errors outside of claims, such as a file that could not be loaded. */
  readonly errors: readonly string[];
  /** The number of C files that were written. */
  readonly reproducers: number;
}

/** Explanations of errors are disabled, because the search for a reason could change the results of claims. */
const WITHOUT_REASONS = { NODE_KVM_EXPLAIN: "0" };

/** The options that the claims' process receives as environment variables. */
type ClaimOptions = EvidenceChoice &
  Partial<Pick<SuiteOptions, "repro" | "reproAll" | "reproStyle">>;

/**
 * Returns the environment variables of the claims' process for reasons, C files and evidence; see suite/reproducer.ts.
 */
function claimEnvironment(options: ClaimOptions): Readonly<Record<string, string>> {
  const { repro, reproAll = false, reproStyle } = options;
  return {
    ...WITHOUT_REASONS,
    ...(hasEvidence(options) ? { NODE_KVM_EVIDENCE: "1" } : {}),
    ...(repro === undefined ? {} : { NODE_KVM_REPRO: resolve(repro) }),
    ...(reproStyle === undefined ? {} : { NODE_KVM_REPRO_STYLE: reproStyle }),
    ...(repro !== undefined && reproAll ? { NODE_KVM_REPRO_ALL: "1" } : {}),
  };
}

/** Judges the user's own claims in a separate process. */
async function collectOwn(
  own: OwnClaims,
  options: ClaimOptions & Pick<SuiteOptions, "pattern">,
  onResult: (result: Result) => void,
  signal: AbortSignal,
): Promise<Run> {
  const { pattern, repro } = options;
  const results: Result[] = [];
  const started = Date.now();
  const environment = claimEnvironment(options);
  const error = await own.judge(
    pattern,
    environment,
    (result) => {
      results.push(result);
      onResult(result);
    },
    signal,
  );
  const report = reportOf(results);
  const reproducers = repro === undefined ? 0 : countFiles(repro, started);
  return { report, errors: error === undefined ? [] : [error], reproducers };
}

/** Makes the report of this host. */
function reportOf(results: readonly Result[]): Report {
  return {
    kernel: kernelRelease(),
    vendor: vendorModule() ?? "none",
    host: hostFacts(),
    results: boundTexts(results),
  };
}

/** Counts the C files of a folder that were written after a time in milliseconds. */
function countFiles(folder: string, since: number): number {
  const files = readdirSync(folder).filter((name) => name.endsWith(".c"));
  // The clock of a file system may be some milliseconds behind the system's clock.
  return files.filter((name) => statSync(join(folder, name)).mtimeMs >= since - 100).length;
}

async function collect(
  pattern: string | undefined,
  env: Readonly<Record<string, string>>,
  onResult: (result: Result) => void,
  signal: AbortSignal,
  progress?: TestProgress,
): Promise<Run> {
  const { startVitest } = await loadVitest();
  const results: Result[] = [];
  const errors: string[] = [];
  let reproducers = 0;
  const listeners = new Set(INTERRUPTS.flatMap((name) => process.listeners(name)));
  let cancel = (): void => undefined;
  const reporter = {
    onInit(vitest: Vitest): void {
      // On these signals, vitest ends the process, but this command only ends the run and still reports the results.
      for (const name of INTERRUPTS) {
        const added = process.listeners(name).filter((listener) => !listeners.has(listener));
        for (const listener of added) process.off(name, listener);
      }
      cancel = (): void => void vitest.cancelCurrentRun("keyboard-input");
      signal.addEventListener("abort", cancel, { once: true });
    },
    onTestRunStart(files: readonly unknown[]): void {
      progress?.begin(files.length);
      // vitest ignores a cancellation before the start of a run.
      if (signal.aborted) cancel();
    },
    onTestCaseReady(test: TestCase): void {
      progress?.started(test.name);
    },
    onTestCaseResult(test: TestCase): void {
      const result = toResult(test);
      if ("reproducer" in test.meta()) reproducers += 1;
      if (result === undefined) return;
      results.push(result);
      onResult(result);
    },
    onTestModuleEnd(module: TestModule): void {
      progress?.fileEnded();
      errors.push(...module.errors().map(({ message }) => message));
    },
    onTestRunEnd(_: unknown, unhandled: readonly { readonly message: string }[]): void {
      errors.push(...unhandled.map(({ message }) => message));
    },
  };
  const run = startVitest(
    "test",
    [],
    {
      root: PACKAGE,
      config: false,
      watch: false,
      include: ["test/kvm/**/*.test.ts"],
      exclude: [],
      setupFiles: ["test/kvm/setup.ts"],
      pool: "forks",
      fileParallelism: false,
      isolate: needsOwnProcesses(),
      passWithNoTests: true,
      cache: false, // if the package is installed, its folder may not be writable
      testTimeout: TIMEOUT_MS,
      hookTimeout: TIMEOUT_MS,
      reporters: [reporter],
      env,
      ...(pattern === undefined ? {} : { testNamePattern: escapePattern(pattern) }),
    },
    // In an installed package, the suite is below node_modules, which is not compiled by default.
    { server: { watch: null }, ssr: { noExternal: [/test\/kvm\//] } },
  );
  const ended = run
    .then((vitest) => vitest.close())
    .catch(async (error: unknown) => {
      // Ctrl-C in a terminal also ends vitest's worker, which vitest reports as an error.
      await signalsHandled();
      if (!signal.aborted) throw error;
    });
  await Promise.race([ended, afterAbort(signal)]);
  process.exitCode = 0; // vitest sets the exit code, but this command decides the exit status
  const report = reportOf(results);
  return { report, errors, reproducers };
}

/**
 * The time in milliseconds that vitest has to end after a signal. vitest waits a minute for a worker that the signal
 * has ended.
 */
const END_MS = 5000;

/** Returns a promise that resolves some time after the signal, when the children of this process have been killed. */
async function afterAbort(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, "abort");
  await sleep(END_MS, undefined, { ref: false });
  for (const pid of children()) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // The child process has already ended.
    }
  }
}

/** Returns the child processes of this process; none if the kernel does not list them (CONFIG_PROC_CHILDREN). */
function children(): readonly number[] {
  return readdirSync("/proc/self/task").flatMap((thread) => {
    const path = `/proc/self/task/${thread}/children`;
    if (!existsSync(path)) return [];
    return readFileSync(path, "utf8").split(" ").filter(Boolean).map(Number);
  });
}

/** The signals that vitest handles. */
const INTERRUPTS = ["SIGINT", "SIGTERM"] as const;

async function loadVitest(): Promise<typeof import("vitest/node")> {
  try {
    return await import("vitest/node");
  } catch (cause) {
    const remedy = "the suite runs in vitest: npm install --save-dev vitest@4";
    throw new CommandError(`vitest cannot be loaded; ${remedy} (${reasonOf(cause)})`, { cause });
  }
}

const VERDICTS = { passed: "pass", failed: "fail", skipped: "skip" } as const;

function toResult(test: TestCase): Result | undefined {
  const result = test.result();
  const note = result.state === "skipped" ? result.note : undefined;
  // If a test has no note, the pattern excluded it; a skipped test has a note.
  if (result.state === "pending" || (result.state === "skipped" && note === undefined)) {
    return undefined;
  }
  const { claim, deviation, evidence } = test.meta() as {
    readonly claim?: number;
    readonly deviation?: string;
    readonly evidence?: Evidence;
  };
  return {
    ...splitName(test.name),
    number: claim,
    file: basename(test.module.moduleId),
    verdict: deviation === undefined ? VERDICTS[result.state] : "deviation",
    reason: deviation ?? note ?? result.errors?.map(({ message }) => message).join("\n"),
    duration: test.diagnostic()?.duration ?? 0,
    ...(evidence === undefined ? {} : { evidence }),
  };
}

function escapePattern(text: string): RegExp {
  return new RegExp(text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"), "i");
}
