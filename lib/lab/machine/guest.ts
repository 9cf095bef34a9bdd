/**
 * Makes the root file system of a machine: busybox, Node, this package with its suite, the kernel's modules, and one
 * command. initramfs.ts encodes it, init.ts contains its first process, and installation.ts lists this package's files.
 */
import { createHash } from "node:crypto";
import {
  accessSync,
  constants,
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
} from "node:fs";
import { basename, join, posix } from "node:path";
import { unpackedPackage } from "../archive/debian-package.ts";
import { type LabCache, lastUse } from "../cache/cache.ts";
import { LabError } from "../error.ts";
import { loadingLines, type ModuleParam } from "../kernels/module-params.ts";
import { runOk } from "../process/command.ts";
import { guestPath, HELD, INIT, LAB } from "./init.ts";
import { hostFile, type InitramfsEntry, writeInitramfs } from "./initramfs.ts";
import { guestFolder, installationEntries, type Root } from "./installation.ts";

export type { Root };
export { guestFolder };

/** Lists the entries of the root that do not depend on this package: busybox, Node, init. */
async function systemEntries(
  programs: readonly string[],
  cache: LabCache,
  signal?: AbortSignal,
): Promise<readonly InitramfsEntry[]> {
  return [
    { kind: "directory", path: "/proc" },
    { kind: "directory", path: "/sys" },
    { kind: "directory", path: "/dev" },
    { kind: "directory", path: "/root", mode: 0o700 },
    { kind: "directory", path: "/tmp", mode: 0o1777 },
    { kind: "device", path: "/dev/console", type: "character", major: 5, minor: 1 },
    { kind: "device", path: "/dev/null", type: "character", major: 1, minor: 3, mode: 0o666 },
    ...(await busyboxEntries(await findBusybox(cache, signal))),
    { kind: "file", path: "/usr/bin/node", content: { from: process.execPath }, mode: 0o755 },
    ...(await libraryEntries(programs)),
    { kind: "symlink", path: "/usr/bin/env", target: "/bin/busybox" },
    { kind: "symlink", path: "/usr/bin/node-kvm", target: `${guestFolder()}/dist/cli/main.js` },
    { kind: "file", path: "/init", content: Buffer.from(INIT), mode: 0o755 },
  ];
}

/**
 * Returns the archives that are the same for every kernel and command, in the order of unpacking. The first contains
 * the system (105 MB, mostly Node); the second contains the package with its dependencies (30 MB), or only the suite (4
 * MB). An archive is made again only if one of its files changes.
 *
 * @throws {@link LabError} `ERR_LAB_TOOL` if busybox, the addon or vitest is missing.
 */
export async function baseArchives(
  cache: LabCache,
  root: Root = "package",
  signal?: AbortSignal,
): Promise<readonly string[]> {
  const files = installationEntries(root);
  const addons = files.flatMap(hostFile).filter((path) => path.endsWith(".node"));
  const system = await systemEntries([process.execPath, ...addons], cache, signal);
  return [
    await archive("system", system, cache, signal),
    await archive(root, files, cache, signal),
  ];
}

async function archive(
  part: string,
  entries: readonly InitramfsEntry[],
  cache: LabCache,
  signal?: AbortSignal,
): Promise<string> {
  const name = `${part}-${fingerprint(entries)}`;
  const place = await cache.writable();
  const isDamaged: LabCache[] = [];
  for (const each of new Set([cache, place])) {
    const found = await each.findIntact(KIND, name);
    if (found === "damaged") isDamaged.push(each);
    else if (found !== undefined) return join(found.path, ARCHIVE);
  }
  const fill = async (folder: string): Promise<Readonly<Record<string, string>>> => {
    await writeInitramfs(join(folder, ARCHIVE), entries);
    return { node: process.version };
  };
  const made = await place.build(KIND, name, fill, { signal, replace: isDamaged.includes(place) });
  for (const other of await place.names(KIND)) {
    if (other === name || !other.startsWith(`${part}-`)) continue;
    if (await isOld(join(place.root, KIND, other))) await place.remove(KIND, other);
  }
  return join(made.path, ARCHIVE);
}

const KIND = "guests";
const ARCHIVE = "archive.cpio";

/** Whether an archive was not used for an hour; a more recently used archive may belong to another checkout. */
async function isOld(folder: string): Promise<boolean> {
  const used = await lastUse(folder);
  return used !== undefined && Date.now() - used.getTime() > 3_600_000;
}

/** Returns a hash of entries, computed from the sizes and times of their files. */
function fingerprint(entries: readonly InitramfsEntry[]): string {
  const hash = createHash("sha256");
  for (const entry of entries) {
    hash.update(JSON.stringify(entry));
    for (const path of hostFile(entry)) {
      const { size, mtimeMs } = statSync(path);
      hash.update(`${size} ${mtimeMs}`);
    }
  }
  return hash.digest("hex").slice(0, 16);
}

/** Lists the entries of a kernel: its modules, in the order in which they are loaded, with their parameters. */
export function kernelEntries(
  modules: readonly string[],
  params: readonly ModuleParam[] = [],
): readonly InitramfsEntry[] {
  const lines = loadingLines(modules, params);
  return [
    text(`${LAB}/modules/order`, lines.map((line) => `${line}\n`).join("")),
    ...modules.map(
      (from): InitramfsEntry => ({
        kind: "file",
        path: `${LAB}/modules/${basename(from)}`,
        content: { from },
      }),
    ),
  ];
}

/** The command of one run, the files that it needs, and the files that are returned. */
export interface Work {
  /** The command's program and its arguments; the guest searches its PATH for the program. */
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** The part of this package that the command needs; by default the whole package. */
  readonly root?: Root;
  /** The command's working directory; by default the package's folder. */
  readonly cwd?: string;
  /** The command's standard input; empty by default. */
  readonly stdin?: Uint8Array;
  /**
   * Files by their absolute path in the guest: bytes, or the path of a file or a folder on the host. The copy of a host
   * file has the same mode.
   */
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
  /** Paths of files or folders in the guest that are returned after the command has ended. */
  readonly wanted?: readonly string[];
}

/**
 * Lists the files that make a machine wait before it is saved: its command waits for work, or init waits for a
 * {@link Work}.
 */
export function heldEntries(command: readonly string[] | undefined): readonly InitramfsEntry[] {
  return [
    text(HELD, ""),
    ...(command === undefined ? [text(`${LAB}/wait`, "")] : workEntries({ command })),
  ];
}

/** Lists the values that init needs after waiting: the time, and a seed for its random numbers. */
export function restoredEntries(work: Work, seed: string): readonly InitramfsEntry[] {
  const now = Math.floor(Date.now() / 1000);
  return [...workEntries(work), text(`${LAB}/seed`, seed), text(`${LAB}/time`, `${now}\n`)];
}

/** Lists the files of one run and its command. */
export function workEntries(work: Work): readonly InitramfsEntry[] {
  const env = Object.entries(work.env ?? {}).map(([name, value]) => `${name}=${value}`);
  const words = ["env", ...env, ...work.command];
  const lines = [
    `cd ${quote(work.cwd === undefined ? guestFolder() : guestPath(work.cwd))} || exit`,
    `exec ${words.map(quote).join(" ")}${work.stdin === undefined ? "" : ` <${LAB}/stdin`}`,
  ];
  return [
    ...Object.entries(work.files ?? {}).flatMap(([path, content]) =>
      workFiles(plain(path), content),
    ),
    ...(work.stdin === undefined
      ? []
      : [{ kind: "file", path: `${LAB}/stdin`, content: work.stdin } as const]),
    text(`${LAB}/command`, `${lines.join("\n")}\n`),
    text(`${LAB}/wanted`, (work.wanted ?? []).map((path) => `${guestPath(path)}\n`).join("")),
  ];
}

/** Rejects a path of the guest that is not normalised. */
function plain(path: string): string {
  const wanted = guestPath(path);
  if (wanted === path && path !== "/") return path;
  throw new LabError(
    "ERR_LAB_FILE",
    `the guest path "${path}" is not normalised: write "${wanted}"`,
  );
}

/** The maximum size of a file that Node can read at once. */
const MOST_BYTES = 2 ** 31 - 1;

function workFiles(path: string, content: string | Uint8Array): readonly InitramfsEntry[] {
  if (typeof content !== "string") return [{ kind: "file", path, content, mode: 0o755 }];
  const stat = statSync(content, { throwIfNoEntry: false });
  if (stat !== undefined && stat.size > MOST_BYTES) {
    const sentence = `${content} has ${(stat.size / 1e9).toFixed(1)} GB`;
    const limit =
      "a file for the guest must be smaller than 2 GiB, and must fit into the machine's memory";
    throw new LabError("ERR_LAB_FILE", `${sentence}: ${limit}`);
  }
  if (stat?.isFile() === true) {
    reading(content, () => accessSync(content, constants.R_OK));
    return [{ kind: "file", path, content: { from: content }, mode: stat.mode & 0o777 }];
  }
  if (stat?.isDirectory() === true) return folderEntries(path, content, stat.mode & 0o777);
  const what = stat === undefined ? "does not exist" : "is neither a file nor a folder";
  const sentence = `${content}, the file for ${path} in the guest, ${what}`;
  throw new LabError("ERR_LAB_FILE", sentence);
}

/**
 * Lists a host folder with its content; symbolic links are copied as links. Sockets, pipes and devices are rejected.
 */
function folderEntries(path: string, folder: string, mode: number): readonly InitramfsEntry[] {
  const below = reading(folder, () => readdirSync(folder, { withFileTypes: true })).flatMap(
    (entry) => {
      const [from, to] = [join(folder, entry.name), posix.join(path, entry.name)];
      return entry.isSymbolicLink()
        ? [{ kind: "symlink", path: to, target: reading(from, () => readlinkSync(from)) } as const]
        : workFiles(to, from);
    },
  );
  return path === "/" ? below : [{ kind: "directory", path, mode }, ...below];
}

/** Calls a function that reads a host file for the guest. @throws {@link LabError} `ERR_LAB_FILE` with its name */
function reading<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
    throw new LabError("ERR_LAB_FILE", `${path} cannot be read (${code})`, error);
  }
}

/** Quotes a word for a shell. */
function quote(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

function text(path: string, content: string): InitramfsEntry {
  return { kind: "file", path, content: Buffer.from(content) };
}

/** Lists busybox, with a link for each of its programs. */
async function busyboxEntries(from: string): Promise<readonly InitramfsEntry[]> {
  const applets = (await runOk(from, ["--list"])).toString().trim().split("\n");
  return [
    { kind: "file", path: "/bin/busybox", content: { from }, mode: 0o755 },
    ...applets
      .filter((name) => name !== "busybox")
      .map(
        (name): InitramfsEntry => ({ kind: "symlink", path: `/bin/${name}`, target: "busybox" }),
      ),
  ];
}

/** Lists the shared libraries of programs, at the same paths as on this host. */
async function libraryEntries(programs: readonly string[]): Promise<readonly InitramfsEntry[]> {
  const output = (await runOk("ldd", programs)).toString();
  const paths = output.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm);
  return Array.from(new Set(Array.from(paths, ([, path = ""]) => path)), (path) => ({
    kind: "file",
    path,
    content: { from: realpathSync(path) },
    mode: 0o755,
  }));
}

const BUSYBOX_PLACES = ["/bin/busybox", "/usr/bin/busybox"];
const BUSYBOX_PACKAGE = "busybox-static";

/**
 * Finds a static busybox on this machine, or downloads busybox with this machine's apt configuration; no package is
 * installed.
 *
 * @throws {@link LabError} `ERR_LAB_TOOL` if there is none.
 */
async function findBusybox(cache: LabCache, signal?: AbortSignal): Promise<string> {
  const own = BUSYBOX_PLACES.find((path) => existsSync(path) && isStatic(readFileSync(path)));
  if (own !== undefined) return own;
  const root = await unpackedPackage(cache, BUSYBOX_PACKAGE, signal);
  const fetched = BUSYBOX_PLACES.map((path) => join(root, path)).find((path) => existsSync(path));
  if (fetched !== undefined) return fetched;
  throw new LabError("ERR_LAB_TOOL", `the package ${BUSYBOX_PACKAGE} contains no busybox: ${root}`);
}

/** Whether an ELF program has no interpreter: none of its program headers is PT_INTERP. */
export function isStatic(elf: Buffer): boolean {
  const [offset, size, count] = [
    Number(elf.readBigUInt64LE(32)),
    elf.readUInt16LE(54),
    elf.readUInt16LE(56),
  ];
  return Array.from({ length: count }, (_, i) => elf.readUInt32LE(offset + i * size)).every(
    (type) => type !== PT_INTERP,
  );
}

const PT_INTERP = 3;
