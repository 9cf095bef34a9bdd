/** Tests of the memory in which the command line reads a file that returns few bytes for each read, as a pipe does. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { readProgram, readSource } from "../../../lib/cli/cpuid-source.ts";

/** The memory of the arrays into which the file was read. */
const buffers = new Set<ArrayBufferLike>();

vi.mock("node:fs", async (importOriginal) => {
  const fs = await importOriginal<typeof import("node:fs")>();
  return {
    ...fs,
    readSync: (fd: number, part: Uint8Array): number => {
      buffers.add(part.buffer);
      return fs.readSync(fd, part.subarray(0, 100));
    },
  };
});

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "cpuid-memory-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

test.each([
  ["a dump", "CPU 0:\n", (path: string) => readSource(path).bytes],
  ["a program", "\x7fELF", readProgram],
] as const)(
  "%s is read in memory of about its size, however few bytes a read returns",
  (_, head, read) => {
    const row = "   0x00000001 0x00: eax=0x00a00f11 ebx=0x00000800 ecx=0x76da3203 edx=0x078bfbff\n";
    const text = `${head}${row.repeat(10_000)}`;
    const path = join(folder, "file");
    writeFileSync(path, text);
    buffers.clear();
    const bytes = read(path);
    expect(new TextDecoder().decode(bytes)).toBe(text);
    const memory = [...buffers].reduce((sum, { byteLength }) => sum + byteLength, 0);
    expect(memory).toBeLessThan(text.length + 3 * 65_536);
  },
);
