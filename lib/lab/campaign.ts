/**
 * The suite on many kernels and CPU models: some machines at a time, each result a column. One
 * machine is machine.ts; putting columns side by side is report/matrix.ts.
 */
import { type Column, isGreenMatrix, toMatrix } from "../report/matrix.ts";
import type { Report } from "../report/result.ts";
import { LabError } from "./error.ts";
import { HELD, WORK_PORT } from "./init.ts";
import { suiteProgram } from "./installation.ts";
import type { Kernel } from "./kernels.ts";
import {
  type EmulatorName,
  type LabOptions,
  type LabResult,
  type Restore,
  runInLab,
} from "./machine.ts";

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
  /** Only claims whose `id: sentence` contains this. */
  readonly pattern?: string;
  /** The user's own Bochs. */
  readonly bochs?: string;
  /** How many machines at a time; 2 when left out. */
  readonly parallel?: number;
  readonly signal?: AbortSignal;
  /** Hears of each step of a lane. */
  readonly onProgress?: (lane: Lane, step: Step) => void;
  /**
   * How a machine of QEMU's starts. `saved`, when left out: restored from one that was saved before any VM was made
   * there; what it finds wrong is judged once more after a boot. `boot`: always booted. `warm`: restored from one that
   * has judged all claims before, which is quicker and not a judgement of record.
   */
  readonly start?: Start;
  /** What runs a machine; the lab's own when left out. */
  readonly run?: (options: LabOptions) => Promise<LabResult>;
}

/** How a campaign's machines start. */
export type Start = "saved" | "boot" | "warm";

/** Where a lane is: a booting machine, claims judged so far, or its end. */
export type Step =
  | { readonly kind: "boots" }
  | { readonly kind: "judged"; readonly claims: number }
  | { readonly kind: "ended"; readonly column: Column };

/** What a column is called. */
export function laneName({ kernel, cpu }: Lane): string {
  return `${kernel.name.replace(/-cloud-amd64$/, "")} ${cpu}`;
}

/** Runs all lanes; the columns come in the order of the lanes. */
export async function runCampaign(options: CampaignOptions): Promise<readonly Column[]> {
  const columns = new Array<Column>(options.lanes.length);
  const queue = options.lanes.entries();
  const worker = async (): Promise<void> => {
    for (const [position, lane] of queue) {
      options.onProgress?.(lane, { kind: "boots" });
      const column = await runLane(lane, options);
      columns[position] = column;
      options.onProgress?.(lane, { kind: "ended", column });
    }
  };
  await Promise.all(Array.from({ length: options.parallel ?? 2 }, worker));
  return columns;
}

/** Runs the suite on one machine. What the lab itself cannot do is a problem of the column. */
async function runLane(lane: Lane, options: CampaignOptions): Promise<Column> {
  const { start = "saved" } = options;
  try {
    const [column, restored] = await judgeLane(lane, options, start);
    if (!restored) return column;
    if (isGreenMatrix(toMatrix([column]))) return start === "warm" ? noticed(column, WARM) : column;
    const [again] = await judgeLane(lane, options, "boot");
    return noticed(again, JUDGED_AGAIN);
  } catch (error) {
    if (!(error instanceof LabError) || error.code === "ERR_LAB_INTERRUPTED") throw error;
    return { name: laneName(lane), report: undefined, problem: error.message, warnings: [] };
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
  start: Start,
): Promise<readonly [Column, boolean]> {
  let claims = 0;
  const { pattern } = options;
  const program = ["node", suiteProgram()];
  const result = await (options.run ?? runInLab)({
    kernel: lane.kernel,
    cpu: lane.cpu,
    ...(lane.emulator === undefined ? {} : { emulator: lane.emulator }),
    ...(options.bochs === undefined ? {} : { bochs: options.bochs }),
    root: "suite",
    command: [...program, ...(pattern === undefined ? [] : [`--pattern=${pattern}`])],
    ...(start === "boot" ? {} : { restore: heldSuite(program, start === "warm", pattern) }),
    ...(isStock(lane) ? { memory: STOCK_MEMORY } : {}),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    onStderr: (bytes) => {
      claims += bytes.toString("latin1").split("\n").length - 1;
      options.onProgress?.(lane, { kind: "judged", claims });
    },
  });
  return [toColumn(laneName(lane), result), result.restored];
}

/**
 * MiB that are enough for the suite on a kernel of the catalogue. A saved machine is compared with its checksum at each
 * use, so a smaller one is there sooner. A kernel of the user's own may have a sanitizer, which takes more.
 */
const STOCK_MEMORY = 512;

function isStock({ kernel, emulator = "qemu" }: Lane): boolean {
  return emulator === "qemu" && !kernel.name.startsWith("own:");
}

/** The suite's program, which has loaded all claims, in a machine that is saved; what it judges comes later. */
function heldSuite(
  program: readonly string[],
  isWarm: boolean,
  pattern: string | undefined,
): Restore {
  const waits = ["--held", `/dev/ttyS${WORK_PORT}`, "--mark", HELD];
  return {
    command: [...program, ...waits, ...(isWarm ? ["--warm", "1"] : [])],
    work: (seed) =>
      Buffer.from(JSON.stringify({ ...(pattern === undefined ? {} : { pattern }), seed })),
  };
}

/** What a machine's end means for its column. */
export function toColumn(name: string, result: LabResult): Column {
  const { warnings } = result;
  const retried = result.attempts > 1 ? "the emulator hung and was started again" : undefined;
  if (result.kind !== "exited") {
    return { name, report: undefined, problem: describeEnd(result), warnings };
  }
  const report = parseReport(result.stdout);
  if (report === undefined) {
    const said = result.stderr.toString().trim().split("\n").slice(-3).join(" ");
    const problem = `the suite did not report (status ${result.status}): ${said}`;
    return { name, report, problem, warnings };
  }
  return { name, report, warnings, ...(retried === undefined ? {} : { notice: retried }) };
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
    default:
      return result satisfies never;
  }
}

function parseReport(stdout: Buffer): Report | undefined {
  try {
    const report: unknown = JSON.parse(stdout.toString());
    return report as Report;
  } catch {
    // What is not a report is said by the caller, with what the command printed.
    return undefined;
  }
}
