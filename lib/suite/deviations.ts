/**
 * Known failures: a claim that KVM breaks on purpose, or for a known reason, on hosts with a trait. A deviation is
 * chosen by a trait (traits.ts), never by a version number. If the claim holds again, that is a failure.
 */
import { Kvm } from "../index.ts";
import { hasTrait, type KvmTrait } from "./traits.ts";

/** How a claim fails where KVM has a trait. */
export interface Deviation {
  /** The trait of this host's KVM: the name of a known one, or a function that determines it. */
  readonly on: KvmTrait;
  /** A part of the expected failure's message. A failure with another message is not expected. */
  readonly shows: string;
  /** The cause, in words. */
  readonly reason: string;
}

/** A deviation, with the name of its claim. */
export interface ClaimDeviation extends Deviation {
  /** The claim's short name. */
  readonly claim: string;
}

const registered: ClaimDeviation[] = [];

/**
 * Registers deviations of claims that are defined elsewhere. The registered deviations apply to the claims that this
 * process judges afterwards, in addition to the deviations that a claim has itself.
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
