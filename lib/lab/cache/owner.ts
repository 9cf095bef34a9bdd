/**
 * The owner of a temporary file: makes the mark of a process, and checks whether the process still runs. cache.ts uses
 * these marks.
 */
import { readFileSync, readlinkSync } from "node:fs";
import { stat } from "node:fs/promises";

const HOUR_MS = 3_600_000;

/**
 * Returns this process's mark for the names of temporary files: pid, start time, pid namespace.
 *
 * The start time distinguishes the process from a later process with the same pid.
 */
export function ownMark(): string {
  return `${process.pid}-${startTime(process.pid) ?? "0"}-${namespace()}`;
}

/**
 * Whether the process whose mark is in a file name has ended.
 *
 * Processes in another namespace, such as another container that shares the folder, are not visible. The file of such a
 * process counts as abandoned if it has not changed for an hour.
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
    // The command's name is in parentheses and may contain anything; field 22 is the start time (proc(5)).
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    // The process does not exist.
    return undefined;
  }
}
