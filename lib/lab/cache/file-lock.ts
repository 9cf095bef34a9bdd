/**
 * A lock between processes: flock(2) on a file. The kernel releases a lock when its owner ends, so there are no stale
 * locks. Node has no flock(2). The program flock (util-linux, busybox) locks the open file that it inherits; this
 * process then also holds the lock.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:fs";
import { type FileHandle, open, readdir, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import { LabError } from "../error.ts";
import { throwIfAborted } from "../process/command.ts";
import { diesWithParent } from "../process/confinement.ts";

/** Makes open(2) of a FIFO return without a writer. */
const OPEN = constants.O_RDONLY | constants.O_NONBLOCK;

/** Waits for the lock and acquires it; the returned object releases the lock. */
export async function lockFile(path: string, signal?: AbortSignal): Promise<AsyncDisposable> {
  for (;;) {
    throwIfAborted(signal);
    const file = await open(path, "a", 0o600);
    if (await isLocked(file, path, ["-x"], signal)) return release(file, path);
  }
}

/** Removes lock files that are not locked, because their owners were killed. */
export async function removeFreeLocks(
  folder: string,
  isLock: (name: string) => boolean,
): Promise<void> {
  for (const name of (await readdir(folder).catch(() => [])).filter(isLock)) {
    const path = join(folder, name);
    const file = await open(path, OPEN).catch(() => undefined);
    if (file === undefined) continue;
    const isEmpty = await file.stat().then((found) => found.isFile() && found.size === 0);
    if (!isEmpty) await file.close();
    else if (await isLocked(file, path, ["-x", "-n"]))
      await release(file, path)[Symbol.asyncDispose]();
  }
}

/**
 * Locks an open file; closes the file if locking fails.
 *
 * The previous owner removes the file when it releases the lock, so the lock is valid only if the path still refers
 * to the locked file.
 */
async function isLocked(
  file: FileHandle,
  path: string,
  options: readonly string[],
  signal?: AbortSignal,
): Promise<boolean> {
  let has = false;
  try {
    if (!(await flock(file, options, signal))) return false;
    const [own, named] = [await file.stat(), await stat(path).catch(() => undefined)];
    has = named?.ino === own.ino && named.dev === own.dev;
    return has;
  } finally {
    if (!has) await file.close();
  }
}

async function flock(
  file: FileHandle,
  options: readonly string[],
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const [program = "", ...args] = [...diesWithParent(), "flock", ...options, "3"];
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe", file.fd] });
  const abort = (): void => void child.kill("SIGKILL");
  signal?.addEventListener("abort", abort, { once: true });
  let words = "";
  child.stderr?.on("data", (bytes: Buffer) => {
    words += bytes.toString();
  });
  try {
    const [status] = (await once(child, "close")) as [number | null];
    throwIfAborted(signal);
    if (status === 0) return true;
    // With -n, status 1 means that another process holds the lock.
    if (status === 1 && words === "") return false;
    const remedy = "the lab needs flock (Debian's package util-linux)";
    throw new LabError(
      "ERR_LAB_TOOL",
      `flock failed (status ${status}): ${words.trim()}; ${remedy}`,
    );
  } catch (error) {
    if (error instanceof LabError) throw error;
    const sentence = "flock is not on this machine; install it (Debian's package util-linux)";
    throw new LabError("ERR_LAB_TOOL", sentence, error);
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

function release(file: FileHandle, path: string): AsyncDisposable {
  return {
    [Symbol.asyncDispose]: async () => {
      await unlink(path).catch(() => undefined); // the cache's folder was emptied in the meantime
      await file.close();
    },
  };
}
