/** Judges each file of claims in its own process, if this CPU requires separate processes. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import type { Result } from "../report/result.ts";

/**
 * Returns whether each file of claims needs its own process: true on a CPU with AMX, because the permission for AMX
 * tile data applies to a process. On a CPU without AMX, one process for all files takes at most half the time of
 * separate processes.
 */
export function needsOwnProcesses(): boolean {
  return /\bamx_tile\b/.test(readFileSync("/proc/cpuinfo", "utf8"));
}

/** Reports that the process of a file's claims ended before it returned results. */
export class ProcessEnded extends Error {
  override readonly name: string = "ProcessEnded";
}

/**
 * Judges one file's claims in its own process.
 *
 * @param args - the arguments of Node.js: this program, its options, and the file of claims.
 * @throws {@link ProcessEnded} with the exit status if the process returns no results.
 */
export function judgeInProcess(args: readonly string[]): readonly Result[] {
  const { status, signal, stdout, error } = spawnSync(process.execPath, args, {
    stdio: ["ignore", "pipe", "inherit"],
    maxBuffer: 2 ** 28,
  });
  if (error !== undefined) throw error;
  try {
    return (JSON.parse(stdout.toString()) as { readonly results: readonly Result[] }).results;
  } catch (cause) {
    throw new ProcessEnded(`${endOf(args, status, signal)}, without results`, { cause });
  }
}

/**
 * Judges one file's claims in a new process. The new process prints its results on this process's standard output.
 *
 * @returns a sentence with the exit status or the signal if the process failed; undefined after success.
 */
export function printInProcess(args: readonly string[]): string | undefined {
  const stdio = ["ignore", "inherit", "inherit"] as const;
  const { status, signal, error } = spawnSync(process.execPath, args, { stdio: [...stdio] });
  if (error !== undefined) throw error;
  return status === 0 ? undefined : endOf(args, status, signal);
}

function endOf(args: readonly string[], status: number | null, signal: string | null): string {
  return `the process of ${args.at(-1)} ended with ${signal ?? `status ${status}`}`;
}
