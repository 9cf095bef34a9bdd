/** Host bytes that a VM uses as guest memory. Where they appear to the guest is address-space.ts. */
import { StateError } from "../errors.ts";
import { inspectAs } from "../inspect.ts";
import {
  expectNative,
  isRefusal,
  type NativeFd,
  type NativeMapping,
  type NativeRefusal,
  native,
} from "../native.ts";
import { describe, refuseNonBooleans, refuseUnknown, toBytes, toPath } from "../options.ts";
import { traceMap, traceUnmap } from "../trace/sink.ts";
import { refused } from "./refused.ts";

/** The largest piece that one ArrayBuffer shows: Node 20 refuses buffers above 4 GiB. */
const WINDOW_BYTES = 2 ** 30;

/** Sizes of pages as powers of two, by the name of the option. */
const PAGE_SHIFTS = { transparent: 12, "2M": 21, "1G": 30 } as const;
const SMALL_PAGE_SHIFT = 12;

/** What is said to madvise(2), from asm-generic/mman-common.h. */
const ADVICES = {
  MADV_MERGEABLE: 12,
  MADV_HUGEPAGE: 14,
  MADV_DONTDUMP: 16,
  MADV_POPULATE_WRITE: 23,
} as const;
type AdviceName = keyof typeof ADVICES;

/** What any guest memory can be told. */
export interface GuestMemoryAdvice {
  /** Takes all pages now, and not when they are first touched. */
  readonly populate?: boolean;
  /** Whether it is in a core dump of this process; it is when left out. */
  readonly dump?: boolean;
  /** Lets the kernel merge equal pages (KSM), also with other processes'; not of shared memory. */
  readonly mergeable?: boolean;
}

/** What anonymous guest memory is made of. */
export interface GuestMemoryOptions extends GuestMemoryAdvice {
  /**
   * `"transparent"` asks for huge pages where the kernel has some; `"2M"` and `"1G"` take only
   * such, from those that the administrator set aside.
   */
  readonly hugePages?: "transparent" | "2M" | "1G";
  /**
   * Makes it a memfd (sealed: its size is for ever). Another process of the same user can open
   * that through `/proc`, and sees the same bytes.
   */
  readonly shared?: boolean;
  /**
   * Whether the kernel is asked now if there is room for all of it; when left out, yes for `"2M"`
   * and `"1G"`, else no. Without, a huge page that cannot be had when the host touches it becomes
   * zeros in small pages ({@link GuestMemory.isDamaged}), and ends KVM_RUN when a guest does.
   */
  readonly reserve?: boolean;
}

/** Which part of a file, and how. */
export interface MapFileOptions extends GuestMemoryAdvice {
  /** Where in the file it begins, a multiple of 4096; 0 when left out. */
  readonly offset?: number;
  /** Bytes; when left out, all from `offset` on, in whole pages, with zeros after the file's end. */
  readonly byteLength?: number;
}

const ADVICE_OPTIONS: readonly string[] = ["populate", "dump", "mergeable"];

const mappings = new WeakMap<GuestMemory, NativeMapping>();

/** The mapping behind a memory, for kvm/ alone; `null` when it is closed. */
export function mappingOf(memory: GuestMemory): NativeMapping | null {
  const given: unknown = memory;
  if (given instanceof GuestMemory) return mappings.get(given) ?? null;
  throw new TypeError(`memory: expected a GuestMemory, got ${describe(given)}`);
}

/**
 * Host memory for a VM: anonymous and zeroed, or a private copy of a file.
 *
 * A slot that uses the memory keeps it mapped: closing it early takes it from JavaScript, not from
 * a guest that may still run. Behind its end follows a page that nobody can access.
 *
 * Close it when it is no longer needed. The garbage collector unmaps memory that was dropped, but
 * late, and only between turns of the event loop: a synchronous loop that drops memories grows without
 * bound. V8 is told the size of memory that is populated or of reserved huge pages, and at most
 * 16 MiB for other memory, whose pages are taken when they are first touched.
 *
 * A page that cannot be had when it is touched (its file was cut short meanwhile, the huge pages
 * ran out, the hardware lost it) reads as zeros from then on: see {@link isDamaged}. A guest that
 * touches one before the host did ends KVM_RUN with `EFAULT` or the exit `memory_fault`. For this
 * the process's SIGBUS handler is this package's; a SIGBUS that is sent, or about other memory,
 * does what it did without, and `process.on("SIGBUS")` still works. Only where the main thread sets
 * such listeners and the package is loaded in workers alone, its handler is gone until the next
 * memory is mapped.
 */
export class GuestMemory {
  /** Its size in bytes. */
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
   * Maps `byteLength` bytes of memory (mmap; KVM wants whole pages of 4096).
   *
   * @throws {@link KvmError} with the errno of `mmap`, `madvise`, or for shared memory
   *   `memfd_create`, `ftruncate`: `EINVAL` for 0 bytes, `ENOMEM` when there is no room, or not as
   *   many huge pages.
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
   * Maps a part of a file, for reading and writing: what is written, by the host or a guest, is
   * kept in memory and never reaches the file (`MAP_PRIVATE`). Pages that were not written yet
   * may show later changes of the file; {@link GuestMemoryAdvice.populate} copies them all.
   *
   * @throws {@link KvmError} with the errno of `open`, `fstat`, `mmap` or `madvise`: `ENODEV` when it is no
   *   regular file, `EINVAL` when the offset is not a multiple of 4096.
   * @throws RangeError when `byteLength` reaches beyond the page in which the file ends.
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

  /** Takes over a mapping that a handle made. @internal */
  static adopt(mapping: NativeMapping, file: NativeFd): GuestMemory {
    return new GuestMemory(mapping, file);
  }

  /** Whether {@link close} was called. */
  get closed(): boolean {
    return !mappings.has(this);
  }

  /**
   * Whether the host has touched a page that could not be had, and zeros took its place. Which
   * page is not known, nor whether a guest has met others.
   */
  get isDamaged(): boolean {
    return this.#mapping.hasLostPages();
  }

  /**
   * Shows all of it as one live array: the guest sees what you write, and what the guest writes
   * you read, without order or atomicity. It becomes empty when the memory is closed.
   *
   * @throws RangeError above 1 GiB; {@link window} shows a part, and {@link read} and
   *   {@link write} have no such limit.
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
   * Shows a part of it, of up to 1 GiB, as a live array like {@link bytes}. Keep the array if you
   * need it often.
   *
   * @throws RangeError outside the memory, and above 1 GiB.
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
   * Copies `length` bytes from `offset` on (an offset into this memory, not a guest address).
   *
   * @throws RangeError outside the memory.
   */
  read(offset: number, length: number): Uint8Array {
    const copy = new Uint8Array(this.#check(offset, length));
    this.#walk(offset, length, (piece, done) => copy.set(piece, done));
    return copy;
  }

  /**
   * Copies `data` to `offset` (an offset into this memory, not a guest address). Of an array of
   * wider elements, such as a Uint16Array, it copies the bytes, as they are in memory.
   *
   * @throws RangeError outside the memory; then nothing was written.
   * @throws TypeError for anything but a typed array, a Buffer or a DataView.
   */
  write(offset: number, data: ArrayBufferView): void {
    const bytes = toBytes("write()", data);
    this.#check(offset, bytes.length);
    this.#walk(offset, bytes.length, (piece, done) =>
      piece.set(bytes.subarray(done, done + piece.length)),
    );
  }

  /** Takes the memory from JavaScript; unmaps it once no slot uses it. Twice does nothing. */
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

  /** Tells a new mapping what the options say; populates it last, as all else then shall be. */
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

  /** The window that shows the n-th GiB; a new one when somebody moved the old one's buffer away. */
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

/** What a refused call was for. */
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
