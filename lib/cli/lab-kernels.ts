/** `node-kvm lab kernels`: which kernels there are, what is cached, what can be had, how large. */
import {
  fetchKernel,
  type KernelList,
  type KernelOptions,
  type KernelRow,
  surveyKernels,
} from "../lab/kernels/kernels.ts";
import { printable, printableJson } from "../report/printable.ts";
import { type Paint, paint } from "../report/text.ts";
import { interruptible } from "./lab-kernel.ts";

/** What to list, and what to fetch first. */
export interface LabKernelsOptions {
  readonly mirror?: string | undefined;
  /** Names of kernels to put into the cache. */
  readonly fetch?: readonly string[] | undefined;
  /** Whether to fetch those again that are cached, and to ask the archive anew. */
  readonly refetch?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/** Fetches the kernels that are named, then prints the table; returns the exit status. */
export async function labKernels(options: LabKernelsOptions = {}): Promise<number> {
  return interruptible(async (signal) => {
    const { refetch } = options;
    const where: KernelOptions = { mirror: options.mirror, signal, update: refetch };
    for (const [i, name] of (options.fetch ?? []).entries()) {
      // The archive is asked anew once, not for each name.
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
    const p = paint(process.stdout.isTTY && process.env["NO_COLOR"] === undefined);
    process.stdout.write(options.json === true ? toJson(list) : printKernels(list, p));
    return 0;
  });
}

/**
 * Prints the kernels as a table, then the totals and what to know about the list.
 *
 * Lines have at most 80 columns: the suffix that all releases share is left out, and why a kernel
 * cannot be had is a note.
 */
export function printKernels(list: KernelList, p: Paint): string {
  const notes = Array.from(new Set(list.rows.flatMap(({ why }) => why ?? [])));
  const rows = list.rows.map((row) => [
    printable(row.release.replace(SUFFIX, "")),
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
  const explained = notes.map((why, i) => `[${i + 1}] ${printable(why)}`);
  return `${[p.dim(line(head)), ...rows.map(line), "", ...explained, ...closing(list)].join("\n")}\n`;
}

/** The column of numbers. */
const DOWNLOAD = 3;

/** What every release of the catalogue ends in, and a name may leave out. */
const SUFFIX = "-cloud-amd64";

function closing({ rows, asked, missing, trouble }: KernelList): readonly string[] {
  const cached = rows.filter((row) => row.cached);
  const available = rows.filter((row) => !row.cached && row.obtainable);
  const gone = rows.length - cached.length - available.length;
  const held = megabytes(cached.reduce((sum, { cachedBytes }) => sum + cachedBytes, 0));
  const lines = [
    `${rows.length} kernels: ${cached.length} cached (${held}), ${available.length} available, ${gone} gone`,
  ];
  if (rows.some(({ release }) => release.endsWith(SUFFIX))) {
    lines.push(`${SUFFIX} is left out at the end of releases`);
  }
  if (asked !== undefined) lines.push(`the archive was asked ${asked.toISOString().slice(0, 16)}Z`);
  if (missing.length > 0) lines.push(`suites it did not give: ${missing.join("; ")}`);
  // What is wrong with an archive that answered is a sentence of its own.
  const isAnswer = trouble?.code === "ERR_LAB_ARCHIVE";
  if (trouble !== undefined) {
    lines.push(isAnswer ? trouble.message : `it could not be asked now: ${trouble.message}`);
  }
  return lines.map(printable);
}

function state(row: KernelRow, p: Paint): string {
  if (row.cached) return p.green(`cached (${megabytes(row.cachedBytes)})`);
  return row.obtainable ? "available" : p.dim("gone");
}

function toJson({ rows, asked, missing, trouble }: KernelList): string {
  const document = { asked, missing, trouble: trouble?.message, kernels: rows };
  return `${printableJson(document)}\n`;
}

/** What begins a line anew on a terminal, and is nothing elsewhere. */
const CLEAR = process.stderr.isTTY ? "\r\u001b[2K" : "";

function progressLine(): NonNullable<Parameters<typeof fetchKernel>[1]>["onProgress"] {
  if (!process.stderr.isTTY) return undefined;
  return ({ package: name, bytes, total }) => {
    process.stderr.write(
      `${CLEAR}  ${printable(name)}: ${megabytes(bytes)} of ${megabytes(total)}`,
    );
  };
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
