/** The words of `lab exec` for files that go to the guest and come back: `HOST:GUEST`, `GUEST:HOST`. */
import { accessSync, constants, lstatSync, statSync } from "node:fs";
import { dirname, posix, resolve } from "node:path";
import { CommandError, reasonOf } from "./failure.ts";

/** A path of this host and one of the guest. */
export interface PathPair {
  readonly host: string;
  /** Absolute and normalised. */
  readonly guest: string;
}

/**
 * Reads `HOST:GUEST`, or `HOST` alone, which goes to the same path in the guest.
 *
 * @throws {@link CommandError} for a path of the guest that is not absolute, or a host path that cannot be read.
 */
export function fileToBring(text: string): PathPair {
  const [host = "", guest] = parts("--file", text);
  const pair = { host, guest: guestPath("--file", text, guest ?? resolve(host)) };
  try {
    accessSync(host, constants.R_OK);
  } catch (error) {
    throw new CommandError(`--file ${text}: ${host} cannot be read: ${reasonOf(error)}`);
  }
  const stat = statSync(host);
  if (!(stat.isFile() || stat.isDirectory())) {
    throw new CommandError(`--file ${text}: ${host} is neither a file nor a folder`);
  }
  return pair;
}

/**
 * Reads `GUEST:HOST`, or `GUEST` alone, which comes to the same path below the current folder.
 *
 * @throws {@link CommandError} for a path of the guest that is not absolute, or a host path that cannot be written.
 */
export function fileToFetch(text: string): PathPair {
  const [guest = "", host] = parts("--out", text);
  const path = guestPath("--out", text, guest);
  const place = resolve(host ?? `.${path}`);
  try {
    const existing = nearest(place);
    accessSync(existing, constants.W_OK);
    // A folder can be listed; below anything else there is no place.
    if (existing !== place) accessSync(`${existing}/.`, constants.X_OK);
  } catch (error) {
    throw new CommandError(`--out ${text}: ${place} cannot be written: ${reasonOf(error)}`);
  }
  return { guest: path, host: place };
}

function parts(option: string, text: string): readonly string[] {
  const words = text.split(":");
  if (words.length > 2 || words.includes("")) {
    throw new CommandError(`${option} ${text}: give one path, or two with one colon between them`);
  }
  return words;
}

function guestPath(option: string, text: string, path: string): string {
  const plain = posix.normalize(path).replace(/(?<=.)\/$/, "");
  if (!posix.isAbsolute(path)) {
    throw new CommandError(`${option} ${text}: the guest's path ${path} is not absolute`);
  }
  return plain;
}

/** The path itself, or the nearest folder above it that exists. */
function nearest(path: string): string {
  return lstatSync(path, { throwIfNoEntry: false }) === undefined && dirname(path) !== path
    ? nearest(dirname(path))
    : path;
}
