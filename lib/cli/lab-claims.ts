/** The names of the claims that are to be judged, the suite's or the user's own, checked before a machine boots. */
import { suiteClaims } from "../lab/machine/installation.ts";
import { quoted } from "../options.ts";
import { containsPattern, splitName } from "../report/result.ts";
import { STATUS } from "./exit-status.ts";
import { CommandError } from "./failure.ts";
import { OwnClaims } from "./own-claims.ts";

/** Returns the end of a message about an unknown claim. */
export function howToList(own?: OwnClaims): string {
  return `node-kvm test --list${own === undefined ? "" : " FILE"} lists the claims`;
}

/** Loads the user's own claims; `undefined` if no path is given, because the claims are then the suite's. */
export async function loadOwnClaims(paths: readonly string[]): Promise<OwnClaims | undefined> {
  return paths.length === 0 ? undefined : await OwnClaims.load(paths);
}

/** Prints the claims whose name contains the pattern, a line each; returns the exit status. */
export async function listClaims(
  pattern: string | undefined,
  paths: readonly string[],
): Promise<number> {
  using own = await loadOwnClaims(paths);
  const claims = claimsWith(pattern, own).filter((name) => containsPattern(name, pattern));
  process.stdout.write(`${claims.join("\n")}\n`);
  return STATUS.ok;
}

/**
 * Lists the names of all claims of the suite, or of the user's own files.
 *
 * @throws {@link CommandError} when none contains the pattern.
 */
export function claimsWith(pattern: string | undefined, own?: OwnClaims): readonly string[] {
  const claims = own?.names ?? suiteClaims();
  if (!claims.some((name) => containsPattern(name, pattern))) {
    throw new CommandError(`no claim contains ${quoted(pattern ?? "")}; ${howToList(own)}`);
  }
  return claims;
}

/**
 * Lists the names of all claims of the suite, or of the user's own files.
 *
 * @throws {@link CommandError} when none has the short name.
 */
export function claimsWithId(id: string, own?: OwnClaims): readonly string[] {
  const claims = own?.names ?? suiteClaims();
  if (!claims.some((name) => splitName(name).id === id)) {
    throw new CommandError(`no claim has the name ${quoted(id)}; ${howToList(own)}`);
  }
  return claims;
}
