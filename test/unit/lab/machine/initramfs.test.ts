/** Tests of initramfs archives: a kernel can unpack them. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import {
  encodeInitramfs,
  type InitramfsEntry,
  writeInitramfs,
} from "../../../../lib/lab/machine/initramfs.ts";

const FIELDS = [
  ...["ino", "mode", "uid", "gid", "nlink", "mtime", "size", "devmajor", "devminor"],
  ...["rdevmajor", "rdevminor", "namesize", "check"],
] as const;

interface Member {
  readonly name: string;
  readonly fields: Readonly<Record<string, number>>;
  readonly body: string;
}

const align = (offset: number): number => (offset + 3) & ~3;

/** Reads an archive by the same rules as the kernel (init/initramfs.c). */
function read(bytes: Buffer): readonly Member[] {
  const members: Member[] = [];
  for (let at = 0; at < bytes.length; ) {
    expect(bytes.toString("latin1", at, at + 6)).toBe("070701");
    const fields = Object.fromEntries(
      FIELDS.map((name, i) => {
        const digits = bytes.toString("latin1", at + 6 + i * 8, at + 14 + i * 8);
        return [name, Number.parseInt(digits, 16)];
      }),
    );
    const start = at + 110;
    const name = bytes.toString("utf8", start, start + (fields["namesize"] ?? 0) - 1);
    const body = align(start + (fields["namesize"] ?? 0));
    const end = body + (fields["size"] ?? 0);
    if (name === "TRAILER!!!") return members;
    members.push({ name, fields, body: bytes.toString("latin1", body, end) });
    at = align(end);
  }
  throw new Error("no trailer");
}

async function encode(entries: readonly InitramfsEntry[]): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of encodeInitramfs(entries)) pieces.push(piece);
  return Buffer.concat(pieces);
}

const folder = mkdtempSync(join(tmpdir(), "initramfs-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("an initramfs has files, folders, symlinks and devices with their types, modes and contents", async () => {
  const members = read(
    await encode([
      { kind: "directory", path: "/tmp", mode: 0o1777 },
      { kind: "file", path: "/init", content: Buffer.from("#!/bin/sh\n"), mode: 0o755 },
      { kind: "symlink", path: "/sh", target: "init" },
      { kind: "device", path: "/console", type: "character", major: 5, minor: 1 },
      { kind: "device", path: "/disk", type: "block", major: 259, minor: 2, mode: 0o660 },
    ]),
  );
  expect(
    members.map(({ name, fields, body }) => [name, fields["mode"]?.toString(8), body]),
  ).toEqual([
    ["tmp", "41777", ""],
    ["init", "100755", "#!/bin/sh\n"],
    ["sh", "120777", "init"],
    ["console", "20600", ""],
    ["disk", "60660", ""],
  ]);
  expect(members.map(({ fields }) => [fields["rdevmajor"], fields["rdevminor"]])).toEqual([
    ...[
      [0, 0],
      [0, 0],
      [0, 0],
    ],
    ...[
      [5, 1],
      [259, 2],
    ],
  ]);
});

test("an initramfs contains each parent folder once, before the folder's content", async () => {
  const members = read(
    await encode([
      { kind: "file", path: "/a/b/c", content: new Uint8Array() },
      { kind: "file", path: "/a/b/d", content: new Uint8Array() },
    ]),
  );
  expect(members.map(({ name }) => name)).toEqual(["a", "a/b", "a/b/c", "a/b/d"]);
});

test("an initramfs has no two entries with the same inode", async () => {
  const members = read(
    await encode([
      { kind: "file", path: "/a", content: Buffer.from("1") },
      { kind: "file", path: "/b", content: Buffer.from("2") },
    ]),
  );
  expect(members.map(({ fields }) => fields["nlink"])).toEqual([1, 1]);
  expect(new Set(members.map(({ fields }) => fields["ino"])).size).toBe(2);
});

test("an initramfs preserves random bytes under any name, and another initramfs may follow it", async () => {
  const name = fc.stringMatching(/^[a-zà-ü0-9 _.-]{1,20}$/).filter((text) => !/^\.\.?$/.test(text));
  const files = fc.uniqueArray(fc.tuple(name, fc.uint8Array({ maxLength: 40 })), {
    selector: ([path]) => path,
  });
  await fc.assert(
    fc.asyncProperty(files, async (list) => {
      const bytes = await encode(
        list.map(([path, content]) => ({ kind: "file", path: `/${path}`, content })),
      );
      expect(bytes.length % 512).toBe(0);
      expect(read(bytes).map(({ name: path, body }) => [path, body])).toEqual(
        list.map(([path, content]) => [path, Buffer.from(content).toString("latin1")]),
      );
    }),
    { numRuns: 50 },
  );
});

test("a host file's bytes are read when the initramfs is packed", async () => {
  writeFileSync(join(folder, "source"), "from the host");
  await writeInitramfs(join(folder, "archive"), [
    { kind: "file", path: "/copy", content: { from: join(folder, "source") } },
  ]);
  expect(read(readFileSync(join(folder, "archive")))).toMatchObject([
    { name: "copy", body: "from the host" },
  ]);
});

test.each(["relative", "/up/../there", "/double//slash", "/."])(
  "%s is rejected as the path of an entry",
  async (path) => {
    await expect(encode([{ kind: "directory", path }])).rejects.toThrow(
      "not an absolute, plain path",
    );
  },
);
