/** What the cache takes on the disk, and making room: least recently used first. How it works is cache.ts. */
import { lstat, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { LabError } from "../error.ts";
import { type LabCache, lastUse } from "./cache.ts";

/** An entry as it lies on the disk. */
export interface StoredEntry {
  /** What it is one of: `kernels`, `guests`, `tools`. */
  readonly kind: string;
  readonly name: string;
  /** What its files take on the disk. */
  readonly bytes: number;
  readonly used: Date;
  /** What is wrong with it. */
  readonly damage: string | undefined;
}

/** All that the cache holds. */
export interface CacheUsage {
  readonly root: string;
  /** The least recently used first. */
  readonly entries: readonly StoredEntry[];
  /** What the entries take together. */
  readonly bytes: number;
  /** What the archive's lists and unfinished downloads take. */
  readonly otherBytes: number;
}

/** The folders and files beside the entries that the archive's lists and downloads are in. */
const OTHERS = ["apt", "apt-source", "downloads", "catalogue.json"] as const;

/**
 * Lists the entries, also damaged ones.
 *
 * @param options.verify - whether to compare every file with its checksum.
 * @throws {@link LabError} `ERR_LAB_CACHE` when the cache cannot be read.
 */
export async function surveyCache(
  cache: LabCache,
  options: { readonly verify?: boolean | undefined } = {},
): Promise<CacheUsage> {
  const entries: StoredEntry[] = [];
  for (const kind of await cache.kinds()) {
    for (const name of await cache.names(kind)) {
      const path = join(cache.root, kind, name);
      // Only what has a manifest is an entry; what else lies there is somebody's own.
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
 * Removes entries until the others take at most so much, the least recently used first.
 *
 * What killed processes left goes, too. A machine that has started needs its entries no more; one that
 * is just starting may fail.
 * @returns what was removed.
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
 * Removes all entries, the archive's lists and unfinished downloads; waits for a download to end.
 *
 * @returns what was removed of entries.
 */
export async function emptyCache(
  cache: LabCache,
  signal?: AbortSignal,
): Promise<readonly StoredEntry[]> {
  // In a folder that the lab has not used yet, downloads/ is somebody else's.
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
  // Looking at an entry is no use of it.
  try {
    const entry = await cache.find(kind, name);
    if (verify && entry !== undefined) await cache.compare(entry);
    return undefined;
  } catch (error) {
    if (error instanceof LabError && error.code === "ERR_LAB_DAMAGED") return error.message;
    throw error;
  }
}

/** What a file, or a folder with all in it, takes on the disk; files can have holes. */
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
