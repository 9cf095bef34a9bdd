/** Tests that compare the encodings of documents with those of Node. */
import { crc32 as expectedCrc32 } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  base64,
  crc32,
  fromBase64,
  fromLatin1,
  fromUtf8,
  latin1,
  utf8,
} from "../../../lib/state/encoding.ts";

const anyBytes = fc.uint8Array({ maxLength: 300 });

test("CRC-32, base64, Latin-1 and UTF-8 of random bytes equal those of Node.js", () => {
  fc.assert(
    fc.property(anyBytes, (bytes) => {
      expect(crc32(bytes)).toBe(expectedCrc32(bytes));
      expect(base64(bytes)).toBe(Buffer.from(bytes).toString("base64"));
      expect(latin1(bytes)).toBe(Buffer.from(bytes).toString("latin1"));
      expect(fromUtf8(bytes)).toBe(Buffer.from(bytes).toString());
      expect(fromLatin1(latin1(bytes))).toEqual(bytes);
      expect(fromBase64(base64(bytes))).toEqual(bytes);
    }),
  );
});

test("UTF-8 of random text equals that of Node.js", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      expect(utf8(text)).toEqual(new Uint8Array(Buffer.from(text)));
    }),
  );
});

test("an array with more bytes than a function can have arguments is encoded as text", () => {
  const bytes = new Uint8Array(1_000_003).fill(0xe9);
  expect(base64(bytes)).toBe(Buffer.from(bytes).toString("base64"));
});

test.each([
  ["a space", "AA ="],
  ["a line break", "AAAA\n"],
  ["no padding", "AA"],
  ["bits beyond the last byte", "AB=="],
  ["the characters of base64url", "-_8="],
  ["text after the padding", "AA==AAAA"],
])("base64 with %s is rejected", (_, text) => {
  expect(fromBase64(text)).toBeUndefined();
});
