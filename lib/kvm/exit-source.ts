/** One vCPU's kvm_run: what exits are read from, and whether one may still be answered. What they say is exit-decoder.ts. */
import { Run } from "../abi/generated/structs.ts";
import { type Layout, offsetOf, read } from "../abi/struct.ts";
import { StateError } from "../errors.ts";
import { toBigInt } from "../options.ts";
import type { UnknownExit } from "./exit.ts";

const EXIT_REASON = offsetOf(Run, "exitReason");
const UNION = offsetOf(Run, "hw");
const UNION_BYTES = 256;

/** The memory that a vCPU shares with KVM, and whose turn it is. One for each vCPU. */
export class ExitSource {
  /** All that is mapped: `kvm_run`, the page of port data, the rings. Empty once the vCPU is closed. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #label: string;
  #turn = 0;

  /** Takes the mapping of the vCPU of this name. */
  constructor(bytes: Uint8Array, label: string) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#label = label;
  }

  /** `kvm_run.exit_reason`. */
  get reason(): number {
    return this.view.getUint32(EXIT_REASON, true);
  }

  /** What the current exit must show to {@link answer}. */
  get turn(): number {
    return this.#turn;
  }

  /** Ends the time in which an exit can be answered: the vCPU runs on. */
  expire(): void {
    this.#turn += 1;
  }

  /**
   * Takes the one answer of an exit; what it wants to write is checked before.
   *
   * @throws {@link StateError} `ERR_ANSWERED` when its turn is over.
   */
  answer(turn: number): void {
    if (turn !== this.#turn || this.bytes.length === 0) {
      throw new StateError("ERR_ANSWERED", this.#label);
    }
    this.#turn += 1;
  }

  /** Reads a member of the exit's union. */
  read<T>(member: Layout<T>): T {
    return read(member, this.bytes, UNION);
  }

  /** Shows the exit as it came. */
  unknown(): UnknownExit {
    const bytes = this.bytes.slice(UNION, UNION + UNION_BYTES);
    return { kind: "unknown", reason: this.reason, bytes };
  }
}

/** The smallest that an answer can be where KVM's own is a `long`, such as a negative errno. */
export const LONG_MIN: bigint = -(2n ** 63n);

/**
 * Converts a value into one for a u64 of `kvm_run`, which takes a negative one in two's complement.
 *
 * @throws TypeError or RangeError, by the field's name.
 */
export function checkU64(value: bigint | number, field: string, least = 0n): bigint {
  const wide = toBigInt(`${field}`, value);
  if (wide >= least && wide < 2n ** 64n) return wide;
  throw new RangeError(`${field}: ${wide} does not fit 64 bits`);
}
