/**
 * The catalogue of kernels in the archive's lists; this file also finds the kernel for a name. archive/archive.ts
 * queries the archive, kernel-entry.ts stores a kernel in the cache, and kernels.ts uses both files.
 */
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { ArchiveAddress } from "../archive/address.ts";
import { Archive, type Package } from "../archive/archive.ts";
import type { LabCache } from "../cache/cache.ts";
import { LabError } from "../error.ts";
import { compareVersions, linuxVersion } from "./version.ts";

/** A kernel of the archive. */
export interface CatalogueKernel {
  /** The kernel's release, as in `uname -r`: `6.12.43+deb12-cloud-amd64`. */
  readonly release: string;
  /** The package's version: `6.12.43-1~bpo12+1`. */
  readonly version: string;
  readonly suite: string;
  /** The packages to download; empty if the kernel is not available. */
  readonly packages: readonly Package[];
  /** The reason why the kernel is not available. */
  readonly why: string | undefined;
}

/** The kernels of an archive at one time. */
export interface Catalogue {
  readonly format: 1;
  /** The time of the query, in milliseconds of Unix time. */
  readonly made: number;
  readonly address: ArchiveAddress;
  readonly suites: readonly string[];
  /** The suites whose package lists could not be fetched, each with the reason. */
  readonly missing: readonly string[];
  /** The kernels, sorted by version. */
  readonly kernels: readonly CatalogueKernel[];
}

/** The properties of a kernel that {@link resolveKernel} uses. */
export interface Named {
  readonly release: string;
  readonly version: string;
  /** Whether the archive or the cache contains the kernel. */
  readonly obtainable: boolean;
  readonly why: string | undefined;
}

const FILE = "catalogue.json";
const DAY_MS = 86_400_000;
/** The ending of every release of the catalogue, which names may omit. */
export const FLAVOUR = "-cloud-amd64";
/**
 * Returns the short form of a release, without the ending that all releases share; lists show the short form, and users
 * may write it.
 */
export function shortRelease(release: string): string {
  return release.endsWith(FLAVOUR) ? release.slice(0, -FLAVOUR.length) : release;
}

/**
 * A larger package contains a kernel: such a package has several megabytes, and a package that only depends on others
 * has two kilobytes.
 */
const METAPACKAGE_BYTES = 100_000;

/** Reads the stored catalogue; `undefined` if there is none. */
export async function readCatalogue(cache: LabCache): Promise<Catalogue | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(join(cache.root, FILE), "utf8"));
    const isOurs = typeof value === "object" && value !== null && "format" in value;
    return isOurs && value.format === 1 ? (value as Catalogue) : undefined;
  } catch {
    // A damaged catalogue is ignored, because the archive can be queried again.
    return undefined;
  }
}

/** Removes the stored catalogue after a download has shown that it is outdated. */
export async function forgetCatalogue(cache: LabCache): Promise<void> {
  await rm(join(cache.root, FILE), { force: true });
}

/** Whether a catalogue belongs to this archive and is at most a day old. */
export function isFresh(catalogue: Catalogue, address: ArchiveAddress): boolean {
  const { main, security } = catalogue.address;
  if (main !== address.main || security !== address.security) return false;
  return Math.abs(Date.now() - catalogue.made) < DAY_MS;
}

/** Queries the archive, and stores the catalogue. */
export async function makeCatalogue(
  cache: LabCache,
  address: ArchiveAddress,
  signal?: AbortSignal,
): Promise<Catalogue> {
  const { packages, suites, missing } = await new Archive(cache, address).lists(signal);
  const kernels = kernelsOf(packages);
  const catalogue = { format: 1, made: Date.now(), address, suites, missing, kernels } as const;
  await cache.write(FILE, JSON.stringify(catalogue));
  return catalogue;
}

/** Returns the error for an archive without kernels; `undefined` if the archive has kernels. */
export function emptiness(catalogue: Catalogue | undefined): LabError | undefined {
  if (catalogue === undefined || catalogue.kernels.length > 0) return undefined;
  const { address, missing } = catalogue;
  const sentence = `the archive ${address.main} lists no kernel (linux-image-...${FLAVOUR})`;
  const lack = missing.length === 0 ? "" : `; missing suites: ${missing.join("; ")}`;
  const remedy = "name another archive with --mirror";
  return new LabError("ERR_LAB_ARCHIVE", `${sentence}${lack}; ${remedy}`);
}

/**
 * Combines packages to kernels, sorted by version.
 *
 * Up to 6.18, linux-image contains vmlinuz and modules. From 6.19 on, linux-image is empty; linux-binary contains
 * vmlinuz, and linux-modules contains the modules. For some versions, no suite has linux-modules any more; kernels of
 * these versions are not available.
 */
export function kernelsOf(packages: readonly Package[]): readonly CatalogueKernel[] {
  const newest = new Map<string, Package>();
  for (const found of packages) {
    const other = newest.get(found.name);
    if (other === undefined || compareVersions(found.version, other.version) > 0) {
      newest.set(found.name, found);
    }
  }
  const kernels: CatalogueKernel[] = [];
  for (const { name } of newest.values()) {
    const [, part, release = ""] = /^linux-(image|binary)-(.*)$/.exec(name) ?? [];
    const image = newest.get(`linux-image-${release}`);
    const isWhole = image !== undefined && image.bytes > METAPACKAGE_BYTES;
    // Each release is added once, for the package that contains its vmlinuz.
    const vmlinuz = isWhole ? image : newest.get(`linux-binary-${release}`);
    if (vmlinuz?.name !== name || part === undefined) continue;
    kernels.push(isWhole ? toKernel(release, [vmlinuz]) : splitKernel(release, vmlinuz, newest));
  }
  return kernels.toSorted((a, b) => compareVersions(a.version, b.version));
}

function splitKernel(
  release: string,
  binary: Package,
  all: ReadonlyMap<string, Package>,
): CatalogueKernel {
  const modules = all.get(`linux-modules-${release}`);
  if (modules === undefined) return toKernel(release, [binary], "no modules in any suite");
  if (modules.version !== binary.version) {
    const why = `its modules are of another version, ${modules.version}`;
    return toKernel(release, [binary], why);
  }
  return toKernel(release, [binary, modules]);
}

function toKernel(release: string, packages: readonly Package[], why?: string): CatalogueKernel {
  const { version = "", suite = "" } = packages[0] ?? {};
  return { release, version, suite, packages: why === undefined ? packages : [], why };
}

/**
 * Finds the kernel for a name.
 *
 * A release, with or without `-cloud-amd64`, selects exactly this kernel; a Linux version (`6.12`, `6.12.43`) selects
 * the newest available kernel of that version.
 *
 * @throws {@link LabError} `ERR_LAB_UNKNOWN_KERNEL` with similar names; `ERR_LAB_GONE` if the kernel exists but is
 *   not available.
 */
export function resolveKernel<T extends Named>(name: string, kernels: readonly T[]): T {
  const found = kernels.filter(({ release }) => namesRelease(name, release));
  if (found.length === 0 && /^\d+\.\d+/.test(name)) {
    found.push(...kernels.filter(({ version }) => isOf(linuxVersion(version), name)));
  }
  found.sort((a, b) => compareVersions(b.version, a.version));
  const best = found.find(({ obtainable }) => obtainable);
  if (best !== undefined) return best;
  const [newest] = found;
  if (newest === undefined) throw unknownKernel(name, kernels);
  const near = nearest(newest.version, kernels).join(" and ");
  const sentence = `${newest.release} is not available: ${newest.why ?? "the archive no longer has the kernel"}`;
  const remedy =
    near === ""
      ? "`node-kvm lab kernels` lists the available kernels"
      : `the nearest kernels are ${near}`;
  throw new LabError("ERR_LAB_GONE", `${sentence}; ${remedy}`);
}

/**
 * Whether a name is exactly this release, with or without `-cloud-amd64`.
 *
 * `7.3` selects any kernel of version 7.3 and not `7.3-cloud-amd64`, which is the release of a release candidate.
 */
export function namesRelease(name: string, release: string): boolean {
  if (release === name) return true;
  return release === name + FLAVOUR && !/^\d+\.\d+$/.test(name);
}

function isOf(linux: string, name: string): boolean {
  return linux === name || linux.startsWith(`${name}.`) || linux.startsWith(`${name}-rc`);
}

function unknownKernel(name: string, kernels: readonly Named[]): LabError {
  const shows = "`node-kvm lab kernels` lists all";
  const series = [...new Set(kernels.map(({ version }) => seriesOf(version)))];
  const meant = series.filter((each) => each.startsWith(`${name}.`));
  if (meant.length > 0) {
    const sentence = `"${name}" could be any of ${meant.join(", ")}; ${shows}`;
    return new LabError("ERR_LAB_UNKNOWN_KERNEL", sentence);
  }
  const near = /^\d/.test(name) ? nearest(name, kernels) : [];
  const hint =
    near.length > 0
      ? `the nearest kernels are ${near.join(" and ")}`
      : `the series are ${series.join(", ")}`;
  return new LabError(
    "ERR_LAB_UNKNOWN_KERNEL",
    `no kernel has the name "${name}"; ${hint}; ${shows}`,
  );
}

function seriesOf(version: string): string {
  return linuxVersion(version).replace(/^(\d+\.\d+).*/, "$1");
}

/** Returns the available releases just before and just after a version. */
function nearest(version: string, kernels: readonly Named[]): readonly string[] {
  const all = kernels
    .filter(({ obtainable }) => obtainable)
    .toSorted((a, b) => compareVersions(a.version, b.version));
  const before = all.findLast((each) => compareVersions(each.version, version) < 0);
  const after = all.find((each) => compareVersions(each.version, version) > 0);
  return [before, after].flatMap((each) => (each === undefined ? [] : [each.release]));
}
