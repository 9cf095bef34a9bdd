/** `node-kvm lab cache`: what the lab's cache holds, and making room in it. */
import { LabCache } from "../lab/cache/cache.ts";
import {
  type CacheUsage,
  emptyCache,
  pruneCache,
  type StoredEntry,
  surveyCache,
} from "../lab/cache/usage.ts";
import { STATUS } from "./exit-status.ts";
import { CommandError } from "./failure.ts";
import { interruptible } from "./lab-kernel.ts";

/** What to do with the cache. */
export interface LabCacheOptions {
  /** Whether to compare every file with its checksum. */
  readonly verify?: boolean | undefined;
  /** How much the entries may take, MB; the least recently used go first. */
  readonly prune?: number | undefined;
  /** Whether to remove all. */
  readonly empty?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/** Makes room if it is to, then prints what is there; returns the exit status. */
export function labCache(options: LabCacheOptions = {}): Promise<number> {
  return interruptible((signal) => execute(options, signal));
}

async function execute(options: LabCacheOptions, signal: AbortSignal): Promise<number> {
  const { prune, empty, verify } = options;
  const orders = Object.entries({ "--verify": verify, "--prune": prune, "--empty": empty });
  const given = orders.filter(([, value]) => value !== undefined && value !== false);
  if (given.length > 1) {
    throw new CommandError(`${given.map(([name]) => name).join(" and ")} exclude each other`);
  }
  const cache = LabCache.default();
  if (prune !== undefined) report(await pruneCache(cache, prune * 1e6));
  if (empty === true) report(await emptyCache(cache, signal));
  const usage = await surveyCache(cache, { verify });
  process.stdout.write(options.json === true ? toJson(usage) : printUsage(usage));
  return usage.entries.some(({ damage }) => damage !== undefined) ? STATUS.finding : STATUS.ok;
}

function report(removed: readonly StoredEntry[]): void {
  for (const { kind, name, bytes } of removed) {
    process.stderr.write(`removed ${kind}/${name} (${megabytes(bytes)})\n`);
  }
}

/** Prints the entries as a table, then what all take together. */
export function printUsage({ root, entries, bytes, otherBytes }: CacheUsage): string {
  const names = entries.map(({ kind, name }) => `${kind}/${name}`);
  const width = Math.max("entry".length, ...names.map((name) => name.length));
  const lines = entries.map(({ bytes: size, used, damage }, i) =>
    [
      (names[i] ?? "").padEnd(width),
      megabytes(size).padStart(9),
      `${used.toISOString().slice(0, 16)}Z`,
      ...(damage === undefined ? [] : [damage]),
    ].join("  "),
  );
  const head = ["entry".padEnd(width), "size".padStart(9), "last used"].join("  ");
  const total = `${entries.length} entries: ${megabytes(bytes)}`;
  const others = `the archive's lists and unfinished downloads: ${megabytes(otherBytes)}`;
  return `${[head, ...lines, "", `${total}; ${others}`, `in ${root}`].join("\n")}\n`;
}

function toJson(usage: CacheUsage): string {
  return `${JSON.stringify(usage, null, 2)}\n`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
