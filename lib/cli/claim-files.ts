/**
 * Finds the files of claims that a command line names: decides which words are paths, and which files of a folder
 * contain claims.
 */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { quoted } from "../options.ts";
import { CommandError, reasonOf } from "./failure.ts";

/** The words of a command line: a pattern, and paths of claims. */
export interface ClaimWords {
  readonly pattern: string | undefined;
  readonly paths: readonly string[];
}

/** The description of the pattern and the paths, for --help. */
export const CLAIM_WORDS: string =
  "a pattern: only claims whose name or sentence contains it; and files or folders of your own " +
  "claims, which replace the suite's: a path has a slash or ends in .ts, .mts, .js or .mjs";

/** Matches the end of the name of a file of claims. */
const EXTENSION = /(?<!\.d)\.(ts|mts|js|mjs)$/;

/** Matches the paths of files of claims in a folder. */
const IN_FOLDER = /\.(claims?|test)\.(ts|mts|js|mjs)$/;

/** Returns whether a word is the path of claims: it has a slash, ends in an extension, or is `.` or `..`. */
export function isClaimPath(word: string): boolean {
  return word.includes("/") || EXTENSION.test(word) || word === "." || word === "..";
}

/**
 * Separates the paths of a command line from its pattern.
 *
 * @throws {@link CommandError} if there are two patterns.
 */
export function splitWords(words: readonly string[]): ClaimWords {
  const [pattern, second] = words.filter((word) => !isClaimPath(word));
  if (second !== undefined) {
    const rule = "a path has a slash or ends in .ts, .mts, .js or .mjs";
    throw new CommandError(
      `there can be only one pattern, but ${quoted(pattern ?? "")} and ${quoted(second)} are two; ${rule}`,
    );
  }
  return { pattern, paths: words.filter(isClaimPath) };
}

/**
 * Lists the files of claims. The path of a file selects that file. The path of a folder selects the files whose names
 * end in `.claims.ts` or `.test.ts` (or `.js`, `.mjs`, `.mts`), sorted by name. Hidden folders and `node_modules` are
 * skipped.
 *
 * @throws {@link CommandError} for a path that does not exist, and for a folder without such files.
 */
export function findClaimFiles(paths: readonly string[]): readonly string[] {
  return Array.from(new Set(paths.flatMap(filesAt)));
}

function filesAt(path: string): readonly string[] {
  if (reading(path, () => statSync(path)).isDirectory()) {
    const files = filesBelow(path);
    if (files.length > 0) return files;
    throw new CommandError(
      `the folder ${path} has no file of claims (*.claims.ts, *.test.ts; .js)`,
    );
  }
  if (EXTENSION.test(path)) return [path];
  throw new CommandError(`${path} is not a file of claims: it must end in .ts, .mts, .js or .mjs`);
}

function filesBelow(folder: string): readonly string[] {
  const entries = reading(folder, () => readdirSync(folder, { withFileTypes: true }));
  return entries
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      const isSkipped = entry.name === "node_modules" || entry.name.startsWith(".");
      if (entry.isDirectory()) return isSkipped ? [] : filesBelow(path);
      return IN_FOLDER.test(entry.name) ? [path] : [];
    });
}

function reading<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new CommandError(`${path} cannot be read: ${reasonOf(error)}`);
  }
}
