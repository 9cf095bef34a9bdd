/** A kernel's entry in the cache: what is taken out of its packages, and where it lies in there. */
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
  /** Its release, `6.12.107+deb13-cloud-amd64`; of a user's own, `own:` and its release or label. */
  readonly name: string;
  /** What `uname -r` says; `""` when it is not known. */
  readonly release: string;
  /** The path of its bzImage. */
  readonly vmlinuz: string;
  /** The unpacked kernel (vmlinux.ts), where the cache's entry has one. */
  readonly vmlinux?: string;
  /** A folder below which its modules are, as `.ko`, `.ko.xz`, `.ko.gz` or `.ko.zst`. */
  readonly modules: string;
}

/** How far a download is. */
export interface FetchProgress {
  /** The kernel's release. */
  readonly kernel: string;
  /** The package that is being downloaded. */
  readonly package: string;
  /** How much of all its packages is here. */
  readonly bytes: number;
  readonly total: number;
}

/** How an entry is built. */
export interface EntryOptions {
  readonly onProgress?: ((progress: FetchProgress) => void) | undefined;
  readonly refetch?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The cache's kind of entry for kernels. */
export const KERNELS = "kernels";

/** What a lab may want of a kernel: KVM, and ways to share files. Those that it needs come along. */
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

/** Names the files of a kernel's entry. */
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
 * Downloads a kernel's packages and puts what the lab needs of them into the cache.
 *
 * When another process does the same, waits for it and takes what it made.
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
        // A folder below, for dpkg-deb gives it the date of the package's root.
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
    // A part of a download is kept to go on from, but not on a disk that it fills.
    if (error.code === "ERR_LAB_DISK_FULL") await rm(folder, { recursive: true, force: true });
    if (error.code === "ERR_LAB_GONE") await forgetCatalogue(cache);
    throw error;
  }
}

/** Copies vmlinuz and the modules out of unpacked packages. */
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
  const sentence = `the packages of ${release} hold no ${what}`;
  return new LabError("ERR_LAB_NOT_A_KERNEL", `${sentence}: the lab cannot use this kernel`);
}

/** A kernel that is, was or could be had. */
export interface KernelRow {
  readonly release: string;
  /** The package's version: `6.12.43-1~bpo12+1`. */
  readonly version: string;
  /** The Linux version: `6.12.43`. */
  readonly linux: string;
  /** The suite that has it; `""` when only the cache does. */
  readonly suite: string;
  /** What is downloaded for it; 0 when the archive cannot give it. */
  readonly bytes: number;
  readonly cached: boolean;
  readonly cachedBytes: number;
  /** Whether the archive has all of it, or the cache does. */
  readonly obtainable: boolean;
  /** Why it cannot be had, or what is wrong with its copy in the cache. */
  readonly why: string | undefined;
}

/** Puts catalogue and cache together, sorted by version. */
export async function rowsOf(
  cache: LabCache,
  catalogue: Catalogue | undefined,
): Promise<readonly KernelRow[]> {
  const kernels = catalogue?.kernels ?? [];
  // Without a catalogue nothing is known of what the archive has.
  const unlisted = catalogue === undefined ? undefined : "the archive has it no more";
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
