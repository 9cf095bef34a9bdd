/** The names of the claims that the lab judges, which are checked before a machine boots. */
import { suiteClaims } from "../lab/machine/installation.ts";
import { quoted } from "../options.ts";
import { containsPattern, splitName } from "../report/result.ts";
import { STATUS } from "./exit-status.ts";
import { CommandError } from "./failure.ts";

/** The end of a message about an unknown claim. */
export const HOW_TO_LIST = "node-kvm test --list lists the claims";

/** Describes the argument that selects claims, for --help. */
export const PATTERN = "only claims whose name contains this (see below)";

/** Explains names, patterns and numbers, for the end of --help; at most 80 columns wide. */
export const PATTERN_NOTES = `
A claim is named "short-name: sentence". A pattern selects the claims whose name
contains it as it is, in upper or lower case: "cpuid" selects many, "set-257:"
one. The number before a name gives its place in reports, which are sorted by
subject; it is no part of the name.
`;

/** Prints the claims whose name contains the pattern, one per line; returns the exit status. */
export async function listClaims(pattern: string | undefined): Promise<number> {
  const claims = (await claimsWith(pattern)).filter((name) => containsPattern(name, pattern));
  process.stdout.write(`${claims.join("\n")}\n`);
  return STATUS.ok;
}

/**
 * Lists the names of all claims of the suite.
 *
 * @throws {@link CommandError} if none contains the pattern.
 */
export async function claimsWith(
  pattern: string | undefined,
  signal?: AbortSignal,
): Promise<readonly string[]> {
  const claims = await suiteClaims(signal);
  if (!claims.some((name) => containsPattern(name, pattern))) {
    throw new CommandError(`no claim contains ${quoted(pattern ?? "")}; ${HOW_TO_LIST}`);
  }
  return claims;
}

/**
 * Lists the names of all claims of the suite.
 *
 * @throws {@link CommandError} if none has the short name.
 */
export async function claimsWithId(id: string, signal?: AbortSignal): Promise<readonly string[]> {
  const claims = await suiteClaims(signal);
  if (!claims.some((name) => splitName(name).id === id)) {
    throw new CommandError(`no claim has the name ${quoted(id)}; ${HOW_TO_LIST}`);
  }
  return claims;
}
