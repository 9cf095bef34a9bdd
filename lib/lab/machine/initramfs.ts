/**
 * Encodes the archive that a kernel unpacks as its first root, in the cpio format "newc". guest.ts lists the content.
 *
 * One file may contain several archives; a later entry replaces an earlier entry of the same name. The archives are not
 * compressed: QEMU copies them into memory, and the guest would need a second to unpack gzip.
 */
import { createReadStream } from "node:fs";
import { type FileHandle, open, readFile } from "node:fs/promises";
import { posix } from "node:path";

/** An entry of an archive. Paths are absolute; missing parents are created. */
export type InitramfsEntry =
  | { readonly kind: "directory"; readonly path: string; readonly mode?: number }
  | {
      readonly kind: "file";
      readonly path: string;
      /** The content of the entry: bytes, or the path of the host file that contains them. */
      readonly content: Uint8Array | { readonly from: string };
      readonly mode?: number;
    }
  | { readonly kind: "symlink"; readonly path: string; readonly target: string }
  | {
      readonly kind: "device";
      readonly path: string;
      readonly type: "character" | "block";
      readonly major: number;
      readonly minor: number;
      readonly mode?: number;
    };

/** Returns the host file of an entry, if it has one. */
export function hostFile(entry: InitramfsEntry): readonly string[] {
  return entry.kind === "file" && !(entry.content instanceof Uint8Array)
    ? [entry.content.from]
    : [];
}

/** The file types of `st_mode`, as cpio stores them. */
const TYPE = { directory: 0o040000, file: 0o100000, symlink: 0o120000 } as const;
const DEVICE = { character: 0o020000, block: 0o060000 } as const;

/**
 * The fixed-size header of an entry: "070701" and thirteen fields of eight hexadecimal digits
 * (Documentation/driver-api/early-userspace).
 */
const MAGIC = "070701";
const TRAILER = "TRAILER!!!";
/** Archives are padded to a multiple of this size, as by cpio. */
const BLOCK = 512;

/** Encodes one archive in pieces; the last piece includes the end mark. */
export async function* encodeInitramfs(
  entries: Iterable<InitramfsEntry>,
): AsyncGenerator<Uint8Array> {
  let length = 0;
  let ino = 0;
  const piece = (bytes: Uint8Array): Uint8Array => {
    length += bytes.length;
    return bytes;
  };
  for (const entry of withParents(entries)) {
    const body = await bodyOf(entry);
    ino += 1;
    yield piece(header(entry.path.slice(1), { ...numbersOf(entry), ino, size: body.length }));
    yield piece(body);
    yield piece(new Uint8Array(padding(body.length, 4)));
  }
  yield piece(header(TRAILER, { mode: 0, ino: 0, size: 0 }));
  yield piece(new Uint8Array(padding(length, BLOCK)));
}

/** Appends one archive to an open file. */
export async function appendInitramfs(
  file: FileHandle,
  entries: Iterable<InitramfsEntry>,
): Promise<void> {
  for await (const bytes of encodeInitramfs(entries)) await file.writeFile(bytes);
}

/** Appends an existing archive. */
export async function appendFile(file: FileHandle, path: string): Promise<void> {
  for await (const bytes of createReadStream(path, { highWaterMark: 2 ** 20 })) {
    await file.writeFile(bytes as Buffer);
  }
}

/** Writes one archive as a new file. */
export async function writeInitramfs(
  path: string,
  entries: Iterable<InitramfsEntry>,
): Promise<void> {
  const file = await open(path, "w");
  try {
    await appendInitramfs(file, entries);
  } finally {
    await file.close();
  }
}

/** Inserts a directory before the first entry that needs it. */
function* withParents(entries: Iterable<InitramfsEntry>): Generator<InitramfsEntry> {
  const known = new Set(["/"]);
  for (const entry of entries) {
    if (!posix.isAbsolute(entry.path) || posix.normalize(entry.path) !== entry.path) {
      throw new TypeError(`initramfs: not an absolute, plain path: ${entry.path}`);
    }
    for (const path of parentsOf(entry.path)) {
      if (!known.has(path)) yield { kind: "directory", path };
      known.add(path);
    }
    known.add(entry.path);
    yield entry;
  }
}

function parentsOf(path: string): readonly string[] {
  const names = path.split("/").slice(1, -1);
  return names.map((_, i) => `/${names.slice(0, i + 1).join("/")}`);
}

async function bodyOf(entry: InitramfsEntry): Promise<Uint8Array> {
  if (entry.kind === "symlink") return Buffer.from(entry.target);
  if (entry.kind !== "file") return new Uint8Array();
  return entry.content instanceof Uint8Array ? entry.content : readFile(entry.content.from);
}

interface Numbers {
  readonly mode: number;
  readonly major?: number;
  readonly minor?: number;
}

function numbersOf(entry: InitramfsEntry): Numbers {
  switch (entry.kind) {
    case "directory":
      return { mode: TYPE.directory | (entry.mode ?? 0o755) };
    case "file":
      return { mode: TYPE.file | (entry.mode ?? 0o644) };
    case "symlink":
      return { mode: TYPE.symlink | 0o777 };
    case "device":
      return {
        mode: DEVICE[entry.type] | (entry.mode ?? 0o600),
        major: entry.major,
        minor: entry.minor,
      };
    default:
      return entry satisfies never;
  }
}

function header(
  name: string,
  n: Numbers & { readonly ino: number; readonly size: number },
): Uint8Array {
  const bytes = Buffer.from(`${name}\0`);
  // Each entry has one link, because the kernel treats two entries of one inode as one file.
  const fields = [n.ino, n.mode, 0, 0, 1, 0, n.size, 0, 0, n.major ?? 0, n.minor ?? 0];
  const hex = [...fields, bytes.length, 0].map(hex8).join("");
  const length = MAGIC.length + hex.length + bytes.length;
  return Buffer.concat([Buffer.from(MAGIC + hex), bytes, new Uint8Array(padding(length, 4))]);
}

function hex8(value: number): string {
  if (value > 0xffff_ffff) throw new RangeError("initramfs: a file of 4 GiB or more does not fit");
  return value.toString(16).padStart(8, "0");
}

function padding(length: number, multiple: number): number {
  return (multiple - (length % multiple)) % multiple;
}
