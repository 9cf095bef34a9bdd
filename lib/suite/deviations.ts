/**
 * Known failures of claims: KVM violates the claim on purpose, or for a known reason, on hosts with a trait
 * (traits.ts). A deviation applies to hosts with its trait, independent of version numbers. If a deviation applies and
 * the claim holds, the claim is reported as failed.
 */
import { Kvm } from "../index.ts";
import { describe, refuseUnknown } from "../options.ts";
import { TRAITS } from "../oracle/index.ts";
import { hasTrait, type KvmTrait } from "./traits.ts";

/** The expected failure of a claim on hosts whose KVM has a trait. */
export interface Deviation {
  /** The trait that selects the hosts: the name of a known trait, or a function that determines it. */
  readonly on: KvmTrait;
  /**
   * A text that the message of the expected failure contains. A failure with another message is reported as a failure.
   */
  readonly shows: string;
  /** The reason for the failure, for reports. */
  readonly reason: string;
}

/** A deviation, with the id of its claim. */
export interface ClaimDeviation extends Deviation {
  /** The id of the claim. */
  readonly claim: string;
}

const registered: ClaimDeviation[] = [];

/**
 * Registers deviations for claims that are defined in other files. The registered deviations apply to the claims that
 * this process judges after the call, in addition to the deviations in the options of a claim.
 *
 * @throws TypeError if a deviation lacks a member, has an unknown one, or has one of a wrong type.
 */
export function registerDeviations(deviations: readonly ClaimDeviation[]): void {
  const where = "registerDeviations()";
  refuseWrongDeviations(where, deviations, ["claim"]);
  for (const [i, { claim }] of deviations.entries()) refuseNoText(`${where}: [${i}].claim`, claim);
  registered.push(...deviations);
}

/** Refuses deviations with wrong members: such a row could hide any failure of its claim. */
export function refuseWrongDeviations(
  where: string,
  deviations: unknown,
  more: readonly string[] = [],
): void {
  if (!Array.isArray(deviations)) {
    throw new TypeError(`${where}: expected an array of deviations, got ${describe(deviations)}`);
  }
  for (const [i, row] of (deviations as readonly Partial<Deviation>[]).entries()) {
    const at = `${where}: [${i}]`;
    refuseUnknown(at, row, ["on", "shows", "reason", ...more], "member");
    const { on, shows, reason } = row;
    if (typeof on !== "function" && !(typeof on === "string" && Object.hasOwn(TRAITS, on))) {
      throw new TypeError(
        `${at}.on: expected the name of a trait or a function, got ${describe(on)}`,
      );
    }
    refuseNoText(`${at}.shows`, shows);
    refuseNoText(`${at}.reason`, reason);
  }
}

function refuseNoText(where: string, value: unknown): void {
  if (typeof value === "string" && value !== "") return;
  throw new TypeError(`${where}: expected a string that is not empty, got ${describe(value)}`);
}

/** Finds the deviation of a claim that applies to this host. The device is opened only if the claim has a deviation. */
export function findDeviation(id: string, own: readonly Deviation[]): Deviation | undefined {
  const candidates = [...own, ...registered.filter(({ claim }) => claim === id)];
  if (candidates.length === 0) return undefined;
  using kvm = Kvm.open();
  return candidates.find(({ on }) => hasTrait(kvm, on));
}
