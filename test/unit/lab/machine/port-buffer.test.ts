/** Tests of buffers for bytes that arrive in pieces: they join the pieces, up to a limit. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { PortBuffer, Tail } from "../../../../lib/lab/machine/port-buffer.ts";

const pieces = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 20 });
const most = fc.integer({ min: 1, max: 100 });

test("a port buffer keeps the first bytes, and returns how many bytes of a piece it accepted", () => {
  fc.assert(
    fc.property(pieces, most, (some, limit) => {
      const buffer = new PortBuffer(limit);
      const taken = some.map((piece) => buffer.append(piece));
      const all = Buffer.concat(some);
      expect(Buffer.from(buffer.bytes)).toEqual(all.subarray(0, limit));
      expect(taken.reduce((sum, count) => sum + count, 0)).toBe(buffer.length);
      expect(buffer.room).toBe(limit - buffer.length);
    }),
  );
});

test("a tail buffer keeps the last bytes", () => {
  fc.assert(
    fc.property(pieces, most, (some, limit) => {
      const tail = new Tail(limit);
      for (const piece of some) tail.append(piece);
      expect(tail.bytes).toEqual(Buffer.concat(some).subarray(-limit));
    }),
  );
});

test("a port buffer grows beyond its initial size", () => {
  const buffer = new PortBuffer(1e6);
  for (let i = 0; i < 100_000; i++) buffer.append(Uint8Array.of(i, i >> 8));
  expect(buffer.bytes).toHaveLength(200_000);
  expect(Array.from(buffer.bytes.subarray(-2))).toEqual([99_999 & 255, (99_999 >> 8) & 255]);
});
