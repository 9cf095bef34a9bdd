/**
 * The lab's folder of things that were costly to get: entries that are there whole or not at all.
 * What an entry holds is for those who build it (kernels.ts); who left a file behind is owner.ts.
 *
 *     <root>/<kind>/<name>/manifest.json   an entry; the manifest has the checksum of each file
 *     <root>/building/<mark>.<n>/          what a process is working on
 *     <root>/locks/<name>                  a lock that a process has: file-lock.ts
 *
 * All folders are for their owner only.
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

/** The file of an entry that says what is in it. Its time is when the entry was last used. */
export const MANIFEST = "manifest.json";
/** The folders of unfinished entries and of locks. */
const OWN_FOLDERS: readonly string[] = ["building", "locks"];
/** What {@link LabCache.lock} is asked for: the archive's lists, a build of Bochs, the saving of a machine. */
const LOCK = /^(archive|build-bochs|snapshots\.[\w.+~-]+)$/;
/** The kinds of entries. Any other folder below the root is somebody else's. */
const KINDS: readonly string[] = ["guests", "kernels", "snapshots", "tools"];
/** What {@link LabCache.scratch} calls its folders: a mark of owner.ts and a UUID. */
const SCRATCH = /^(\d+-\d+-\d+)\.[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/;

/** The entries whose files were compared in this process, each with what the files were then. */
const verified = new Map<string, string>();

/** The cache: a folder of atomic, checksummed entries that several processes may use at once. */
export class LabCache {
  /** The folder, an absolute path. */
  readonly root: string;
  readonly #temporary: string;

  /**
   * Names the folder; it is made when something is put there.
   *
   * @param root - a path; a relative one counts from the current directory of now.
   * @param temporary - where what can be made again goes when the folder cannot be written.
   * @throws {@link LabError} `ERR_LAB_CACHE` when its path has a line break or another control
   *   character, which apt and Bochs cannot be told.
   */
  constructor(root: string, temporary: string = tmpdir()) {
    this.root = resolve(root);
    this.#temporary = temporary;
    if (!/\p{Cc}/u.test(this.root)) return;
    const sentence = `the cache's path ${JSON.stringify(this.root)} has a control character`;
    throw new LabError("ERR_LAB_CACHE", `${sentence}; name another with NODE_KVM_CACHE`);
  }

  /**
   * Finds the user's: `$NODE_KVM_CACHE`, else `node-kvm` in `$XDG_CACHE_HOME`, if that is absolute,
   * or in `~/.cache`.
   *
   * @throws {@link LabError} `ERR_LAB_CACHE` when none is set and the user has no home.
   */
  static default(): LabCache {
    const own = process.env["NODE_KVM_CACHE"] ?? "";
    const shared = process.env["XDG_CACHE_HOME"] ?? "";
    if (own !== "") return new LabCache(own);
    return new LabCache(join(isAbsolute(shared) ? shared : join(home(), ".cache"), "node-kvm"));
  }

  /** Gives a folder for work that a later process goes on with: lists, unfinished downloads. */
  async folder(...names: readonly string[]): Promise<string> {
    const path = join(this.root, ...names);
    await this.#checkOwner();
    await this.#writing(() => mkdir(path, { recursive: true, mode: 0o700 }));
    return path;
  }

  /**
   * Gives the cache that takes what can be made again at any time: this one, or, when it cannot be
   * written, one in the system's folder for temporary files.
   *
   * @throws {@link LabError} `ERR_LAB_CACHE` when that one is not this user's alone.
   */
  async writable(): Promise<LabCache> {
    await this.#checkOwner();
    if (await isWritable(this.root)) return this;
    const user = process.geteuid?.() ?? 0;
    const spare = new LabCache(join(this.#temporary, `node-kvm-${user}`));
    await spare.folder();
    const found = await lstat(spare.root);
    if (found.isDirectory() && found.uid === user && (found.mode & 0o077) === 0) return spare;
    const sentence = `${spare.root}, which is used as ${this.root} cannot be written, is not yours alone`;
    throw new LabError("ERR_LAB_CACHE", `${sentence}; name a folder of yours with NODE_KVM_CACHE`);
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
   * @throws {@link LabError} `ERR_LAB_DAMAGED` when its manifest cannot be read, `ERR_LAB_CACHE` when
   *   the cache cannot, or, to root, when others can write it.
   */
  async find(kind: string, name: string): Promise<CacheEntry | undefined> {
    await this.#checkOwner();
    const path = join(this.root, kind, checkName(name));
    const manifest = await readManifest(path, join(path, MANIFEST));
    return manifest === undefined ? undefined : toEntry(kind, name, path, manifest);
  }

  /**
   * Compares every file of an entry with its checksum, and notes that the entry is used.
   *
   * A process reads the files once, and again only if one has changed since (its size, inode or times).
   * @throws {@link LabError} `ERR_LAB_DAMAGED`, naming the first file that differs, is missing, or was
   *   not put there by the entry's builder.
   */
  async verify(entry: CacheEntry): Promise<void> {
    await this.compare(entry);
    const now = new Date();
    await utimes(join(entry.path, MANIFEST), now, now).catch(() => undefined); // of a read-only cache
  }

  /** Does as {@link verify}, but does not count as a use. */
  async compare(entry: CacheEntry): Promise<void> {
    const manifest = await readManifest(entry.path, join(entry.path, MANIFEST));
    if (manifest === undefined) {
      throw new LabError("ERR_LAB_DAMAGED", `${entry.path} is gone: it was removed while in use`);
    }
    const stamp = await stampFiles(entry.path, manifest, MANIFEST);
    if (verified.get(entry.path) !== stamp) await checkFiles(entry.path, manifest, MANIFEST);
    verified.set(entry.path, stamp);
  }

  /** Finds an entry that can be made again, and verifies it. */
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

  /** Lists the names of a kind's entries, also of damaged ones. */
  async names(kind: string): Promise<readonly string[]> {
    await this.#checkOwner();
    return (await list(join(this.root, kind))).toSorted();
  }

  /** Lists the kinds of entries that there are. */
  async kinds(): Promise<readonly string[]> {
    await this.#checkOwner();
    return (await list(this.root)).filter((kind) => KINDS.includes(kind)).toSorted();
  }

  /** Whether the lab has put something here before. */
  async isUsed(): Promise<boolean> {
    return (await list(this.root)).some(
      (name) => OWN_FOLDERS.includes(name) || KINDS.includes(name),
    );
  }

  /** Says how large each entry is, and all together; a damaged one counts as nothing. */
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
    await using scratch = await this.#scratchHere();
    const fresh = join(scratch.path, "new");
    // Awaited here: the scratch folder goes when this function returns.
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

  /** Removes an entry, if it is there. */
  async remove(kind: string, name: string): Promise<void> {
    await using scratch = await this.#scratchHere();
    await this.#writing(() =>
      move(join(this.root, kind, checkName(name)), join(scratch.path, "old")),
    );
  }

  /**
   * Makes an empty folder, and clears away those of processes that died.
   *
   * It is beside the entries, or in the folder for temporary files when this cache cannot be written.
   */
  async scratch(): Promise<Scratch> {
    return (await this.writable()).#scratchHere();
  }

  /**
   * Waits until no other user of this cache, in any process, has the lock of this name.
   *
   * @throws {@link LabError} `ERR_LAB_TOOL` when this machine has no flock(1).
   */
  async lock(name: string, signal?: AbortSignal): Promise<AsyncDisposable> {
    const path = join(await this.folder("locks"), checkName(name));
    return this.#writing(() => lockFile(path, signal));
  }

  /** Removes what processes that are no longer there left half-done; nothing else in these folders. */
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

  /** Root executes what is in the cache: nobody else may be able to put it there. */
  async #checkOwner(): Promise<void> {
    if (process.geteuid?.() !== 0) return;
    const found = await stat(this.root).catch(() => undefined);
    if (found === undefined || (found.uid === 0 && (found.mode & 0o022) === 0)) return;
    const [who, remedy] =
      found.uid === 0
        ? ["can be written by others", `chmod go-w ${this.root}`]
        : [`belongs to user ${found.uid}`, "name a folder of root's with NODE_KVM_CACHE"];
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

/** Says in the lab's words why a folder cannot be written; an error of another kind stays as it is. */
function writeError(root: string, error: unknown): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOSPC" || code === "EDQUOT") return diskFull(`the cache ${root}`, error);
  if (!DENIED.includes(String(code))) return error;
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
    if (!hasCode(error, ...DENIED)) throw error;
    const why = (error as NodeJS.ErrnoException).code;
    const remedy = "name a folder of yours with NODE_KVM_CACHE";
    throw new LabError("ERR_LAB_CACHE", `${folder} cannot be read (${why}); ${remedy}`, error);
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

/** Says when an entry was last used; `undefined` for a folder that is no entry. */
export async function lastUse(folder: string): Promise<Date | undefined> {
  return (await stat(join(folder, MANIFEST)).catch(() => undefined))?.mtime;
}

/** Whether entries can be made in a folder, which may have to be made itself. */
async function isWritable(root: string): Promise<boolean> {
  // access(2) would ask about the real user, and mkdir(2) is about the effective one.
  const trial = join(root, "building", `${ownMark()}.${randomUUID()}`);
  try {
    await mkdir(trial, { recursive: true, mode: 0o700 });
    await rm(trial, { recursive: true });
    return true;
  } catch (error) {
    return !hasCode(error, ...DENIED);
  }
}

/** The user's home; an empty HOME is as good as none. */
function home(): string {
  try {
    const [path] = [homedir(), userInfo().homedir].filter(isAbsolute);
    if (path !== undefined) return path;
  } catch {
    // The user has no line in /etc/passwd.
  }
  const sentence = "there is no home folder for the cache: HOME is empty";
  throw new LabError("ERR_LAB_CACHE", `${sentence}; name a folder with NODE_KVM_CACHE`);
}

function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && "code" in error && codes.includes(String(error.code));
}
