/** One line about each kernel: what the catalogue and the cache say of it, put together. */
import type { LabCache } from "../cache/cache.ts";
import { LabError } from "../error.ts";
import type { Catalogue, CatalogueKernel } from "./catalogue.ts";
import { KERNELS } from "./kernel-entry.ts";
import { compareVersions, linuxVersion } from "./version.ts";

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
