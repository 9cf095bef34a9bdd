/** Tests of finding a busybox: a busybox that needs a shared library cannot run in a guest. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { isStatic } from "../../../../lib/lab/machine/guest.ts";

/** Creates a minimal ELF file: a header, and program headers of these types. */
function elf(...types: readonly number[]): Buffer {
  const bytes = Buffer.alloc(64 + types.length * 56);
  bytes.writeBigUInt64LE(64n, 32);
  bytes.writeUInt16LE(56, 54);
  bytes.writeUInt16LE(types.length, 56);
  for (const [i, type] of types.entries()) bytes.writeUInt32LE(type, 64 + i * 56);
  return bytes;
}

test("a busybox program with only loadable segments is static", () => {
  expect(isStatic(elf(1, 1, 2, 7))).toBe(true);
});

test("a busybox program that names an ELF interpreter is not static", () => {
  expect(isStatic(elf(6, 3, 1, 1))).toBe(false);
});

test("the program of Node, which uses shared libraries, is not static", () => {
  expect(isStatic(readFileSync(process.execPath))).toBe(false);
});
