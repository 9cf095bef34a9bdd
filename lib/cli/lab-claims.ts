/** The names of the claims that the lab is to judge, checked before a machine boots. */
import { suiteClaims } from "../lab/machine/installation.ts";
import { quoted } from "../options.ts";
import { containsPattern, splitName } from "../report/result.ts";
import { STATUS } from "./exit-status.ts";
import { CommandError } from "./failure.ts";

/** The end of a message about an unknown claim. */
export const HOW_TO_LIST = "node-kvm test --list lists the claims";

/** Prints the claims whose name contains the pattern, a line each; returns the exit status. */
export function listClaims(pattern: string | undefined): number {
  const claims = claimsWith(pattern).filter((name) => containsPattern(name, pattern));
  process.stdout.write(`${claims.join("\n")}\n`);
  return STATUS.ok;
}

/**
 * Lists the names of all claims of the suite.
 *
 * @throws {@link CommandError} when none contains the pattern.
 */
export function claimsWith(pattern: string | undefined): readonly string[] {
  const claims = suiteClaims();
  if (!claims.some((name) => containsPattern(name, pattern))) {
    throw new CommandError(`no claim contains ${quoted(pattern ?? "")}; ${HOW_TO_LIST}`);
  }
  return claims;
}

/**
 * Lists the names of all claims of the suite.
 *
 * @throws {@link CommandError} when none has the short name.
 */
export function claimsWithId(id: string): readonly string[] {
  const claims = suiteClaims();
  if (!claims.some((name) => splitName(name).id === id)) {
    throw new CommandError(`no claim has the name ${quoted(id)}; ${HOW_TO_LIST}`);
  }
  return claims;
}
