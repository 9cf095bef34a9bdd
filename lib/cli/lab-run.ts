/** `node-kvm lab run`: the suite on kernels x CPU models, and on the host, as one matrix. */
import {
  type Lane,
  type LaneStart,
  type LaneStep,
  laneName,
  runCampaign,
} from "../lab/campaign.ts";
import type { Kernel } from "../lab/kernels/kernels.ts";
import type { EmulatorName } from "../lab/machine/machine.ts";
import { toHtml } from "../report/html.ts";
import { matrixToJunit } from "../report/junit.ts";
import { matrixToKtap } from "../report/ktap.ts";
import { type Column, isGreenMatrix, type Matrix, toMatrix } from "../report/matrix.ts";
import { printable, printableJson } from "../report/printable.ts";
import { toTable } from "../report/table.ts";
import { counted, paint } from "../report/text.ts";
import { STATUS } from "./exit-status.ts";
import { claimsWith } from "./lab-claims.ts";
import { cpuModels } from "./lab-emulator.ts";
import { findKernel, interruptible, refuseUnusedModules } from "./lab-kernel.ts";
import { OutputFile, saveReport } from "./output-file.ts";
import { judgeHost } from "./test.ts";

/** How a matrix can be reported. */
export const MATRIX_REPORTERS = ["text", "json", "ktap", "junit", "html"] as const;

/** What to run where, and how to tell. */
export interface LabRunOptions {
  /** Names of the catalogue, or paths of the user's own kernels. */
  readonly kernels: readonly string[];
  /** The module folder of the user's own kernel. */
  readonly modules: string | undefined;
  /** CPU models; `bochs:` or `qemu:` before one says whose it is. Without any, the emulator's own. */
  readonly cpus: readonly string[];
  readonly emulator: EmulatorName;
  /** The user's own Bochs. */
  readonly bochs: string | undefined;
  readonly pattern: string | undefined;
  readonly parallel: number;
  /** How QEMU's machines start. */
  readonly start: LaneStart;
  /** Whether this host's own KVM is a column too. */
  readonly host: boolean;
  readonly reporter: (typeof MATRIX_REPORTERS)[number];
  /** Where the report goes; standard output when left out. */
  readonly output: string | undefined;
}

/**
 * Runs the campaign and prints the matrix; returns the exit status: 0 when nothing unexpected was.
 *
 * The report of an interrupted campaign has what was known by then.
 */
export async function labRun(options: LabRunOptions): Promise<number> {
  const { output, pattern } = options;
  refuseUnusedModules(options.kernels, options.modules);
  const claims = claimsWith(pattern);
  const file = output === undefined ? undefined : OutputFile.open("--output", output);
  try {
    return await runAndReport(options, claims, file);
  } finally {
    file?.discard();
  }
}

function runAndReport(
  options: LabRunOptions,
  claims: readonly string[],
  file: OutputFile | undefined,
): Promise<number> {
  return interruptible(async (signal) => {
    const kernels: Kernel[] = [];
    for (const name of options.kernels) {
      kernels.push(await findKernel(name, options.modules, signal));
    }
    const lanes = kernels.flatMap((kernel) =>
      cpuModels(options.cpus, options.emulator).map((model) => ({ kernel, ...model })),
    );
    const progress = new Progress(lanes);
    const columns: Column[] = [
      ...(await runCampaign({
        lanes,
        claims,
        parallel: options.parallel,
        start: options.start,
        signal,
        onProgress: (lane, step) => progress.tell(lane, step),
        ...(options.bochs === undefined ? {} : { bochs: options.bochs }),
        ...(options.pattern === undefined ? {} : { pattern: options.pattern }),
      })),
    ];
    if (options.host) columns.push(await judgeHost(options.pattern, signal));
    progress.end();
    const matrix = toMatrix(columns);
    const isSaved = saveReport(print(matrix, options), file);
    if (signal.aborted) return STATUS.interrupted;
    if (!isSaved) return STATUS.trouble;
    if (isGreenMatrix(matrix)) return STATUS.ok;
    // Without a report nothing was found of any kernel.
    return columns.some(({ report }) => report !== undefined) ? STATUS.finding : STATUS.trouble;
  });
}

function print(matrix: Matrix, { reporter, output }: LabRunOptions): string {
  switch (reporter) {
    case "text": {
      const colours = output === undefined && process.stdout.isTTY;
      return `${toTable(matrix, paint(colours && process.env["NO_COLOR"] === undefined))}\n`;
    }
    case "json":
      return `${printableJson(matrix)}\n`;
    case "ktap":
      return matrixToKtap(matrix);
    case "junit":
      return matrixToJunit(matrix);
    case "html":
      return toHtml(matrix, new Date().toISOString().slice(0, 10));
    default:
      return reporter satisfies never;
  }
}

/** A live line a machine on a terminal; elsewhere a line when a machine ends. */
class Progress {
  readonly #states = new Map<string, string>();
  readonly #isLive = process.stderr.isTTY;
  #drawn = 0;

  constructor(lanes: readonly Lane[]) {
    for (const lane of lanes) this.#states.set(printable(laneName(lane)), "waits");
  }

  tell(lane: Lane, step: LaneStep): void {
    const name = printable(laneName(lane));
    const state = printable(describeStep(step));
    this.#states.set(name, state);
    if (this.#isLive) this.#draw();
    else if (step.kind === "ended") process.stderr.write(`${name}: ${state}\n`);
  }

  end(): void {
    this.#drawn = 0;
  }

  #draw(): void {
    const up = this.#drawn > 0 ? `\u001b[${this.#drawn}A` : "";
    const lines = Array.from(this.#states, ([name, state]) => `\u001b[2K  ${name}: ${state}\n`);
    process.stderr.write(up + lines.join(""));
    this.#drawn = lines.length;
  }
}

function describeStep(step: LaneStep): string {
  if (step.kind === "boots") return "boots";
  if (step.kind === "judged") return `${counted(step.claims, "claim")} judged`;
  const { column } = step;
  const failed = column.report?.results.filter(({ verdict }) => verdict === "fail").length ?? 0;
  return (
    column.problem ??
    `done: ${counted(column.report?.results.length ?? 0, "claim")}, ${failed} fail`
  );
}
