/** The manifest of a cache entry: the size and checksum of each file. cache.ts determines the paths of entries. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { lstat, open, readdir, readFile, readlink, stat } from "node:fs/promises";
import { join, relative } from "node:path";
import { LabError } from "../error.ts";

/** The name of the manifest in an entry's folder. */
export interface Manifest {
  readonly format: 1;
  /** The properties that the builder stored. */
  readonly about: Readonly<Record<string, string>>;
  /** The files by path inside the entry. */
  readonly files: Readonly<Record<string, { readonly bytes: number; readonly sha256: string }>>;
  /** The target of each symbolic link, by path inside the entry; omitted if there is none. */
  readonly links?: Readonly<Record<string, string>>;
}

/** Syncs every file below a folder, and returns the size and checksum of each file. */
export async function makeManifest(folder: string, about: Manifest["about"]): Promise<Manifest> {
  const files: Record<string, { bytes: number; sha256: string }> = {};
  const links: Record<string, string> = {};
  for (const name of await namesBelow(folder)) {
    const path = join(folder, name);
    const found = await lstat(path);
    if (found.isSymbolicLink()) {
      links[name] = await readlink(path);
    } else if (found.isFile()) {
      await fsync(path);
      files[name] = { bytes: found.size, sha256: await sha256(path) };
    }
  }
  return { format: 1, about, files, ...(Object.keys(links).length === 0 ? {} : { links }) };
}

/**
 * Reads an entry's manifest; returns `undefined` if the entry does not exist.
 *
 * @throws {@link LabError} `ERR_LAB_DAMAGED` if the entry exists and its manifest is invalid.
 */
export async function readManifest(folder: string, path: string): Promise<Manifest | undefined> {
  try {
    const manifest: unknown = JSON.parse(await readFile(path, "utf8"));
    if (isManifest(manifest)) return manifest;
  } catch (error) {
    const isThere = await stat(folder).catch(whyUnreadable(folder));
    if (isThere === undefined) return undefined;
    throw damaged(path, "cannot be read", error);
  }
  throw damaged(path, "is not a valid manifest");
}

/**
 * Compares the files of an entry with its manifest.
 *
 * @param own - the path of the manifest, which does not list itself.
 * @throws {@link LabError} `ERR_LAB_DAMAGED` with the first file that differs, is missing, or is not in the
 *   manifest.
 */
export async function checkFiles(folder: string, manifest: Manifest, own: string): Promise<void> {
  const links = manifest.links ?? {};
  for (const name of await namesBelow(folder)) {
    const isKnown =
      name === own || Object.hasOwn(manifest.files, name) || Object.hasOwn(links, name);
    if (!isKnown) throw damaged(join(folder, name), "was not in the entry when the lab built it");
  }
  for (const [name, target] of Object.entries(links)) {
    const path = join(folder, name);
    const found = await readlink(path).catch(() => undefined);
    if (found !== target) throw damaged(path, `does not link to ${target}`);
  }
  for (const [name, { bytes, sha256: expected }] of Object.entries(manifest.files)) {
    const path = join(folder, name);
    const found = await lstat(path).catch(() => undefined);
    if (found === undefined) throw damaged(path, "is missing");
    if (!found.isFile()) throw damaged(path, "is no longer a regular file");
    if (found.size !== bytes) throw damaged(path, `has ${found.size} bytes instead of ${bytes}`);
    if ((await sha256(path)) !== expected) throw damaged(path, "has another checksum");
  }
}

/**
 * Summarises the state of an entry without reading its files: manifest, names, inodes, sizes and times.
 *
 * Every write to a file changes the time of its inode (ctime), which cannot be set.
 */
export async function stampFiles(folder: string, manifest: Manifest, own: string): Promise<string> {
  const stamps: unknown[] = [manifest];
  for (const name of await namesBelow(folder)) {
    const found = await lstat(join(folder, name), { bigint: true }).catch(() => undefined);
    // The modification time of the manifest is the time of the last use.
    if (name !== own) stamps.push([name, found?.ino, found?.size, found?.ctimeNs].map(String));
  }
  return JSON.stringify(stamps);
}

/** Computes a file's SHA-256, in hexadecimal. */
export async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 }))
    hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/** Syncs a file, or the names in a folder, to the disk. */
export async function fsync(path: string): Promise<void> {
  const file = await open(path);
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Lists the paths of everything below a folder except folders, sorted. */
async function namesBelow(folder: string): Promise<readonly string[]> {
  const found = await readdir(folder, { withFileTypes: true, recursive: true });
  return found
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .toSorted();
}

/** Ignores a missing file; rejects with other errors as `ERR_LAB_CACHE`. */
function whyUnreadable(folder: string): (error: NodeJS.ErrnoException) => undefined {
  return (error) => {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return undefined;
    const remedy = "name another folder with NODE_KVM_CACHE";
    const sentence = `the cache entry ${folder} cannot be read (${error.code}); ${remedy}`;
    throw new LabError("ERR_LAB_CACHE", sentence, error);
  };
}

function damaged(path: string, how: string, cause?: unknown): LabError {
  return new LabError("ERR_LAB_DAMAGED", `${path} is damaged: it ${how}`, cause);
}

function isManifest(value: unknown): value is Manifest {
  if (typeof value !== "object" || value === null) return false;
  const { format, about, files } = value as Partial<Record<keyof Manifest, unknown>>;
  return format === 1 && isRecord(about) && isRecord(files) && Object.values(files).every(isRecord);
}

function isRecord(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
