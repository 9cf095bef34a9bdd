/** Tests of the kernel in a bzImage: the kernel is unpacked if possible, and otherwise no error occurs. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, describe, expect, test, vi } from "vitest";
import { unpackVmlinux } from "../../../../lib/lab/kernels/bzimage.ts";
import { onPath } from "../../../../lib/lab/process/search-path.ts";
import { temporaryFolder } from "../temporary.ts";

afterEach(() => vi.unstubAllEnvs());

/** Creates a 64-bit ELF file with one program header for notes, each with a name and a type. */
function tinyElf(...notes: readonly (readonly [name: string, type: number])[]): Buffer {
  const bytes = notes.map(([name, type]) => {
    const note = Buffer.alloc(12 + ((name.length + 4) & ~3) + 4);
    note.writeUInt32LE(name.length + 1, 0);
    note.writeUInt32LE(3, 4); // the size includes padding
    note.writeUInt32LE(type, 8);
    note.write(name, 12);
    return note;
  });
  const header = Buffer.alloc(64 + 56);
  header.write("\u007fELF\u0002\u0001", "latin1");
  header.writeBigUInt64LE(64n, 0x20);
  header.writeUInt16LE(56, 0x36);
  header.writeUInt16LE(1, 0x38);
  header.writeUInt32LE(4, 64);
  header.writeBigUInt64LE(BigInt(header.length), 64 + 0x08);
  header.writeBigUInt64LE(BigInt(Buffer.concat(bytes).length), 64 + 0x20);
  // Other bytes follow the ELF file, as they do in a real kernel.
  return Buffer.concat([header, ...bytes, Buffer.from("relocations")]);
}

const PVH = tinyElf(["GNU", 18], ["Xen", 6], ["Xen", 18]);

/** Creates a bzImage with this payload, which ends with the size of its uncompressed content. */
function imageOf(payload: Buffer, more: { size?: number; version?: number } = {}): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32LE(more.size ?? PVH.length);
  const whole = more.size === 0 ? payload : Buffer.concat([payload, size]);
  const image = Buffer.alloc(2 * 512 + 100);
  image.writeUInt8(1, 0x1f1);
  image.write("HdrS", 0x202);
  image.writeUInt16LE(more.version ?? 0x020f, 0x206);
  image.writeUInt32LE(100, 0x248);
  image.writeUInt32LE(whole.length, 0x24c);
  return Buffer.concat([image, whole, Buffer.from("behind")]);
}

interface Unpacked {
  readonly isThere: boolean;
  readonly bytes: Buffer | undefined;
}

async function unpack(image: Buffer): Promise<Unpacked> {
  const folder = temporaryFolder();
  const [from, into] = [join(folder, "bzImage"), join(folder, "vmlinux")];
  writeFileSync(from, image);
  const isThere = await unpackVmlinux(from, into);
  const left = readdirSync(folder).filter((name) => !["bzImage", "vmlinux"].includes(name));
  expect(left).toEqual([]);
  return { isThere, bytes: existsSync(into) ? readFileSync(into) : undefined };
}

const NOTHING: Unpacked = { isThere: false, bytes: undefined };

test("a kernel that is packed by gzip is unpacked without an external program", async () => {
  vi.stubEnv("PATH", temporaryFolder());
  // The gzip format itself contains the size.
  expect(await unpack(imageOf(gzipSync(PVH), { size: 0 }))).toEqual({ isThere: true, bytes: PVH });
});

const PROGRAMS: readonly (readonly [string, readonly string[]])[] = [
  ["xz", ["--check=crc32", "-c"]],
  ["zstd", ["-c"]],
  ["lz4", ["-l", "-c"]],
];

describe.each(PROGRAMS)("a kernel that is packed by %s", (program, args) => {
  test("is unpacked", async ({ skip }) => {
    skip(onPath(program) === undefined, `this machine has no ${program}`);
    const packed = execFileSync(program, args, { input: PVH, stdio: ["pipe", "pipe", "ignore"] });
    expect(await unpack(imageOf(packed))).toEqual({ isThere: true, bytes: PVH });
  });

  test("whose payload is damaged is not unpacked", async ({ skip }) => {
    skip(onPath(program) === undefined, `this machine has no ${program}`);
    const packed = execFileSync(program, args, { input: PVH, stdio: ["pipe", "pipe", "ignore"] });
    const cut = packed.subarray(0, packed.length - 20);
    expect(await unpack(imageOf(cut))).toEqual(NOTHING);
  });
});

test("a kernel is not unpacked if the program that unpacks it is missing", async () => {
  vi.stubEnv("PATH", temporaryFolder());
  expect(await unpack(imageOf(Buffer.from("02214c1800", "hex")))).toEqual(NOTHING);
});

const pack = (elf: Buffer): Buffer => imageOf(gzipSync(elf), { size: 0 });

test.each([
  ["has no PVH entry", pack(tinyElf(["GNU", 18], ["Xen", 6]))],
  ["has no notes", pack(tinyElf())],
  ["is no ELF file", pack(Buffer.from("something else"))],
  ["has a header that points behind its end", pack(PVH.subarray(0, 70))],
  ["has another size than it says", imageOf(gzipSync(PVH), { size: 7 })],
  ["is packed in an unknown way", imageOf(Buffer.from("LRZIlrzip"))],
  ["is of a boot protocol without a payload", imageOf(gzipSync(PVH), { size: 0, version: 0x207 })],
  ["is cut short", pack(PVH).subarray(0, 1100)],
  ["is no bzImage", Buffer.alloc(2048)],
  ["is empty", Buffer.alloc(0)],
])("a kernel that %s is not unpacked", async (_, image) => {
  expect(await unpack(image)).toEqual(NOTHING);
});

test("a file that cannot be read contains no kernel", async () => {
  const folder = temporaryFolder();
  mkdirSync(join(folder, "folder"));
  expect(await unpackVmlinux(join(folder, "none"), join(folder, "x"))).toBe(false);
  expect(await unpackVmlinux(join(folder, "folder"), join(folder, "x"))).toBe(false);
});
