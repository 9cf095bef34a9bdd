/**
 * The lab's cache on disk, whose entries are created atomically. manifest.ts handles the checksums of an entry,
 * file-lock.ts the locks, owner.ts the owners of temporary files, and usage.ts the sizes and the removal of entries.
 * The following files build entries of the cache and define their content: kernels/kernel-entry.ts, machine/guest.ts,
 * machine/snapshot.ts, bochs/build.ts.
 *
 * `<root>/<kind>/<name>/manifest.json` contains the checksum of each file of an entry; `<root>/building/<mark>.<n>/` is
 * an entry that a process is writing; `<root>/locks/<name>` is a lock that a process holds. Only the owner can access
 * the folders.
 */
import { randomUUID } from "node:crypto";
import {
  lstat,
  mkdir,
  readdir,
  rename,
  rm,
  stat,
  statfs,
  utimes,
  writeFile,
} from "node:fs/promises";
import { homedir, tmpdir, userInfo } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { LabError } from "../error.ts";
import { diskFull, throwIfAborted } from "../process/command.ts";
import { lockFile, removeFreeLocks } from "./file-lock.ts";
import {
  checkFiles,
  fsync,
  type Manifest,
  makeManifest,
  readManifest,
  stampFiles,
} from "./manifest.ts";
import { isAbandoned, ownMark } from "./owner.ts";

/** An entry of the cache. */
export interface CacheEntry {
  /** Its kind: `"kernels"`. */
  readonly kind: string;
  readonly name: string;
  /** The entry's folder, whose content must not be changed. */
  readonly path: string;
  /** The total size of the entry's files. */
  readonly bytes: number;
  /** The properties that the code that built the entry stored. */
  readonly about: Readonly<Record<string, string>>;
}

/** The options of {@link LabCache.build}. */
export interface BuildOptions {
  readonly signal?: AbortSignal | undefined;
  /** Whether an existing entry is replaced; otherwise the existing entry is returned. */
  readonly replace?: boolean | undefined;
}

/** A folder that is removed when it is disposed of. */
export interface Scratch extends AsyncDisposable {
  readonly path: string;
}

/** The file that lists an entry's files. The modification time of this file is the time of the entry's last use. */
export const MANIFEST = "manifest.json";
/** The folders of unfinished entries and of locks. */
const OWN_FOLDERS: readonly string[] = ["building", "locks"];
/** The names of locks: of the archive's lists, of a build of Bochs, of a machine that is being saved. */
const LOCK = /^(archive|build-bochs|snapshots\.[\w.+~-]+)$/;
/** The kinds of entries. Other folders below the root do not belong to the lab. */
const KINDS: readonly string[] = ["guests", "kernels", "snapshots", "tools"];
/** The names of the folders of {@link LabCache.scratch}: a mark of owner.ts and a UUID. */
const SCRATCH = /^(\d+-\d+-\d+)\.[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/;

/** The entries that this process has verified, each with the state of its files at that time. */
const verified = new Map<string, string>();

/** The cache: a folder with atomic, checksummed entries that several processes may use at the same time. */
export class LabCache {
  /** The folder, an absolute path. */
  readonly root: string;
  readonly #temporary: string;

  /**
   * Sets the folder, which is created when something is stored.
   *
   * @param root - a path; a relative one is resolved in the current working directory.
   * @param temporary - the folder for reproducible entries if the root is not writable.
   * @throws {@link LabError} `ERR_LAB_CACHE` if the path has a line break or another control character, which the
   *   configurations of apt and Bochs cannot contain.
   */
  constructor(root: string, temporary: string = tmpdir()) {
    this.root = resolve(root);
    this.#temporary = temporary;
    if (!/\p{Cc}/u.test(this.root)) return;
    const sentence = `the cache's path ${JSON.stringify(this.root)} has a control character`;
    throw new LabError("ERR_LAB_CACHE", `${sentence}; name another with NODE_KVM_CACHE`);
  }

  /**
   * Returns the user's cache: `$NODE_KVM_CACHE` if it is set; otherwise `node-kvm` in `$XDG_CACHE_HOME`, if this path
   * is absolute, or in `~/.cache`.
   *
   * @throws {@link LabError} `ERR_LAB_CACHE` if no variable is set and the user has no home folder.
   */
  static default(): LabCache {
    const own = process.env["NODE_KVM_CACHE"] ?? "";
    const shared = process.env["XDG_CACHE_HOME"] ?? "";
    if (own !== "") return new LabCache(own);
    return new LabCache(join(isAbsolute(shared) ? shared : join(home(), ".cache"), "node-kvm"));
  }

  /** Returns a folder for data that later processes reuse: package lists and partial downloads. */
  async folder(...names: readonly string[]): Promise<string> {
    const path = join(this.root, ...names);
    await this.#checkOwner();
    await this.#writing(() => mkdir(path, { recursive: true, mode: 0o700 }));
    return path;
  }

  /**
   * Returns the cache for reproducible entries: this cache, or, if it is not writable, a cache in the system's folder
   * for temporary files.
   *
   * @throws {@link LabError} `ERR_LAB_CACHE` if other users can access that folder.
   */
  async writable(): Promise<LabCache> {
    await this.#checkOwner();
    if (await isWritable(this.root)) return this;
    const user = process.geteuid?.() ?? 0;
    const spare = new LabCache(join(this.#temporary, `node-kvm-${user}`));
    await spare.folder();
    const found = await lstat(spare.root);
    if (found.isDirectory() && found.uid === user && (found.mode & 0o077) === 0) return spare;
    const sentence = `${this.root} cannot be written, and other users can access ${spare.root}, which would replace it`;
    throw new LabError("ERR_LAB_CACHE", `${sentence}; name another folder with NODE_KVM_CACHE`);
  }

  /**
   * Checks that the disk has enough free space.
   *
   * @throws {@link LabError} `ERR_LAB_DISK_FULL` if it has not.
   */
  async need(bytes: number, what: string): Promise<void> {
    const { bavail, bsize } = await statfs(await this.folder());
    if (bavail * bsize >= bytes) return;
    const [free, needed] = [bavail * bsize, bytes].map((size) => `${Math.ceil(size / 1e6)} MB`);
    const sentence = `${what} needs ${needed}, and the disk of ${this.root} has ${free}`;
    const remedy = "make room, or name a folder on another disk with NODE_KVM_CACHE";
    throw new LabError("ERR_LAB_DISK_FULL", `${sentence}; ${remedy}`);
  }

  /** Writes a small file of the root atomically. */
  async write(name: string, text: string): Promise<void> {
    await using scratch = await this.#scratchHere();
    const path = join(scratch.path, "file");
    await this.#writing(async () => {
      await writeFile(path, text, { mode: 0o600, flush: true });
      await rename(path, join(this.root, name));
    });
  }

  /**
   * Finds an entry, without reading its files.
   *
   * @throws {@link LabError} `ERR_LAB_DAMAGED` if its manifest cannot be read; `ERR_LAB_CACHE` if the cache cannot
   *   be read, or if root uses a cache that other users can write.
   */
  async find(kind: string, name: string): Promise<CacheEntry | undefined> {
    await this.#checkOwner();
    const path = join(this.root, kind, checkName(name));
    const manifest = await readManifest(path, join(path, MANIFEST));
    return manifest === undefined ? undefined : toEntry(kind, name, path, manifest);
  }

  /**
   * Compares every file of an entry with its checksum, and marks the entry as used.
   *
   * A process reads the files once, and again only if the size, the inode or a time of a file has changed.
   *
   * @throws {@link LabError} `ERR_LAB_DAMAGED` with the first file that differs, is missing, or is not in the
   *   manifest.
   */
  async verify(entry: CacheEntry): Promise<void> {
    await this.compare(entry);
    const now = new Date();
    await utimes(join(entry.path, MANIFEST), now, now).catch(() => undefined); // the cache is read-only
  }

  /** Does the same as {@link verify}, but does not mark the entry as used. */
  async compare(entry: CacheEntry): Promise<void> {
    const manifest = await readManifest(entry.path, join(entry.path, MANIFEST));
    if (manifest === undefined) {
      throw new LabError("ERR_LAB_DAMAGED", `${entry.path} is gone: it was removed while in use`);
    }
    const stamp = await stampFiles(entry.path, manifest, MANIFEST);
    if (verified.get(entry.path) !== stamp) await checkFiles(entry.path, manifest, MANIFEST);
    verified.set(entry.path, stamp);
  }

  /** Finds a reproducible entry and verifies it. */
  async findIntact(kind: string, name: string): Promise<CacheEntry | "damaged" | undefined> {
    try {
      const found = await this.find(kind, name);
      if (found !== undefined) await this.verify(found);
      return found;
    } catch (error) {
      if (error instanceof LabError && error.code === "ERR_LAB_DAMAGED") return "damaged";
      throw error;
    }
  }

  /** Lists the names of the entries of a kind, including damaged ones. */
  async names(kind: string): Promise<readonly string[]> {
    await this.#checkOwner();
    return (await list(join(this.root, kind))).toSorted();
  }

  /** Lists the kinds that have entries. */
  async kinds(): Promise<readonly string[]> {
    await this.#checkOwner();
    return (await list(this.root)).filter((kind) => KINDS.includes(kind)).toSorted();
  }

  /** Whether the lab has stored an entry in this folder before. */
  async isUsed(): Promise<boolean> {
    return (await list(this.root)).some(
      (name) => OWN_FOLDERS.includes(name) || KINDS.includes(name),
    );
  }

  /** Returns the size of each entry and their sum; a damaged entry counts as 0. */
  async size(): Promise<{ readonly bytes: number; readonly entries: readonly CacheEntry[] }> {
    const entries: CacheEntry[] = [];
    for (const kind of await this.kinds()) {
      for (const name of await list(join(this.root, kind))) {
        const entry = await this.find(kind, name).catch(ifDamaged);
        if (entry !== undefined) entries.push(entry);
      }
    }
    return { bytes: entries.reduce((sum, { bytes }) => sum + bytes, 0), entries };
  }

  /**
   * Builds an entry: `fill` writes its files into a temporary folder, which is then renamed.
   *
   * If `fill` fails, or the process dies, no entry is created. `fill` returns the properties that are stored in the
   * manifest.
   */
  async build(
    kind: string,
    name: string,
    fill: (folder: string) => Promise<Readonly<Record<string, string>>>,
    options: BuildOptions = {},
  ): Promise<CacheEntry> {
    const path = join(await this.folder(kind), checkName(name));
    await using scratch = await this.#scratchHere();
    const fresh = join(scratch.path, "new");
    // The promise is awaited before the return, because the scratch folder is removed when the function returns.
    return await this.#writing(async () => {
      await mkdir(fresh, { mode: 0o700 });
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

  /** Removes an entry, if it exists. */
  async remove(kind: string, name: string): Promise<void> {
    await using scratch = await this.#scratchHere();
    await this.#writing(() =>
      move(join(this.root, kind, checkName(name)), join(scratch.path, "old")),
    );
  }

  /**
   * Creates an empty temporary folder, and removes the temporary folders of processes that have died.
   *
   * The folder is in the root of the cache, or in the folder for temporary files if this cache is not writable.
   */
  async scratch(): Promise<Scratch> {
    return (await this.writable()).#scratchHere();
  }

  /**
   * Waits for the lock of this name, which excludes all processes that use this cache.
   *
   * @throws {@link LabError} `ERR_LAB_TOOL` if this machine has no flock(1).
   */
  async lock(name: string, signal?: AbortSignal): Promise<AsyncDisposable> {
    const path = join(await this.folder("locks"), checkName(name));
    return this.#writing(() => lockFile(path, signal));
  }

  /** Removes the temporary folders and locks of processes that have ended; other files remain. */
  async sweep(): Promise<void> {
    const building = join(this.root, "building");
    for (const name of await list(building)) {
      const path = join(building, name);
      const [, mark] = SCRATCH.exec(name) ?? [];
      if (mark !== undefined && (await isAbandoned(path, mark))) {
        await rm(path, { recursive: true, force: true });
      }
    }
    await removeFreeLocks(join(this.root, "locks"), (name) => LOCK.test(name));
  }

  async #scratchHere(): Promise<Scratch> {
    await this.sweep();
    const path = await this.folder("building", `${ownMark()}.${randomUUID()}`);
    return {
      path,
      [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
    };
  }

  /** Root executes files of the cache, so other users must not be able to write it. */
  async #checkOwner(): Promise<void> {
    if (process.geteuid?.() !== 0) return;
    const found = await stat(this.root).catch(() => undefined);
    if (found === undefined || (found.uid === 0 && (found.mode & 0o022) === 0)) return;
    const [who, remedy] =
      found.uid === 0
        ? ["can be written by others", `chmod go-w ${this.root}`]
        : [
            `belongs to user ${found.uid}`,
            "name a folder that belongs to root with NODE_KVM_CACHE",
          ];
    const sentence = `the cache ${this.root} ${who}: root does not use it`;
    throw new LabError("ERR_LAB_CACHE", `${sentence}; ${remedy}`);
  }

  async #writing<T>(write: () => Promise<T>): Promise<T> {
    try {
      return await write();
    } catch (error) {
      throw writeError(this.root, error);
    }
  }
}

const DENIED: readonly string[] = ["EACCES", "EPERM", "EROFS", "ENOTDIR", "ELOOP"];

/** Converts the system's error for a folder that cannot be written into a LabError; returns other errors unchanged. */
function writeError(root: string, error: unknown): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOSPC" || code === "EDQUOT") return diskFull(`the cache ${root}`, error);
  if (!DENIED.includes(String(code))) return error;
  const remedy = "name another folder with NODE_KVM_CACHE";
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
    if (!hasCode(error, ...DENIED)) throw error;
    const why = (error as NodeJS.ErrnoException).code;
    const remedy = "name another folder with NODE_KVM_CACHE";
    throw new LabError("ERR_LAB_CACHE", `${folder} cannot be read (${why}); ${remedy}`, error);
  }
}

/** Renames a folder; a missing source or an existing target is not an error. */
async function move(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (error) {
    if (!hasCode(error, "ENOENT", "ENOTEMPTY", "EEXIST")) throw error;
  }
}

/** Returns the time of an entry's last use; `undefined` for a folder without a manifest. */
export async function lastUse(folder: string): Promise<Date | undefined> {
  return (await stat(join(folder, MANIFEST)).catch(() => undefined))?.mtime;
}

/** Whether entries can be created in a folder; the folder need not exist yet. */
async function isWritable(root: string): Promise<boolean> {
  // access(2) checks the real user, and mkdir(2) checks the effective user.
  const trial = join(root, "building", `${ownMark()}.${randomUUID()}`);
  try {
    await mkdir(trial, { recursive: true, mode: 0o700 });
    await rm(trial, { recursive: true });
    return true;
  } catch (error) {
    return !hasCode(error, ...DENIED);
  }
}

/** Returns the user's home folder; an empty HOME is ignored. */
function home(): string {
  try {
    const [path] = [homedir(), userInfo().homedir].filter(isAbsolute);
    if (path !== undefined) return path;
  } catch {
    // The user is not in /etc/passwd.
  }
  const sentence = "there is no home folder for the cache: HOME is empty";
  throw new LabError("ERR_LAB_CACHE", `${sentence}; name a folder with NODE_KVM_CACHE`);
}

function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && "code" in error && codes.includes(String(error.code));
}
