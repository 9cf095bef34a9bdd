/** Finds the modules of a kernel: their files below a folder, their dependencies, and the order of loading. */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { LabError } from "../error.ts";
import { commandError, run, throwIfAborted } from "../process/command.ts";

/** The properties of a kernel that this file uses. */
export interface ModuleOwner {
  /** The kernel release for which the modules must be built; `""` if it is unknown. */
  readonly release: string;
  /** The folder that contains the kernel's modules, at any depth. */
  readonly modules: string;
}

/** The modules below a folder. */
export interface ModuleTree {
  readonly folder: string;
  /** The modules' files by module name, with `_` for `-`. */
  readonly files: ReadonlyMap<string, string>;
  /** The names of modules that are built into the kernel, from `modules.builtin`. */
  readonly builtin: ReadonlySet<string>;
}

/** The compression programs by the ending of a module's file name. */
const COMPRESSIONS: Readonly<Record<string, string>> = {
  ".gz": "gzip",
  ".xz": "xz",
  ".zst": "zstd",
};

// elf.h: a module is a relocatable file for x86-64.
export const ELF64_LITTLE_ENDIAN: string = "\u007fELF\u0002\u0001";
const E_SHOFF = 0x28;
const E_SHENTSIZE = 0x3a;
const SH_NAME = 0x00;
const SH_OFFSET = 0x18;
const SH_SIZE = 0x20;

const MODULE_FILE = new RegExp(
  `^(.+)\\.ko(${Object.keys(COMPRESSIONS).join("|").replaceAll(".", "\\.")})?$`,
);

/**
 * Writes a vendor's KVM module and its dependencies as plain `.ko` files into a folder.
 *
 * @returns the files in the order of loading, without modules that are built into the kernel.
 * @throws {@link LabError} `ERR_LAB_MODULE` if a module is missing, broken, or of another kernel.
 */
export function moduleChain(
  kernel: ModuleOwner,
  module: "kvm_amd" | "kvm_intel",
  into: string,
  signal?: AbortSignal,
): Promise<readonly string[]> {
  return loadOrder(kernel, [module], into, signal);
}

/** Does the same as {@link moduleChain}, for the modules that the caller names. */
export async function loadOrder(
  kernel: ModuleOwner,
  modules: Iterable<string>,
  into: string,
  signal?: AbortSignal,
): Promise<readonly string[]> {
  const tree = await findModules(kernel.modules);
  await mkdir(into, { recursive: true });
  const order: string[] = [];
  const seen = new Set<string>();
  const visit = async (name: string): Promise<void> => {
    if (seen.has(name) || tree.builtin.has(name)) return;
    seen.add(name);
    const path = moduleFile(tree, name);
    const content = await readModule(path, signal);
    const info = parseModuleInfo(content, path);
    if (kernel.release !== "" && info.release !== kernel.release) {
      const sentence = `${path} was built for ${info.release}, the kernel is ${kernel.release}`;
      throw new LabError("ERR_LAB_MODULE", `${sentence}; give the modules of the same build`);
    }
    for (const needed of info.depends) await visit(needed);
    throwIfAborted(signal);
    const plain = join(into, basename(path).replace(/\.ko\..*$/, ".ko"));
    await writeFile(plain, content);
    order.push(plain);
  };
  for (const name of modules) await visit(moduleName(name));
  return order;
}

/** Finds every module below a folder, and the names in `modules.builtin`. */
export async function findModules(folder: string): Promise<ModuleTree> {
  const files = new Map<string, string>();
  const builtin = new Set<string>();
  for (const path of await walk(folder)) {
    const [, name] = MODULE_FILE.exec(basename(path)) ?? [];
    // A module in updates/ takes precedence over the kernel's own module, as in depmod.
    if (name !== undefined && !(files.has(moduleName(name)) && !path.includes("/updates/"))) {
      files.set(moduleName(name), path);
    }
    if (basename(path) !== "modules.builtin") continue;
    for (const line of (await readFile(path, "utf8")).split("\n")) {
      if (line !== "") builtin.add(moduleName(basename(line, ".ko")));
    }
  }
  return { folder, files, builtin };
}

/** Returns the files of these modules, if they exist, and of their dependencies. */
export async function moduleClosure(
  tree: ModuleTree,
  names: Iterable<string>,
  signal?: AbortSignal,
): Promise<readonly string[]> {
  const wanted = new Set(names);
  const paths: string[] = [];
  // The iteration of a Set includes names that are added during the iteration.
  for (const name of wanted) {
    const path = tree.files.get(name);
    if (path === undefined) continue;
    paths.push(path);
    const { depends } = parseModuleInfo(await readModule(path, signal), path);
    for (const needed of depends) wanted.add(needed);
  }
  return paths;
}

function moduleFile({ folder, files }: ModuleTree, name: string): string {
  const path = files.get(name);
  if (path !== undefined) return path;
  const hint = "and no modules.builtin in that folder lists the module";
  throw new LabError("ERR_LAB_MODULE", `there is no module ${name} below ${folder}, ${hint}`);
}

function moduleName(name: string): string {
  return name.replaceAll("-", "_");
}

/** Lists all files below a folder, sorted by name, without following links to folders. */
async function walk(folder: string): Promise<readonly string[]> {
  const found = await readdir(folder, { withFileTypes: true }).catch((cause: unknown) => {
    throw new LabError("ERR_LAB_MODULE", `the modules' folder ${folder} cannot be read`, cause);
  });
  const paths: string[] = [];
  for (const entry of found.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name);
    if (!entry.isDirectory()) paths.push(path);
    else if (entry.name !== ".git") paths.push(...(await walk(path)));
  }
  return paths;
}

/** The fields of `.modinfo` that the lab uses. */
export interface ModuleInfo {
  /** The kernel release for which the module was built. */
  readonly release: string;
  /** The names of the modules that the module needs, with `_` for `-`. */
  readonly depends: readonly string[];
}

/** Reads and unpacks a module's file. */
async function readModule(path: string, signal?: AbortSignal): Promise<Buffer> {
  const program = COMPRESSIONS[extname(path)];
  if (program === undefined) return readFile(path);
  const output = await run(program, ["-dc", path], { signal });
  if (output.status === 0) return output.stdout;
  throw broken(path, `${program} cannot unpack it`, commandError(output));
}

/**
 * Reads a module's dependencies and the release that it was built for.
 *
 * @param path - the path that an error message contains.
 * @throws {@link LabError} `ERR_LAB_MODULE` if these bytes are not an x86-64 module.
 */
export function parseModuleInfo(content: Buffer, path: string): ModuleInfo {
  const fields = new Map<string, string>();
  for (const field of modinfo(content, path).toString("latin1").split("\0")) {
    const at = field.indexOf("=");
    if (at > 0) fields.set(field.slice(0, at), field.slice(at + 1));
  }
  const [release = ""] = (fields.get("vermagic") ?? "").split(" ");
  const depends = (fields.get("depends") ?? "").split(",").filter((name) => name !== "");
  return { release, depends: depends.map((name) => name.replaceAll("-", "_")) };
}

function modinfo(content: Buffer, path: string): Buffer {
  if (content.toString("latin1", 0, 6) !== ELF64_LITTLE_ENDIAN)
    throw broken(path, "it is not an ELF64 file");
  try {
    const [entrySize, count, namesIndex] = [0, 2, 4].map((i) =>
      content.readUInt16LE(E_SHENTSIZE + i),
    ) as [number, number, number];
    const first = Number(content.readBigUInt64LE(E_SHOFF));
    const section = (index: number): Buffer => content.subarray(first + index * entrySize);
    const names = bytesOf(content, section(namesIndex));
    for (let i = 0; i < count; i += 1) {
      const name = names.subarray(section(i).readUInt32LE(SH_NAME));
      if (name.toString("latin1", 0, 9) === ".modinfo\0") return bytesOf(content, section(i));
    }
  } catch (cause) {
    // Of the code above, only a read beyond the end of the bytes throws.
    throw broken(path, "it is truncated", cause);
  }
  throw broken(path, "it has no .modinfo");
}

function bytesOf(content: Buffer, section: Buffer): Buffer {
  const start = Number(section.readBigUInt64LE(SH_OFFSET));
  const end = start + Number(section.readBigUInt64LE(SH_SIZE));
  if (end > content.length) throw new RangeError("the section ends after the file");
  return content.subarray(start, end);
}

function broken(path: string, why: string, cause?: unknown): LabError {
  return new LabError("ERR_LAB_MODULE", `${path} is not a usable module: ${why}`, cause);
}
