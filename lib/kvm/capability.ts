/** Capabilities by name or number, and switching them on. Which there are is abi/generated. */
import { type CapabilityName, KVM_CAPABILITIES } from "../abi/generated/constants.ts";
import { EnableCap } from "../abi/generated/structs.ts";
import { encode } from "../abi/struct.ts";

/** A capability by its C name, or by number when this package does not know it yet. */
export type Capability = CapabilityName | number;

/** An extension to switch on: `struct kvm_enable_cap`. */
export interface EnableCapInput {
  /** Which capability. */
  readonly cap: Capability;
  /** None are defined; 0 when left out. */
  readonly flags?: number;
  /** Up to four arguments, as api.rst section 6 (vCPU) or 7 (VM) gives them. */
  readonly args?: readonly bigint[];
}

/** The number behind a capability's name; numbers pass. */
export function capabilityNumber(capability: Capability): number {
  if (typeof capability === "number") return capability;
  const number: number | undefined = KVM_CAPABILITIES[capability];
  if (number === undefined) throw new TypeError(`unknown capability ${String(capability)}`);
  return number;
}

/** The bytes of a `struct kvm_enable_cap`. */
export function encodeEnableCap(input: EnableCapInput): Uint8Array {
  return encode(EnableCap, {
    cap: capabilityNumber(input.cap),
    flags: input.flags ?? 0,
    args: input.args ?? [],
  });
}
