/**
 * Finds the names of the claims to judge, of the suite or of the user's own files. The names are checked before a
 * machine boots.
 */
import { suiteClaims } from "../lab/machine/installation.ts";
import { quoted } from "../options.ts";
import { containsPattern, splitName } from "../report/result.ts";
import { STATUS } from "./exit-status.ts";
import { CommandError } from "./failure.ts";
import { OwnClaims } from "./own-claims.ts";

/** Returns the end of the message about an unknown claim. */
export function howToList(own?: OwnClaims): string {
  return `node-kvm test --list${own === undefined ? "" : " FILE"} lists the claims`;
}

/**
 * Loads the user's own claims; `undefined` if the command line has no path, because the suite's claims are then judged.
 */
export async function loadOwnClaims(paths: readonly string[]): Promise<OwnClaims | undefined> {
  return paths.length === 0 ? undefined : await OwnClaims.load(paths);
}

/** The text at the end of --help that explains names, patterns and numbers, at most 80 columns wide. */
export const PATTERN_NOTES = `
A claim is named "short-name: sentence". A pattern selects the claims whose name
contains it as it is, in upper or lower case: "cpuid" selects many, "set-257:"
one. The number before a name is not part of the name: it gives the place of the
claim in reports, which are sorted by subject.
`;

/** Prints the claims whose name contains the pattern, one per line; returns the exit status. */
export async function listClaims(
  pattern: string | undefined,
  paths: readonly string[],
): Promise<number> {
  using own = await loadOwnClaims(paths);
  const claims = (await claimsWith(pattern, own)).filter((name) => containsPattern(name, pattern));
  process.stdout.write(`${claims.join("\n")}\n`);
  return STATUS.ok;
}

/**
 * Lists the names of all claims of the suite, or of the user's own files.
 *
 * @throws {@link CommandError} if none contains the pattern.
 */
export async function claimsWith(
  pattern: string | undefined,
  own?: OwnClaims,
  signal?: AbortSignal,
): Promise<readonly string[]> {
  const claims = own?.names ?? (await suiteClaims(signal));
  if (!claims.some((name) => containsPattern(name, pattern))) {
    throw new CommandError(`no claim contains ${quoted(pattern ?? "")}; ${howToList(own)}`);
  }
  return claims;
}

/**
 * Lists the names of all claims of the suite, or of the user's own files.
 *
 * @throws {@link CommandError} if none has the short name.
 */
export async function claimsWithId(
  id: string,
  own?: OwnClaims,
  signal?: AbortSignal,
): Promise<readonly string[]> {
  const claims = own?.names ?? (await suiteClaims(signal));
  if (!claims.some((name) => splitName(name).id === id)) {
    throw new CommandError(`no claim has the name ${quoted(id)}; ${howToList(own)}`);
  }
  return claims;
}
