/**
 * The disk space of the cache, and the removal of entries, least recently used first. cache.ts implements the cache.
 */
import { lstat, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { LabError } from "../error.ts";
import { type LabCache, lastUse } from "./cache.ts";

/** An entry on the disk. */
export interface StoredEntry {
  /** Its kind: `kernels`, `guests`, `tools`. */
  readonly kind: string;
  readonly name: string;
  /** The disk space of the entry's files. */
  readonly bytes: number;
  readonly used: Date;
  /** The damage of the entry; absent if the entry is intact. */
  readonly damage: string | undefined;
}

/** The content of the cache. */
export interface CacheUsage {
  readonly root: string;
  /** The entries, sorted by last use, oldest first. */
  readonly entries: readonly StoredEntry[];
  /** The disk space of all entries. */
  readonly bytes: number;
  /** The disk space of the archive's lists and of unfinished downloads. */
  readonly otherBytes: number;
}

/** The files and folders of the archive's lists and downloads. */
const OTHERS = ["apt", "apt-source", "downloads", "catalogue.json"] as const;

/**
 * Lists the entries, including damaged ones.
 *
 * @param options.verify - whether to compare every file with its checksum.
 * @throws {@link LabError} `ERR_LAB_CACHE` if the cache cannot be read.
 */
export async function surveyCache(
  cache: LabCache,
  options: { readonly verify?: boolean | undefined } = {},
): Promise<CacheUsage> {
  const entries: StoredEntry[] = [];
  for (const kind of await cache.kinds()) {
    for (const name of await cache.names(kind)) {
      const path = join(cache.root, kind, name);
      // A folder without a manifest is not an entry of the lab.
      const used = await lastUse(path);
      if (used === undefined) continue;
      const damage = await damageOf(cache, kind, name, options.verify === true);
      entries.push({ kind, name, bytes: await diskUsage(path), used, damage });
    }
  }
  const others = await Promise.all(OTHERS.map((name) => diskUsage(join(cache.root, name))));
  return {
    root: cache.root,
    entries: entries.toSorted((a, b) => a.used.getTime() - b.used.getTime()),
    bytes: sum(entries.map(({ bytes }) => bytes)),
    otherBytes: sum(others),
  };
}

/**
 * Removes entries, the least recently used first, until the remaining entries need at most `most` bytes.
 *
 * The function also removes the temporary files of killed processes. A running machine no longer needs the entries from
 * which it was started, but a machine that is starting may fail if its entry is removed.
 *
 * @returns the removed entries.
 */
export async function pruneCache(cache: LabCache, most: number): Promise<readonly StoredEntry[]> {
  await cache.sweep();
  const { entries, bytes } = await surveyCache(cache);
  const removed: StoredEntry[] = [];
  let left = bytes;
  for (const entry of entries) {
    if (left <= most) break;
    await cache.remove(entry.kind, entry.name);
    left -= entry.bytes;
    removed.push(entry);
  }
  return removed;
}

/**
 * Removes all entries, the archive's lists and unfinished downloads; waits for a running download.
 *
 * @returns the removed entries.
 */
export async function emptyCache(
  cache: LabCache,
  signal?: AbortSignal,
): Promise<readonly StoredEntry[]> {
  // In a folder that the lab has not used yet, downloads/ does not belong to the lab.
  if (!(await cache.isUsed())) return [];
  await using _lock = await cache.lock("archive", signal);
  const removed = await pruneCache(cache, -1);
  for (const name of OTHERS) await rm(join(cache.root, name), { recursive: true, force: true });
  return removed;
}

async function damageOf(
  cache: LabCache,
  kind: string,
  name: string,
  verify: boolean,
): Promise<string | undefined> {
  // find() does not record a use of the entry.
  try {
    const entry = await cache.find(kind, name);
    if (verify && entry !== undefined) await cache.compare(entry);
    return undefined;
  } catch (error) {
    if (error instanceof LabError && error.code === "ERR_LAB_DAMAGED") return error.message;
    throw error;
  }
}

/** Returns the disk space of a file or a folder with its content; files can have holes. */
async function diskUsage(path: string): Promise<number> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return 0;
  const own = found.blocks * 512;
  if (!found.isDirectory()) return own;
  const names = await readdir(path).catch(() => []);
  return own + sum(await Promise.all(names.map((name) => diskUsage(join(path, name)))));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
