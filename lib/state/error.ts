/** What goes wrong with a saved state: a document that is none, and a VM that it does not fit. */

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

/**
 * A saved state does not fit the VM or the vCPU that it was to be restored into, and KVM gave no errno
 * that says so. Parts before the named one are restored; close the vCPU, or restore another state.
 */
export class RestoreError extends Error {
  override readonly name: string = "RestoreError";
  /** The object that was to be restored: `vm`, `vcpu 0`. */
  readonly fd: string;
  /** The part that does not fit: `msrs`. */
  readonly part: string;

  /** Makes the error; `reason` says what does not fit, and what would. */
  constructor(fd: string, part: string, reason: string) {
    super(`restoring ${part} (${fd}): ${reason}`);
    this.fd = fd;
    this.part = part;
  }
}
