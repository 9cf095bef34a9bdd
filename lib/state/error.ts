/** What goes wrong with a saved state: a document that is none, and a VM that it does not fit. */

import { inspectErrorAs } from "../inspect.ts";

/** How many complaints an error keeps; the others are only counted. */
const KEPT = 100;
/** How many characters of a name from a document are shown. */
const NAME_LENGTH = 60;

/** Collects what is wrong with a document: the first complaints, and the number of all. */
export class Complaints {
  readonly #kept: string[] = [];
  #count = 0;

  /** The first 100 complaints. */
  get kept(): readonly string[] {
    return this.#kept;
  }

  /** How many complaints were added. */
  get count(): number {
    return this.#count;
  }

  /** Adds a complaint. */
  add(complaint: string): undefined {
    this.#count += 1;
    if (this.#kept.length < KEPT) this.#kept.push(complaint);
  }
}

/** Shows a name that a document has: as it is if it is a short word, else quoted, escaped and cut short. */
export function shownName(name: string): string {
  if (/^[\w.[\]-]{1,60}$/.test(name)) return name;
  const quoted = JSON.stringify(name.slice(0, NAME_LENGTH));
  return name.length > NAME_LENGTH ? `${quoted}…` : quoted;
}

/** A document that cannot be read: damaged, of another version, or with wrong values. */
export class StateDocumentError extends Error {
  override readonly name: string = "StateDocumentError";
  /**
   * What is wrong with it, each with its path: `vcpus[0].sregs2.cs.base: expected …`. At most 100 complaints;
   * {@link count} is the number of all.
   */
  readonly complaints: readonly string[];
  /** How many complaints there are. */
  readonly count: number;

  /** Makes the error for at least one complaint; of more than 100 it keeps the first 100. */
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

/** One value that a machine does not have after it was written. */
export interface StateDifference {
  /** The object: `vm`, `vcpu 0`. */
  readonly fd: string;
  /** The part: `msrs`. */
  readonly part: string;
  /** The place, beginning with the part: `msrs[0x48]`, `sregs2.cr8`, `lapic.regs[0x320]`. */
  readonly path: string;
  /** The value that was written. */
  readonly wrote: unknown;
  /** The value that the machine reads; undefined where it has no such thing. */
  readonly reads: unknown;
  /** Whether KVM refused to write it; else KVM took the value and lost it. */
  readonly isRefused: boolean;
}

/** One thing in which a saved state does not fit a machine, found before anything is written. */
export interface StateFinding {
  /** The object that it does not fit: `vm`, `vcpu 0`. */
  readonly fd: string;
  /** The part that does not fit: `mpState`; `vcpus` for their ids and number. */
  readonly part: string;
  /** The place in the state: `vcpus[0].mpState`. */
  readonly path: string;
  /** What does not fit, and what the machine has. */
  readonly message: string;
  /**
   * Whether restoring cannot succeed, so that `restoreState` writes nothing. Otherwise KVM may take the value, or
   * the guest may do without it.
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

/** Joins lines of a message: one stands behind its subject, several below it, at most 100. */
function listed(lines: readonly string[]): string {
  const [first = "unknown", ...more] = lines;
  if (more.length === 0) return first;
  const rest = lines.length - KEPT;
  const shown = rest > 0 ? [...lines.slice(0, KEPT), `and ${rest} more`] : lines;
  return shown.map((one) => `\n  ${one}`).join("");
}

/** What a {@link RestoreError} knows beside its message. */
export interface RestoreErrorDetails {
  /** What does not fit; nothing was written then. */
  readonly findings?: readonly StateFinding[];
  /** What reads other than it was written. */
  readonly differences?: readonly StateDifference[];
}

/**
 * A saved state does not fit the VM or the vCPUs that it is restored into, and KVM gives no errno that says so.
 * With `findings` nothing was written. With `differences` everything was written, and these values were lost:
 * close the VM, or go on without them.
 */
export class RestoreError extends Error {
  override readonly name: string = "RestoreError";
  /** The object that the first finding or difference is about: `vm`, `vcpu 0`. */
  readonly fd: string;
  /** The part that the first finding or difference is about: `msrs`. */
  readonly part: string;
  /** Everything that does not fit, found before anything was written; also what does not prevent restoring. */
  readonly findings: readonly StateFinding[];
  /** Every value that reads other than it was written. */
  readonly differences: readonly StateDifference[];

  /** Makes the error; `reason` says what does not fit. */
  constructor(fd: string, part: string, reason: string, details: RestoreErrorDetails = {}) {
    super(`restoring ${part} (${fd}): ${reason}`);
    this.fd = fd;
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
  throw new RestoreError(first.fd, first.part, reason, { findings });
}

/** Throws a {@link RestoreError} if there are differences. */
export function refuseDifferences(differences: readonly StateDifference[]): void {
  const [first] = differences;
  if (first === undefined) return;
  const isOneObject = differences.every(({ fd }) => fd === first.fd);
  const line = (one: StateDifference): string =>
    isOneObject ? formatDifference(one) : `${one.fd}: ${formatDifference(one)}`;
  throw new RestoreError(first.fd, first.part, listed(differences.map(line)), { differences });
}
