/** Detects, reads and writes files about CPUID. Each format is one file of this folder. */
import {
  describe,
  refuseMisfit,
  refuseMissing,
  refuseUnknown,
  suggestion,
  toBytes,
  toList,
  toU32,
  toU64,
} from "../../options.ts";
import { toChanges } from "../mask.ts";
import { CpuidTable } from "../table.ts";
import { aida64 } from "./aida64.ts";
import { cArray } from "./c-array.ts";
import { cloudHypervisor } from "./cloud-hypervisor.ts";
import { cpuidQueries } from "./cpuid-queries.ts";
import { cpuidR, raw } from "./cpuid-r.ts";
import { cpuinfo } from "./cpuinfo.ts";
import { devCpu } from "./dev-cpu.ts";
import type {
  CpuidDump,
  CpuidFeatureList,
  CpuidFileMsr,
  CpuidFileTable,
  CpuidFormat,
  CpuidMask,
} from "./dump.ts";
import { refuseDump } from "./dump.ts";
import { firecrackerFingerprint, firecrackerTemplate } from "./firecracker.ts";
import { gitLfs } from "./git-lfs.ts";
import { json } from "./json.ts";
import { kcpuid } from "./kcpuid.ts";
import { kvmBinary } from "./kvm-binary.ts";
import { libcpuid } from "./libcpuid.ts";
import { libvirtCpu, libvirtCpudata } from "./libvirt.ts";
import { CPUID_FILE_HEAD, CPUID_FILE_LIMIT } from "./limits.ts";
import { qemuCpu, qemuQmp } from "./qemu.ts";
import { quotedMail } from "./quoted-mail.ts";
import { hasTerminators } from "./terminators.ts";
import { virtualboxLog } from "./virtualbox.ts";
import { xenFeatures, xenMask } from "./xen.ts";

/** The name of a format that is read without removing prefixes of lines. */
type PlainFormatName =
  | "json"
  | "raw"
  | "cpuid-r"
  | "aida64"
  | "kcpuid"
  | "kvm"
  | "libcpuid"
  | "dev-cpu"
  | "c"
  | "firecracker-template"
  | "firecracker-fingerprint"
  | "libvirt-cpudata"
  | "libvirt-cpu"
  | "qemu-cpu"
  | "qemu-qmp"
  | "cpuinfo"
  | "xen-cpuid"
  | "xen-features"
  | "cloud-hypervisor"
  | "cpuid-queries"
  | "virtualbox-log"
  | "git-lfs";

/** The name of a format. */
export type CpuidFormatName = PlainFormatName | "quoted-mail";

/** The formats by name. If a file fits several formats equally well, the first of them is used. */
const FORMATS: Readonly<Record<PlainFormatName, CpuidFormat>> = {
  json,
  raw,
  // kcpuid comes before cpuid-r, because some lines of kcpuid also fit cpuid-r.
  kcpuid,
  "cpuid-r": cpuidR,
  aida64,
  kvm: kvmBinary,
  libcpuid,
  "dev-cpu": devCpu,
  c: cArray,
  "firecracker-template": firecrackerTemplate,
  "firecracker-fingerprint": firecrackerFingerprint,
  "libvirt-cpudata": libvirtCpudata,
  "libvirt-cpu": libvirtCpu,
  "qemu-cpu": qemuCpu,
  "qemu-qmp": qemuQmp,
  cpuinfo,
  "xen-cpuid": xenMask,
  "xen-features": xenFeatures,
  "cloud-hypervisor": cloudHypervisor,
  "cpuid-queries": cpuidQueries,
  "virtualbox-log": virtualboxLog,
  "git-lfs": gitLfs,
};

/** All formats. */
export const CPUID_FORMATS: readonly CpuidFormat[] = Object.freeze([
  ...Object.values(FORMATS),
  quotedMail(Object.values(FORMATS)),
]);

/** The options of {@link readCpuid}. */
export interface ReadCpuidOptions {
  /** The name of the format, one of {@link CPUID_FORMATS}; by default, the format is detected. */
  readonly format?: CpuidFormatName;
}

/** The minimum likelihood at which a format is detected. */
const LEAST_LIKELIHOOD = 0.5;

/** The format's name in the contents of a file whose format is unknown. */
const UNKNOWN = "unknown";

function refuseUnknownFormat(where: string, name: unknown): CpuidFormat {
  if (typeof name !== "string") {
    throw new TypeError(`${where}: format: expected a name, got ${describe(name)}`);
  }
  const found = CPUID_FORMATS.find((format) => format.name === name);
  if (found !== undefined) return found;
  const names = CPUID_FORMATS.map((format) => format.name);
  throw new TypeError(
    `${where}: unknown format ${describe(name)}${suggestion(name, names, names.length)}`,
  );
}

/** Returns the format that fits the first 64 KiB best, with its likelihood. */
function best(
  bytes: Uint8Array,
): { readonly format: CpuidFormat; readonly likelihood: number } | undefined {
  const head = bytes.subarray(0, CPUID_FILE_HEAD);
  let found: { format: CpuidFormat; likelihood: number } | undefined;
  for (const format of CPUID_FORMATS) {
    const likelihood = format.likelihood(head);
    if (likelihood > (found?.likelihood ?? 0)) found = { format, likelihood };
  }
  return found;
}

/** Encodes text, and returns bytes unchanged. @throws TypeError for anything else. */
function toFileBytes(where: string, data: unknown): Uint8Array {
  return typeof data === "string" ? new TextEncoder().encode(data) : toBytes(where, data);
}

/**
 * Detects the format of a file from its first 64 KiB ({@link CPUID_FILE_HEAD}).
 *
 * @returns undefined if no format is likely.
 * @throws TypeError for anything but bytes or a string.
 */
export function detectFormat(data: Uint8Array | string): CpuidFormat | undefined {
  const found = best(toFileBytes("detectFormat()", data));
  return found !== undefined && found.likelihood >= LEAST_LIKELIHOOD ? found.format : undefined;
}

/** Returns contents without tables and with one fault of the whole file. */
function unreadable(message: string): CpuidDump {
  const problems = [{ line: 0, column: 1, message }];
  return { kind: "tables", format: UNKNOWN, tables: [], problems, notes: [], msrs: [] };
}

/**
 * Reads a file about CPUID. Faults of the file are in `problems`, each with its line and column; a line with a fault
 * adds nothing to a table. If the format is unknown, the contents have the format "unknown", no table, and one fault
 * that names the likely format or all formats; the option `format` reads a file whose likely format is uncertain. A
 * file of more than 16 MiB ({@link CPUID_FILE_LIMIT}) is not read.
 *
 * @throws TypeError for anything but bytes or a string, and for an unknown option or format; never for the contents.
 */
export function readCpuid(data: Uint8Array | string, options: ReadCpuidOptions = {}): CpuidDump {
  refuseUnknown("readCpuid()", options, ["format"]);
  const named =
    options.format === undefined ? undefined : refuseUnknownFormat("readCpuid()", options.format);
  const bytes = toFileBytes("readCpuid()", data);
  if (bytes.length > CPUID_FILE_LIMIT) {
    return unreadable(
      `the file has ${bytes.length} bytes, and at most ${CPUID_FILE_LIMIT} (16 MiB) are read`,
    );
  }
  if (named !== undefined) return named.parse(bytes);
  if (bytes.length === 0) return unreadable("the file is empty");
  const likely = best(bytes);
  if (likely === undefined) {
    const names = CPUID_FORMATS.map((format) => format.name).join(", ");
    return unreadable(`the file has none of the formats ${names}`);
  }
  const { format, likelihood } = likely;
  if (likelihood >= LEAST_LIKELIHOOD) return format.parse(bytes);
  return unreadable(`the format is uncertain; it may be ${format.name} (${format.title})`);
}

/** Converts a table of the caller to the form that files have. */
function toFileTable(
  where: string,
  given: unknown,
  position: number,
  count: number,
): CpuidFileTable {
  if (given instanceof CpuidTable) {
    const cpu = count === 1 ? undefined : position;
    return { cpu, table: given, isComplete: hasTerminators(given), lines: [] };
  }
  const table: unknown = typeof given === "object" && given !== null && Reflect.get(given, "table");
  if (table instanceof CpuidTable) return given as CpuidFileTable;
  throw new TypeError(
    `${where}: [${position}]: expected a CpuidTable or an object with one, got ${describe(given)}`,
  );
}

/** Returns the reason why a format cannot contain written tables, with the function that writes the format. */
function noTables({ name, kind, formatMask, formatFeatures }: CpuidFormat): string {
  const write = formatFeatures
    ? "formatCpuidFeatures()"
    : formatMask
      ? "formatCpuidMask()"
      : undefined;
  if (kind === "tables" || write === undefined) return `the format "${name}" is only read`;
  return `the format "${name}" is ${kind === "mask" ? "a mask" : "a list of features"}, not a table; ${write} writes it`;
}

/**
 * Writes tables as a file of a format: one table, or the tables of several CPUs. If there are several tables, a table
 * without a number gets its position as the number.
 *
 * @returns the bytes of the file; the encoding of a text format is UTF-8.
 * @throws TypeError for an unknown format, a read-only format, and anything but tables.
 */
export function formatCpuid(
  tables: CpuidTable | Iterable<CpuidTable | CpuidFileTable>,
  format: CpuidFormatName,
): Uint8Array {
  const where = "formatCpuid()";
  const found = refuseUnknownFormat(where, format);
  const { format: write } = found;
  if (write === undefined) throw new TypeError(`${where}: ${noTables(found)}`);
  const list = tables instanceof CpuidTable ? [tables] : toList<unknown>(where, tables);
  return write(list.map((table, i) => toFileTable(where, table, i, list.length)));
}

/**
 * Writes a mask as a file of a format that has masks: firecracker-template, xen-cpuid or cloud-hypervisor.
 *
 * @param msrs - changes of MSRs, which only a Firecracker template can contain.
 * @throws TypeError for an unknown format, a format without masks, and anything but a mask. RangeError if the format
 *   cannot represent a part of the mask.
 */
export function formatCpuidMask(
  mask: CpuidMask,
  format: CpuidFormatName,
  msrs: readonly CpuidFileMsr[] = [],
): Uint8Array {
  const where = "formatCpuidMask()";
  const { name, formatMask } = refuseUnknownFormat(where, format);
  if (formatMask === undefined) throw new TypeError(`${where}: the format "${name}" has no masks`);
  const checked = { ...mask, mask: toChanges(where, mask) };
  const list = toList(`${where}: msrs`, msrs);
  for (const [i, { index, mask: bits, value }] of list.entries()) {
    const at = `${where}: msrs[${i}]`;
    toU32(`${at}: index`, index);
    if ((toU64(`${at}: value`, value) & ~toU64(`${at}: mask`, bits)) !== 0n) {
      throw new RangeError(`${at}: value has bits outside of mask`);
    }
  }
  if (list.length > 0 && name !== "firecracker-template") {
    throw new RangeError(`${where}: the format "${name}" has no MSRs`);
  }
  return formatMask(checked, list);
}

/**
 * Writes features as a file of a format that has features: qemu-cpu, libvirt-cpu or xen-features. The names are written
 * unchanged, so another program may not know them.
 *
 * @throws TypeError for an unknown format, a format without features, and anything but features. RangeError if the
 *   format cannot contain a name or a property.
 */
export function formatCpuidFeatures(
  features: CpuidFeatureList,
  format: CpuidFormatName,
): Uint8Array {
  const where = "formatCpuidFeatures()";
  const { name, kind, formatFeatures } = refuseUnknownFormat(where, format);
  if (formatFeatures === undefined) {
    const why = kind === "features" ? "is only read" : "has no features that can be written";
    throw new TypeError(`${where}: the format "${name}" ${why}`);
  }
  refuseDump(where, features);
  const optional = ["model", "vendor"];
  refuseMisfit(where, features, ["on", "off", "properties"], optional);
  const { on, off, properties, model, vendor } = features;
  refuseMissing(`${where}: properties`, properties, []);
  const texts = [...toList(`${where}: on`, on), ...toList(`${where}: off`, off)];
  for (const text of [...texts, ...Object.values(properties), model ?? "", vendor ?? ""]) {
    if (typeof text !== "string") {
      throw new TypeError(`${where}: expected a string, got ${describe(text)}`);
    }
  }
  return formatFeatures(features);
}
