/** KVM_SET_SIGNAL_MASK: the signals that are blocked during KVM_RUN. */
import { KVM_SET_SIGNAL_MASK } from "../../abi/generated/ioctls.ts";
import { SignalMask } from "../../abi/generated/structs.ts";
import { encode } from "../../abi/struct.ts";
import { describe, toList } from "../../options.ts";
import type { IoctlTarget } from "../handle.ts";

/** Sets the signal mask; removes the mask if `signals` is `undefined`. */
export function setSignalMask(handle: IoctlTarget, signals: Iterable<number> | undefined): void {
  if (signals === undefined) {
    handle.ioctl(KVM_SET_SIGNAL_MASK);
    return;
  }
  const all = toList("setSignalMask()", signals);
  handle.ioctl(KVM_SET_SIGNAL_MASK, encode(SignalMask, { sigset: sigsetOf(all) }), {
    args: { signals: all },
  });
}

/** Encodes a kernel sigset_t. */
function sigsetOf(signals: readonly number[]): Uint8Array {
  let set = 0n;
  for (const signal of signals) {
    if (!(Number.isInteger(signal) && signal >= 1 && signal <= 64)) {
      throw new RangeError(`there is no signal ${describe(signal)}`);
    }
    set |= 1n << BigInt(signal - 1);
  }
  return new Uint8Array(BigUint64Array.of(set).buffer);
}
