/**
 * The entry `node-kvm/test`: claims about KVM with `claim()`, the kit of a claim, matchers, known deviations and
 * injected faults. A file of claims runs in vitest, with `node-kvm test FILE` on this host, and with `node-kvm lab run
 * FILE` in the lab's guests.
 *
 * Importing this module adds the matchers to vitest's `expect`, and injects the fault that `NODE_KVM_FAULT` names.
 */
import { injectFault } from "./faults.ts";
import { expect } from "./framework.ts";
import { matchers } from "./matchers.ts";

export { type ClaimCheck, type ClaimOptions, claim } from "./claim.ts";
export { type ClaimDeviation, type Deviation, registerDeviations } from "./deviations.ts";
export { FAULTS, type InjectedFault, type IoctlCall, injectFault } from "./faults.ts";
export { fixtures, type KitFixtures, type Skippable } from "./fixtures.ts";
export {
  type Closable,
  type Configured,
  Kit,
  ONE_WRITE,
  type Setup,
  tableOf,
  toggleCr4,
  Unmet,
} from "./kit.ts";
export { type ClaimMatchers, type MatcherResult, matchers } from "./matchers.ts";
export { enterNestedGuest, leaveNestedGuest } from "./nested-state.ts";
export type { KvmTrait, TraitName } from "./traits.ts";
export { expect };

expect.extend(matchers);
const fault = process.env["NODE_KVM_FAULT"];
if (fault !== undefined && fault !== "") injectFault(fault);
