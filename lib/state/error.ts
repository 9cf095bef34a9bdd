/** What goes wrong with a saved state: a document that is none, and a VM that it does not fit. */

/** A document that cannot be read: damaged, of another version, or with wrong values. */
export class StateDocumentError extends Error {
  override readonly name: string = "StateDocumentError";
  /** Everything that is wrong with it, each with its path: `vcpus[0].sregs2.cs.base: expected …`. */
  readonly complaints: readonly string[];

  /** Makes the error for at least one complaint. */
  constructor(complaints: readonly string[]) {
    const [first = "unknown", ...more] = complaints;
    const message = more.length === 0 ? first : complaints.map((one) => `\n  ${one}`).join("");
    super(`saved state: ${message}`);
    this.complaints = complaints;
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
