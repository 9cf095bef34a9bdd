/** The statistics of a VM or vCPU (KVM_GET_STATS_FD), by name. */
import { StatsDesc, StatsHeader } from "../abi/generated/structs.ts";
import { read, sizeOf } from "../abi/struct.ts";
import type { NativeFd } from "../native.ts";
import { Handle } from "./handle.ts";

const KINDS = ["cumulative", "instant", "peak", "linear_hist", "log_hist"] as const;
const UNITS = ["none", "bytes", "seconds", "cycles", "boolean"] as const;

/** The description of one statistic. */
export interface StatsDescriptor {
  /** The kernel's name: `exits`, `remote_tlb_flush`. */
  readonly name: string;
  /** The type of the statistic's values (`KVM_STATS_TYPE_*`); `unknown` is a type of a later kernel. */
  readonly kind: (typeof KINDS)[number] | "unknown";
  /** The unit of the statistic's values (`KVM_STATS_UNIT_*`). */
  readonly unit: (typeof UNITS)[number] | "unknown";
  /** Each value must be multiplied by `base ** exponent`. */
  readonly base: 2 | 10;
  readonly exponent: number;
  /** The number of values, which is greater than 1 for a histogram. */
  readonly size: number;
  /** The offset of the statistic's values, in bytes from the first value. */
  readonly offset: number;
  /** The width of a linear histogram's buckets; 0 for other statistics. */
  readonly bucketSize: number;
}

/** Reads the statistics of a VM or a vCPU. The statistics can be read after the VM was closed. */
export class Stats extends Handle {
  #descriptors: readonly StatsDescriptor[] | undefined;

  /** Wraps a statistics descriptor; use `getStatsFd()` to open statistics. @internal */
  constructor(fd: NativeFd, label: string) {
    super(fd, label);
  }

  /** The VM's or vCPU's name: `kvm-1234` for a VM, `kvm-1234/vcpu-0` for a vCPU. */
  get id(): string {
    const header = this.#header();
    return text(this.#bytes(BigInt(header.idOffset), header.nameSize));
  }

  /** Lists the statistics; the list does not change while the kernel runs. */
  descriptors(): readonly StatsDescriptor[] {
    this.#descriptors ??= this.#describe();
    return this.#descriptors;
  }

  /**
   * Reads all values by name: one value or, for a histogram, the buckets.
   *
   * @throws {@link KvmError} with read's errno.
   */
  read(): ReadonlyMap<string, readonly bigint[]> {
    const all = this.descriptors();
    const end = Math.max(0, ...all.map(({ offset, size }) => offset + 8 * size));
    const bytes = this.#bytes(BigInt(this.#header().dataOffset), end);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return new Map(
      all.map(({ name, offset, size }) => [
        name,
        Array.from({ length: size }, (_, i) => view.getBigUint64(offset + 8 * i, true)),
      ]),
    );
  }

  #header(): StatsHeader {
    return read(StatsHeader, this.#bytes(0n, sizeOf(StatsHeader)));
  }

  #describe(): readonly StatsDescriptor[] {
    const { descOffset, numDesc, nameSize } = this.#header();
    const each = sizeOf(StatsDesc) + nameSize;
    const bytes = this.#bytes(BigInt(descOffset), each * numDesc);
    return Array.from({ length: numDesc }, (_, i) =>
      describe(bytes.subarray(i * each, (i + 1) * each)),
    );
  }

  #bytes(position: bigint, length: number): Uint8Array {
    const answer = this.fd.read(position, length);
    if (typeof answer === "number") {
      throw this.refusal("pread", -answer, { args: { position, length } });
    }
    if (answer.length < length) {
      throw new RangeError(`${this.label}: ${answer.length} of ${length} bytes could be read`);
    }
    return answer;
  }
}

function describe(bytes: Uint8Array): StatsDescriptor {
  const { flags, exponent, size, offset, bucketSize } = read(StatsDesc, bytes);
  return {
    name: text(bytes.subarray(sizeOf(StatsDesc))),
    kind: KINDS[flags & 0xf] ?? "unknown",
    unit: UNITS[(flags >>> 4) & 0xf] ?? "unknown",
    base: ((flags >>> 8) & 0xf) === 0 ? 10 : 2,
    exponent,
    size,
    offset,
    bucketSize,
  };
}

function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(bytes.subarray(0, end === -1 ? bytes.length : end)).toString("latin1");
}
