/**
 * Which kernels there are, as the archive's lists say, and which one a name means.
 * Asking the archive is archive.ts; having a kernel here is kernels.ts.
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
  /** What `uname -r` says: `6.12.43+deb12-cloud-amd64`. */
  readonly release: string;
  /** The package's version: `6.12.43-1~bpo12+1`. */
  readonly version: string;
  readonly suite: string;
  /** What has to be downloaded; nothing when it cannot be had. */
  readonly packages: readonly Package[];
  /** Why it cannot be had. */
  readonly why: string | undefined;
}

/** The kernels of an archive on a day. */
export interface Catalogue {
  readonly format: 1;
  /** When the archive was asked, in milliseconds of Unix time. */
  readonly made: number;
  readonly address: ArchiveAddress;
  readonly suites: readonly string[];
  /** The suites whose lists could not be fetched, each with the reason. */
  readonly missing: readonly string[];
  /** Sorted by version. */
  readonly kernels: readonly CatalogueKernel[];
}

/** What {@link resolveKernel} needs to know about a kernel. */
export interface Named {
  readonly release: string;
  readonly version: string;
  /** Whether it can be had, from the archive or the cache. */
  readonly obtainable: boolean;
  readonly why: string | undefined;
}

const FILE = "catalogue.json";
const DAY_MS = 86_400_000;
/** How every release of the catalogue ends; names may leave it out. */
export const FLAVOUR = "-cloud-amd64";
/** Returns a release as lists show it and as a name may be written: without the ending that all have. */
export function shortRelease(release: string): string {
  return release.endsWith(FLAVOUR) ? release.slice(0, -FLAVOUR.length) : release;
}

/** A kernel's own package is megabytes; one that only depends on others, two kilobytes. */
const METAPACKAGE_BYTES = 100_000;

/** Reads what the archive said last; `undefined` when it was never asked. */
export async function readCatalogue(cache: LabCache): Promise<Catalogue | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(join(cache.root, FILE), "utf8"));
    const isOurs = typeof value === "object" && value !== null && "format" in value;
    return isOurs && value.format === 1 ? (value as Catalogue) : undefined;
  } catch {
    // It is there or not; a broken one is as good as none, for the archive can be asked again.
    return undefined;
  }
}

/** Forgets what the archive said, once it turned out to be no longer so. */
export async function forgetCatalogue(cache: LabCache): Promise<void> {
  await rm(join(cache.root, FILE), { force: true });
}

/** Whether a catalogue is of this archive and of the last day. */
export function isFresh(catalogue: Catalogue, address: ArchiveAddress): boolean {
  const { main, security } = catalogue.address;
  if (main !== address.main || security !== address.security) return false;
  return Math.abs(Date.now() - catalogue.made) < DAY_MS;
}

/** Asks the archive, and keeps the answer. */
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

/** Says of an archive without kernels that it has none; `undefined` when it has some. */
export function emptiness(catalogue: Catalogue | undefined): LabError | undefined {
  if (catalogue === undefined || catalogue.kernels.length > 0) return undefined;
  const { address, missing } = catalogue;
  const sentence = `the archive ${address.main} lists no kernel (linux-image-...${FLAVOUR})`;
  const lack = missing.length === 0 ? "" : `; suites it did not give: ${missing.join("; ")}`;
  const remedy = "name another archive with --mirror";
  return new LabError("ERR_LAB_ARCHIVE", `${sentence}${lack}; ${remedy}`);
}

/**
 * Puts packages together to kernels, sorted by version.
 *
 * Up to 6.18 linux-image holds vmlinuz and modules. From 6.19 it is empty and linux-binary and
 * linux-modules hold them; some versions lost the latter from every suite, and cannot be had.
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
    // Each release once: by the one package that has its vmlinuz.
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
 * Finds the kernel that a name means.
 *
 * A release means itself, with or without `-cloud-amd64`; a Linux version (`6.12`, `6.12.43`) the
 * newest kernel of it that can be had.
 *
 * @throws {@link LabError} `ERR_LAB_UNKNOWN_KERNEL`, naming what comes near; `ERR_LAB_GONE` when
 * there is one but it cannot be had.
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
  const sentence = `${newest.release} cannot be had: ${newest.why ?? "the archive has it no more"}`;
  const remedy = near === "" ? "`node-kvm lab kernels` shows what can" : `the nearest are ${near}`;
  throw new LabError("ERR_LAB_GONE", `${sentence}; ${remedy}`);
}

/**
 * Whether a name is this very release, with or without `-cloud-amd64`.
 *
 * `7.3` is not `7.3-cloud-amd64`, a release candidate's name, but any kernel of 7.3.
 */
export function namesRelease(name: string, release: string): boolean {
  if (release === name) return true;
  return release === name + FLAVOUR && !/^\d+\.\d+$/.test(name);
}

function isOf(linux: string, name: string): boolean {
  return linux === name || linux.startsWith(`${name}.`) || linux.startsWith(`${name}-rc`);
}

function unknownKernel(name: string, kernels: readonly Named[]): LabError {
  const shows = "`node-kvm lab kernels` shows all";
  const series = [...new Set(kernels.map(({ version }) => seriesOf(version)))];
  const meant = series.filter((each) => each.startsWith(`${name}.`));
  if (meant.length > 0) {
    const sentence = `"${name}" could be any of ${meant.join(", ")}; ${shows}`;
    return new LabError("ERR_LAB_UNKNOWN_KERNEL", sentence);
  }
  const near = /^\d/.test(name) ? nearest(name, kernels) : [];
  const hint =
    near.length > 0 ? `near it are ${near.join(" and ")}` : `there are ${series.join(", ")}`;
  return new LabError("ERR_LAB_UNKNOWN_KERNEL", `no kernel is called "${name}"; ${hint}; ${shows}`);
}

function seriesOf(version: string): string {
  return linuxVersion(version).replace(/^(\d+\.\d+).*/, "$1");
}

/** The releases that can be had and come just before and just after a version. */
function nearest(version: string, kernels: readonly Named[]): readonly string[] {
  const all = kernels
    .filter(({ obtainable }) => obtainable)
    .toSorted((a, b) => compareVersions(a.version, b.version));
  const before = all.findLast((each) => compareVersions(each.version, version) < 0);
  const after = all.find((each) => compareVersions(each.version, version) > 0);
  return [before, after].flatMap((each) => (each === undefined ? [] : [each.release]));
}
