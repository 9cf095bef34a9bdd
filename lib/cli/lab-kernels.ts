/** `node-kvm lab kernels`: which kernels there are, what is cached, what can be had, how large. */
import {
  fetchKernel,
  type KernelList,
  type KernelOptions,
  type KernelRow,
  surveyKernels,
} from "../lab/kernels.ts";
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
      const kernel = await fetchKernel(name, { ...asking, refetch, onProgress: progressLine() });
      process.stderr.write(`${CLEAR}${name}: ${kernel.release} is in the cache\n`);
    }
    const isAsked = (options.fetch ?? []).length > 0;
    const list = await surveyKernels(isAsked ? { ...where, update: false } : where);
    const p = paint(process.stdout.isTTY && process.env["NO_COLOR"] === undefined);
    process.stdout.write(options.json === true ? toJson(list) : printKernels(list, p));
    return 0;
  });
}

/** Prints the kernels as a table, then the totals and what to know about the list. */
export function printKernels(list: KernelList, p: Paint): string {
  const width = Math.max("release".length, ...list.rows.map(({ release }) => release.length));
  const linux = Math.max("Linux".length, ...list.rows.map((row) => row.linux.length));
  const suite = Math.max("suite".length, ...list.rows.map((row) => row.suite.length));
  const lines = list.rows.map((row) =>
    [
      row.release.padEnd(width),
      row.linux.padEnd(linux),
      row.suite.padEnd(suite),
      (row.bytes === 0 ? "" : megabytes(row.bytes)).padStart(8),
      state(row, p),
    ].join("  "),
  );
  const names = ["release".padEnd(width), "Linux".padEnd(linux), "suite".padEnd(suite)];
  const head = [...names, "download", "state"].join("  ");
  return `${[p.dim(head), ...lines, "", ...closing(list)].join("\n")}\n`;
}

function closing({ rows, asked, missing, trouble }: KernelList): readonly string[] {
  const cached = rows.filter((row) => row.cached);
  const available = rows.filter((row) => !row.cached && row.obtainable);
  const gone = rows.length - cached.length - available.length;
  const held = megabytes(cached.reduce((sum, { cachedBytes }) => sum + cachedBytes, 0));
  const lines = [
    `${rows.length} kernels: ${cached.length} cached (${held}), ${available.length} available, ${gone} gone`,
  ];
  if (asked !== undefined) lines.push(`the archive was asked ${asked.toISOString().slice(0, 16)}Z`);
  if (missing.length > 0) lines.push(`suites it did not give: ${missing.join("; ")}`);
  // What is wrong with an archive that answered is a sentence of its own.
  const isAnswer = trouble?.code === "ERR_LAB_ARCHIVE";
  if (trouble !== undefined) {
    lines.push(isAnswer ? trouble.message : `it could not be asked now: ${trouble.message}`);
  }
  return lines;
}

function state(row: KernelRow, p: Paint): string {
  if (row.cached) return p.green(`cached (${megabytes(row.cachedBytes)})`) + note(row);
  if (row.obtainable) return `available${note(row)}`;
  return p.dim(`gone${note(row)}`);
}

function note({ why }: KernelRow): string {
  return why === undefined ? "" : `: ${why}`;
}

function toJson({ rows, asked, missing, trouble }: KernelList): string {
  const document = { asked, missing, trouble: trouble?.message, kernels: rows };
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** What begins a line anew on a terminal, and is nothing elsewhere. */
const CLEAR = process.stderr.isTTY ? "\r\u001b[2K" : "";

function progressLine(): NonNullable<Parameters<typeof fetchKernel>[1]>["onProgress"] {
  if (!process.stderr.isTTY) return undefined;
  return ({ package: name, bytes, total }) => {
    process.stderr.write(`${CLEAR}  ${name}: ${megabytes(bytes)} of ${megabytes(total)}`);
  };
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
