/** What every lab command needs: the kernel that a word means, and an end by Ctrl-C. */
import { existsSync } from "node:fs";
import { LabError } from "../lab/error.ts";
import { fetchKernel, type Kernel, ownKernel } from "../lab/kernels.ts";

/** Finds a kernel: what has a slash is the path of the user's own, anything else a name of the catalogue. */
export async function findKernel(
  word: string,
  modules: string | undefined,
  signal: AbortSignal,
): Promise<Kernel> {
  if (word.includes("/")) {
    return ownKernel({ vmlinuz: word, ...(modules === undefined ? {} : { modules }) });
  }
  try {
    return await fetchNamed(word, signal);
  } catch (error) {
    const isMeant = error instanceof LabError && error.code !== "ERR_LAB_INTERRUPTED";
    if (!(isMeant && existsSync(word))) throw error;
    const hint = `a kernel of your own is named with a slash: ./${word}`;
    throw new LabError(error.code, `${error.message}; ${hint}`, error);
  }
}

function fetchNamed(word: string, signal: AbortSignal): Promise<Kernel> {
  let shown = "";
  return fetchKernel(word, {
    signal,
    onProgress: ({ package: name, bytes, total }) => {
      const line = `${name}: ${Math.floor((100 * bytes) / Math.max(1, total))} %`;
      if (line !== shown && process.stderr.isTTY) process.stderr.write(`\r\u001b[2K  ${line}`);
      shown = line;
    },
  });
}

const ENDING = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Runs work that these signals end in order: machines are killed, files removed. */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const abort = (): void => controller.abort();
  for (const signal of ENDING) process.once(signal, abort);
  try {
    return await work(controller.signal);
  } finally {
    for (const signal of ENDING) process.off(signal, abort);
  }
}
