/**
 * The cache entry of a kernel: downloads the kernel, builds the entry, and lists the kernels of the cache and of the
 * catalogue in one list.
 */
import { existsSync } from "node:fs";
import { copyFile, mkdir, readdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import type { ArchiveAddress } from "../archive/address.ts";
import { Archive } from "../archive/archive.ts";
import type { CacheEntry, LabCache } from "../cache/cache.ts";
import { LabError } from "../error.ts";
import { runOk } from "../process/command.ts";
import { unpackVmlinux } from "./bzimage.ts";
import { type Catalogue, type CatalogueKernel, forgetCatalogue } from "./catalogue.ts";
import { findModules, moduleClosure } from "./modules.ts";
import { compareVersions, linuxVersion } from "./version.ts";

/** A kernel that a machine can boot. */
export interface Kernel {
  /** The kernel's release, `6.12.107+deb13-cloud-amd64`; for a user's own kernel, `own:` and its release or label. */
  readonly name: string;
  /** The kernel's release, as in `uname -r`; `""` if it is unknown. */
  readonly release: string;
  /** The path of the kernel's bzImage. */
  readonly vmlinuz: string;
  /** The unpacked kernel (bzimage.ts), if the entry contains one. */
  readonly vmlinux?: string;
  /** The folder that contains the kernel's modules, at any depth, as `.ko`, `.ko.xz`, `.ko.gz` or `.ko.zst`. */
  readonly modules: string;
}

/** The progress of a download. */
export interface FetchProgress {
  /** The kernel's release. */
  readonly kernel: string;
  /** The package that is being downloaded. */
  readonly package: string;
  /** The bytes of all packages of the kernel that were downloaded so far. */
  readonly bytes: number;
  readonly total: number;
}

/** The options for building an entry. */
export interface EntryOptions {
  readonly onProgress?: ((progress: FetchProgress) => void) | undefined;
  readonly refetch?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The kind of cache entries that contain kernels. */
export const KERNELS = "kernels";

/**
 * The modules that the entry contains: the modules of KVM, and modules for sharing files. The entry also contains the
 * dependencies of these modules.
 */
const MODULES = [
  "ccp",
  "irqbypass",
  "kvm",
  "kvm_amd",
  "kvm_intel",
  "virtio",
  "virtio_blk",
  "virtio_console",
  "virtio_pci",
  "virtio_pci_legacy_dev",
  "virtio_pci_modern_dev",
  "virtio_ring",
  "9p",
  "9pnet",
  "9pnet_virtio",
  "erofs",
  "fuse",
  "isofs",
  "loop",
  "overlay",
  "squashfs",
  "virtiofs",
  "vmw_vsock_virtio_transport",
] as const;

/** Returns the kernel of an entry. */
export function kernelOf(entry: CacheEntry): Kernel {
  const vmlinux = join(entry.path, "vmlinux");
  return {
    ...(existsSync(vmlinux) ? { vmlinux } : {}),
    name: entry.name,
    release: entry.name,
    vmlinuz: join(entry.path, "vmlinuz"),
    modules: join(entry.path, "modules"),
  };
}

/**
 * Downloads a kernel's packages and stores the needed files in the cache.
 *
 * If another process is downloading the same kernel, waits for that process and returns its entry.
 */
export async function buildKernel(
  cache: LabCache,
  address: ArchiveAddress,
  kernel: CatalogueKernel,
  options: EntryOptions,
): Promise<CacheEntry> {
  const { signal } = options;
  const { release, version, suite, packages } = kernel;
  const replace = options.refetch === true;
  await using _lock = await cache.lock("archive", signal);
  const made = replace ? undefined : await cache.find(KERNELS, release);
  if (made !== undefined) return made;
  const total = packages.reduce((sum, { bytes }) => sum + bytes, 0);
  const folder = await cache.folder("downloads", release);
  try {
    const tell = (bytes: number, of = packages[0]): void =>
      options.onProgress?.({ kernel: release, package: of?.name ?? "", bytes, total });
    const files = await new Archive(cache, address).download(packages, folder, tell, signal);
    const entry = await cache.build(
      KERNELS,
      release,
      async (into) => {
        await using scratch = await cache.scratch();
        // The packages are unpacked into a subfolder, because dpkg-deb changes the date of the target folder.
        const root = join(scratch.path, "root");
        for (const file of files) await runOk("dpkg-deb", ["-x", file, root], { signal });
        await keep(root, release, into, signal);
        return { version, suite };
      },
      { signal, replace },
    );
    await rm(folder, { recursive: true, force: true });
    return entry;
  } catch (error) {
    if (!(error instanceof LabError)) throw error;
    // A partial download stays in the cache and can be resumed, except if it has filled the disk.
    if (error.code === "ERR_LAB_DISK_FULL") await rm(folder, { recursive: true, force: true });
    if (error.code === "ERR_LAB_GONE") await forgetCatalogue(cache);
    throw error;
  }
}

/** Copies vmlinuz and the modules from unpacked packages. */
async function keep(
  root: string,
  release: string,
  into: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const found = await readdir(root, { withFileTypes: true, recursive: true });
  const paths = found
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  const vmlinuz = paths.find(
    (path) => path.endsWith(`/boot/vmlinuz-${release}`) || path.endsWith(`/${release}/vmlinuz`),
  );
  if (vmlinuz === undefined) throw incomplete(release, "vmlinuz");
  await copyFile(vmlinuz, join(into, "vmlinuz"));
  await unpackVmlinux(vmlinuz, join(into, "vmlinux"), signal);
  const tree = await findModules(root);
  if (!tree.files.has("kvm")) throw incomplete(release, "module kvm");
  await mkdir(join(into, "modules"));
  for (const path of await moduleClosure(tree, MODULES, signal)) {
    await copyFile(path, join(into, "modules", basename(path)));
  }
  for (const path of paths.filter((each) => basename(each) === "modules.builtin")) {
    await copyFile(path, join(into, "modules", basename(path)));
  }
}

function incomplete(release: string, what: string): LabError {
  const sentence = `the packages of ${release} contain no ${what}`;
  return new LabError("ERR_LAB_NOT_A_KERNEL", `${sentence}: the lab cannot use this kernel`);
}

/** A kernel of the catalogue or of the cache. */
export interface KernelRow {
  readonly release: string;
  /** The package's version: `6.12.43-1~bpo12+1`. */
  readonly version: string;
  /** The Linux version: `6.12.43`. */
  readonly linux: string;
  /** The suite that contains the kernel; `""` if only the cache contains it. */
  readonly suite: string;
  /** The number of bytes to download; 0 if the archive does not contain the kernel. */
  readonly bytes: number;
  readonly cached: boolean;
  readonly cachedBytes: number;
  /** Whether the archive contains all packages of the kernel, or the cache contains the kernel. */
  readonly obtainable: boolean;
  /** The reason why the kernel is not available, or the damage of its copy in the cache. */
  readonly why: string | undefined;
}

/** Lists the kernels of the catalogue and of the cache, sorted by version. */
export async function rowsOf(
  cache: LabCache,
  catalogue: Catalogue | undefined,
): Promise<readonly KernelRow[]> {
  const kernels = catalogue?.kernels ?? [];
  // Without a catalogue, the content of the archive is unknown.
  const unlisted = catalogue === undefined ? undefined : "the archive no longer has the kernel";
  const names = await cache.names(KERNELS);
  const listed = new Set(kernels.map(({ release }) => release));
  const rows = await Promise.all([
    ...kernels.map(({ release }) => rowOf(cache, release, kernels, names, unlisted)),
    ...names
      .filter((name) => !listed.has(name))
      .map((name) => rowOf(cache, name, kernels, names, unlisted)),
  ]);
  return rows.toSorted((a, b) => compareVersions(a.version, b.version));
}

async function rowOf(
  cache: LabCache,
  release: string,
  kernels: readonly CatalogueKernel[],
  names: readonly string[],
  unlisted: string | undefined,
): Promise<KernelRow> {
  const kernel = kernels.find((each) => each.release === release);
  const { cachedBytes, version, problem } = await cachedPart(cache, release, names);
  const packages = kernel?.packages ?? [];
  const cached = cachedBytes > 0;
  return {
    release,
    version: kernel?.version ?? version,
    linux: linuxVersion(kernel?.version ?? version),
    suite: kernel?.suite ?? "",
    bytes: packages.reduce((sum, { bytes }) => sum + bytes, 0),
    cached,
    cachedBytes,
    obtainable: packages.length > 0 || cached,
    why: problem ?? (kernel === undefined ? unlisted : kernel.why),
  };
}

async function cachedPart(
  cache: LabCache,
  release: string,
  names: readonly string[],
): Promise<{ cachedBytes: number; version: string; problem?: string }> {
  if (!names.includes(release)) return { cachedBytes: 0, version: release };
  try {
    const entry = await cache.find(KERNELS, release);
    return { cachedBytes: entry?.bytes ?? 0, version: entry?.about["version"] ?? release };
  } catch (error) {
    if (!(error instanceof LabError)) throw error;
    return { cachedBytes: 0, version: release, problem: error.message };
  }
}
