/** The arguments of `lab exec` for files that are copied to the guest and back: `HOST:GUEST`, `GUEST:HOST`. */
import { accessSync, constants, lstatSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { LabError } from "../lab/error.ts";
import { guestPath } from "../lab/machine/init.ts";
import { CommandError, reasonOf } from "./failure.ts";
import { type Out, parseOut } from "./lab-out.ts";

/** A path on this host and a path in the guest. */
export interface PathPair {
  readonly host: string;
  /** The path in the guest, absolute and normalised. */
  readonly guest: string;
}

/**
 * Parses `HOST:GUEST`, or `HOST` for the same path in the guest.
 *
 * @throws {@link CommandError} for a path of the guest that is not absolute, or a host path that cannot be read.
 */
export function fileToBring(text: string): PathPair {
  const [host = "", guest] = parts("--file", text);
  const pair = { host, guest: naming("--file", text, () => guestPath(guest ?? resolve(host))) };
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
 * Parses `GUEST:HOST`, or `GUEST` for the same path below the current folder.
 *
 * @throws {@link CommandError} for a path of the guest that is not absolute, or a host path that cannot be written.
 */
export function fileToFetch(text: string): Out {
  const [guest = "", host] = parts("--out", text);
  const out = naming("--out", text, () => parseOut(guest, host));
  const place = resolve(host ?? `.${out.guest}`);
  try {
    const existing = nearest(place);
    if (existing === place && statSync(place, { throwIfNoEntry: false })?.isFIFO() === true) {
      throw new Error("it is a pipe, and a write to it could block until it has a reader");
    }
    accessSync(existing, constants.W_OK);
    // An existing parent must be a folder, because no file can be written below another kind of file.
    if (existing !== place) accessSync(`${existing}/.`, constants.X_OK);
  } catch (error) {
    throw new CommandError(`--out ${text}: ${place} cannot be written: ${reasonOf(error)}`);
  }
  return out;
}

function parts(option: string, text: string): readonly string[] {
  const words = text.split(":");
  if (words.length > 2 || words.includes("")) {
    throw new CommandError(`${option} ${text}: name one path, or two with one colon between them`);
  }
  return words;
}

/** Calls a parser, and adds the option's name to its error. */
function naming<T>(option: string, text: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof LabError)) throw error;
    throw new CommandError(`${option} ${text}: ${error.message}`);
  }
}

/** Returns the path if it exists, or its nearest existing parent. */
function nearest(path: string): string {
  return lstatSync(path, { throwIfNoEntry: false }) === undefined && dirname(path) !== path
    ? nearest(dirname(path))
    : path;
}
