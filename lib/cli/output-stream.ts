/** Passes the bytes of a guest to a standard stream, as fast as the reader of the stream accepts them. */
import type { Writable } from "node:stream";

/** Passes bytes to a stream until the stream fails, and drops all bytes after the failure. */
export class OutputStream {
  readonly #stream: Writable;
  #pending: Promise<void> | undefined;
  #hasFailed: boolean = false;
  readonly #onError = (): void => {
    this.#hasFailed = true;
  };

  /** Starts to handle errors of the stream until {@link close}. */
  constructor(stream: Writable) {
    this.#stream = stream;
    stream.on("error", this.#onError);
  }

  /**
   * Writes bytes.
   *
   * @returns a promise that is pending while the stream's buffer is full; `undefined` if the buffer is not full, or if
   *   the stream has failed.
   */
  write(bytes: Uint8Array): Promise<void> | undefined {
    if (this.#hasFailed || this.#stream.write(bytes)) return undefined;
    this.#pending ??= this.#drained();
    return this.#pending;
  }

  /** Stops handling errors. Bytes that the stream has buffered are still written. */
  close(): void {
    this.#stream.off("error", this.#onError);
  }

  #drained(): Promise<void> {
    const events = ["drain", "error", "close"] as const;
    return new Promise((resolve) => {
      const settle = (): void => {
        for (const name of events) this.#stream.off(name, settle);
        this.#pending = undefined;
        resolve();
      };
      for (const name of events) this.#stream.on(name, settle);
    });
  }
}
