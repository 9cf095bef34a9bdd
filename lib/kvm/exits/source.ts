/**
 * Access to the kvm_run of one vCPU for the decoders of exits. The object also records whether the current exit can
 * still be answered.
 */
import { EXIT_REASON_OFFSET, EXIT_UNION_BYTES, EXIT_UNION_OFFSET } from "../../abi/exits.ts";
import { type Layout, read } from "../../abi/struct.ts";
import { StateError } from "../../errors.ts";
import { toBigInt } from "../../options.ts";

/**
 * An exit that this package cannot decode: an exit of a later kernel or of another architecture, or an exit with
 * invalid fields (an I/O of 3 bytes).
 */
export interface UnknownExit {
  readonly kind: "unknown";
  /** `kvm_run.exit_reason`. */
  readonly reason: number;
  /** The exit's union in `kvm_run`, 256 bytes. */
  readonly bytes: Uint8Array;
}

/**
 * The memory that a vCPU shares with KVM, and the number of the current exit. Each vCPU has one object of this class.
 */
export class ExitSource {
  /** The whole mapping: `kvm_run`, the page of port data, the rings. The mapping is empty after the vCPU was closed. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #label: string;
  #turn = 0;

  /** Wraps the mapping of a vCPU, whose name in errors is `label`. */
  constructor(bytes: Uint8Array, label: string) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#label = label;
  }

  /** `kvm_run.exit_reason`. */
  get reason(): number {
    return this.view.getUint32(EXIT_REASON_OFFSET, true);
  }

  /** The number of the current exit, which is an argument of {@link answer}. */
  get turn(): number {
    return this.#turn;
  }

  /** Makes later replies to the current exit fail, because the vCPU runs again. */
  expire(): void {
    this.#turn += 1;
  }

  /**
   * Marks the current exit as answered; throws if the exit was answered before. The reply's value must be checked
   * before this call.
   *
   * @throws {@link StateError} `ERR_ANSWERED` if the exit was answered, or the vCPU has run since.
   */
  answer(turn: number): void {
    if (turn !== this.#turn || this.bytes.length === 0) {
      throw new StateError("ERR_ANSWERED", this.#label);
    }
    this.#turn += 1;
  }

  /** Reads a member of the exit's union. */
  read<T>(member: Layout<T>): T {
    return read(member, this.bytes, EXIT_UNION_OFFSET);
  }

  /** Returns the undecoded exit. */
  unknown(): UnknownExit {
    const bytes = this.bytes.slice(EXIT_UNION_OFFSET, EXIT_UNION_OFFSET + EXIT_UNION_BYTES);
    return { kind: "unknown", reason: this.reason, bytes };
  }
}

/** The smallest valid value for a field whose type in KVM is `long`, such as a negative errno. */
export const LONG_MIN: bigint = -(2n ** 63n);

/**
 * Converts a value for a u64 of `kvm_run`; a negative value becomes its two's complement.
 *
 * @throws TypeError or RangeError that names the field.
 */
export function checkU64(value: bigint | number, field: string, least = 0n): bigint {
  const wide = toBigInt(`${field}`, value);
  if (wide >= least && wide < 2n ** 64n) return wide;
  throw new RangeError(`${field}: ${wide} does not fit 64 bits`);
}
