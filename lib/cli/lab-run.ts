/**
 * `node-kvm lab run`: runs the suite on each combination of kernel and CPU model, and on the host, and prints one
 * matrix.
 */
import { type Lane, type LaneStart, laneName, runCampaign } from "../lab/campaign.ts";
import { shortRelease } from "../lab/kernels/catalogue.ts";
import { formatModuleParam, type ModuleParam } from "../lab/kernels/module-params.ts";
import type { EmulatorName } from "../lab/machine/machine.ts";
import { type Column, isGreenMatrix, type Matrix, toMatrix } from "../report/matrix.ts";
import { containsPattern } from "../report/result.ts";
import { toTable } from "../report/table.ts";
import { paint } from "../report/text.ts";
import { STATUS } from "./exit-status.ts";
import { interruptible } from "./interrupt.ts";
import { claimsWith, loadOwnClaims } from "./lab-claims.ts";
import { cpuModels } from "./lab-emulator.ts";
import { findKernel, isPath, refuseFault, refuseUnusedModules } from "./lab-kernel.ts";
import { LabProgress } from "./lab-progress.ts";
import { OutputFile, saveReport } from "./output-file.ts";
import { type OwnClaims, refuseWarm } from "./own-claims.ts";
import {
  checkDocument,
  DOCUMENTS,
  type DocumentName,
  hasEvidence,
  matrixDocument,
} from "./report-document.ts";
import { paintFor, tableWidth } from "./terminal.ts";
import { judgeHost } from "./test.ts";

/** The formats of a matrix. */
export const MATRIX_REPORTERS: readonly ("text" | DocumentName)[] = ["text", ...DOCUMENTS];

/** The options of `lab run`: kernels, CPU models, claims and the report. */
export interface LabRunOptions {
  /** Files and folders of claims, which are judged instead of the suite's claims. */
  readonly paths: readonly string[];
  /** Names of kernels in the catalogue, or paths of the user's own kernels. */
  readonly kernels: readonly string[];
  /** The folder of the modules of the user's own kernel. */
  readonly modules: string | undefined;
  /**
   * The names of CPU models; the prefix `bochs:` or `qemu:` selects the emulator. If omitted, the emulator's default
   * model is used.
   */
  readonly cpus: readonly string[];
  readonly emulator: EmulatorName;
  /** The settings of module parameters, each of which makes machines of its own; one without parameters if empty. */
  readonly params: readonly (readonly ModuleParam[])[];
  /** The path of the user's own Bochs. */
  readonly bochs: string | undefined;
  readonly pattern: string | undefined;
  /** The number of machines that run at a time; see CampaignOptions. */
  readonly parallel: number | undefined;
  /** The way in which QEMU's machines start: booted or restored. */
  readonly start: LaneStart;
  /** Whether the report has a column for this host's KVM. */
  readonly host: boolean;
  readonly reporter: "text" | DocumentName;
  /** Whether a JSON report has the calls of claims that fail or deviate. */
  readonly evidence: boolean;
  /** KCIDB's name of the submitting system; only with the reporter `kcidb`. */
  readonly origin: string | undefined;
  /** The path of the file for the report; standard output if omitted. */
  readonly output: string | undefined;
}

/**
 * Runs the campaign and prints the matrix; returns the exit status, which is 0 if all results are as expected.
 *
 * The report of an interrupted campaign contains the results so far.
 */
export async function labRun(options: LabRunOptions): Promise<number> {
  const { output } = options;
  checkDocument(options.reporter, options);
  refuseUnusedModules(options.kernels, options.modules);
  refuseFault();
  using own = await loadOwnClaims(options.paths);
  refuseWarm(own, options.start);
  const file = output === undefined ? undefined : OutputFile.open("--output", output);
  const progress = new LabProgress();
  try {
    return await interruptible((signal) => runAndReport(options, own, file, progress, signal));
  } finally {
    progress.end();
    file?.discard();
  }
}

async function runAndReport(
  options: LabRunOptions,
  own: OwnClaims | undefined,
  file: OutputFile | undefined,
  progress: LabProgress,
  signal: AbortSignal,
): Promise<number> {
  const started = new Date();
  // The host and the machines are judged at the same time.
  // If a pattern selects no claim, this error is reported first and ends the search for kernels.
  const refusal = new AbortController();
  const finding = findLanes(options, progress, AbortSignal.any([signal, refusal.signal]));
  finding.catch(() => undefined); // the error is reported below, unless the pattern is wrong
  const claims = await claimsWith(options.pattern, own, signal).catch(async (error: unknown) => {
    refusal.abort();
    await finding.catch(() => undefined);
    throw error;
  });
  const lanes = await finding;
  const host = options.host ? 1 : 0;
  const chosen = claims.filter((name) => containsPattern(name, options.pattern));
  progress.begin({ machines: lanes.length + host, claims: chosen.length });
  const ran = await runCampaign({
    lanes: lanes.map(({ lane }) => lane),
    claims,
    ...(own === undefined ? {} : { program: own.program }),
    evidence: hasEvidence(options),
    ...(options.parallel === undefined ? {} : { parallel: options.parallel }),
    start: options.start,
    signal,
    onProgress: (lane, step) => progress.step(lane, step),
    ...(options.bochs === undefined ? {} : { bochs: options.bochs }),
    ...(options.pattern === undefined ? {} : { pattern: options.pattern }),
  });
  const columns: Column[] = ran.map((column, i) => ({
    ...column,
    command: commandFor(lanes[i], options),
  }));
  if (options.host) {
    progress.started("host", "judges");
    const column = await judgeHost(options, own, signal);
    progress.ended("host", column);
    columns.push({ ...column, command: ["node-kvm", "test", ...options.paths] });
  }
  progress.end();
  const matrix = toMatrix(columns);
  const isSaved = saveReport(print(matrix, options, started), file);
  if (signal.aborted) return STATUS.interrupted;
  if (!isSaved) return STATUS.trouble;
  if (isGreenMatrix(matrix)) return STATUS.ok;
  // If a column of the matrix has no report, the kernel of this column was not judged.
  return columns.some(({ report }) => report !== undefined) ? STATUS.finding : STATUS.trouble;
}

/** A machine, and the argument of `--kernel` that selects its kernel. */
interface NamedLane {
  readonly lane: Lane;
  readonly word: string;
}

/**
 * Finds the kernels, and combines each kernel with each CPU model and each setting of parameters. A machine that is
 * named twice is run once.
 */
async function findLanes(
  options: LabRunOptions,
  progress: LabProgress,
  signal: AbortSignal,
): Promise<readonly NamedLane[]> {
  const models = cpuModels(options.cpus, options.emulator);
  const settings = options.params.length === 0 ? [[]] : options.params;
  const lanes = new Map<string, NamedLane>();
  for (const name of options.kernels) {
    progress.prepare(`finding kernel ${name}`);
    const kernel = await findKernel(name, options.modules, signal, progress);
    // The path of a kernel stays valid, but a name in the catalogue may refer to a newer kernel later.
    const word = isPath(name) ? name : shortRelease(kernel.release);
    for (const model of models) {
      for (const params of settings) {
        const key = JSON.stringify([kernel.name, kernel.vmlinuz, model, params]);
        const lane = { kernel, ...model, ...(params.length === 0 ? {} : { params }) };
        if (lanes.has(key)) {
          progress.event(`${name}: ${laneName(lane)} is named twice, and is run once`);
        } else lanes.set(key, { word, lane });
      }
    }
  }
  return Array.from(lanes.values());
}

/** Returns the command that judges one machine again. */
function commandFor(named: NamedLane | undefined, options: LabRunOptions): readonly string[] {
  if (named === undefined) return [];
  const { word, lane } = named;
  const { modules, bochs } = options;
  const cpu = lane.emulator === "bochs" ? `bochs:${lane.cpu}` : lane.cpu;
  return [
    ...["node-kvm", "lab", "run", ...options.paths, "--kernel", word],
    ...(modules !== undefined && isPath(word) ? ["--modules", modules] : []),
    ...["--cpu", cpu],
    ...paramWords(lane.params),
    ...(bochs !== undefined && lane.emulator === "bochs" ? ["--bochs", bochs] : []),
    ...(options.start === "boot" ? ["--start", "boot"] : []),
  ];
}

/** Returns the option that selects a setting of module parameters. */
function paramWords(params: readonly ModuleParam[] = []): readonly string[] {
  return params.length === 0 ? [] : ["--params", params.map(formatModuleParam).join(",")];
}

function print(matrix: Matrix, { reporter, output, origin }: LabRunOptions, started: Date): string {
  if (reporter !== "text") return matrixDocument(matrix, reporter, { origin, started });
  // A report in a file has no colours, regardless of the environment.
  return output === undefined
    ? `${toTable(matrix, paintFor(process.stdout), tableWidth(process.stdout))}\n`
    : `${toTable(matrix, paint(false))}\n`;
}
