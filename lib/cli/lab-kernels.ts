/** `node-kvm lab kernels`: lists the available and the cached kernels, with their sizes. */

import { FLAVOUR, shortRelease } from "../lab/kernels/catalogue.ts";
import {
  fetchKernel,
  type KernelList,
  type KernelOptions,
  type KernelRow,
  surveyKernels,
} from "../lab/kernels/kernels.ts";
import { cut, DEFAULT_WIDTH, wrap } from "../report/lines.ts";
import { printable, printableJson } from "../report/printable.ts";
import type { Paint } from "../report/text.ts";
import { interruptible } from "./interrupt.ts";
import { CLEAR_LINE, canRedraw, paintFor, tableWidth } from "./terminal.ts";

/** The options of `lab kernels`: the kernels to download first, and the format of the list. */
export interface LabKernelsOptions {
  readonly mirror?: string | undefined;
  /** The names of kernels to download into the cache. */
  readonly fetch?: readonly string[] | undefined;
  /** Whether to replace cached kernels and to query the archive again. */
  readonly refetch?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/** Downloads the named kernels, then prints the table; returns the exit status. */
export async function labKernels(options: LabKernelsOptions = {}): Promise<number> {
  return interruptible(async (signal) => {
    const { refetch } = options;
    const where: KernelOptions = { mirror: options.mirror, signal, update: refetch };
    for (const [i, name] of (options.fetch ?? []).entries()) {
      // If several kernels are named, the archive is queried again only once.
      const asking = i === 0 ? where : { ...where, update: false };
      const kernel = await fetchKernel(name, {
        ...asking,
        refetch,
        onProgress: progressLine(),
      }).finally(() => process.stderr.write(CLEAR));
      process.stderr.write(`${name}: ${kernel.release} is in the cache\n`);
    }
    const isAsked = (options.fetch ?? []).length > 0;
    const list = await surveyKernels(isAsked ? { ...where, update: false } : where);
    const p = paintFor(process.stdout);
    const width = tableWidth(process.stdout);
    process.stdout.write(options.json === true ? toJson(list) : printKernels(list, p, width));
    return 0;
  });
}

/**
 * Formats the kernels as a table, followed by the totals and the age of the list.
 *
 * The table fits 80 columns, because it omits the ending that all releases share, and shows the reason why a kernel is
 * not available as a note. The lines below the table are wrapped.
 */
export function printKernels(list: KernelList, p: Paint, width: number = DEFAULT_WIDTH): string {
  const notes = Array.from(new Set(list.rows.flatMap(({ why }) => why ?? [])));
  const rows = list.rows.map((row) => [
    printable(shortRelease(row.release)),
    printable(row.linux),
    printable(row.suite),
    row.bytes === 0 ? "" : megabytes(row.bytes),
    state(row, p) + (row.why === undefined ? "" : ` [${notes.indexOf(row.why) + 1}]`),
  ]);
  const head = ["release", "Linux", "suite", "download", "state"];
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => {
        if (i === head.length - 1) return cell;
        return i === DOWNLOAD ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0);
      })
      .join("  ");
  const below = [
    ...notes.flatMap((why, i) => wrap(`[${i + 1}] ${printable(why)}`, width, { rest: "    " })),
    ...closing(list).flatMap((text) => wrap(printable(text), width, { rest: "  " })),
  ];
  return `${[p.dim(line(head)), ...rows.map(line), "", ...below].join("\n")}\n`;
}

/** The index of the column with numbers. */
const DOWNLOAD = 3;

function closing({ rows, asked, missing, trouble }: KernelList): readonly string[] {
  const cached = rows.filter((row) => row.cached);
  const available = rows.filter((row) => !row.cached && row.obtainable);
  const gone = rows.filter((row) => !row.cached && !row.obtainable);
  const held = megabytes(cached.reduce((sum, { cachedBytes }) => sum + cachedBytes, 0));
  const counts = [`${cached.length} cached (${held})`, `${available.length} available`];
  const lines = [`${rows.length} kernels: ${counts.join(", ")}, ${gone.length} gone`];
  if (gone.length > 0) {
    lines.push(`gone: ${gone.map(({ release }) => shortRelease(release)).join(", ")}`);
  }
  if (rows.some(({ release }) => release !== shortRelease(release))) {
    lines.push(`${FLAVOUR} is omitted at the end of releases`);
  }
  if (asked !== undefined)
    lines.push(`the archive was queried ${asked.toISOString().slice(0, 16)}Z`);
  if (missing.length > 0) lines.push(`missing suites: ${missing.join("; ")}`);
  // If the archive has answered, its problem is printed without an introduction.
  const isAnswer = trouble?.code === "ERR_LAB_ARCHIVE";
  if (trouble !== undefined) {
    lines.push(
      isAnswer ? trouble.message : `the archive could not be queried now: ${trouble.message}`,
    );
  }
  return lines;
}

function state(row: KernelRow, p: Paint): string {
  if (row.cached) return p.green(`cached (${megabytes(row.cachedBytes)})`);
  return row.obtainable ? "available" : p.dim("gone");
}

function toJson({ rows, asked, missing, trouble }: KernelList): string {
  const document = { asked, missing, trouble: trouble?.message, kernels: rows };
  return `${printableJson(document)}\n`;
}

/** Erases the progress line on a terminal; an empty text elsewhere. */
const CLEAR = canRedraw(process.stderr) ? CLEAR_LINE : "";

function progressLine(): NonNullable<Parameters<typeof fetchKernel>[1]>["onProgress"] {
  if (!canRedraw(process.stderr)) return undefined;
  return ({ package: name, bytes, total }) => {
    const line = `  ${printable(name)}: ${megabytes(bytes)} of ${megabytes(total)}`;
    process.stderr.write(`${CLEAR}${cut(line, tableWidth(process.stderr) - 1)}`);
  };
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
