/**
 * The contents of a file about CPUID, whatever its format: tables, changes to a table, or feature names. Each format is
 * one file beside this one; index.ts lists them and detects the format of a file.
 */
import type { CpuidRegister } from "../entry.ts";
import type { CpuidTable } from "../table.ts";

/** A fault of a file, at its place. */
export interface CpuidFileProblem {
  /** The line, from 1; 0 for a fault of the whole file. In a binary file, 0. */
  readonly line: number;
  /** The column, from 1; in a binary file, the byte's offset plus 1. */
  readonly column: number;
  /** One sentence without a full stop, without the place. */
  readonly message: string;
}

/** A bit pattern of one MSR. */
export interface CpuidFileMsr {
  /** The MSR's number. */
  readonly index: number;
  /** The bits that the file sets or clears. */
  readonly mask: bigint;
  /** Their values; a subset of `mask`. */
  readonly value: bigint;
}

/** One CPU's table in a file. */
export interface CpuidFileTable {
  /** The CPU's number in the file; undefined if the file has none. */
  readonly cpu: number | undefined;
  /** The name of the table if the file has several of different things, as `guest` and `host`; else undefined. */
  readonly label?: string;
  readonly table: CpuidTable;
  /**
   * Whether the file has every sub-leaf up to its terminator. If not, rules about missing sub-leaves do not apply. Most
   * dump formats leave terminators out.
   */
  readonly isComplete: boolean;
  /** The line of each entry, by its position in the table; 0 where the format has no lines. */
  readonly lines: readonly number[];
}

/** A change of one register of one entry: `new = (old & ~mask) | value`. */
export interface CpuidMaskEntry {
  /** The leaf. */
  readonly function: number;
  /** The first and the last sub-leaf to which it applies; undefined for all. */
  readonly indexes: { readonly first: number; readonly last: number } | undefined;
  readonly register: CpuidRegister;
  /** The bits that it sets or clears. */
  readonly mask: number;
  /** Their values; a subset of `mask`. */
  readonly value: number;
  /**
   * The bits that are copied from the host's CPUID, as Xen's `k` and `s` do; undefined if there are none. They are not
   * in `mask`.
   */
  readonly host?: number;
  /** The flags that the entry gets; undefined if they stay. */
  readonly flags: number | undefined;
  /** The line in the file. */
  readonly line: number;
}

/** A KVM capability that a file names. */
export interface CpuidFileCapability {
  /** The number of KVM_CAP_*. */
  readonly number: number;
  /** Whether the program must have it; else the program does not check it, even if it does so by default. */
  readonly isRequired: boolean;
}

/** A change of a table, as a Firecracker template or a Xen configuration has it. */
export interface CpuidMask {
  /** The changes, in the order of the file. */
  readonly mask: readonly CpuidMaskEntry[];
  /**
   * The registers that the mask does not name: "keep" if they stay, "clear" if they become 0, as with a profile of
   * Cloud Hypervisor. With "clear", the first change that names a register is the only one that applies to it.
   */
  readonly unlisted: "keep" | "clear";
  /** KVM capabilities that the file names; only Firecracker's templates do. */
  readonly capabilities: readonly CpuidFileCapability[];
}

/** Feature names with a model, as a QEMU command line or a libvirt domain has them. */
export interface CpuidFeatureList {
  /** The model's name, as the file spells it; undefined if there is none. */
  readonly model: string | undefined;
  /** The vendor, as `GenuineIntel`; undefined if the file has none. */
  readonly vendor: string | undefined;
  /** The features that are on, as the file spells them. */
  readonly on: readonly string[];
  /** The features that are off. */
  readonly off: readonly string[];
  /** Other properties, by name, as the file spells them. */
  readonly properties: Readonly<Record<string, string>>;
}

/** The parts that all contents of a file have. */
export interface CpuidDumpBase {
  /** The name of the format. */
  readonly format: string;
  /** Every fault that was found. Lines with a fault add nothing to the tables. */
  readonly problems: readonly CpuidFileProblem[];
  /** Facts about the file that its reader should know, one sentence each, such as skipped parts. */
  readonly notes: readonly string[];
  /** MSR values that the file has beside CPUID. */
  readonly msrs: readonly CpuidFileMsr[];
}

/** The contents of a file: its kind is whether it has tables, a mask or feature names. */
export type CpuidDump = CpuidDumpBase &
  (
    | { readonly kind: "tables"; readonly tables: readonly CpuidFileTable[] }
    | ({ readonly kind: "mask" } & CpuidMask)
    | { readonly kind: "features"; readonly features: CpuidFeatureList }
  );

/** One format. */
export interface CpuidFormat {
  /** The name in options and messages, as `aida64`. */
  readonly name: string;
  /** The title for people, with the programs that use it. */
  readonly title: string;
  /** The kind of contents. */
  readonly kind: CpuidDump["kind"];
  /**
   * Whether a written file is read as the same: for tables order, flags and every register; for a mask every
   * change; for features every name, policy and property.
   */
  readonly isLossless: boolean;
  /** Whether the beginning of a file has this format, from 0 (no) to 1 (certain). Reads at most the first 64 KiB. */
  readonly likelihood: (head: Uint8Array) => number;
  /** Reads a file. Never throws for its contents: all faults are in `problems`. */
  readonly parse: (bytes: Uint8Array) => CpuidDump;
  /** Writes tables; undefined if the format is only read or has no tables. */
  readonly format: ((tables: readonly CpuidFileTable[]) => Uint8Array) | undefined;
  /**
   * Writes a mask with MSRs; absent if the format has none.
   * @throws RangeError if the format has no way to write a part of it.
   */
  readonly formatMask?: (mask: CpuidMask, msrs?: readonly CpuidFileMsr[]) => Uint8Array;
  /** Writes features; absent if the format has none. @throws RangeError for a name that it cannot contain. */
  readonly formatFeatures?: (features: CpuidFeatureList) => Uint8Array;
}
