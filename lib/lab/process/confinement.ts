/**
 * Sets the privileges of a process that the lab starts. The process dies with its parent; an emulator also gets a
 * separate user, no capabilities, a minimal environment and a folder for its files.
 *
 * The restrictions are options of setpriv (util-linux). Each set of options is tried once per process on a program that
 * does nothing, starting with the strictest set.
 */
import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import {
  chmodSync,
  chownSync,
  closeSync,
  copyFileSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
} from "node:fs";
import { basename, join, resolve } from "node:path";
import { onPath } from "./search-path.ts";

/** The privileges of an emulator. */
export interface Confinement {
  /** The words of the command line that precede the program and its arguments. */
  readonly prefix: readonly string[];
  /** The emulator's user and group; `undefined` if the emulator runs as this process's user. */
  readonly user: number | undefined;
  /** All variables of the emulator's environment. */
  readonly env: Readonly<Record<string, string>>;
}

const DIES_WITH_PARENT = ["--pdeathsig", "KILL"];
/** The kernel sends no signal if the parent died earlier, so this script compares the parent's pid before it execs. */
const UNLESS_ORPHANED = ["sh", "-c", 'test "$PPID" = "$0" && exec "$@"'];
/** A process of another user than root has no capabilities after an exec, and cannot gain any. */
const NO_PRIVILEGES = ["--no-new-privs", "--inh-caps", "-all", "--ambient-caps", "-all"];
/** The bounding set is emptied, because a process of root would regain it at the exec; this requires CAP_SETPCAP. */
const EMPTY_BOUNDING_SET = ["--bounding-set", "-all"];

/** User IDs that systemd's documentation (UIDS-GIDS) lists as unused: each machine gets one of them. */
const UNUSED = { first: 0x7000_0000, count: 0x0fff_0000 } as const;
/** A user namespace that maps only some users usually maps this user. */
const NOBODY = 65_534;

/**
 * Returns the strictest confinement that this machine allows.
 *
 * Only root can change the user. The emulator runs as this process's user if the other user cannot access the program,
 * for example in a home folder.
 *
 * @param program - the absolute path of the program; `undefined` if the program is passed as a descriptor.
 * @param folder - the emulator's own folder; if omitted, the emulator runs as this process's user.
 */
export function confine(program: string | undefined, folder: string | undefined): Confinement {
  const env = { PATH: process.env["PATH"] ?? "", LC_ALL: "C" };
  const setpriv = onPath("setpriv");
  if (setpriv === undefined) return { prefix: [], user: undefined, env };
  const allows = (options: readonly string[]): boolean => works(setpriv, options, program ?? "/");
  const started = (options: readonly string[], user?: number): Confinement => ({
    prefix: [setpriv, ...options, ...UNLESS_ORPHANED, String(process.pid)],
    user,
    env,
  });
  const strict = [...DIES_WITH_PARENT, ...NO_PRIVILEGES, ...EMPTY_BOUNDING_SET];
  if (process.geteuid?.() === 0 && folder !== undefined) {
    const own = UNUSED.first + randomInt(UNUSED.count);
    for (const [example, user] of [
      [UNUSED.first, own],
      [NOBODY, NOBODY],
    ] as const) {
      if (allows([...strict, ...become(example)]))
        return started([...strict, ...become(user)], user);
    }
  }
  const sets = [strict, [...DIES_WITH_PARENT, ...NO_PRIVILEGES], DIES_WITH_PARENT];
  const options = sets.find(allows);
  return options === undefined ? { prefix: [], user: undefined, env } : started(options);
}

/** Returns the words of a command line that precede a program that must not outlive this process. */
export function diesWithParent(): readonly string[] {
  const setpriv = onPath("setpriv");
  if (setpriv === undefined || !works(setpriv, DIES_WITH_PARENT, "/")) return [];
  return [setpriv, ...DIES_WITH_PARENT, ...UNLESS_ORPHANED, String(process.pid)];
}

function become(user: number): readonly string[] {
  return ["--clear-groups", "--regid", String(user), "--reuid", String(user)];
}

const tried = new Map<string, boolean>();

/** Whether setpriv accepts these options, and the program can be executed with them. */
function works(setpriv: string, options: readonly string[], program: string): boolean {
  const key = JSON.stringify([setpriv, options, program]);
  const known = tried.get(key);
  if (known !== undefined) return known;
  const { status } = spawnSync(setpriv, [...options, "test", "-x", program], { stdio: "ignore" });
  tried.set(key, status === 0);
  return status === 0;
}

/** Files that are opened for an emulator, because its user may not have access to their paths. */
export interface Handover extends Disposable {
  /** The descriptors of the files, in order; -1 for a file that cannot be opened. */
  readonly descriptors: readonly number[];
}

/**
 * Opens files for an emulator that becomes `user`, and changes the owner of the emulator's folder and of its content.
 *
 * The emulator opens /proc/self/fd/N again: the kernel then checks the file's own mode, but no folder above the file. A
 * file that not every user can read is copied into the folder.
 */
export function handOver(
  paths: readonly string[],
  folder: string | undefined,
  user: number | undefined,
): Handover {
  const descriptors: number[] = [];
  for (const [i, path] of paths.entries()) {
    const file = openIfPossible(path);
    if (user === undefined || file === -1 || (fstatSync(file).mode & 0o004) !== 0) {
      descriptors.push(file);
    } else {
      closeSync(file);
      const copies = join(folder ?? "", "copies");
      mkdirSync(copies, { recursive: true });
      const copy = join(copies, `${i}-${basename(path)}`);
      copyFileSync(path, copy);
      descriptors.push(openSync(copy, "r"));
    }
  }
  if (folder !== undefined && user !== undefined) giveAway(folder, user);
  return {
    descriptors,
    [Symbol.dispose]: () => {
      for (const file of descriptors) if (file !== -1) closeSync(file);
    },
  };
}

function openIfPossible(path: string): number {
  try {
    return openSync(resolve(path), "r");
  } catch {
    return -1; // the emulator itself reports the reason with the path
  }
}

function giveAway(folder: string, user: number): void {
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    // The owner of a file with another hard link, such as a link in the cache, is not changed.
    const isOnlyHere = entry.isFile() && lstatSync(path).nlink === 1;
    if (entry.isDirectory() || isOnlyHere) chownSync(path, user, user);
  }
  chownSync(folder, user, user);
  chmodSync(folder, 0o700);
}
