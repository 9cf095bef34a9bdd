/**
 * The lab's folder of things that were costly to get: entries that are there whole or not at all.
 * What an entry holds is for those who build it (kernels.ts); who left a file behind is owner.ts.
 *
 *     <root>/<kind>/<name>/manifest.json   an entry; the manifest has the checksum of each file
 *     <root>/building/<mark>.<n>/          what a process is working on
 *     <root>/locks/<name>                  which process has a lock
 */
import { randomUUID } from "node:crypto";
import {
  link,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  statfs,
  unlink,
  writeFile,
} from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { diskFull, throwIfAborted } from "./command.ts";
import { LabError } from "./error.ts";
import { checkFiles, fsync, type Manifest, makeManifest, readManifest } from "./manifest.ts";
import { isAbandoned, ownMark } from "./owner.ts";

/** One thing in the cache. */
export interface CacheEntry {
  /** What it is one of: `"kernels"`. */
  readonly kind: string;
  readonly name: string;
  /** Its folder. Nothing in it may be changed. */
  readonly path: string;
  /** The size of its files together. */
  readonly bytes: number;
  /** What its builder wrote down about it. */
  readonly about: Readonly<Record<string, string>>;
}

/** How an entry is built. */
export interface BuildOptions {
  readonly signal?: AbortSignal | undefined;
  /** Whether an entry that is there is replaced; otherwise it stays, and is what is returned. */
  readonly replace?: boolean | undefined;
}

/** A folder that is removed when its user is done. */
export interface Scratch extends AsyncDisposable {
  readonly path: string;
}

const MANIFEST = "manifest.json";
const OWN_FOLDERS: readonly string[] = ["building", "locks"];
const LOCK_POLL_MS = 200;

/** The cache: a folder of atomic, checksummed entries that several processes may use at once. */
export class LabCache {
  /** The folder. */
  readonly root: string;

  /** Names the folder; it is made when something is put there. */
  constructor(root: string) {
    this.root = root;
  }

  /** Finds the user's: `$NODE_KVM_CACHE`, else `node-kvm` in `$XDG_CACHE_HOME` or `~/.cache`. */
  static default(): LabCache {
    const own = process.env["NODE_KVM_CACHE"] ?? "";
    const shared = process.env["XDG_CACHE_HOME"] ?? "";
    if (own !== "") return new LabCache(own);
    return new LabCache(join(shared === "" ? join(homedir(), ".cache") : shared, "node-kvm"));
  }

  /** Gives a folder for work that a later process goes on with: lists, unfinished downloads. */
  async folder(...names: readonly string[]): Promise<string> {
    const path = join(this.root, ...names);
    await this.#writing(() => mkdir(path, { recursive: true }));
    return path;
  }

  /**
   * Makes sure that the disk has room for so much more.
   *
   * @throws {@link LabError} `ERR_LAB_DISK_FULL`, before anything is begun.
   */
  async need(bytes: number, what: string): Promise<void> {
    const { bavail, bsize } = await statfs(await this.folder());
    if (bavail * bsize >= bytes) return;
    const [free, needed] = [bavail * bsize, bytes].map((size) => `${Math.ceil(size / 1e6)} MB`);
    const sentence = `${what} needs ${needed}, and the disk of ${this.root} has ${free}`;
    const remedy = "make room, or name a folder on another disk with NODE_KVM_CACHE";
    throw new LabError("ERR_LAB_DISK_FULL", `${sentence}; ${remedy}`);
  }

  /** Writes a small file of the root, whole or not at all. */
  async write(name: string, text: string): Promise<void> {
    await using scratch = await this.scratch();
    const path = join(scratch.path, "file");
    await this.#writing(async () => {
      await writeFile(path, text, { mode: 0o600, flush: true });
      await rename(path, join(this.root, name));
    });
  }

  /**
   * Finds an entry, without reading its files.
   *
   * @throws {@link LabError} `ERR_LAB_DAMAGED` when its manifest cannot be read.
   */
  async find(kind: string, name: string): Promise<CacheEntry | undefined> {
    const path = join(this.root, kind, checkName(name));
    const manifest = await readManifest(path, join(path, MANIFEST));
    return manifest === undefined ? undefined : toEntry(kind, name, path, manifest);
  }

  /**
   * Compares every file of an entry with its checksum.
   *
   * @throws {@link LabError} `ERR_LAB_DAMAGED`, naming the first file that differs or is missing.
   */
  async verify(entry: CacheEntry): Promise<void> {
    const manifest = await readManifest(entry.path, join(entry.path, MANIFEST));
    if (manifest === undefined) {
      throw new LabError("ERR_LAB_DAMAGED", `${entry.path} is gone: it was removed while in use`);
    }
    await checkFiles(entry.path, manifest);
  }

  /** Lists the names of a kind's entries, also of damaged ones. */
  async names(kind: string): Promise<readonly string[]> {
    return (await list(join(this.root, kind))).toSorted();
  }

  /** Says how large each entry is, and all together; a damaged one counts as nothing. */
  async size(): Promise<{ readonly bytes: number; readonly entries: readonly CacheEntry[] }> {
    const entries: CacheEntry[] = [];
    for (const kind of await list(this.root)) {
      if (OWN_FOLDERS.includes(kind)) continue;
      for (const name of await list(join(this.root, kind))) {
        const entry = await this.find(kind, name).catch(ifDamaged);
        if (entry !== undefined) entries.push(entry);
      }
    }
    return { bytes: entries.reduce((sum, { bytes }) => sum + bytes, 0), entries };
  }

  /**
   * Builds an entry: `fill` puts its files into a folder aside, which is then moved into place.
   *
   * When `fill` fails, or the process dies, nothing of it is ever seen. `fill` returns what is to
   * be written down about it.
   */
  async build(
    kind: string,
    name: string,
    fill: (folder: string) => Promise<Readonly<Record<string, string>>>,
    options: BuildOptions = {},
  ): Promise<CacheEntry> {
    const path = join(await this.folder(kind), checkName(name));
    await using scratch = await this.scratch();
    const fresh = join(scratch.path, "new");
    // Awaited here: the scratch folder goes when this function returns.
    return await this.#writing(async () => {
      await mkdir(fresh);
      const about = await fill(fresh);
      const manifest = await makeManifest(fresh, about);
      await writeFile(join(fresh, MANIFEST), JSON.stringify(manifest, null, 2), { flush: true });
      await fsync(fresh);
      throwIfAborted(options.signal);
      if (options.replace === true) await move(path, join(scratch.path, "old"));
      await move(fresh, path);
      await fsync(join(this.root, kind));
      return (await this.find(kind, name)) ?? toEntry(kind, name, path, manifest);
    });
  }

  /** Removes an entry, if it is there. */
  async remove(kind: string, name: string): Promise<void> {
    await using scratch = await this.scratch();
    await this.#writing(() =>
      move(join(this.root, kind, checkName(name)), join(scratch.path, "old")),
    );
  }

  /** Makes an empty folder beside the entries, and clears away those of processes that died. */
  async scratch(): Promise<Scratch> {
    await this.sweep();
    const path = await this.folder("building", `${ownMark()}.${randomUUID()}`);
    return {
      path,
      [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
    };
  }

  /** Waits until no other user of this cache, in any process, has the lock of this name. */
  async lock(name: string, signal?: AbortSignal): Promise<AsyncDisposable> {
    const path = join(await this.folder("locks"), checkName(name));
    // A link either makes the lock with its owner's mark in it, or fails.
    const draft = `${path}.${randomUUID()}`;
    await this.#writing(() => writeFile(draft, ownMark()));
    try {
      while (!(await take(draft, path))) {
        throwIfAborted(signal);
        await sleep(LOCK_POLL_MS, undefined, signal === undefined ? {} : { signal }).catch(() =>
          throwIfAborted(signal),
        );
      }
    } finally {
      await unlink(draft);
    }
    return { [Symbol.asyncDispose]: () => rm(path, { force: true }) };
  }

  /** Removes what processes that are no longer there left half-done. */
  async sweep(): Promise<void> {
    const building = join(this.root, "building");
    for (const name of await list(building)) {
      const path = join(building, name);
      const [mark = ""] = name.split(".");
      if (await isAbandoned(path, mark)) await rm(path, { recursive: true, force: true });
    }
  }

  async #writing<T>(write: () => Promise<T>): Promise<T> {
    try {
      return await write();
    } catch (error) {
      throw writeError(this.root, error);
    }
  }
}

/** Says in the lab's words why a folder cannot be written; an error of another kind stays as it is. */
function writeError(root: string, error: unknown): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOSPC" || code === "EDQUOT") return diskFull(`the cache ${root}`, error);
  const denied = ["EACCES", "EPERM", "EROFS", "ENOTDIR"].includes(String(code));
  if (!denied) return error;
  const remedy = "name a folder of yours with NODE_KVM_CACHE";
  return new LabError("ERR_LAB_CACHE", `${root} cannot be written (${code}); ${remedy}`, error);
}

function toEntry(kind: string, name: string, path: string, manifest: Manifest): CacheEntry {
  const bytes = Object.values(manifest.files).reduce((sum, file) => sum + file.bytes, 0);
  return { kind, name, path, bytes, about: manifest.about };
}

function checkName(name: string): string {
  if (/^\w[\w.+~:-]*$/.test(name)) return name;
  throw new LabError("ERR_LAB_CACHE", `"${name}" cannot be the name of a cache entry`);
}

function ifDamaged(error: unknown): undefined {
  if (!(error instanceof LabError && error.code === "ERR_LAB_DAMAGED")) throw error;
}

async function list(folder: string): Promise<readonly string[]> {
  try {
    const found = await readdir(folder, { withFileTypes: true });
    return found.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  } catch (error) {
    if (hasCode(error, "ENOENT")) return [];
    throw error;
  }
}

/** Moves a folder; when it is not there, or another process was first, all is as it should be. */
async function move(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if (!hasCode(error, "ENOENT", "ENOTEMPTY", "EEXIST")) throw error;
  }
}

async function take(draft: string, path: string): Promise<boolean> {
  try {
    await link(draft, path);
    return true;
  } catch (error) {
    if (!hasCode(error, "EEXIST")) throw error;
  }
  const mark = await readFile(path, "utf8").catch(() => undefined);
  if (mark !== undefined && (await isAbandoned(path, mark))) await bury(path, mark);
  return false;
}

/** Removes a dead owner's lock, unless another process was first and the lock is now its own. */
async function bury(path: string, mark: string): Promise<void> {
  const grave = `${path}.${randomUUID()}`;
  try {
    await rename(path, grave);
    if ((await readFile(grave, "utf8")) !== mark) await link(grave, path);
    await unlink(grave);
  } catch (error) {
    if (!hasCode(error, "ENOENT", "EEXIST")) throw error;
  }
}

function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && "code" in error && codes.includes(String(error.code));
}
