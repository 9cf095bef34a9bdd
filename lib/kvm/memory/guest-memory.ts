/** Host memory that a VM uses as guest memory. address-space.ts has the guest physical addresses of this memory. */
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

/** The maximum number of bytes in one ArrayBuffer, because Node.js 20 rejects buffers above 4 GiB. */
const WINDOW_BYTES = 2 ** 30;

/** The binary logarithms of page sizes, by the name of the option. */
const PAGE_SHIFTS = { transparent: 12, "2M": 21, "1G": 30 } as const;
const SMALL_PAGE_SHIFT = 12;

/** The advice values of madvise(2), from asm-generic/mman-common.h. */
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
  /**
   * Allows the kernel to merge equal pages (KSM), also with pages of other processes. Shared memory cannot have this
   * option.
   */
  readonly mergeable?: boolean;
}

/** The options of anonymous guest memory. */
export interface GuestMemoryOptions extends GuestMemoryAdvice {
  /**
   * `"transparent"` requests huge pages where they are available; `"2M"` and `"1G"` use only huge pages, which the
   * administrator must have reserved.
   */
  readonly hugePages?: "transparent" | "2M" | "1G";
  /**
   * Backs the memory with a memfd. A seal fixes the size of the memfd. Another process of the same user can open the
   * memfd through `/proc`, and map the same bytes.
   */
  readonly shared?: boolean;
  /**
   * Whether the kernel reserves all pages when the memory is allocated; the default is true for `"2M"` and `"1G"`,
   * otherwise false. Without a reservation, a huge page may be unavailable at an access. If the host accesses the page,
   * small pages with zeros replace it ({@link GuestMemory.isDamaged}); if the guest accesses the page, KVM_RUN fails.
   */
  readonly reserve?: boolean;
}

/** The options for mapping a part of a file. */
export interface MapFileOptions extends GuestMemoryAdvice {
  /** The offset in the file, a multiple of 4096; 0 if omitted. */
  readonly offset?: number;
  /**
   * The length in bytes. The default is the length of the file from `offset`, rounded up to whole pages; the bytes
   * after the file's end are zeros.
   */
  readonly byteLength?: number;
}

const ADVICE_OPTIONS: readonly string[] = ["populate", "dump", "mergeable"];

const mappings = new WeakMap<GuestMemory, NativeMapping>();

/** Returns the mapping of a memory; `null` if the memory is closed. Only the classes of kvm/ call this function. */
export function mappingOf(memory: GuestMemory): NativeMapping | null {
  const given: unknown = memory;
  if (given instanceof GuestMemory) return mappings.get(given) ?? null;
  throw new TypeError(`memory: expected a GuestMemory, got ${describe(given)}`);
}

/**
 * Host memory for a VM: anonymous and zeroed, or a private copy of a file.
 *
 * While a slot uses the memory, the memory stays mapped: `close()` detaches the memory from JavaScript, but not from a
 * guest that may still run. The page after the end of the memory is inaccessible.
 *
 * Close the memory when it is no longer needed. The garbage collector also unmaps unreachable memory, but only later,
 * between turns of the event loop. A synchronous loop that allocates memory without closing it therefore uses more and
 * more memory. This package reports the full size of populated memory and of reserved huge pages to V8. The pages of
 * other memory are allocated at the first access; for such memory, this package reports at most 16 MiB.
 *
 * A page can be unavailable at an access: the file was truncated, no huge page is free, or the hardware lost the page.
 * After an access of the host, such a page reads as zeros: see {@link isDamaged}. If the guest accesses such a page
 * before the host has accessed it, KVM_RUN returns `EFAULT` or the exit `memory_fault`. This package installs a SIGBUS
 * handler, which replaces such pages. A SIGBUS that another process sends, or that an access to other memory causes,
 * has its usual effect, and `process.on("SIGBUS")` still works. If only the main thread sets listeners for SIGBUS and
 * only workers load the package, a listener replaces the handler until the next memory is mapped.
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
   * Maps `byteLength` bytes of memory with mmap; KVM requires a multiple of 4096.
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
   * the file (`MAP_PRIVATE`). Pages that were not written yet may change when the file changes;
   * {@link GuestMemoryAdvice.populate} copies all pages immediately.
   *
   * @throws {@link KvmError} with the errno of `open`, `fstat`, `mmap` or `madvise`: `ENODEV` if it is not a regular
   *   file, `EINVAL` if the offset is not a multiple of 4096.
   * @throws RangeError if the mapping would extend beyond the page in which the file ends.
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

  /** Wraps a mapping that a handle has created. @internal */
  static adopt(mapping: NativeMapping, file: NativeFd): GuestMemory {
    return new GuestMemory(mapping, file);
  }

  /** Whether {@link close} was called. */
  get closed(): boolean {
    return !mappings.has(this);
  }

  /**
   * Whether a page was replaced by zeros, because the page was not available at an access of the host. The page's
   * address is not known. Pages that only a guest has accessed are not included.
   */
  get isDamaged(): boolean {
    return this.#mapping.hasLostPages();
  }

  /**
   * Returns the whole memory as one array. The host and the guest share the bytes, without any guarantee of ordering or
   * atomicity. The array becomes empty when the memory is closed.
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
   * Returns a part of the memory, up to 1 GiB, as an array over the shared bytes, like {@link bytes}. Keep the array if
   * you need it often, because each call creates one.
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
   * @throws RangeError if the range is not inside the memory.
   */
  read(offset: number, length: number): Uint8Array {
    const copy = new Uint8Array(this.#check(offset, length));
    this.#walk(offset, length, (piece, done) => copy.set(piece, done));
    return copy;
  }

  /**
   * Copies `data` to `offset` (an offset into this memory, not a guest address). If the elements of an array are wider
   * than a byte, as in a Uint16Array, the bytes of the elements are copied.
   *
   * @throws RangeError if the range is not inside the memory; nothing is written in this case.
   * @throws TypeError if `data` is not a typed array, a Buffer or a DataView.
   */
  write(offset: number, data: ArrayBufferView): void {
    const bytes = toBytes("write()", data);
    this.#check(offset, bytes.length);
    this.#walk(offset, bytes.length, (piece, done) =>
      piece.set(bytes.subarray(done, done + piece.length)),
    );
  }

  /**
   * Detaches the memory from JavaScript, and unmaps the memory as soon as no slot uses it. Closing twice is a no-op.
   */
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

  /**
   * Applies the options to a new mapping. The mapping is populated last, so that the other options apply to the
   * allocated pages.
   */
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

  /** Returns the window of the n-th GiB; if the buffer of the existing window was transferred, creates a new window. */
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

/** The object and the arguments of a failed call, for its error. */
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
