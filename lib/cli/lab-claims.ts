/** Which claims the lab is asked to judge, found out before a machine is booted for them. */
import { suiteClaims } from "../lab/installation.ts";
import { splitName } from "../report/result.ts";
import { CommandError } from "./failure.ts";

/**
 * Lists the names of all claims of the suite.
 *
 * @throws {@link CommandError} when none contains the pattern.
 */
export function claimsWith(pattern: string = ""): readonly string[] {
  const claims = suiteClaims();
  if (!claims.some((name) => name.toLowerCase().includes(pattern.toLowerCase()))) {
    throw new CommandError(`no claim contains "${pattern}"; node-kvm test lists the claims`);
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
    throw new CommandError(`no claim has the name ${id}; node-kvm test lists the names`);
  }
  return claims;
}
