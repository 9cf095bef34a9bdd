/**
 * Tests of the standard input of `lab exec`: inputs that are read to their end, and inputs that are not passed to the
 * guest.
 */
import { execFileSync } from "node:child_process";
import {
  closeSync,
  createReadStream,
  mkdtempSync,
  openSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type GuestStdin, MOST_STDIN, readGuestStdin } from "../../../lib/cli/lab-stdin.ts";

let folder = "";
let path = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "stdin-"));
  path = join(folder, "input");
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Reads from a path instead of standard input. */
async function read(from: string, more: { readonly isTTY?: boolean } = {}): Promise<GuestStdin> {
  const fd = openSync(from, "r");
  const stream = Object.assign(createReadStream(from, { fd }), more);
  const closed = new Promise<void>((resolve) => stream.once("close", () => resolve()));
  try {
    return await readGuestStdin(new AbortController().signal, stream, fd);
  } finally {
    stream.destroy();
    await closed;
  }
}

test("lab exec reads a file on its standard input completely", async () => {
  const bytes = Buffer.from(Array.from({ length: 200_000 }, (_, i) => i));
  writeFileSync(path, bytes);
  const { bytes: found } = await read(path);
  expect(Buffer.compare(found ?? Buffer.alloc(0), bytes)).toBe(0);
});

test("lab exec passes no bytes from an empty file or a device on its standard input", async () => {
  writeFileSync(path, "");
  expect(await read(path)).toEqual({ bytes: undefined });
  expect(await read("/dev/null")).toEqual({ bytes: undefined });
  expect(await read("/dev/zero")).toEqual({ bytes: undefined });
});

test("lab exec does not read a terminal on its standard input, and reports that it reads nothing", async () => {
  const expected: GuestStdin = {
    bytes: undefined,
    notice: "the command's standard input is empty, not the terminal",
  };
  expect(await read("/dev/zero", { isTTY: true })).toEqual(expected);
});

test("lab exec rejects too much standard input with an error that names the alternative", async () => {
  writeFileSync(path, "");
  truncateSync(path, MOST_STDIN + 1);
  await expect(read(path)).rejects.toThrow(
    "standard input has more than 64 MiB; copy a file with --file instead, with enough --memory",
  );
  truncateSync(path, MOST_STDIN);
  expect((await read(path)).bytes).toHaveLength(MOST_STDIN);
});

test("a signal ends lab exec while it waits for a pipe on its standard input", async () => {
  execFileSync("mkfifo", [path]);
  const fd = openSync(path, "r+");
  const controller = new AbortController();
  const endless = new Readable({ read: () => controller.abort() });
  expect(await readGuestStdin(controller.signal, endless, fd)).toEqual({ bytes: undefined });
  expect(endless.destroyed).toBe(true);
  closeSync(fd);
});
