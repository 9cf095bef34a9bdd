/** Exports KVM_RUN and guest memory of a trace as C: the writes before a run, and the checks after it. */
import { constants } from "node:os";
import { EXIT_UNION_OFFSET, exitName, exitRow } from "../../abi/exits.ts";
import { KVM_EXIT_IO, KVM_EXIT_IO_OUT, KVM_EXIT_MMIO } from "../../abi/generated/constants.ts";
import { Run, RunIo, RunMmio } from "../../abi/generated/structs.ts";
import { offsetOf, read } from "../../abi/struct.ts";
import { errnoName } from "../../errors.ts";
import { type Leaf, leafBytes, leafValue, leavesOf } from "../leaf.ts";
import type { MemoryRange, Range, RunStep, WriteStep } from "../record.ts";
import type { CFile } from "./c-file.ts";
import { hasRunField } from "./headers.ts";
import { comment, number, text } from "./literal.ts";

const IMMEDIATE_EXIT = offsetOf(Run, "immediateExit");
const MMIO_DATA = offsetOf(Run, "mmio.data");
/** The offset of the data of I/O exits, which is in the page after `kvm_run`. */
const IO_PAGE = 4096;
const { EINTR } = constants.errno;

/** The minimum number of adjacent words with a constant difference that are written as a loop. */
const ROW = 4;
const WORD = 8;

/** Adds the writes of the recorded program to guest memory. */
export function addWrites(file: CFile, step: WriteStep, at: number): void {
  file.add("", `/* ${at}: the program writes to guest memory */`);
  for (const range of step.ranges) file.add(...writeLines(file, range));
}

function writeLines(file: CFile, range: MemoryRange): readonly string[] {
  return pieces(range.bytes).map(({ offset, bytes, row }) => {
    const place = file.memory(range.memory, range.offset + offset);
    if (row !== undefined) {
      const { count, first, step } = row;
      return `words(${place}, ${count}, ${number(first)}, ${number(step)});`;
    }
    if (bytes.length === WORD) {
      const word = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
      return `words(${place}, 1, ${number(word)}, 0);`;
    }
    const at = (range.offset + offset).toString(16);
    const name = file.tables.bytes(bytes, `memory${range.memory}_${at}`);
    return `memcpy(${place}, ${name}, sizeof(${name}));`;
  });
}

/** Words of 64 bits with a constant difference. */
interface Row {
  readonly count: number;
  readonly first: bigint;
  readonly step: bigint;
}

interface Piece extends Range {
  readonly row: Row | undefined;
}

/** Splits bytes into sequences of words with a constant difference, and the remaining bytes. */
function pieces(bytes: Uint8Array): readonly Piece[] {
  const found: Piece[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let rest = 0;
  for (let at = 0; at < bytes.length; ) {
    const row = rowAt(view, at);
    if (row === undefined) {
      at += WORD;
      continue;
    }
    const plain = bytes.subarray(rest, at);
    if (plain.length > 0) found.push({ offset: rest, bytes: plain, row: undefined });
    found.push({ offset: at, bytes: new Uint8Array(), row });
    at += row.count * WORD;
    rest = at;
  }
  const plain = bytes.subarray(rest);
  if (plain.length > 0) found.push({ offset: rest, bytes: plain, row: undefined });
  return found;
}

function rowAt(view: DataView, at: number): Row | undefined {
  const word = (i: number): bigint | undefined =>
    at + (i + 1) * WORD <= view.byteLength ? view.getBigUint64(at + i * WORD, true) : undefined;
  const [first, second] = [word(0), word(1)];
  if (first === undefined || second === undefined) return undefined;
  const step = BigInt.asUintN(64, second - first);
  // Sequences with larger differences are not used, because they occur by chance, for example in code.
  if (step >> 32n !== 0n) return undefined;
  let count = 2;
  let last = second;
  for (let next = word(count); next !== undefined; next = word(count)) {
    if (next !== BigInt.asUintN(64, last + step)) break;
    last = next;
    count += 1;
  }
  return count >= ROW ? { count, first, step } : undefined;
}

/** Adds a run: the replies before it, its exit, and the guest's writes to memory. */
export function addRun(file: CFile, step: RunStep, at: number): void {
  const vcpu = file.name(step.fd);
  const said = comment(`${at}: KVM_RUN (${step.fd.label}): ${exitText(step)}`);
  file.add("", `/* ${said} */`);
  const name = addReplies(file, step, at);
  const hasExit = !isFailure(step);
  const reason = hasExit ? exitC(file, step.exitReason) : undefined;
  const checks = hasExit ? exitLines(file, step, at, name) : [];
  file.add(...file.dialect.runs({ at, vcpu, run: name, result: step.result, reason }, checks));
  for (const range of step.guest) file.add(memoryCheck(file, range, at));
}

/** Adds a run that a signal interrupted: no program can repeat it, but the next run needs its replies. */
export function addSignalled(file: CFile, step: RunStep, at: number): void {
  file.add("", `/* ${comment(`${at}: a signal interrupted KVM_RUN (${step.fd.label})`)} */`);
  if (step.replies.length > 0) addReplies(file, step, at);
}

/** Adds the writes to kvm_run before a run; returns the C variable of kvm_run. */
function addReplies(file: CFile, step: RunStep, at: number): string {
  const { name, isNew } = file.run(step.fd);
  const vcpu = file.name(step.fd);
  if (isNew) file.add(`${name} = map_run(${at}, ${file.device()}, ${vcpu}, &${name}_size);`);
  for (const reply of step.replies) file.add(...replyLines(file, name, reply));
  return name;
}

/** If KVM_RUN returns an errno, kvm_run contains an old exit, except for an exit that describes the failed access. */
function isFailure(step: RunStep): boolean {
  return step.result < 0 && exitName(step.exitReason) !== "KVM_EXIT_MEMORY_FAULT";
}

function exitText(step: RunStep): string {
  if (isFailure(step)) return errnoName(-step.result);
  return exitName(step.exitReason).replace(/^KVM_EXIT_/, "");
}

/** Returns the constant of an exit, or a number if this package does not know the exit. */
function exitC({ definitions }: CFile, reason: number): string {
  const name = exitRow(reason)?.name;
  return name === undefined ? String(reason) : definitions.exit(reason, name);
}

function replyLines(file: CFile, run: string, reply: Range): readonly string[] {
  const { offset, bytes } = reply;
  if (offset === IMMEDIATE_EXIT && bytes.length === 1) {
    return [`${run}->immediate_exit = ${bytes[0] ?? 0};`];
  }
  const name = file.tables.bytes(bytes, "reply");
  const field = leavesOf(Run).find((leaf) => leaf.offset === offset)?.path;
  const isData = offset >= MMIO_DATA && offset < MMIO_DATA + WORD;
  const what = isData ? "mmio.data" : offset >= IO_PAGE ? "the data of the I/O exit" : field;
  const said = what === undefined ? "" : ` /* ${what} */`;
  return [`memcpy((unsigned char *)${run} + ${number(offset)}, ${name}, sizeof(${name}));${said}`];
}

function exitLines(file: CFile, step: RunStep, at: number, run: string): readonly string[] {
  const known = exitRow(step.exitReason);
  if (known === undefined) return [];
  const view = new DataView(step.exit.buffer, step.exit.byteOffset, step.exit.byteLength);
  const leaf = (path: string): Leaf | undefined =>
    leavesOf(Run).find((candidate) => candidate.path === path);
  const lines = known.fields.flatMap((path) => fieldLines(leaf(path), view, at, run));
  for (const path of known.varying?.fields ?? []) {
    const found = leaf(path);
    if (found === undefined || found.count !== undefined || !hasRunField(path)) continue;
    const value = number(leafValue(found, view, -EXIT_UNION_OFFSET));
    const why = text(known.varying?.why ?? "");
    lines.push(`EXIT_VARIES(${at}, ${run}, ${path}, ${value}, ${why});`);
  }
  return [...lines, ...dataLines(file, step, at, run)];
}

function fieldLines(
  leaf: Leaf | undefined,
  view: DataView,
  at: number,
  run: string,
): readonly string[] {
  if (leaf === undefined) return [];
  return Array.from({ length: leaf.count ?? 1 }, (_, i) => {
    const path = leaf.count === undefined ? leaf.path : `${leaf.path}[${i}]`;
    const value = number(leafValue(leaf, view, -EXIT_UNION_OFFSET, i));
    if (hasRunField(path)) return `EXIT(${at}, ${run}, ${path}, ${value});`;
    const size = leafBytes(leaf) / (leaf.count ?? 1);
    return `EXIT_AT(${at}, ${run}, "${path}", ${leaf.offset + i * size}, ${size}, ${value});`;
  });
}

/** Returns the checks of the data that the guest wrote to a port, or to an address without memory. */
function dataLines(file: CFile, step: RunStep, at: number, run: string): readonly string[] {
  if (step.exitReason === KVM_EXIT_IO && step.io !== undefined) {
    if (read(RunIo, step.exit).direction !== KVM_EXIT_IO_OUT) return [];
    return [checkBytes(file, at, "the data", `${run} + ${run}->io.data_offset`, step.io, run)];
  }
  if (step.exitReason !== KVM_EXIT_MMIO) return [];
  const mmio = read(RunMmio, step.exit);
  if (mmio.isWrite === 0) return [];
  const data = mmio.data.slice(0, mmio.len);
  const name = file.tables.bytes(data, `mmio_${at}`);
  return [`check_bytes(${at}, "mmio.data", ${run}->mmio.data, ${name}, sizeof(${name}));`];
}

function checkBytes(
  file: CFile,
  at: number,
  what: string,
  place: string,
  bytes: Uint8Array,
  run: string,
): string {
  const name = file.tables.bytes(bytes, `io_${at}`);
  const start = place.replace(run, `(unsigned char *)${run}`);
  return `check_bytes(${at}, ${text(what)}, ${start}, ${name}, sizeof(${name}));`;
}

function memoryCheck(file: CFile, range: MemoryRange, at: number): string {
  const name = file.tables.bytes(range.bytes, `guest_${at}_${range.offset.toString(16)}`);
  const place = file.memory(range.memory, range.offset);
  const what = text(`guest memory at 0x${range.offset.toString(16)}`);
  return `check_bytes(${at}, ${what}, ${place}, ${name}, sizeof(${name}));`;
}

/** Whether a signal interrupted a run; no program can repeat such a run. */
export function isSignalled(step: RunStep, isImmediate: boolean): boolean {
  return step.result === -EINTR && !isImmediate;
}

/** Whether immediate_exit is set after these replies; `before` is its value before them. */
export function immediateExit(step: RunStep, before: boolean): boolean {
  let is = before;
  for (const { offset, bytes } of step.replies) {
    const byte = bytes[IMMEDIATE_EXIT - offset];
    if (offset <= IMMEDIATE_EXIT && byte !== undefined) is = byte !== 0;
  }
  return is;
}
