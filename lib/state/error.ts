/**
 * The errors of saved states: StateDocumentError for an invalid document, and RestoreError for a state that does not
 * fit a VM.
 */

import { inspectErrorAs } from "../inspect.ts";

/** The number of complaints that an error keeps; further complaints are only counted. */
const KEPT = 100;
/** The maximum number of printed characters of a name from a document. */
const NAME_LENGTH = 60;

/** Collects complaints about the faults of a document: keeps the first 100, and counts all. */
export class Complaints {
  readonly #kept: string[] = [];
  #count = 0;

  /** The first 100 complaints. */
  get kept(): readonly string[] {
    return this.#kept;
  }

  /** The number of all complaints. */
  get count(): number {
    return this.#count;
  }

  /** Adds a complaint. */
  add(complaint: string): undefined {
    this.#count += 1;
    if (this.#kept.length < KEPT) this.#kept.push(complaint);
  }
}

/** Formats a name from a document: a short word is unchanged; any other name is quoted, escaped and shortened. */
export function shownName(name: string): string {
  if (/^[\w.[\]-]{1,60}$/.test(name)) return name;
  const quoted = JSON.stringify(name.slice(0, NAME_LENGTH));
  return name.length > NAME_LENGTH ? `${quoted}…` : quoted;
}

/** Reports a document that cannot be read, because it is damaged, has another version, or contains wrong values. */
export class StateDocumentError extends Error {
  override readonly name: string = "StateDocumentError";
  /**
   * The faults, each with its path: `vcpus[0].sregs2.cs.base: expected …`. The list has at most 100 faults;
   * {@link count} is the number of all faults.
   */
  readonly complaints: readonly string[];
  /** The number of all faults. */
  readonly count: number;

  /** Creates the error for at least one complaint; the error keeps the first 100. */
  constructor(complaints: readonly string[], count: number = complaints.length) {
    const kept = complaints.slice(0, KEPT);
    const [first = "unknown", ...more] = kept;
    const lines = count > kept.length ? [...kept, `and ${count - kept.length} more`] : kept;
    const message = more.length === 0 ? first : lines.map((one) => `\n  ${one}`).join("");
    super(`saved state: ${message}`);
    this.complaints = kept;
    this.count = count;
  }
}

/** A value that reads back differently after it was written. */
export interface StateDifference {
  /** The object: `vm`, `vcpu 0`. */
  readonly object: string;
  /** The part: `msrs`. */
  readonly part: string;
  /** The place, beginning with the part: `msrs[0x48]`, `sregs2.cr8`, `lapic.regs[0x320]`. */
  readonly path: string;
  /** The value that was written. */
  readonly wrote: unknown;
  /** The value that was read back; undefined if the machine has no value at this path. */
  readonly reads: unknown;
  /** Whether KVM rejected the value; if false, KVM accepted the value without storing it. */
  readonly isRefused: boolean;
}

/** An incompatibility between a saved state and a machine, found before anything is written. */
export interface StateFinding {
  /** The object that the state does not fit: `vm`, `vcpu 0`. */
  readonly object: string;
  /** The part that does not fit, such as `mpState`; `vcpus` if the ids or the number of the vCPUs do not fit. */
  readonly part: string;
  /** The place in the state: `vcpus[0].mpState`. */
  readonly path: string;
  /** A description of the incompatibility, with the machine's value. */
  readonly message: string;
  /**
   * Whether restoring cannot succeed; `restoreState` then writes nothing. If false, KVM may accept the value, or the
   * guest may work without it.
   */
  readonly prevents: boolean;
}

/** Formats a difference: `msrs[0x48]: wrote 0x7, reads 0x0`. */
function formatDifference({ path, wrote, reads, isRefused }: StateDifference): string {
  const refused = isRefused ? "KVM refused " : "wrote ";
  return `${path}: ${refused}${shownValue(wrote)}, reads ${shownValue(reads)}`;
}

function shownValue(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value !== "bigint" && typeof value !== "number") return String(value);
  return value < 0 ? String(value) : `0x${value.toString(16)}`;
}

/**
 * Formats the details of a message. A single detail is put after the subject; several details are put below it, one per
 * line. At most 100 details are listed.
 */
function listed(lines: readonly string[]): string {
  const [first = "unknown", ...more] = lines;
  if (more.length === 0) return first;
  const rest = lines.length - KEPT;
  const shown = rest > 0 ? [...lines.slice(0, KEPT), `and ${rest} more`] : lines;
  return shown.map((one) => `\n  ${one}`).join("");
}

/** The members of a {@link RestoreError} besides its message. */
export interface RestoreErrorOptions {
  /** The incompatibilities; if the list is not empty, nothing was written. */
  readonly findings?: readonly StateFinding[];
  /** The values that read back differently. */
  readonly differences?: readonly StateDifference[];
}

/**
 * Reports that a saved state does not fit the VM or the vCPUs, in cases in which KVM returns no errno. If `findings` is
 * not empty, nothing was written. If `differences` is not empty, everything was written, but KVM did not store these
 * values: close the VM, or continue without the values.
 */
export class RestoreError extends Error {
  override readonly name: string = "RestoreError";
  /** The object of the first finding or difference: `vm`, `vcpu 0`. */
  readonly object: string;
  /** The part of the first finding or difference: `msrs`. */
  readonly part: string;
  /** All incompatibilities that were found before writing, including those that do not prevent restoring. */
  readonly findings: readonly StateFinding[];
  /** All values that read back differently. */
  readonly differences: readonly StateDifference[];

  /** Creates the error; `reason` describes the incompatibility. */
  constructor(object: string, part: string, reason: string, details: RestoreErrorOptions = {}) {
    super(`restoring ${part} (${object}): ${reason}`);
    this.object = object;
    this.part = part;
    this.findings = details.findings ?? [];
    this.differences = details.differences ?? [];
  }

  static {
    inspectErrorAs(RestoreError, []);
  }
}

/** Throws a {@link RestoreError} if a finding prevents restoring. */
export function refuseMisfits(findings: readonly StateFinding[]): void {
  const first = findings.find(({ prevents }) => prevents);
  if (first === undefined) return;
  const line = ({ path, message }: StateFinding): string => `${path}: ${message}`;
  const reason = findings.length === 1 ? first.message : listed(findings.map(line));
  throw new RestoreError(first.object, first.part, reason, { findings });
}

/** Throws a {@link RestoreError} if there are differences. */
export function refuseDifferences(differences: readonly StateDifference[]): void {
  const [first] = differences;
  if (first === undefined) return;
  const isOneObject = differences.every(({ object }) => object === first.object);
  const line = (one: StateDifference): string =>
    isOneObject ? formatDifference(one) : `${one.object}: ${formatDifference(one)}`;
  throw new RestoreError(first.object, first.part, listed(differences.map(line)), { differences });
}
