/**
 * Reads and writes the bytes of `struct kvm_cpuid2`, as KVM_GET_CPUID2 fills it: a count, and entries of 40 bytes,
 * little endian.
 */
import { Cpuid2, CpuidEntry2 } from "../../abi/generated/structs.ts";
import { read, write } from "../../abi/struct.ts";
import { TableCollector } from "./collect.ts";
import type { CpuidDump, CpuidFileTable, CpuidFormat } from "./dump.ts";
import { MOST_ENTRIES } from "./limits.ts";

const HEADER_SIZE = Cpuid2.size;
const ENTRY_SIZE = CpuidEntry2.size;

/** Reads one struct after another; each struct is the table of one CPU. */
function parse(bytes: Uint8Array): CpuidDump {
  const into = new TableCollector(kvmBinary.name, { contents: "exact", canBeComplete: true });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const hasSeveral = bytes.length >= HEADER_SIZE && sizeAt(view, 0) < bytes.length;
  const isWhole = fillsFile(view);
  let at = 0;
  while (at < bytes.length) {
    const fault = headerFault(view, at);
    if (fault !== undefined) {
      into.problem(0, at + 1, fault);
      break;
    }
    const nent = view.getUint32(at, true);
    into.startCpu(hasSeveral ? into.cpus : undefined, 0);
    at += HEADER_SIZE;
    let i = 0;
    // If the sizes do not add up to the file's size, a count may be wrong, and the bytes after the count may not be
    // entries.
    while (i < nent && at + ENTRY_SIZE <= bytes.length && (isWhole || isPlausible(view, at))) {
      into.add(read(CpuidEntry2, bytes, at), 0);
      at += ENTRY_SIZE;
      i += 1;
    }
    if (i === nent) continue;
    const end = at + ENTRY_SIZE > bytes.length ? "the file ends here" : "no entry is here";
    into.problem(0, at + 1, `${end}, after ${i} of ${nent} entries`);
    break;
  }
  return into.finish();
}

/** Returns the fault of a count and its padding. */
function headerFault(view: DataView, at: number): string | undefined {
  const left = view.byteLength - at;
  if (left < HEADER_SIZE) return `${left} bytes are left, fewer than the ${HEADER_SIZE} of a count`;
  const nent = view.getUint32(at, true);
  if (nent > MOST_ENTRIES) return `nent is ${nent}, and at most ${MOST_ENTRIES} entries are read`;
  const padding = view.getUint32(at + 4, true);
  return padding === 0 ? undefined : `the padding after nent is ${padding}, not 0`;
}

/** The size of the struct at an offset, computed from its count. */
const sizeAt = (view: DataView, at: number): number =>
  HEADER_SIZE + view.getUint32(at, true) * ENTRY_SIZE;

/** Whether consecutive structs end exactly at the end of the file. */
function fillsFile(view: DataView): boolean {
  let at = 0;
  while (at < view.byteLength && headerFault(view, at) === undefined) at += sizeAt(view, at);
  return at === view.byteLength;
}

function format(tables: readonly CpuidFileTable[]): Uint8Array {
  const sizes = tables.map(({ table }) => HEADER_SIZE + table.length * ENTRY_SIZE);
  const bytes = new Uint8Array(sizes.reduce((sum, size) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const { table } of tables) {
    view.setUint32(at, table.length, true);
    at += HEADER_SIZE;
    for (const entry of table) {
      write(CpuidEntry2, entry, bytes, at);
      at += ENTRY_SIZE;
    }
  }
  return bytes;
}

/** The flags of kvm_cpuid_entry2 (KVM_CPUID_FLAG_*): 1, 2 and 4. */
const FLAGS = 7;

/** Whether an entry has only known flags, and its padding is 0. */
function isPlausible(view: DataView, at: number): boolean {
  if (view.getUint32(at + 8, true) > FLAGS) return false;
  return [28, 32, 36].every((offset) => view.getUint32(at + offset, true) === 0);
}

function likelihood(head: Uint8Array): number {
  if (head.length < HEADER_SIZE) return 0;
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const nent = view.getUint32(0, true);
  if (nent > MOST_ENTRIES || view.getUint32(4, true) !== 0) return 0;
  if (nent === 0) return head.length === HEADER_SIZE ? 0.6 : 0.1;
  const whole = Math.min(nent, Math.floor((head.length - HEADER_SIZE) / ENTRY_SIZE));
  for (let i = 0; i < whole; i += 1) {
    if (!isPlausible(view, HEADER_SIZE + i * ENTRY_SIZE)) return 0.1;
  }
  if (whole === 0) return 0.1;
  return sizeAt(view, 0) === head.length ? 1 : 0.9;
}

/**
 * The format of the bytes of `struct kvm_cpuid2`. The file has no lines, so the column of a fault is derived from the
 * offset of its byte. Consecutive structs are the tables of several CPUs.
 */
export const kvmBinary: CpuidFormat = {
  name: "kvm",
  title: "bytes of struct kvm_cpuid2",
  kind: "tables",
  isLossless: true,
  likelihood,
  parse,
  format,
};
