/**
 * Provides kernels for machines, from the cache, from the archive, or from the user's files. catalogue.ts lists the
 * kernels of the archive, kernel-entry.ts stores a kernel in the cache, bzimage.ts and modules.ts read the files of a
 * kernel, and version.ts compares versions.
 */
import { access, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type ArchiveAddress, configuredArchive, mirrorArchive } from "../archive/address.ts";
import { LabCache } from "../cache/cache.ts";
import { LabError } from "../error.ts";
import { bootImageRelease } from "./bzimage.ts";
import {
  type Catalogue,
  emptiness,
  isFresh,
  makeCatalogue,
  namesRelease,
  readCatalogue,
  resolveKernel,
} from "./catalogue.ts";
import {
  buildKernel,
  type FetchProgress,
  KERNELS,
  type Kernel,
  type KernelRow,
  kernelOf,
  rowsOf,
} from "./kernel-entry.ts";
import { findModules } from "./modules.ts";

export type { Kernel, KernelRow };

/** The source of kernels. */
export interface KernelOptions {
  /** The cache that stores kernels; the default cache if omitted. @internal */
  readonly cache?: LabCache | undefined;
  /** The archive's address, `http://HOST/debian`; by default, the archive that this machine's apt uses. */
  readonly mirror?: string | undefined;
  /** Whether to query the archive even if the catalogue is at most a day old. */
  readonly update?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The options for fetching a kernel. */
export interface FetchOptions extends KernelOptions {
  /** A function that is called for each file and each part of a download. */
  readonly onProgress?: ((progress: FetchProgress) => void) | undefined;
  /** Whether to replace the copy of the kernel in the cache. */
  readonly refetch?: boolean | undefined;
}

/** All kernels, sorted by version, and the age and the problems of the list. */
export interface KernelList {
  readonly rows: readonly KernelRow[];
  /** The time of the query; `undefined` if the archive has never answered. */
  readonly asked: Date | undefined;
  /** The suites whose package lists could not be fetched, each with the reason. */
  readonly missing: readonly string[];
  /**
   * The reason why the archive could not be queried now, or a message that the archive has no kernel. If the archive
   * could not be queried, `rows` is an older list.
   */
  readonly trouble: LabError | undefined;
}

/** Lists the kernels of the archive and of the cache, sorted by version. */
export async function listKernels(options: KernelOptions = {}): Promise<readonly KernelRow[]> {
  return (await surveyKernels(options)).rows;
}

/**
 * Lists the kernels of the archive and of the cache, with the age and the problems of the list.
 *
 * @throws {@link LabError} if the archive cannot be queried, there is no older catalogue, and nothing is cached.
 */
export async function surveyKernels(options: KernelOptions = {}): Promise<KernelList> {
  const { cache, catalogue, ...view } = await look(options);
  const trouble = view.trouble ?? emptiness(catalogue);
  const rows = await rowsOf(cache, catalogue);
  if (rows.length === 0 && trouble !== undefined) throw trouble;
  const asked = catalogue === undefined ? undefined : new Date(catalogue.made);
  return { rows, asked, missing: catalogue?.missing ?? [], trouble };
}

/**
 * Returns a kernel of the catalogue, from the cache or the archive.
 *
 * `6.12` and `6.12.43` select the newest available kernel of that version; a release, with or without `-cloud-amd64`,
 * selects exactly this kernel. No network is needed for a kernel that is named by its release and is in the cache.
 *
 * @throws {@link LabError} with the cause and the remedy.
 */
export async function fetchKernel(name: string, options: FetchOptions = {}): Promise<Kernel> {
  const cache = options.cache ?? LabCache.default();
  const known = options.refetch === true ? undefined : await cachedKernel(cache, name);
  if (known !== undefined) return known;
  const { catalogue, trouble } = await look(options);
  const release = pick(name, await rowsOf(cache, catalogue), trouble ?? emptiness(catalogue));
  const kernel = catalogue?.kernels.find((each) => each.release === release);
  const cached = options.refetch === true ? undefined : await cachedKernel(cache, release);
  if (cached !== undefined) return cached;
  if (catalogue === undefined || kernel === undefined || kernel.why !== undefined) {
    if (trouble !== undefined) throw trouble;
    const sentence = `${release} cannot be fetched again: ${kernel?.why ?? "the archive no longer has the kernel"}`;
    throw new LabError("ERR_LAB_GONE", sentence);
  }
  return kernelOf(await buildKernel(cache, catalogue.address, kernel, options));
}

/**
 * Checks and returns a kernel that the user has built.
 *
 * @param options.vmlinuz - the path of a bzImage, or the folder of a built kernel tree.
 * @param options.modules - the folder of the kernel's modules; by default the tree, or the folder of the bzImage.
 * @param options.label - the kernel's name, instead of its release.
 * @throws {@link LabError} `ERR_LAB_NOT_A_KERNEL` or `ERR_LAB_MODULE`.
 */
export async function ownKernel(options: {
  readonly vmlinuz: string;
  readonly modules?: string | undefined;
  readonly label?: string | undefined;
}): Promise<Kernel> {
  const { vmlinuz, beside } = await findImage(options.vmlinuz);
  const release = await bootImageRelease(vmlinuz);
  const modules = options.modules ?? beside;
  const { files, builtin } = await findModules(modules);
  if (files.size === 0 && builtin.size === 0) {
    const sentence = `there is no module below ${modules}`;
    const remedy =
      "name the folder of this kernel's modules with --modules; if KVM is built in, name a folder with the kernel's modules.builtin";
    throw new LabError("ERR_LAB_MODULE", `${sentence}: ${remedy}`);
  }
  const label = options.label ?? (release === "" ? vmlinuz : release);
  return { name: `own:${label}`, release, vmlinuz, modules };
}

/** Finds the bzImage for a path, and the default folder of its modules. */
async function findImage(path: string): Promise<{ vmlinuz: string; beside: string }> {
  const inTree = join("arch", "x86", "boot", "bzImage");
  const found = await stat(path).catch(() => undefined);
  if (found === undefined)
    throw new LabError("ERR_LAB_NOT_A_KERNEL", `the kernel ${path} does not exist`);
  if (!found.isDirectory()) {
    const isInTree = path.endsWith(`/${inTree}`);
    return { vmlinuz: path, beside: isInTree ? path.slice(0, -inTree.length) : dirname(path) };
  }
  for (const image of [inTree, "bzImage", "vmlinuz"]) {
    const vmlinuz = join(path, image);
    if (
      await access(vmlinuz).then(
        () => true,
        () => false,
      )
    )
      return { vmlinuz, beside: path };
  }
  const sentence = `${path} contains no ${inTree}; build the tree (make bzImage modules), or give a bzImage`;
  throw new LabError("ERR_LAB_NOT_A_KERNEL", sentence);
}

interface View {
  readonly cache: LabCache;
  readonly catalogue: Catalogue | undefined;
  readonly trouble: LabError | undefined;
}

/** Returns the newest catalogue: the stored one if the archive cannot be queried. */
async function look(options: KernelOptions): Promise<View> {
  const cache = options.cache ?? LabCache.default();
  const { signal } = options;
  let address: ArchiveAddress | undefined;
  try {
    address =
      options.mirror === undefined
        ? await configuredArchive(signal)
        : mirrorArchive(options.mirror);
    const before = await readCatalogue(cache);
    if (before !== undefined && options.update !== true && isFresh(before, address)) {
      return { cache, catalogue: before, trouble: undefined };
    }
    await using _lock = await cache.lock("archive", signal);
    return { cache, catalogue: await makeCatalogue(cache, address, signal), trouble: undefined };
  } catch (error) {
    if (!(error instanceof LabError && canWait(error))) throw error;
    const catalogue = await readCatalogue(cache);
    // The catalogue of another archive is not used, because the current archive may not have the packages of that
    // catalogue.
    const isSame = address === undefined || catalogue?.address.main === address.main;
    return { cache, catalogue: isSame ? catalogue : undefined, trouble: error };
  }
}

/**
 * Errors of a query after which the stored catalogue is used. ERR_LAB_CACHE is one of these errors, because a cache
 * that cannot be written may contain the kernel.
 */
const CAN_WAIT: ReadonlySet<string> = new Set([
  "ERR_LAB_NETWORK",
  "ERR_LAB_ARCHIVE",
  "ERR_LAB_TOOL",
  "ERR_LAB_CACHE",
]);

/** Whether the stored catalogue can be used after this error of a query. */
function canWait({ code }: LabError): boolean {
  return CAN_WAIT.has(code);
}

/** Finds the release for a name; if there is none, an error of the archive is reported as the reason. */
function pick(name: string, rows: readonly KernelRow[], trouble: LabError | undefined): string {
  try {
    return resolveKernel(name, rows).release;
  } catch (error) {
    throw trouble ?? error;
  }
}

/** Finds a kernel in the cache by its release, and compares its files with their checksums. */
async function cachedKernel(cache: LabCache, name: string): Promise<Kernel | undefined> {
  const names = await cache.names(KERNELS);
  const release = names.find((each) => namesRelease(name, each));
  if (release === undefined) return undefined;
  try {
    return await verifiedKernel(cache, release);
  } catch (error) {
    if (!(error instanceof LabError && error.code === "ERR_LAB_DAMAGED")) throw error;
    const remedy = `fetch it again: node-kvm lab kernels --fetch ${release} --refetch`;
    throw new LabError(error.code, `${error.message}; ${remedy}`, error);
  }
}

async function verifiedKernel(cache: LabCache, release: string): Promise<Kernel | undefined> {
  const entry = await cache.find(KERNELS, release);
  if (entry === undefined) return undefined;
  await cache.verify(entry);
  return kernelOf(entry);
}
