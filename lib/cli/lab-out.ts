/** What `lab exec --out` brings back: where on the host each file of the guest goes, and writing it there. */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { guestPath, isBelow } from "../lab/machine/init.ts";
import { printable } from "../report/printable.ts";

/** A file or folder of the guest that is wanted, and where it goes. */
export interface Out {
  /** Absolute and normalised. */
  readonly guest: string;
  /** The user's own path; when left out, the guest's path below the current folder. */
  readonly host?: string | undefined;
}

/**
 * Reads `GUEST:HOST` or `GUEST`.
 *
 * @throws {@link LabError} `ERR_LAB_FILE` when GUEST is no absolute path.
 */
export function parseOut(guest: string, host?: string): Out {
  return { guest: guestPath(guest), host };
}

/**
 * Writes the files that were wanted. A path that a guest named leads nowhere but below the target:
 * no link there is followed, whether to a folder or to a file, and what exists is replaced as a whole.
 *
 * @returns a sentence for each that could not be written, and for each that the guest has not.
 */
export function writeOut(
  files: ReadonlyMap<string, Uint8Array>,
  outs: readonly Out[],
): readonly string[] {
  return outs.flatMap((out) => {
    const found = Array.from(files).filter(([path]) => isBelow(path, out.guest));
    if (found.length === 0) return [`the guest has no ${printable(out.guest)}`];
    return found.flatMap(([path, bytes]) => writeOne(out, path, bytes) ?? []);
  });
}

function writeOne({ guest, host }: Out, path: string, bytes: Uint8Array): string | undefined {
  const below = path.slice(guest === "/" ? 0 : guest.length);
  const place = resolve((host ?? `.${guest}`) + below);
  try {
    if (host !== undefined && below === "") writeOwn(place, bytes);
    else writeBelow(host ?? ".", (host === undefined ? path : below).split("/").slice(1), bytes);
    return undefined;
  } catch (error) {
    // "EACCES: permission denied, open '/proc/self/fd/…'": the path is not the one the user knows.
    const why = error instanceof Error ? error.message.split(",")[0] : String(error);
    return `${printable(place)} cannot be written: ${why}`;
  }
}

/** Writes where the user said, as a shell's redirection would: a device, or through a link. */
function writeOwn(place: string, bytes: Uint8Array): void {
  mkdirSync(dirname(place), { recursive: true });
  writeFileSync(place, bytes);
}

const FOLDER = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** Writes below a folder of the user's, each step from the descriptor of the last. */
function writeBelow(folder: string, parts: readonly string[], bytes: Uint8Array): void {
  mkdirSync(folder, { recursive: true });
  let fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    for (const part of parts.slice(0, -1)) {
      const next = openFolder(within(fd, part));
      closeSync(fd);
      fd = next;
    }
    replace(fd, parts.at(-1) ?? "", bytes);
  } finally {
    closeSync(fd);
  }
}

/** Node has no openat(); the kernel's links to open descriptors are as good. */
function within(fd: number, name: string): string {
  return join("/proc/self/fd", String(fd), name);
}

function openFolder(path: string): number {
  refuseLink(path);
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) mkdirSync(path);
  return openSync(path, FOLDER);
}

/** Writes aside and renames, so that neither a link nor another name of the old file is written to. */
function replace(fd: number, name: string, bytes: Uint8Array): void {
  const path = within(fd, name);
  refuseLink(path);
  const aside = within(fd, `.node-kvm-${randomBytes(8).toString("hex")}`);
  try {
    writeFileSync(aside, bytes, { flag: "wx" });
    renameSync(aside, path);
  } finally {
    rmSync(aside, { force: true });
  }
}

function refuseLink(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() !== true) return;
  throw new Error(`the link ${basename(path)} is not followed`);
}
