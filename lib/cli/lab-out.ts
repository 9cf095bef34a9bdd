/** The files that `lab exec --out` copies back: their paths on the host, and how they are written. */
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

/** A requested file or folder of the guest, and its destination. */
export interface Out {
  /** The path in the guest, absolute and normalised. */
  readonly guest: string;
  /** The path on the host that the user wrote; by default, the guest's path below the current folder. */
  readonly host?: string | undefined;
}

/**
 * Parses `GUEST:HOST` or `GUEST`.
 *
 * @throws {@link LabError} `ERR_LAB_FILE` if GUEST is not an absolute path.
 */
export function parseOut(guest: string, host?: string): Out {
  return { guest: guestPath(guest), host };
}

/**
 * Writes the requested files. A path that a guest named never leads outside of the destination: no link below the
 * destination is followed, and existing files are replaced.
 *
 * @returns a message for each file that could not be written or that the guest does not have.
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
    // The message is cut at its comma, because the user does not know the path `/proc/self/fd/…` that follows.
    const why = error instanceof Error ? error.message.split(",")[0] : String(error);
    return `${printable(place)} cannot be written: ${why}`;
  }
}

/** Writes to the user's path as a shell redirection does; the path may be a device or a link. */
function writeOwn(place: string, bytes: Uint8Array): void {
  mkdirSync(dirname(place), { recursive: true });
  writeFileSync(place, bytes);
}

const FOLDER = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** Writes below a folder of the user, and opens each folder from the descriptor of its parent. */
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

/** Returns a path relative to a folder's descriptor, because Node has no openat(). */
function within(fd: number, name: string): string {
  return join("/proc/self/fd", String(fd), name);
}

function openFolder(path: string): number {
  refuseLink(path);
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) mkdirSync(path);
  return openSync(path, FOLDER);
}

/**
 * Writes a temporary file and renames it. The bytes then reach neither the target of a link nor another hard link of
 * the old file.
 */
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
