/**
 * The suite on many kernels and CPU models: some machines at a time, each result a column. One
 * machine is machine.ts; putting columns side by side is report/matrix.ts.
 */
import type { Column } from "../report/matrix.ts";
import type { Report } from "../report/result.ts";
import { LabError } from "./error.ts";
import { suiteProgram } from "./installation.ts";
import type { Kernel } from "./kernels.ts";
import { type EmulatorName, type LabOptions, type LabResult, runInLab } from "./machine.ts";

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
  /** What runs a machine; the lab's own when left out. */
  readonly run?: (options: LabOptions) => Promise<LabResult>;
}

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
  let claims = 0;
  const pattern = options.pattern === undefined ? [] : [`--pattern=${options.pattern}`];
  try {
    const result = await (options.run ?? runInLab)({
      kernel: lane.kernel,
      cpu: lane.cpu,
      ...(lane.emulator === undefined ? {} : { emulator: lane.emulator }),
      ...(options.bochs === undefined ? {} : { bochs: options.bochs }),
      root: "suite",
      command: ["node", suiteProgram(), ...pattern],
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      onStderr: (bytes) => {
        claims += bytes.toString("latin1").split("\n").length - 1;
        options.onProgress?.(lane, { kind: "judged", claims });
      },
    });
    return toColumn(laneName(lane), result);
  } catch (error) {
    if (!(error instanceof LabError) || error.code === "ERR_LAB_INTERRUPTED") throw error;
    return { name: laneName(lane), report: undefined, problem: error.message, warnings: [] };
  }
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
