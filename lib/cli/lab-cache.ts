/** `node-kvm lab cache`: prints the entries of the lab's cache, and removes entries. */
import { LabCache } from "../lab/cache/cache.ts";
import {
  type CacheUsage,
  emptyCache,
  pruneCache,
  type StoredEntry,
  surveyCache,
} from "../lab/cache/usage.ts";
import { KERNELS } from "../lab/kernels/kernel-entry.ts";
import { SNAPSHOTS } from "../lab/machine/snapshot.ts";
import { wrap } from "../report/lines.ts";
import { printable } from "../report/printable.ts";
import { counted } from "../report/text.ts";
import { STATUS } from "./exit-status.ts";
import { CommandError } from "./failure.ts";
import { interruptible } from "./interrupt.ts";
import { lineWidth } from "./terminal.ts";

/** The options of `lab cache`. */
export interface LabCacheOptions {
  /** Whether to compare every file of the cache with its checksum. */
  readonly verify?: boolean | undefined;
  /** The size in MB to which the cache is reduced; the least recently used entries are removed first. */
  readonly prune?: number | undefined;
  /** Whether to remove all entries of the cache. */
  readonly empty?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/** Removes entries if the options request it, then prints the remaining entries; returns the exit status. */
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
  const removed =
    prune !== undefined
      ? await pruneCache(cache, prune * 1e6)
      : empty === true
        ? await emptyCache(cache, signal)
        : [];
  const usage = await surveyCache(cache, { verify });
  report(removed, usage);
  process.stdout.write(
    options.json === true ? toJson(usage) : printUsage(usage, lineWidth(process.stdout)),
  );
  return usage.entries.some(({ damage }) => damage !== undefined) ? STATUS.finding : STATUS.ok;
}

/** For each kind of entry, the consequence of removing the last entry of this kind. */
const CONSEQUENCES: Readonly<Record<string, string>> = {
  [SNAPSHOTS]: "no saved machine is left: the next lab run boots and saves each kernel again",
  [KERNELS]: "no kernel is left: the next command that needs one downloads it again",
};

function report(removed: readonly StoredEntry[], { entries }: CacheUsage): void {
  const lines = removed.map(
    ({ kind, name, bytes }) => `removed ${kind}/${printable(name)} (${megabytes(bytes)})`,
  );
  for (const [kind, consequence] of Object.entries(CONSEQUENCES)) {
    const isOfKind = (entry: StoredEntry): boolean => entry.kind === kind;
    if (removed.some(isOfKind) && !entries.some(isOfKind)) lines.push(consequence);
  }
  for (const line of lines) process.stderr.write(`${line}\n`);
}

/** The width of the columns for an entry's size and time, including the spaces before them. */
const SIZE_AND_TIME = 30;

/** Formats the entries as a table, then their total size. */
export function printUsage(
  { root, entries, bytes, otherBytes }: CacheUsage,
  width: number = Infinity,
): string {
  const names = entries.map(({ kind, name }) => `${kind}/${printable(name)}`);
  const room = width - SIZE_AND_TIME;
  // A longer name is printed on a separate line.
  const label = Math.max(
    "entry".length,
    ...names.map(({ length }) => (length > room ? 0 : length)),
  );
  const lines = entries.flatMap(({ bytes: size, used, damage }, i) => {
    const name = names[i] ?? "";
    const rest = `  ${megabytes(size).padStart(9)}  ${used.toISOString().slice(0, 16)}Z`;
    return [
      ...(name.length > label ? [name, " ".repeat(label) + rest] : [name.padEnd(label) + rest]),
      ...(damage === undefined
        ? []
        : wrap(printable(damage), width, { first: "  ", rest: "    " })),
    ];
  });
  const head = ["entry".padEnd(label), "size".padStart(9), "last used"].join("  ");
  const total = `${counted(entries.length, "entry", "entries")}: ${megabytes(bytes)}`;
  const others = `the archive's lists and unfinished downloads: ${megabytes(otherBytes)}`;
  const below = [`${total}; ${others}`, `in ${root}`];
  const wrapped = below.flatMap((line) => wrap(line, width, { rest: "  " }));
  return `${[head, ...lines, "", ...wrapped].join("\n")}\n`;
}

function toJson(usage: CacheUsage): string {
  return `${JSON.stringify(usage, null, 2)}\n`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
