/**
 * Known failures of claims: KVM violates the claim on purpose, or for a known reason, on hosts with a trait
 * (traits.ts). A deviation applies to hosts with its trait, independent of version numbers. If a deviation applies and
 * the claim holds, the claim is reported as failed.
 */
import { Kvm } from "../index.ts";
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
 */
export function registerDeviations(deviations: readonly ClaimDeviation[]): void {
  registered.push(...deviations);
}

/** Finds the deviation of a claim that applies to this host. The device is opened only if the claim has a deviation. */
export function findDeviation(id: string, own: readonly Deviation[]): Deviation | undefined {
  const candidates = [...own, ...registered.filter(({ claim }) => claim === id)];
  if (candidates.length === 0) return undefined;
  using kvm = Kvm.open();
  return candidates.find(({ on }) => hasTrait(kvm, on));
}
