/** What every lab command needs: the kernel that a word means, and an end by Ctrl-C. */
import { existsSync } from "node:fs";
import { fetchKernel, type Kernel, ownKernel } from "../lab/kernels.ts";
import { printable } from "../report/printable.ts";

/** Finds a kernel: a path is the user's own, anything else a name of the catalogue. */
export function findKernel(
  word: string,
  modules: string | undefined,
  signal: AbortSignal,
): Promise<Kernel> {
  if (word.includes("/") || existsSync(word)) {
    return ownKernel({ vmlinuz: word, ...(modules === undefined ? {} : { modules }) });
  }
  let shown = "";
  return fetchKernel(word, {
    signal,
    onProgress: ({ package: name, bytes, total }) => {
      const line = `${printable(name)}: ${Math.floor((100 * bytes) / Math.max(1, total))} %`;
      if (line !== shown && process.stderr.isTTY) process.stderr.write(`\r\u001b[2K  ${line}`);
      shown = line;
    },
  });
}

/** Runs work that SIGINT and SIGTERM end in order: machines are killed, files removed. */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  process.once("SIGINT", abort).once("SIGTERM", abort);
  try {
    return await work(controller.signal);
  } finally {
    process.off("SIGINT", abort).off("SIGTERM", abort);
  }
}
