/**
 * Buffers for bytes that arrive in pieces: one buffer stores all bytes up to a limit, and the other stores only the
 * last bytes.
 */

/** The initial capacity, bytes. */
const FIRST = 4096;

/** Joins the pieces of a stream, and stores all bytes up to a limit. */
export class PortBuffer {
  #buffer: Uint8Array = new Uint8Array(0);
  #length = 0;
  readonly #most: number;

  /** Creates an empty buffer of at most `most` bytes. */
  constructor(most: number) {
    this.#most = most;
  }

  /** The number of bytes in the buffer. */
  get length(): number {
    return this.#length;
  }

  /** The number of bytes that can still be added to the buffer. */
  get room(): number {
    return this.#most - this.#length;
  }

  /** The bytes of the buffer: a view, which the next piece may change. */
  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  /** Adds as much of a piece as fits; returns the number of bytes that were added. */
  append(piece: Uint8Array): number {
    const taken = Math.min(piece.length, this.room);
    const needed = this.#length + taken;
    if (needed > this.#buffer.length) {
      // The capacity is doubled: each byte is then copied only once or twice, whatever the number of pieces is.
      const size = Math.max(needed, FIRST, this.#buffer.length * 2);
      const larger = new Uint8Array(Math.min(size, this.#most));
      larger.set(this.bytes);
      this.#buffer = larger;
    }
    this.#buffer.set(piece.subarray(0, taken), this.#length);
    this.#length = needed;
    return taken;
  }

  /** Removes all but the last `count` bytes. */
  keepLast(count: number): void {
    const from = Math.max(0, this.#length - count);
    this.#buffer.copyWithin(0, from, this.#length);
    this.#length -= from;
  }
}

/** The last `most` bytes of a stream, in twice as much memory. */
export class Tail {
  readonly #buffer: PortBuffer;
  readonly #most: number;

  /** Creates an empty buffer. */
  constructor(most: number) {
    this.#buffer = new PortBuffer(2 * most);
    this.#most = most;
  }

  /** Adds the next piece of the stream. */
  append(piece: Uint8Array): void {
    const last = piece.length > this.#most ? piece.subarray(-this.#most) : piece;
    if (last.length > this.#buffer.room) this.#buffer.keepLast(this.#most);
    this.#buffer.append(last);
  }

  /** The last bytes of the stream, as a view of the buffer. */
  get bytes(): Buffer {
    const { buffer, byteOffset, length } = this.#buffer.bytes;
    return Buffer.from(buffer, byteOffset, length).subarray(-this.#most);
  }
}
