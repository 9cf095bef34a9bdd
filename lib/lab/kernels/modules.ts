/**
 * A kernel's modules: finding them below a folder, what each needs, and their order of loading.
 * Reading one module's file is module-file.ts.
 */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { LabError } from "../error.ts";
import { throwIfAborted } from "../process/command.ts";
import { COMPRESSIONS, parseModuleInfo, readModule } from "./module-file.ts";

/** The part of a kernel that this file needs. */
export interface ModuleOwner {
  /** What the modules must be built for; `""` when it is not known. */
  readonly release: string;
  /** The folder below which its modules lie. */
  readonly modules: string;
}

/** Where the modules below a folder are. */
export interface ModuleTree {
  readonly folder: string;
  /** Files by module name, with `_` for `-`. */
  readonly files: ReadonlyMap<string, string>;
  /** The names of what is built into the kernel instead, as far as the folder tells. */
  readonly builtin: ReadonlySet<string>;
}

const MODULE_FILE = new RegExp(
  `^(.+)\\.ko(${Object.keys(COMPRESSIONS).join("|").replaceAll(".", "\\.")})?$`,
);

/**
 * Writes a vendor's KVM module, and the modules it needs, as plain `.ko` files into a folder.
 *
 * @returns the files in the order of loading. What is built into the kernel is left out.
 * @throws {@link LabError} `ERR_LAB_MODULE` when one is missing, broken, or of another kernel.
 */
export function moduleChain(
  kernel: ModuleOwner,
  module: "kvm_amd" | "kvm_intel",
  into: string,
  signal?: AbortSignal,
): Promise<readonly string[]> {
  return loadOrder(kernel, [module], into, signal);
}

/** Does for any modules what {@link moduleChain} does for KVM's. */
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

/** Finds every module below a folder, and what `modules.builtin` says. */
export async function findModules(folder: string): Promise<ModuleTree> {
  const files = new Map<string, string>();
  const builtin = new Set<string>();
  for (const path of await walk(folder)) {
    const [, name] = MODULE_FILE.exec(basename(path)) ?? [];
    // A module in updates/ goes before the kernel's own, as depmod has it.
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

/** Names the files of those of these modules that are there, and of all that they need. */
export async function moduleClosure(
  tree: ModuleTree,
  names: Iterable<string>,
  signal?: AbortSignal,
): Promise<readonly string[]> {
  const wanted = new Set(names);
  const paths: string[] = [];
  // A set's iteration goes on over what is added meanwhile.
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
  const hint = "nor does a modules.builtin there say that the kernel has it built in";
  throw new LabError("ERR_LAB_MODULE", `there is no module ${name} below ${folder}, ${hint}`);
}

function moduleName(name: string): string {
  return name.replaceAll("-", "_");
}

/** All files below a folder, in order of their names, not following links to folders. */
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
