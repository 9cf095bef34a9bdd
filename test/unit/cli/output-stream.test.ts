/** Tests of the streams to which the lab passes a guest's output. */
import { Writable } from "node:stream";
import { expect, test } from "vitest";
import { OutputStream } from "../../../lib/cli/output-stream.ts";

/** Returns a stream with a buffer of four bytes; a write ends when the test calls the write's function in `writes`. */
function slowStream(): { readonly stream: Writable; readonly writes: ((error?: Error) => void)[] } {
  const writes: ((error?: Error) => void)[] = [];
  const stream = new Writable({
    highWaterMark: 4,
    autoDestroy: false,
    write: (_chunk, _encoding, done) => void writes.push(done),
  });
  return { stream, writes };
}

const BYTES = Buffer.from("12345678");

test("a write to an output stream is pending until the reader has read the bytes", async () => {
  const { stream, writes } = slowStream();
  const output = new OutputStream(stream);
  const pending = output.write(BYTES);
  expect(pending).toBeInstanceOf(Promise);
  writes.shift()?.();
  expect(await pending).toBeUndefined();
});

test("an output stream that fails settles the pending write and ignores later writes", async () => {
  const { stream, writes } = slowStream();
  const output = new OutputStream(stream);
  const pending = output.write(BYTES);
  writes.shift()?.(new Error("EPIPE"));
  expect(await pending).toBeUndefined();
  expect(output.write(BYTES)).toBeUndefined();
  expect(writes).toEqual([]);
});

test("many writes to a full output stream add only one listener for each event", () => {
  const { stream } = slowStream();
  const output = new OutputStream(stream);
  const promises = Array.from({ length: 50 }, () => output.write(BYTES));
  expect(new Set(promises).size).toBe(1);
  expect(stream.listenerCount("drain")).toBe(1);
  output.close();
  expect(stream.listenerCount("error")).toBe(1);
});
