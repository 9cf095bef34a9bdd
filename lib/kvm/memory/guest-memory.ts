/** Host memory that a VM uses as guest memory. The guest physical addresses of this memory are in address-space.ts. */
import { StateError } from "../../errors.ts";
import { inspectAs } from "../../inspect.ts";
import {
  expectNative,
  isRefusal,
  type NativeFd,
  type NativeMapping,
  type NativeRefusal,
  native,
} from "../../native.ts";
import { describe, refuseNonBooleans, refuseUnknown, toBytes, toPath } from "../../options.ts";
import { traceMap, traceUnmap } from "../../trace/sink.ts";
import { refused } from "../refused.ts";

/** The largest part that one ArrayBuffer covers: Node 20 rejects buffers above 4 GiB. */
const WINDOW_BYTES = 2 ** 30;

/** The binary logarithms of page sizes, by the name of the option. */
const PAGE_SHIFTS = { transparent: 12, "2M": 21, "1G": 30 } as const;
const SMALL_PAGE_SHIFT = 12;

/** The advice of madvise(2), from asm-generic/mman-common.h. */
const ADVICES = {
  MADV_MERGEABLE: 12,
  MADV_HUGEPAGE: 14,
  MADV_DONTDUMP: 16,
  MADV_POPULATE_WRITE: 23,
} as const;
type AdviceName = keyof typeof ADVICES;

/** The options of any guest memory. */
export interface GuestMemoryAdvice {
  /** Allocates all pages immediately instead of at the first access. */
  readonly populate?: boolean;
  /** Whether a core dump of this process contains the memory; the default is true. */
  readonly dump?: boolean;
  /** Allows the kernel to merge equal pages (KSM), also with other processes' pages; not for shared memory. */
  readonly mergeable?: boolean;
}

/** The options of anonymous guest memory. */
export interface GuestMemoryOptions extends GuestMemoryAdvice {
  /**
   * `"transparent"` requests huge pages where available; `"2M"` and `"1G"` use only huge pages, from those that the
   * administrator has reserved.
   */
  readonly hugePages?: "transparent" | "2M" | "1G";
  /**
   * Backs the memory with a memfd, which is sealed so that its size is fixed. Another process of the same user can open
   * it through `/proc` and map the same bytes.
   */
  readonly shared?: boolean;
  /**
   * Whether the kernel reserves all pages now; the default is true for `"2M"` and `"1G"`, else false. Without a
   * reservation, if no huge page is available at an access of the host, small pages with zeros replace it ({@link
   * GuestMemory.isDamaged}); an access of the guest ends KVM_RUN.
   */
  readonly reserve?: boolean;
}

/** The part of a file to map, and how. */
export interface MapFileOptions extends GuestMemoryAdvice {
  /** The offset in the file, a multiple of 4096; 0 if omitted. */
  readonly offset?: number;
  /**
   * The length in bytes; the default is the rest of the file from `offset`, rounded up to whole pages, with zeros after
   * the file's end.
   */
  readonly byteLength?: number;
}

const ADVICE_OPTIONS: readonly string[] = ["populate", "dump", "mergeable"];

const mappings = new WeakMap<GuestMemory, NativeMapping>();

/** Returns the mapping of a memory, only for the classes of kvm/; `null` if the memory is closed. */
export function mappingOf(memory: GuestMemory): NativeMapping | null {
  const given: unknown = memory;
  if (given instanceof GuestMemory) return mappings.get(given) ?? null;
  throw new TypeError(`memory: expected a GuestMemory, got ${describe(given)}`);
}

/**
 * Host memory for a VM: anonymous and zeroed, or a private copy of a file.
 *
 * A slot that uses the memory keeps it mapped: closing it early detaches it from JavaScript, but not from a guest that
 * may still run. The page after the end of the memory is inaccessible.
 *
 * Close the memory when it is no longer needed. The garbage collector unmaps unreachable memory, but later, and only
 * between turns of the event loop: a synchronous loop that allocates without closing grows without bound. V8 knows the
 * size of populated memory and of reserved huge pages, and at most 16 MiB of other memory, whose pages are allocated at
 * the first access.
 *
 * If a page is not available at an access (its file was truncated, no huge pages are free, the hardware lost it), it
 * reads as zeros from then on: see {@link isDamaged}. If the guest accesses such a page before the host did, KVM_RUN
 * returns `EFAULT` or the exit `memory_fault`. This package installs a SIGBUS handler for this. A SIGBUS that another
 * process sends, or that concerns other memory, has its usual effect, and `process.on("SIGBUS")` still works. If only
 * the main thread sets such listeners and only workers load the package, the handler is missing until the next memory
 * is mapped.
 */
export class GuestMemory {
  /** The size in bytes. */
  readonly byteLength: number;
  readonly #windows: (Uint8Array | undefined)[] = [];

  private constructor(mapping: NativeMapping, file?: NativeFd) {
    const how = "GuestMemory.allocate(), GuestMemory.mapFile()";
    expectNative(mapping, "hasLostPages", new.target, how);
    this.byteLength = mapping.byteLength();
    mappings.set(this, mapping);
    traceMap(this, file);
  }

  /**
   * Maps `byteLength` bytes of memory (mmap; KVM requires multiples of 4096).
   *
   * @throws {@link KvmError} with the errno of `mmap`, `madvise`, or for shared memory `memfd_create`, `ftruncate`:
   *   `EINVAL` for 0 bytes, `ENOMEM` without enough memory or huge pages.
   */
  static allocate(byteLength: number, options: GuestMemoryOptions = {}): GuestMemory {
    refuseUnknown("GuestMemory.allocate()", options, [
      ...ADVICE_OPTIONS,
      "hugePages",
      "shared",
      "reserve",
    ]);
    refuseNonBooleans("GuestMemory.allocate()", options, [...ADVICE_OPTIONS, "shared", "reserve"]);
    const { hugePages, shared = false } = options;
    if (hugePages !== undefined && !Object.hasOwn(PAGE_SHIFTS, hugePages)) {
      const known = Object.keys(PAGE_SHIFTS).join('", "');
      throw new TypeError(
        `GuestMemory.allocate(): hugePages: expected "${known}", got ${describe(hugePages)}`,
      );
    }
    const shift = hugePages === undefined ? SMALL_PAGE_SHIFT : PAGE_SHIFTS[hugePages];
    const isHuge = shift !== SMALL_PAGE_SHIFT;
    const { reserve = isHuge } = options;
    const answer = shared
      ? native().mapMemfd(byteLength, shift, reserve)
      : native().mapAnonymous(byteLength, shift, reserve);
    const mapping = typeof answer === "number" ? { call: "mmap", errno: -answer } : answer;
    const of = { fd: "guest memory", args: { byteLength, ...options } };
    const facts = isHuge ? { pageSize: 2 ** shift } : {};
    return GuestMemory.#adopt(expectMapping(mapping, of, facts), of, options);
  }

  /**
   * Maps a part of a file for reading and writing. Writes of the host or a guest are kept in memory and never change
   * the file (`MAP_PRIVATE`). Pages that were not written yet may show later changes of the file;
   * {@link GuestMemoryAdvice.populate} copies all pages at once.
   *
   * @throws {@link KvmError} with the errno of `open`, `fstat`, `mmap` or `madvise`: `ENODEV` if it is not a regular
   *   file, `EINVAL` if the offset is not a multiple of 4096.
   * @throws RangeError if `byteLength` exceeds the page in which the file ends.
   */
  static mapFile(path: string, options: MapFileOptions = {}): GuestMemory {
    const where = "GuestMemory.mapFile()";
    refuseUnknown(where, options, [...ADVICE_OPTIONS, "offset", "byteLength"]);
    refuseNonBooleans(where, options, ADVICE_OPTIONS);
    const { offset = 0, byteLength } = options;
    const mapping = native().mapFile(toPath(where, path), offset, byteLength);
    const of = { fd: path, args: { path, ...options } };
    return GuestMemory.#adopt(expectMapping(mapping, of), of, options);
  }

  /** Takes a mapping that a handle created. @internal */
  static adopt(mapping: NativeMapping, file: NativeFd): GuestMemory {
    return new GuestMemory(mapping, file);
  }

  /** Whether {@link close} was called. */
  get closed(): boolean {
    return !mappings.has(this);
  }

  /**
   * Whether a page was not available at an access of the host, and zeros replaced it. The page's address is not known.
   * Pages that only a guest has accessed are not included.
   */
  get isDamaged(): boolean {
    return this.#mapping.hasLostPages();
  }

  /**
   * Returns all of the memory as one array that shows later changes: host and guest share the bytes, without ordering
   * or atomicity. The array becomes empty when the memory is closed.
   *
   * @throws RangeError if the memory is larger than 1 GiB; {@link window} returns a part, and {@link read} and
   *   {@link write} have no limit.
   */
  get bytes(): Uint8Array {
    if (this.byteLength > WINDOW_BYTES) {
      throw new RangeError(
        `${this.byteLength} bytes do not fit one array; use window(), read() and write()`,
      );
    }
    return this.#piece(0);
  }

  /**
   * Returns a part of the memory, up to 1 GiB, as an array that shows later changes, like {@link bytes}. Keep the array
   * if you need it often, because each call creates one.
   *
   * @throws RangeError for a part outside of the memory, or above 1 GiB.
   */
  window(offset: number, length: number): Uint8Array {
    this.#check(offset, length);
    if (length > WINDOW_BYTES) {
      throw new RangeError(`${length} bytes do not fit one array; a window shows up to 1 GiB`);
    }
    if (length === 0) return new Uint8Array(0);
    const start = offset % WINDOW_BYTES;
    if (start + length > WINDOW_BYTES) return new Uint8Array(this.#mapping.window(offset, length));
    return this.#piece(Math.floor(offset / WINDOW_BYTES)).subarray(start, start + length);
  }

  /**
   * Copies `length` bytes from `offset` (an offset into this memory, not a guest address).
   *
   * @throws RangeError outside the memory.
   */
  read(offset: number, length: number): Uint8Array {
    const copy = new Uint8Array(this.#check(offset, length));
    this.#walk(offset, length, (piece, done) => copy.set(piece, done));
    return copy;
  }

  /**
   * Copies `data` to `offset` (an offset into this memory, not a guest address). Of an array with elements wider than a
   * byte, such as a Uint16Array, the array's bytes are copied.
   *
   * @throws RangeError outside the memory; nothing is written in this case.
   * @throws TypeError for anything but a typed array, a Buffer or a DataView.
   */
  write(offset: number, data: ArrayBufferView): void {
    const bytes = toBytes("write()", data);
    this.#check(offset, bytes.length);
    this.#walk(offset, bytes.length, (piece, done) =>
      piece.set(bytes.subarray(done, done + piece.length)),
    );
  }

  /** Detaches the memory from JavaScript, and unmaps it once no slot uses it. Closing twice is a no-op. */
  close(): void {
    if (!this.closed) traceUnmap(this);
    mappings.get(this)?.close();
    mappings.delete(this);
    this.#windows.length = 0;
  }

  /** Closes the memory at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Applies the options to a new mapping; populates the mapping last, so that the other options affect its pages. */
  static #adopt(
    mapping: NativeMapping,
    { fd, args }: Origin,
    { hugePages, mergeable, dump, populate }: GuestMemoryOptions,
  ): GuestMemory {
    const wanted: Readonly<Record<AdviceName, boolean | undefined>> = {
      MADV_HUGEPAGE: hugePages === "transparent",
      MADV_MERGEABLE: mergeable,
      MADV_DONTDUMP: dump === false,
      MADV_POPULATE_WRITE: populate,
    };
    for (const [name, isWanted] of Object.entries(wanted)) {
      const errno = isWanted === true ? -mapping.advise(ADVICES[name as AdviceName]) : 0;
      if (errno === 0) continue;
      mapping.close();
      throw refused({ call: "madvise", label: fd, errno, args: { ...args, advice: name } });
    }
    return new GuestMemory(mapping);
  }

  get #mapping(): NativeMapping {
    const mapping = mappings.get(this);
    if (mapping === undefined) throw new StateError("ERR_CLOSED", "guest memory");
    return mapping;
  }

  #check(offset: number, length: number): number {
    if (
      !(Number.isSafeInteger(offset) && Number.isSafeInteger(length)) ||
      offset < 0 ||
      length < 0 ||
      offset + length > this.byteLength
    ) {
      for (const [name, value] of [
        ["offset", offset],
        ["length", length],
      ] as const) {
        if (typeof value === "number") continue;
        throw new TypeError(`guest memory: ${name}: expected a number, got ${describe(value)}`);
      }
      throw new RangeError(
        `${length} bytes at ${offset} are not inside guest memory of ${this.byteLength} bytes`,
      );
    }
    return length;
  }

  #walk(offset: number, length: number, visit: (piece: Uint8Array, done: number) => void): void {
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const start = at % WINDOW_BYTES;
      const whole = this.#piece(Math.floor(at / WINDOW_BYTES));
      const piece = whole.subarray(start, Math.min(whole.length, start + length - done));
      visit(piece, done);
      done += piece.length;
    }
  }

  /** Returns the window of the n-th GiB; creates a new one if the old window's buffer was transferred. */
  #piece(number: number): Uint8Array {
    const mapping = this.#mapping;
    const known = this.#windows[number];
    if (known !== undefined && known.length > 0) return known;
    const start = number * WINDOW_BYTES;
    const length = Math.min(WINDOW_BYTES, this.byteLength - start);
    const made = new Uint8Array(mapping.window(start, length));
    this.#windows[number] = made;
    return made;
  }

  static {
    inspectAs(GuestMemory, (it) => ({ byteLength: it.byteLength, closed: it.closed }));
  }
}

/** The object and arguments of a failed call. */
interface Origin {
  readonly fd: string;
  readonly args: Readonly<Record<string, unknown>>;
}

function expectMapping(
  answer: NativeMapping | NativeRefusal,
  { fd, args }: Origin,
  facts: Readonly<Record<string, unknown>> = {},
): NativeMapping {
  if (!isRefusal(answer)) return answer;
  const { call, errno } = answer;
  throw refused({ call, label: fd, errno, args, facts });
}
