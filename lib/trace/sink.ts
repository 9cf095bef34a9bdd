/**
 * Receives every call of kvm/. Without a listener, a call only adds one entry to a ring; a recording (recorder.ts) and
 * the subscribers of the channel receive complete steps.
 */
import { channel } from "node:diagnostics_channel";
import { copyOf } from "../abi/bytes.ts";
import { EXIT_REASON_OFFSET, EXIT_UNION_BYTES, EXIT_UNION_OFFSET } from "../abi/exits.ts";
import { KVM_EXIT_IO } from "../abi/generated/constants.ts";
import { RunIo } from "../abi/generated/structs.ts";
import type { Ioctl } from "../abi/ioctl.ts";
import { read } from "../abi/struct.ts";
import type { IoctlStep, LinkRecord, MemoryRange, ObjectRef, Range, Step } from "./record.ts";
import { Ring } from "./ring.ts";
import { Traced } from "./traced.ts";

/** The name of the `diagnostics_channel` on which each {@link Step} is published. */
export const TRACE_CHANNEL = "node-kvm:ioctl";

const stream = channel(TRACE_CHANNEL);

/** The access to guest memory that a recording needs. */
export interface TracedMemory {
  readonly byteLength: number;
  readonly bytes: Uint8Array;
  read(offset: number, length: number): Uint8Array;
}

/** The values of a struct's addresses and descriptors, in the order of the fields. */
export type TraceLink =
  | { readonly field: string; readonly bytes: Uint8Array }
  | { readonly field: string; readonly memory: TracedMemory; readonly offset: number }
  | { readonly field: string; readonly fd: Traced }
  | { readonly field: string };

/** A recorder, which receives complete steps and compares memory. A thread has at most one recorder. */
export interface Recorder {
  /** A function that is called before each call of KVM, to find changes of memory by the program. */
  recordChanges(on: Traced): void;
  replies(vcpu: Traced, run: Uint8Array): readonly Range[];
  guest(vcpu: Traced, run: Uint8Array): readonly MemoryRange[];
  /**
   * Reports mapped memory: `memory` is the id of the memory. `fd` is the mapped file, if this file has not been
   * reported before.
   */
  memory(memory: TracedMemory, fd?: ObjectRef): number;
  unmapped(memory: TracedMemory): void;
  take(step: Step): void;
}

let recorder: Recorder | undefined;
let seq = 0;
const known = new WeakMap<object, Traced>();

/** Sets or removes the recorder. */
export function setRecorder(wanted: Recorder | undefined): void {
  recorder = wanted;
}

/** Whether this thread has a recorder. */
export function isRecording(): boolean {
  return recorder !== undefined;
}

/** Whether a recorder or a subscriber needs complete steps. */
export function hasListener(): boolean {
  return recorder !== undefined || stream.hasSubscribers;
}

/** The number of the next step. */
export function nextSeq(): number {
  seq += 1;
  return seq;
}

/** Returns the trace object of a native descriptor, after setting the label of this object. */
export function traced(fd: object, label: string): Traced {
  const found = known.get(fd) ?? new Traced("other", label);
  found.label = label;
  known.set(fd, found);
  return found;
}

/** Whether subscribers are being called at the moment. */
let isPublishing: boolean = false;

function publish(step: Step): void {
  recorder?.take(step);
  tell(step);
}

/**
 * Calls the subscribers. Calls that a subscriber itself makes are not published, because they would recurse endlessly.
 */
function tell(step: Step): void {
  if (isPublishing || !stream.hasSubscribers) return;
  isPublishing = true;
  try {
    stream.publish(step);
  } finally {
    isPublishing = false;
  }
}

/** Reports that the device was opened; `answer` is the descriptor, or `-errno`. */
export function traceOpen(path: string, answer: object | number): void {
  const made = typeof answer === "number" ? undefined : new Traced("sys", path);
  if (made !== undefined && typeof answer === "object") known.set(answer, made);
  const result = typeof answer === "number" ? answer : 0;
  const step: Step = { kind: "open", seq: nextSeq(), path, result, made };
  made?.ring.push(step);
  publish(step);
}

/** Reports that the process requested permission to use an XSAVE component; `result` is 0 or `-errno`. */
export function tracePermission(component: number, result: number): void {
  publish({ kind: "permission", seq: nextSeq(), component, result });
}

/**
 * Reports that memory for a guest was mapped; `file` is the native guest_memfd that the memory maps; memory without a
 * file has no `file`.
 */
export function traceMap(memory: TracedMemory, file?: object): void {
  recorder?.memory(memory, file && known.get(file));
}

/** Files that are passed to KVM belong to no VM, so their steps go only to listeners and to no ring. */
const unkept = new Ring(1);

/** Registers an opened file; `answer` is the native file, or `-errno`. */
function opened(kind: "eventfd" | "file", label: string, answer: object | number) {
  if (typeof answer === "number") return { result: answer, made: undefined };
  const made = new Traced(kind, label, unkept);
  known.set(answer, made);
  return { result: 0, made };
}

/** Reports that an eventfd was created. */
export function traceEventFd(initval: number, answer: object | number): void {
  const { result, made } = opened("eventfd", "eventfd", answer);
  publish({ kind: "eventfd", seq: nextSeq(), initval, result, made });
}

/** Reports that a file for KVM was opened. */
export function traceFile(path: string, answer: object | number): void {
  const { result, made } = opened("file", path, answer);
  publish({ kind: "file", seq: nextSeq(), path, result, made });
}

/** Reports that an eventfd's counter was read or increased. */
export function traceCounter(
  file: Traced,
  call: "read" | "write",
  value: bigint,
  result: number,
): void {
  if (!hasListener()) return;
  publish({ kind: "counter", seq: nextSeq(), fd: file, call, value, result });
}

/** Reports that pages of a guest_memfd were allocated or freed. */
export function traceFallocate(
  file: Traced,
  call: { readonly mode: number; readonly offset: bigint; readonly length: bigint },
  result: number,
): void {
  const step: Step = { kind: "fallocate", seq: nextSeq(), fd: file, ...call, result };
  file.ring.push(step);
  publish(step);
}

/** Reports that memory is about to be closed by this program; a guest may still use it. */
export function traceUnmap(memory: TracedMemory): void {
  recorder?.unmapped(memory);
}

/** Reports that a descriptor is closed. */
export function traceClose(fd: Traced): void {
  const step: Step = { kind: "close", seq: nextSeq(), fd };
  fd.ring.push(step);
  publish(step);
}

/** A call that has not returned yet. */
export type Call = LightCall | WholeCall;

/** A call that is only stored in a ring, with its position in the ring. */
interface LightCall {
  isWhole: false;
  fd: Traced;
  ioctl: Ioctl;
  argument: number | bigint | Uint8Array | undefined;
  place: number;
}

/** A call that is reported to a listener. */
interface WholeCall {
  readonly isWhole: true;
  readonly fd: Traced;
  readonly ioctl: Ioctl;
  readonly argument: number | bigint | Uint8Array | undefined;
  readonly before: bigint | Uint8Array | undefined;
  readonly links: readonly TraceLink[];
  /** The bytes of the call's links before the call. */
  readonly linked: readonly (Uint8Array | undefined)[];
}

const NONE: readonly never[] = [];

/** One object is reused for all calls that a ring stores, because the calls of one thread do not overlap. */
let light: LightCall | undefined;

/** Reports that an ioctl is about to be issued; {@link traceAnswer} must be called before the next ioctl. */
export function traceCall(
  fd: Traced,
  ioctl: Ioctl,
  argument: number | bigint | Uint8Array | undefined,
  links: readonly TraceLink[] = NONE,
): Call {
  if (!hasListener()) {
    const place = fd.ring.begin(fd, ioctl, argument);
    if (light === undefined) {
      light = { isWhole: false, fd, ioctl, argument, place };
      return light;
    }
    light.fd = fd;
    light.ioctl = ioctl;
    light.argument = argument;
    light.place = place;
    return light;
  }
  recorder?.recordChanges(fd);
  const isInteger = typeof argument === "number" || typeof argument === "bigint";
  const before = isInteger ? BigInt(argument) : argument && copyOf(argument);
  const linked = links.map((link) => ("bytes" in link ? copyOf(link.bytes) : undefined));
  return { isWhole: true, fd, ioctl, argument, before, links, linked };
}

/** Reports the kernel's result of an ioctl: a number, or a new native descriptor. */
export function traceAnswer(call: Call, answer: number | object): void {
  const { fd, ioctl, argument } = call;
  let made: Traced | undefined;
  if (typeof answer === "object") {
    made = fd.child(ioctl);
    known.set(answer, made);
  }
  const result = typeof answer === "number" ? answer : 0;
  if (!call.isWhole) {
    fd.ring.end(call.place, nextSeq(), result, argument, made?.ref);
    // The ring of a VM begins with the call that created the VM.
    const step = made?.kind === "vm" ? fd.ring.stepAt(call.place) : undefined;
    if (step !== undefined) made?.ring.push(step);
    return;
  }
  const step = answered(call, result, made?.ref);
  fd.ring.push(step);
  if (made?.kind === "vm") made.ring.push(step);
  publish(step);
}

function answered(call: WholeCall, result: number, made: ObjectRef | undefined): IoctlStep {
  const { fd, ioctl, argument, before, links } = call;
  const isBytes = typeof argument === "object" && typeof before === "object";
  return {
    kind: "ioctl",
    seq: nextSeq(),
    fd,
    request: ioctl.request,
    name: ioctl.name,
    before,
    byteLength: isBytes ? argument.length : 0,
    links: links.map((link, i) => record(link, call.linked[i])),
    result,
    after: isBytes && Buffer.compare(before, argument) !== 0 ? copyOf(argument) : undefined,
    made,
  };
}

function record(link: TraceLink, before: Uint8Array | undefined): LinkRecord {
  const { field } = link;
  if ("bytes" in link && before !== undefined) {
    const isSame = Buffer.compare(before, link.bytes) === 0;
    return { kind: "bytes", field, before, after: isSame ? undefined : copyOf(link.bytes) };
  }
  if ("memory" in link) {
    const memory = recorder?.memory(link.memory) ?? 0;
    return { kind: "memory", field, memory, offset: link.offset };
  }
  return "fd" in link ? { kind: "fd", field, fd: link.fd } : { kind: "null", field };
}

/** Returns the writes to `kvm_run` since the last run; an empty list while no recording is in progress. */
export function traceRun(vcpu: Traced, run: Uint8Array): readonly Range[] {
  if (recorder === undefined) return NONE;
  recorder.recordChanges(vcpu);
  return recorder.replies(vcpu, run);
}

/** The index of `exit_reason` in `kvm_run` as 32-bit words. */
const EXIT_REASON = EXIT_REASON_OFFSET / 4;
const EXIT_UNION_END = EXIT_UNION_OFFSET + EXIT_UNION_BYTES;

/**
 * Stores the result of a run in the ring and the recording. `words` is the vCPU's whole kvm_run.
 *
 * @returns the step for {@link publishExit}, to be called after the exit was decoded, because a subscriber may close
 *   the vCPU. `undefined` without subscribers.
 */
export function traceExit(
  vcpu: Traced,
  words: Int32Array,
  result: number,
  replies: readonly Range[],
): Step | undefined {
  if (!hasListener()) {
    vcpu.ring.pushRun(vcpu, nextSeq(), result, words);
    return undefined;
  }
  const run = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  const exitReason = words[EXIT_REASON] ?? 0;
  const step: Step = {
    kind: "run",
    seq: nextSeq(),
    fd: vcpu,
    replies,
    result,
    exitReason,
    exit: run.slice(EXIT_UNION_OFFSET, EXIT_UNION_END),
    io: exitReason === KVM_EXIT_IO ? ioData(run) : undefined,
    guest: recorder?.guest(vcpu, run) ?? NONE,
  };
  vcpu.ring.push(step);
  recorder?.take(step);
  return step;
}

/** Publishes the result of a run to the channel's subscribers. */
export function publishExit(step: Step | undefined): void {
  if (step !== undefined) tell(step);
}

/** Returns the data of an I/O exit: `size` bytes `count` times at `data_offset`. */
function ioData(run: Uint8Array): Uint8Array {
  const { size, count, dataOffset } = read(RunIo, run, EXIT_UNION_OFFSET);
  const start = Number(dataOffset);
  return run.slice(start, start + size * count);
}
