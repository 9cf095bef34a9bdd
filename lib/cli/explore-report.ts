/**
 * The result of `node-kvm explore`: the messages of the program in the guest, and the report that they make. explore.ts
 * starts the program.
 */
import type {
  BeginMessage,
  DisagreementMessage,
  EndMessage,
  ExploreMessage,
  ExploreWork,
  SequenceMessage,
} from "../explore/message.ts";
import { formatSequence } from "../explore/operation.ts";
import type { LabResult } from "../lab/machine/machine.ts";
import { printableLines } from "../report/printable.ts";

/** The messages of the program so far. */
export class Received {
  begin: BeginMessage | undefined;
  sequence: SequenceMessage | undefined;
  disagreement: DisagreementMessage | undefined;
  end: EndMessage | undefined;
  trouble: string | undefined;
  #rest: string = "";

  /** Forgets all messages, because the machine boots again. */
  restart(): void {
    this.begin = undefined;
    this.sequence = undefined;
    this.disagreement = undefined;
    this.end = undefined;
    this.trouble = undefined;
    this.#rest = "";
  }

  /** Takes a part of the program's output. */
  take(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#takeLine(line);
  }

  #takeLine(line: string): void {
    const message = parsed(line);
    switch (message?.kind) {
      case "begin":
        this.begin = message;
        break;
      case "sequence":
        this.sequence = message;
        break;
      case "disagreement":
        this.disagreement = message;
        break;
      case "end":
        this.end = message;
        break;
      case "trouble":
        this.trouble = message.message;
        break;
      case undefined:
        break;
      default:
        message satisfies never;
    }
  }
}

/** Parses a line; undefined for a line that is no message. */
function parsed(line: string): ExploreMessage | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? (value as ExploreMessage) : undefined;
  } catch {
    return undefined;
  }
}

/** Describes a machine that did not end in order, with the last known seed and step; undefined if it did. */
export function problemOf(result: LabResult, received: Received): string | undefined {
  const where =
    received.sequence === undefined
      ? "before the first sequence"
      : `in the sequence of seed ${received.sequence.seed}, which began at step ${received.sequence.steps}`;
  switch (result.kind) {
    case "exited": {
      if (result.warnings.length > 0) return `the kernel reports: ${result.warnings.join("; ")}`;
      if (result.status === 0) return undefined;
      const last = result.stderr.toString().trim().split("\n").at(-1) ?? "";
      return `the program ended with status ${result.status} ${where}: ${last}`;
    }
    case "crashed":
      return `the kernel crashed ${where}:\n${result.oops}`;
    case "hung":
      return `${result.why === "timeout" ? "the time limit was reached" : "the machine hung"} ${where}`;
    case "refused":
      return `the machine was ended ${where}: ${result.why}`;
    case "no-kvm":
      return `this kernel has no /dev/kvm on this CPU: ${result.why}`;
    default:
      return result satisfies never;
  }
}

/** The result of an exploration, as --json prints it. */
export interface ExploreReport {
  readonly verdict: "agreement" | "disagreement" | "trouble";
  readonly seed: number;
  readonly kernel: string | undefined;
  readonly vendor: string | undefined;
  readonly rows: readonly string[];
  readonly undecided: BeginMessage["undecided"];
  readonly without: readonly string[];
  readonly steps: number;
  readonly sequences: number;
  readonly seconds: number | undefined;
  readonly reach: Readonly<Record<string, number>>;
  readonly disagreement: Omit<DisagreementMessage, "kind"> | undefined;
  readonly trouble: string | undefined;
}

/** Makes the report; `problem` describes a machine or a program that did not end in order. */
export function toReport(
  work: ExploreWork,
  received: Received,
  problem: string | undefined,
): ExploreReport {
  const { begin, end, disagreement } = received;
  const steps = end?.steps ?? received.sequence?.steps ?? 0;
  const trouble = received.trouble ?? problem ?? missing(received, steps);
  const found = disagreement === undefined ? "agreement" : "disagreement";
  const { kind: _, ...finding } = disagreement ?? { kind: undefined };
  return {
    verdict: disagreement === undefined && trouble !== undefined ? "trouble" : found,
    seed: work.seed,
    kernel: begin?.kernel,
    vendor: begin?.vendor,
    rows: begin?.rows ?? [],
    undecided: begin?.undecided ?? [],
    without: begin?.without ?? [],
    steps,
    sequences: end?.sequences ?? 0,
    seconds: end?.seconds,
    reach: end?.reach ?? {},
    disagreement: disagreement === undefined ? undefined : (finding as DisagreementMessage),
    trouble,
  };
}

/** Reports an exploration that ended without a result. */
function missing({ end, disagreement }: Received, steps: number): string | undefined {
  if (disagreement !== undefined) return undefined;
  if (end === undefined) return "the program ended without a result";
  return steps === 0 ? "no step was executed" : undefined;
}

/** Formats the report as text. */
export function toText(report: ExploreReport, { disagreement }: Received): string {
  const { verdict, seed, kernel, vendor, rows, without, undecided, steps, sequences } = report;
  const lines: string[] = [];
  if (kernel !== undefined) {
    lines.push(
      `kernel: ${kernel} (${vendor})`,
      `rows of the kernel, by behaviour: ${rows.length === 0 ? "none" : rows.join(", ")}`,
      ...(without.length === 0 ? [] : [`left out of the model: ${without.join(", ")}`]),
      ...undecided.map(({ row, reason }) => `row ${row}, undecided: ${reason}`),
    );
  }
  if (disagreement !== undefined) lines.push(...disagreementLines(report, disagreement));
  if (verdict === "agreement") {
    const seconds = report.seconds?.toFixed(0) ?? "?";
    lines.push(
      `agreement: KVM answered ${steps} steps of ${sequences} sequences from seed ${seed} as the model predicts (${seconds} s)`,
    );
  }
  if (report.trouble !== undefined)
    lines.push(`trouble: ${report.trouble} (seed ${seed}, ${steps} steps)`);
  return `${printableLines(lines.join("\n"))}\n`;
}

function disagreementLines(
  { steps, seed }: ExploreReport,
  found: DisagreementMessage,
): readonly string[] {
  const { operations, length, tries, predicted, observed, typescript, vm } = found;
  return [
    `disagreement after ${found.steps} of ${steps} steps, seed ${found.seed ?? seed}: ` +
      `${length} operations, shrunk to ${operations.length} in ${tries} replays`,
    `the model predicts: ${predicted}`,
    `KVM answered:       ${observed}`,
    "",
    "the operations, for --replay:",
    formatSequence({ vm, operations }),
    "as TypeScript:",
    typescript,
  ];
}
