/** Host bytes that a VM uses as guest memory. Where they appear to the guest is vm.ts. */
import { KvmError, StateError } from "../errors.ts";
import { type NativeMapping, native } from "../native.ts";
import { traceMap, traceUnmap } from "../trace/sink.ts";

/** The largest piece that one ArrayBuffer shows: Node 20 refuses buffers above 4 GiB. */
const WINDOW_BYTES = 2 ** 30;

const mappings = new WeakMap<GuestMemory, NativeMapping>();

/** The mapping behind a memory, for kvm/ alone; `null` when it is closed. */
export function mappingOf(memory: GuestMemory): NativeMapping | null {
  return mappings.get(memory) ?? null;
}

/**
 * Anonymous, zeroed host memory for a VM; pages are taken when they are first touched.
 *
 * A slot that uses the memory keeps it mapped: closing it early takes it from JavaScript, not from
 * a guest that may still run.
 */
export class GuestMemory {
  /** Its size in bytes. */
  readonly byteLength: number;
  readonly #windows: (Uint8Array | undefined)[] = [];

  private constructor(mapping: NativeMapping, byteLength: number) {
    this.byteLength = byteLength;
    mappings.set(this, mapping);
    traceMap(this);
  }

  /**
   * Maps `byteLength` bytes of memory (mmap; KVM wants whole pages of 4096).
   *
   * @throws {@link KvmError} with mmap's errno: `EINVAL` for 0 bytes, `ENOMEM` when there is no room.
   */
  static allocate(byteLength: number): GuestMemory {
    const mapping = native().mapAnonymous(byteLength);
    if (typeof mapping === "number") {
      throw new KvmError({
        ioctl: "mmap",
        fd: "guest memory",
        errno: -mapping,
        args: { byteLength },
      });
    }
    return new GuestMemory(mapping, byteLength);
  }

  /** Takes over a mapping that a handle made. @internal */
  static adopt(mapping: NativeMapping, byteLength: number): GuestMemory {
    return new GuestMemory(mapping, byteLength);
  }

  /** Whether {@link close} was called. */
  get closed(): boolean {
    return !mappings.has(this);
  }

  /**
   * Shows all of it as one live array: the guest sees what you write, and what the guest writes
   * you read, without order or atomicity. It becomes empty when the memory is closed.
   *
   * @throws RangeError above 1 GiB; {@link read} and {@link write} have no such limit.
   */
  get bytes(): Uint8Array {
    if (this.byteLength > WINDOW_BYTES) {
      throw new RangeError(`${this.byteLength} bytes do not fit one array; use read() and write()`);
    }
    return this.#window(0);
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
   * Copies `bytes` to `offset` (an offset into this memory, not a guest address).
   *
   * @throws RangeError outside the memory; then nothing was written.
   */
  write(offset: number, bytes: Uint8Array): void {
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

  #check(offset: number, length: number): number {
    if (
      !(Number.isSafeInteger(offset) && Number.isSafeInteger(length)) ||
      offset < 0 ||
      length < 0 ||
      offset + length > this.byteLength
    ) {
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
      const window = this.#window(Math.floor(at / WINDOW_BYTES));
      const piece = window.subarray(start, Math.min(window.length, start + length - done));
      visit(piece, done);
      done += piece.length;
    }
  }

  #window(number: number): Uint8Array {
    const mapping = mappings.get(this);
    if (mapping === undefined) throw new StateError("ERR_CLOSED", "guest memory");
    const start = number * WINDOW_BYTES;
    const length = Math.min(WINDOW_BYTES, this.byteLength - start);
    this.#windows[number] ??= new Uint8Array(mapping.window(start, length));
    return this.#windows[number];
  }
}
