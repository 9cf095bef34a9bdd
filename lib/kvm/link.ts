/**
 * The values for a struct's addresses and descriptors: bytes, guest memory, open files. This file converts the values
 * for the addon; native/argument.cc writes the addresses and descriptors into the struct.
 */
import { isBytes, plainBytes } from "../abi/bytes.ts";
import type { Ioctl } from "../abi/ioctl.ts";
import { StateError } from "../errors.ts";
import type { NativeFd, NativeHostFile, NativeLink } from "../native.ts";
import { describe, refuseUnknown, toU64 } from "../options.ts";
import { type TraceLink, traced } from "../trace/sink.ts";
import { type GuestMemory, mappingOf } from "./memory/guest-memory.ts";
import { methodOf } from "./method-name.ts";

/** An object of this package that owns an open file: a handle, an {@link EventFd}, a {@link SevDevice}. */
export interface OpenFile {
  /** The name of the file in errors. */
  readonly label: string;
  /** Closes the file. */
  close(): void;
}

/** A part of guest memory, from an offset to its end. */
export interface MemoryLinkInput {
  readonly memory: GuestMemory;
  /** The offset in bytes from the memory's start; 0 if omitted. */
  readonly offset?: number;
}

/** The struct of a KVM_MEMORY_ENCRYPT_OP command, and the values for the addresses in this struct. */
export interface CommandLinkInput {
  readonly bytes: Uint8Array;
  readonly links?: readonly LinkInput[];
}

/**
 * The value for one of `ioctl.links`: bytes (which the kernel may write), guest memory, an open file, or a command's
 * struct; `null` is address 0 or descriptor -1.
 */
export type LinkInput = null | Uint8Array | MemoryLinkInput | OpenFile | CommandLinkInput;

const files = new WeakMap<object, NativeFd | NativeHostFile>();

/** Registers the native file of an object; only the classes of kvm/ call this function. */
export function registerFile(owner: OpenFile, file: NativeFd | NativeHostFile): void {
  files.set(owner, file);
}

/** Removes the registration of a closed object's native file. */
export function unregisterFile(owner: OpenFile): void {
  files.delete(owner);
}

/** Returns the native file of an object. */
export function fileOf(owner: OpenFile): NativeFd | NativeHostFile {
  const file = files.get(owner);
  if (file === undefined) throw new StateError("ERR_CLOSED", owner.label);
  return file;
}

/**
 * Converts links for the addon.
 *
 * @throws StateError `ERR_CLOSED` for a closed file or closed memory.
 * @throws TypeError for a value that is not a link, or too many links.
 */
export function toNativeLinks(ioctl: Ioctl, values: readonly LinkInput[]): readonly NativeLink[] {
  const room = ioctl.links?.length ?? 0;
  if (values.length > room) {
    throw new TypeError(`${ioctl.name} has ${room} links, got ${values.length}`);
  }
  return values.map((value, i) => toNative(value, ioctl.links?.[i]?.field ?? "links", ioctl));
}

/** Converts links for traces, without the links of a command's struct. */
export function toTraceLinks(
  ioctl: Ioctl,
  values: readonly LinkInput[] | undefined,
): readonly TraceLink[] {
  if (ioctl.links === undefined) return NONE;
  return ioctl.links.map(({ field }, i) => toTrace(field, values?.[i] ?? null));
}

const NONE: readonly never[] = [];

function toTrace(field: string, value: LinkInput): TraceLink {
  if (value === null) return { field };
  if (isBytes(value)) return { field, bytes: plainBytes(value) };
  if (isMemory(value)) return { field, memory: value.memory, offset: value.offset ?? 0 };
  if (isCommand(value)) return { field, bytes: plainBytes(value.bytes) };
  return { field, fd: traced(fileOf(value), value.label) };
}

// Only own properties are read: a VM inherits a getter `memory`, but is not a link to guest memory.
const isMemory = (value: object): value is MemoryLinkInput => Object.hasOwn(value, "memory");
const isCommand = (value: object): value is CommandLinkInput => Object.hasOwn(value, "bytes");

function toNative(value: LinkInput, where: string, ioctl: Ioctl): NativeLink {
  if (value === null || isBytes(value)) return value;
  const path = `${methodOf(ioctl.name)}: ${where}`;
  if (typeof value === "object" && isMemory(value)) {
    refuseUnknown(path, value, ["memory", "offset"], "member");
    const { offset = 0 } = value;
    const start = toU64(`${path}.offset`, offset);
    const memory = mappingOf(value.memory);
    if (memory === null) throw new StateError("ERR_CLOSED", "guest memory");
    return { memory, offset: start };
  }
  if (typeof value === "object" && isCommand(value)) {
    refuseUnknown(path, value, ["bytes", "links"], "member");
    const links = (value.links ?? []).map((inner, i) => toNative(inner, `${where}[${i}]`, ioctl));
    return { bytes: value.bytes, links };
  }
  if (typeof value === "object" && "close" in value) return fileOf(value);
  throw new TypeError(
    `${ioctl.name}: ${where}: expected bytes, guest memory or an open file, got ${describe(value)}`,
  );
}
