/** What a cache entry should hold: each file's size and checksum. Where entries lie is cache.ts. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, readdir, readFile, stat } from "node:fs/promises";
import { join, relative } from "node:path";
import { LabError } from "./error.ts";

/** The file of an entry that tells about the others. */
export interface Manifest {
  readonly format: 1;
  /** What the builder wrote down. */
  readonly about: Readonly<Record<string, string>>;
  /** By path inside the entry. */
  readonly files: Readonly<Record<string, { readonly bytes: number; readonly sha256: string }>>;
}

/** Reads every file below a folder, puts it to the disk, and writes down its size and checksum. */
export async function makeManifest(folder: string, about: Manifest["about"]): Promise<Manifest> {
  const files: Record<string, { bytes: number; sha256: string }> = {};
  for (const path of await filesBelow(folder)) {
    await fsync(path);
    const { size } = await stat(path);
    files[relative(folder, path)] = { bytes: size, sha256: await sha256(path) };
  }
  return { format: 1, about, files };
}

/**
 * Reads an entry's manifest; `undefined` when there is no such entry.
 *
 * @throws {@link LabError} `ERR_LAB_DAMAGED` when the entry is there and its manifest is not whole.
 */
export async function readManifest(folder: string, path: string): Promise<Manifest | undefined> {
  try {
    const manifest: unknown = JSON.parse(await readFile(path, "utf8"));
    if (isManifest(manifest)) return manifest;
  } catch (error) {
    const isThere = await stat(folder).catch(() => undefined);
    if (isThere === undefined) return undefined;
    throw damaged(path, "cannot be read", error);
  }
  throw damaged(path, "is not a manifest");
}

/**
 * Compares the files of an entry with its manifest.
 *
 * @throws {@link LabError} `ERR_LAB_DAMAGED`, naming the first that differs or is missing.
 */
export async function checkFiles(folder: string, manifest: Manifest): Promise<void> {
  for (const [name, { bytes, sha256: expected }] of Object.entries(manifest.files)) {
    const path = join(folder, name);
    const found = await stat(path).catch(() => undefined);
    if (found === undefined) throw damaged(path, "is missing");
    if (found.size !== bytes) throw damaged(path, `has ${found.size} bytes instead of ${bytes}`);
    if ((await sha256(path)) !== expected) throw damaged(path, "has another checksum");
  }
}

/** Computes a file's SHA-256, in hexadecimal. */
export async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/** Puts a file, or a folder's list of names, to the disk. */
export async function fsync(path: string): Promise<void> {
  const file = await open(path);
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

async function filesBelow(folder: string): Promise<readonly string[]> {
  const found = await readdir(folder, { withFileTypes: true, recursive: true });
  return found
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted();
}

function damaged(path: string, how: string, cause?: unknown): LabError {
  return new LabError("ERR_LAB_DAMAGED", `${path} is damaged: it ${how}`, cause);
}

function isManifest(value: unknown): value is Manifest {
  if (typeof value !== "object" || value === null) return false;
  const { format, about, files } = value as Partial<Record<keyof Manifest, unknown>>;
  return format === 1 && isRecord(about) && isRecord(files);
}

function isRecord(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}
