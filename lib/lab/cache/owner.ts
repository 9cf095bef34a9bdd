/** Whose a file is: a process's mark, and whether that process still lives. Used by cache.ts. */
import { readFileSync, readlinkSync } from "node:fs";
import { stat } from "node:fs/promises";

const HOUR_MS = 3_600_000;

/**
 * Gives this process's mark, for the names of its temporary files: number, start time, namespace.
 *
 * The start time tells it from a later process of the same number.
 */
export function ownMark(): string {
  return `${process.pid}-${startTime(process.pid) ?? "0"}-${namespace()}`;
}

/**
 * Whether the process that left a file with its mark is no longer there.
 *
 * Of a process in another namespace, such as another container that shares the folder, nothing can
 * be known; its file counts as abandoned when it has not changed for an hour.
 */
export async function isAbandoned(path: string, mark: string): Promise<boolean> {
  const [pid, started, space] = mark.split("-");
  if (space === namespace()) return startTime(Number(pid)) !== started;
  const found = await stat(path).catch(() => undefined);
  return found !== undefined && Date.now() - found.mtimeMs > HOUR_MS;
}

function namespace(): string {
  return readlinkSync("/proc/self/ns/pid").replaceAll(/\D/g, "");
}

function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The command's name is in brackets and may hold anything; field 22 is the start time (proc(5)).
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    // There is no such process.
    return undefined;
  }
}
