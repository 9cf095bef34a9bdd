/** Finds the kernel that an argument of a lab command names. */
import { existsSync } from "node:fs";
import { LabError } from "../lab/error.ts";
import { fetchKernel, type Kernel, ownKernel } from "../lab/kernels/kernels.ts";
import { cut } from "../report/lines.ts";
import { printable } from "../report/printable.ts";
import { CommandError } from "./failure.ts";
import { CLEAR_LINE, canRedraw, tableWidth } from "./terminal.ts";

/** Whether the argument of `--kernel` is the path of a kernel instead of a name in the catalogue. */
export const isPath = (word: string): boolean => word.includes("/");

/** Rejects a folder of modules if none of the kernels uses the folder. */
export function refuseUnusedModules(words: readonly string[], modules: string | undefined): void {
  if (modules === undefined || words.some(isPath)) return;
  throw new CommandError("--modules is for a kernel of your own, whose path has a slash");
}

/** Rejects an injected fault: the claims of the lab's machines would be judged without the fault. */
export function refuseFault(): void {
  if ((process.env["NODE_KVM_FAULT"] ?? "") === "") return;
  throw new CommandError(
    "NODE_KVM_FAULT has no effect on the lab's machines; instead: node-kvm lab exec -- env NODE_KVM_FAULT=... node-kvm test",
  );
}

/** The place where the progress of {@link findKernel} is shown. */
export interface KernelNotices {
  /** Whether {@link prepare} shows its text on a line that the next text replaces. */
  readonly isLive: boolean;
  prepare(what: string): void;
  /** Writes a line. */
  event(line: string): void;
}

/** Shows progress on one line of standard error. */
class NoticeLine implements KernelNotices {
  readonly isLive: boolean = canRedraw(process.stderr);
  #hasText: boolean = false;

  prepare(what: string): void {
    const line = cut(`  ${printable(what)}`, tableWidth(process.stderr) - 1);
    process.stderr.write(`${CLEAR_LINE}${line}`);
    this.#hasText = true;
  }

  event(line: string): void {
    this.end();
    process.stderr.write(`node-kvm: ${printable(line)}\n`);
  }

  end(): void {
    if (this.#hasText) process.stderr.write(CLEAR_LINE);
    this.#hasText = false;
  }
}

/**
 * Finds a kernel. A word with a slash is the path of the user's own kernel; any other word is a name of the catalogue.
 *
 * @param notices - the place for notices; by default, a line of standard error.
 */
export async function findKernel(
  word: string,
  modules: string | undefined,
  signal: AbortSignal,
  notices?: KernelNotices,
): Promise<Kernel> {
  if (isPath(word)) {
    return ownKernel({ vmlinuz: word, ...(modules === undefined ? {} : { modules }) });
  }
  const line = new NoticeLine();
  try {
    return await fetchNamed(word, signal, notices ?? line);
  } catch (error) {
    const isMeant = error instanceof LabError && error.code !== "ERR_LAB_INTERRUPTED";
    if (!(isMeant && existsSync(word))) throw error;
    const hint = `write the path of your own kernel with a slash: ./${word}`;
    throw new LabError(error.code, `${error.message}; ${hint}`, error);
  } finally {
    line.end();
  }
}

function fetchNamed(word: string, signal: AbortSignal, notices: KernelNotices): Promise<Kernel> {
  const search = (): void => notices.event(`looking up kernel ${word} in the archive's list`);
  const notice = setTimeout(search, NOTICE_MS);
  let fetched = "";
  return fetchKernel(word, {
    signal,
    onProgress: ({ package: name, bytes, total }) => {
      clearTimeout(notice);
      if (notices.isLive) {
        notices.prepare(`${name}: ${Math.floor((100 * bytes) / Math.max(1, total))} %`);
      } else if (fetched === "") {
        notices.event(`fetching ${name}, ${Math.ceil(total / 1e6)} MB`);
      }
      fetched = name;
    },
  }).finally(() => clearTimeout(notice));
}

/** The time in milliseconds after which the search for a kernel is reported. */
const NOTICE_MS = 500;
