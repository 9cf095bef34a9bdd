/**
 * The contents of a CPUID file of any format: tables, changes to a table, or feature names. Each format is one file of
 * this folder; index.ts lists the formats and detects the format of a file.
 */
import type { CpuidRegister } from "../entry.ts";
import type { CpuidTable } from "../table.ts";

/** A fault of a file, with its place. */
export interface CpuidFileProblem {
  /** The line, from 1; 0 in a binary file, and for a fault of the whole file. */
  readonly line: number;
  /** The column, from 1; in a binary file, the byte's offset plus 1. */
  readonly column: number;
  /** The fault in one sentence, without the place and the full stop. */
  readonly message: string;
}

/** A change of bits of one MSR. */
export interface CpuidFileMsr {
  /** The MSR's number. */
  readonly index: number;
  /** The bits that the file sets or clears. */
  readonly mask: bigint;
  /** The new values of these bits; a subset of `mask`. */
  readonly value: bigint;
}

/** One CPU's table in a file. */
export interface CpuidFileTable {
  /** The CPU's number in the file; undefined if the file has none. */
  readonly cpu: number | undefined;
  /**
   * The name of the table if the file contains tables of several kinds, such as `guest` and `host`; otherwise
   * undefined.
   */
  readonly label?: string;
  readonly table: CpuidTable;
  /**
   * Whether the file has every sub-leaf up to its terminator. If a table may lack sub-leaves, rules about missing
   * sub-leaves do not apply. Most dump formats omit terminators.
   */
  readonly isComplete: boolean;
  /** The line of each entry, by its position in the table; 0 if the format has no lines. */
  readonly lines: readonly number[];
}

/** A change of one register of one entry: `new = (old & ~mask) | value`. */
export interface CpuidMaskEntry {
  /** The leaf. */
  readonly function: number;
  /** The first and the last sub-leaf to which the change applies; undefined for all sub-leaves. */
  readonly indexes: { readonly first: number; readonly last: number } | undefined;
  readonly register: CpuidRegister;
  /** The bits that the change sets or clears. */
  readonly mask: number;
  /** The new values of these bits; a subset of `mask`. */
  readonly value: number;
  /**
   * The bits that are copied from the host's CPUID (`k` and `s` in a Xen configuration); undefined if there are none.
   * `mask` does not include these bits.
   */
  readonly host?: number;
  /** The flags that the entry gets; undefined if its flags stay unchanged. */
  readonly flags: number | undefined;
  /** The line of the change in the file. */
  readonly line: number;
}

/** A KVM capability that a file names. */
export interface CpuidFileCapability {
  /** The number of KVM_CAP_*. */
  readonly number: number;
  /**
   * Whether KVM must have the capability; if false, the program does not check this capability, even if the default is
   * to check it.
   */
  readonly isRequired: boolean;
}

/** The changes of a table that a file lists, such as a Firecracker template or a Xen configuration. */
export interface CpuidMask {
  /** The changes, in the order of the file. */
  readonly mask: readonly CpuidMaskEntry[];
  /**
   * The treatment of registers that the mask does not name: with "keep", they stay unchanged; with "clear", as in a
   * profile of Cloud Hypervisor, they become 0. With "clear", only the first change that names a register applies to
   * this register.
   */
  readonly unlisted: "keep" | "clear";
  /** KVM capabilities that the file names; only Firecracker's templates name any. */
  readonly capabilities: readonly CpuidFileCapability[];
}

/** A model with feature names, as in a QEMU command line or a libvirt domain. */
export interface CpuidFeatureList {
  /** The model's name, as the file spells it; undefined if there is none. */
  readonly model: string | undefined;
  /** The vendor, as `GenuineIntel`; undefined if the file has none. */
  readonly vendor: string | undefined;
  /** The features that are turned on, as the file spells them. */
  readonly on: readonly string[];
  /** The features that are turned off, as the file spells them. */
  readonly off: readonly string[];
  /** Other properties, by name, as the file spells them. */
  readonly properties: Readonly<Record<string, string>>;
}

/** The members that the contents of every file have. */
export interface CpuidDumpBase {
  /** The name of the format. */
  readonly format: string;
  /** Every fault of the file. Lines with a fault add nothing to the tables. */
  readonly problems: readonly CpuidFileProblem[];
  /** Remarks about the file, for example about skipped lines; each remark is one sentence. */
  readonly notes: readonly string[];
  /** The changes of MSRs that the file contains. */
  readonly msrs: readonly CpuidFileMsr[];
}

/** The contents of a file; `kind` is "tables", "mask" or "features". */
export type CpuidDump = CpuidDumpBase &
  (
    | { readonly kind: "tables"; readonly tables: readonly CpuidFileTable[] }
    | ({ readonly kind: "mask" } & CpuidMask)
    | { readonly kind: "features"; readonly features: CpuidFeatureList }
  );

/** One format. */
export interface CpuidFormat {
  /** The name of the format in options and messages, such as `aida64`. */
  readonly name: string;
  /** The title of the format, for users; it names the programs that use the format. */
  readonly title: string;
  /** The kind of contents that files of the format have. */
  readonly kind: CpuidDump["kind"];
  /**
   * Whether reading a written file returns the same contents: order, flags and every register of tables; every change
   * of a mask; every name, policy and property of features.
   */
  readonly isLossless: boolean;
  /**
   * Returns the likelihood that the beginning of a file has this format, from 0 (no) to 1 (certain). Reads at most the
   * first 64 KiB.
   */
  readonly likelihood: (head: Uint8Array) => number;
  /** Reads a file. Reads a file. The function never throws for the contents of a file: all faults are in `problems`. */
  readonly parse: (bytes: Uint8Array) => CpuidDump;
  /** Writes tables; undefined if the format is read-only or has no tables. */
  readonly format: ((tables: readonly CpuidFileTable[]) => Uint8Array) | undefined;
  /**
   * Writes a mask with MSRs; absent if the format has none.
   * @throws RangeError if the format cannot represent a part of the mask.
   */
  readonly formatMask?: (mask: CpuidMask, msrs?: readonly CpuidFileMsr[]) => Uint8Array;
  /** Writes features; absent if the format has none. @throws RangeError for a name that it cannot contain. */
  readonly formatFeatures?: (features: CpuidFeatureList) => Uint8Array;
}

/** Rejects the result of readCpuid() where a list of features is expected. */
export function refuseDump(where: string, features: unknown): void {
  if (typeof features !== "object" || features === null) return;
  if (!Object.hasOwn(features, "problems")) return;
  if (Object.hasOwn(features, "features")) {
    throw new TypeError(`${where}: this is the result of readCpuid(); pass its member features`);
  }
  throw new TypeError(
    `${where}: this is the result of readCpuid() for a file without a list of features; its kind is not "features"`,
  );
}
