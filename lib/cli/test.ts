/** `node-kvm test`: runs the suite that ships with this package on this host's KVM. */
import { once } from "node:events";
import { accessSync, constants, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { TestCase, TestModule, Vitest } from "vitest/node";
import { KvmError } from "../errors.ts";
import { kernelRelease, vendorModule } from "../kvm/host.ts";
import { Kvm } from "../kvm/kvm.ts";
import { AddonError } from "../native.ts";
import { packageFolder } from "../package.ts";
import { toJunit } from "../report/junit.ts";
import { toKtap } from "../report/ktap.ts";
import type { Column } from "../report/matrix.ts";
import { printable, printableJson, printableLines } from "../report/printable.ts";
import { isGreen, judged, type Report, type Result, splitName } from "../report/result.ts";
import { claimLine, counted, paint, summary } from "../report/text.ts";
import { needsOwnProcesses } from "../suite/isolation.ts";
import { STATUS } from "./exit-status.ts";
import { CommandError, reasonOf } from "./failure.ts";
import { HOW_TO_LIST } from "./lab-claims.ts";
import { adviceWithoutKvm, type InsteadReport, judgeInLab } from "./lab-instead.ts";
import { interruptible } from "./lab-kernel.ts";

/** How the suite can be reported: live text, or one document at the end. */
export const REPORTERS = ["text", "ktap", "junit", "json"] as const;

/** What to run and how to tell. */
export interface SuiteOptions {
  /** Only claims whose `id: sentence` contains this; all when left out. */
  readonly pattern: string | undefined;
  readonly reporter: (typeof REPORTERS)[number];
  /** Whether a host without usable KVM is a failure. */
  readonly requireKvm: boolean;
  /** Whether to judge a kernel of the lab instead, where this host has no usable KVM. */
  readonly orLab: boolean;
  /** Whether to tell of each claim on standard error, a line each, whatever the reporter. */
  readonly progress: boolean;
  /** The folder for C files of claims that fail; none are written when left out. */
  readonly repro: string | undefined;
  /** Whether claims that hold get a C file too. */
  readonly reproAll: boolean;
}

const DOCUMENTS = {
  ktap: toKtap,
  junit: toJunit,
  json: (report: Report): string => `${printableJson(report)}\n`,
} as const;

/** No claim is about time, and the clock of an emulated machine may run several times too fast. */
const PATIENCE_MS = 300_000;

const PACKAGE = packageFolder();

/**
 * Runs the suite; returns the exit status: 0 only when nothing unexpected happened.
 *
 * The report of an interrupted run has the claims that were judged by then.
 */
export async function runSuite(options: SuiteOptions): Promise<number> {
  if (options.repro === undefined && options.reproAll) {
    throw new CommandError("--repro-all needs --repro, which names the folder");
  }
  if (options.repro !== undefined) makeFolder("--repro", options.repro);
  const problem = deviceProblem();
  if (problem !== undefined) {
    process.stderr.write(`node-kvm: no claim can be judged here: ${problem}\n`);
    if (options.requireKvm) return STATUS.trouble;
    const instead = options.orLab ? await judgeInLab(options.pattern) : undefined;
    if (instead !== undefined) {
      if (options.repro !== undefined) {
        process.stderr.write("node-kvm: C files are written of this host's KVM only\n");
      }
      return printInstead(instead, options.reporter);
    }
    process.stderr.write(`node-kvm: ${printable(adviceWithoutKvm())}\n`);
  }
  return interruptible((signal) => judgeAndReport(options, signal));
}

async function judgeAndReport(options: SuiteOptions, signal: AbortSignal): Promise<number> {
  const p = paint(process.stdout.isTTY && process.env["NO_COLOR"] === undefined);
  const live = options.reporter === "text";
  const onResult = (result: Result): void => {
    if (live) process.stdout.write(`${claimLine(result, p)}\n`);
    if (options.progress) process.stderr.write(`${result.verdict} ${printable(result.id)}\n`);
  };
  const run = await collect(options.pattern, reproEnvironment(options), onResult, signal);
  const { report } = run;
  if (report.results.length === 0 && !signal.aborted && run.errors.length === 0) {
    process.stderr.write(`node-kvm: ${whyNothing(report, options)}\n`);
    return STATUS.trouble;
  }
  process.stdout.write(
    options.reporter === "text" ? `\n${summary(report, p)}\n` : DOCUMENTS[options.reporter](report),
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
    process.stderr.write(`node-kvm: ${whyNothing(report, options)}\n`);
    return STATUS.trouble;
  }
  if (!isGreen(report)) return STATUS.finding;
  return run.errors.length === 0 ? STATUS.ok : STATUS.trouble;
}

/** Makes the folder that an option names, and checks that files can be written to it. */
function makeFolder(option: string, name: string): void {
  try {
    makeEach(resolve(name));
    accessSync(name, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new CommandError(`${option}: ${name} cannot be written: ${reasonOf(error)}`);
  }
}

/** Makes a folder and those above it. Not mkdir's `recursive`, which never ends below /proc. */
function makeEach(path: string): void {
  if (existsSync(path)) return;
  makeEach(dirname(path));
  mkdirSync(path);
}

function whyNothing({ results }: Report, { pattern }: SuiteOptions): string {
  if (results.length > 0) return `no claim was judged: all ${results.length} were skipped`;
  return pattern === undefined
    ? "no claim was found"
    : `no claim contains "${printable(pattern)}"; ${HOW_TO_LIST}`;
}

function printInstead(
  { report, problems }: InsteadReport,
  reporter: SuiteOptions["reporter"],
): number {
  const p = paint(process.stdout.isTTY && process.env["NO_COLOR"] === undefined);
  const lines = report.results.map((result) => claimLine(result, p));
  process.stdout.write(
    reporter === "text"
      ? `${lines.join("\n")}\n\n${summary(report, p)}\n`
      : DOCUMENTS[reporter](report),
  );
  for (const text of problems) process.stderr.write(`node-kvm: ${printable(text)}\n`);
  return isGreen(report) && problems.length === 0 ? STATUS.ok : STATUS.finding;
}

/** Judges this host's KVM as one column of a matrix; when the signal comes, as far as it got. */
export async function judgeHost(pattern: string | undefined, signal: AbortSignal): Promise<Column> {
  const column = { name: "host", report: undefined, warnings: [] };
  if (signal.aborted) return { ...column, problem: "interrupted before a claim was judged" };
  try {
    const problem = deviceProblem();
    if (problem !== undefined) return { ...column, problem };
    const { report, errors } = await collect(pattern, {}, () => {}, signal);
    if (signal.aborted) {
      const problem = `interrupted after ${report.results.length} claims`;
      return { ...column, report, problem };
    }
    return { ...column, report, ...(errors.length === 0 ? {} : { problem: errors.join("; ") }) };
  } catch (error) {
    // The lanes of a campaign are reported without the host's.
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
  /** What went wrong outside of any claim: a file that could not be loaded, say. */
  readonly errors: readonly string[];
  /** How many claims left a C file. */
  readonly reproducers: number;
}

/** A search for a reason must not change what the claims observe. */
const WITHOUT_REASONS = { NODE_KVM_EXPLAIN: "0" };

/** What the claims' process is told about reasons, and about C files; see test/helpers/reproducer.ts. */
function reproEnvironment({ repro, reproAll }: SuiteOptions): Readonly<Record<string, string>> {
  if (repro === undefined) return WITHOUT_REASONS;
  return {
    ...WITHOUT_REASONS,
    NODE_KVM_REPRO: resolve(repro),
    ...(reproAll ? { NODE_KVM_REPRO_ALL: "1" } : {}),
  };
}

async function collect(
  pattern: string | undefined,
  env: Readonly<Record<string, string>>,
  onResult: (result: Result) => void,
  signal: AbortSignal,
): Promise<Run> {
  const { startVitest } = await loadVitest();
  const results: Result[] = [];
  const errors: string[] = [];
  let reproducers = 0;
  const listeners = new Set(INTERRUPTS.flatMap((name) => process.listeners(name)));
  let cancel = (): void => undefined;
  const reporter = {
    onInit(vitest: Vitest): void {
      // vitest ends the process on these signals; here the run ends, and its verdicts are kept.
      for (const name of INTERRUPTS) {
        const added = process.listeners(name).filter((listener) => !listeners.has(listener));
        for (const listener of added) process.off(name, listener);
      }
      cancel = (): void => void vitest.cancelCurrentRun("keyboard-input");
      signal.addEventListener("abort", cancel, { once: true });
    },
    onTestRunStart(): void {
      // A run that is cancelled before it starts is not cancelled.
      if (signal.aborted) cancel();
    },
    onTestCaseResult(test: TestCase): void {
      const result = toResult(test);
      if ("reproducer" in test.meta()) reproducers += 1;
      if (result === undefined) return;
      results.push(result);
      onResult(result);
    },
    onTestModuleEnd(module: TestModule): void {
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
      setupFiles: ["test/helpers/setup.ts"],
      pool: "forks",
      fileParallelism: false,
      isolate: needsOwnProcesses(),
      passWithNoTests: true,
      cache: false, // installed, the package may not be writable
      testTimeout: PATIENCE_MS,
      hookTimeout: PATIENCE_MS,
      reporters: [reporter],
      env,
      ...(pattern === undefined ? {} : { testNamePattern: escapePattern(pattern) }),
    },
    // Installed, the suite lies under node_modules, which is otherwise not compiled.
    { server: { watch: null }, ssr: { noExternal: [/test\/(kvm|helpers|expectations)\//] } },
  );
  const ended = run
    .then((vitest) => vitest.close())
    .catch((error: unknown) => {
      // Ctrl-C in a terminal ends the worker too, which vitest reports as an error.
      if (!signal.aborted) throw error;
    });
  await Promise.race([ended, afterAbort(signal)]);
  process.exitCode = 0; // vitest sets it; the exit status is ours to say
  const report = { kernel: kernelRelease(), vendor: vendorModule() ?? "none", results };
  return { report, errors, reproducers };
}

/** How long vitest may take to end after a signal, ms. It waits a minute for a worker that the signal has ended. */
const END_MS = 5000;

/** Resolves some time after the signal, when this process has no children any more. */
async function afterAbort(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, "abort");
  await sleep(END_MS, undefined, { ref: false });
  for (const pid of children()) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended in the meantime.
    }
  }
}

/** The processes that this one has started; none where the kernel does not tell (CONFIG_PROC_CHILDREN). */
function children(): readonly number[] {
  return readdirSync("/proc/self/task").flatMap((thread) => {
    const path = `/proc/self/task/${thread}/children`;
    if (!existsSync(path)) return [];
    return readFileSync(path, "utf8").split(" ").filter(Boolean).map(Number);
  });
}

/** The signals that vitest listens to. */
const INTERRUPTS = ["SIGINT", "SIGTERM"] as const;

async function loadVitest(): Promise<typeof import("vitest/node")> {
  try {
    return await import("vitest/node");
  } catch (cause) {
    const remedy = "the suite runs in it: npm install --save-dev vitest@4";
    throw new CommandError(`vitest cannot be loaded; ${remedy} (${reasonOf(cause)})`, { cause });
  }
}

const VERDICTS = { passed: "pass", failed: "fail", skipped: "skip" } as const;

function toResult(test: TestCase): Result | undefined {
  const result = test.result();
  const note = result.state === "skipped" ? result.note : undefined;
  // Without a note it was not skipped but left out by the pattern.
  if (result.state === "pending" || (result.state === "skipped" && note === undefined)) {
    return undefined;
  }
  const { claim, deviation } = test.meta() as { claim?: number; deviation?: string };
  return {
    ...splitName(test.name),
    number: claim,
    verdict: deviation === undefined ? VERDICTS[result.state] : "deviation",
    reason: deviation ?? note ?? result.errors?.map(({ message }) => message).join("\n"),
    duration: test.diagnostic()?.duration ?? 0,
  };
}

function escapePattern(text: string): RegExp {
  return new RegExp(text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"), "i");
}
