/** The errors of the lab: each has a code, and a message with the cause and the remedy. */

/** The codes of {@link LabError}, with their meanings. */
export const LAB_ERRORS = {
  ERR_LAB_NETWORK: "the package archive cannot be reached",
  ERR_LAB_ARCHIVE: "the package archive cannot be used",
  ERR_LAB_TOOL: "a program of the system is missing or failed",
  ERR_LAB_UNKNOWN_KERNEL: "no kernel has this name",
  ERR_LAB_GONE: "the archive no longer has all packages of this kernel",
  ERR_LAB_DAMAGED: "the checksum of a file does not match",
  ERR_LAB_CACHE: "the cache folder cannot be used",
  ERR_LAB_DISK_FULL: "the disk is full",
  ERR_LAB_INTERRUPTED: "the work was interrupted",
  ERR_LAB_NOT_A_KERNEL: "this is not a kernel that the lab can boot",
  ERR_LAB_MODULE: "a kernel module is missing or cannot be read",
  ERR_LAB_FILE: "a file for the guest cannot be read",
  ERR_LAB_GUEST: "the guest violated the protocol of its ports",
} as const;

/** A code of {@link LabError}. */
export type LabErrorCode = keyof typeof LAB_ERRORS;

/**
 * Reports that the lab cannot work, for example because a file is damaged, a program is missing or the disk is full.
 * The message contains the cause and the remedy.
 */
export class LabError extends Error {
  override readonly name: string = "LabError";
  /** The kind of the error; see {@link LAB_ERRORS}. */
  readonly code: LabErrorCode;

  /** Creates the error; `sentence` is the message, which includes the remedy. */
  constructor(code: LabErrorCode, sentence: string, cause?: unknown) {
    super(sentence, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}
