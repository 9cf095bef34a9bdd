/** The lines that the program in the guest prints, one JSON value each; the command reads them. */
import type { LifecycleVmOptions } from "../oracle/index.ts";
import type { CStyle } from "../trace/index.ts";
import type { PlannedOperation } from "./operation.ts";

/** The work of the program, as JSON on its command line. */
export interface ExploreWork {
  readonly seed: number;
  readonly steps: number;
  /** Rows that are left out of the model although they hold. */
  readonly without: readonly string[];
  /** A list to execute instead of generated ones, as text; parse.ts reads it. */
  readonly replay?: string;
  /** The time in seconds after which a run of the guest is interrupted. */
  readonly runSeconds: number;
  /** The style of the C program of a disagreement; `program` if omitted. */
  readonly reproStyle?: CStyle;
}

/** The start of an exploration. */
export interface BeginMessage {
  readonly kind: "begin";
  readonly kernel: string;
  readonly vendor: string;
  /** The rows of the kernel that hold, by their probes. */
  readonly rows: readonly string[];
  /** The rows that the probes do not decide, each with the reason. */
  readonly undecided: readonly { readonly row: string; readonly reason: string }[];
  /** The rows that hold and were left out of the model. */
  readonly without: readonly string[];
}

/** The start of a sequence. */
export interface SequenceMessage {
  readonly kind: "sequence";
  readonly seed: number;
  readonly steps: number;
}

/** A disagreement. */
export interface DisagreementMessage {
  readonly kind: "disagreement";
  /** The seed of the sequence; undefined for a replayed list. */
  readonly seed?: number;
  /** The number of steps until the disagreement. */
  readonly steps: number;
  /** The number of operations before shrinking. */
  readonly length: number;
  readonly tries: number;
  readonly vm: LifecycleVmOptions;
  /** The shrunk list. */
  readonly operations: readonly PlannedOperation[];
  /** The answer that the model predicts for the last operation, and the answer of KVM. */
  readonly predicted: string;
  readonly observed: string;
  readonly typescript: string;
  readonly c: string;
}

/** The end of an exploration. */
export interface EndMessage {
  readonly kind: "end";
  readonly steps: number;
  readonly sequences: number;
  readonly seconds: number;
  /** The number of steps by call, state and answer. */
  readonly reach: Readonly<Record<string, number>>;
}

/** A reason why the work could not be done. */
export interface TroubleMessage {
  readonly kind: "trouble";
  readonly message: string;
}

/** A line of the program. */
export type ExploreMessage =
  | BeginMessage
  | SequenceMessage
  | DisagreementMessage
  | EndMessage
  | TroubleMessage;
