/** A VM's or vCPU's statistics (KVM_GET_STATS_FD): what KVM counts, by name. */
import { StatsDesc, StatsHeader } from "../abi/generated/structs.ts";
import { read, sizeOf } from "../abi/struct.ts";
import type { NativeFd } from "../native.ts";
import { Handle } from "./handle.ts";

const KINDS = ["cumulative", "instant", "peak", "linear_hist", "log_hist"] as const;
const UNITS = ["none", "bytes", "seconds", "cycles", "boolean"] as const;

/** What one statistic is. */
export interface StatsDescriptor {
  /** Its name in the kernel: `exits`, `remote_tlb_flush`. */
  readonly name: string;
  /** How its values come about (`KVM_STATS_TYPE_*`); `unknown` is a later kernel's. */
  readonly kind: (typeof KINDS)[number] | "unknown";
  /** What is counted (`KVM_STATS_UNIT_*`). */
  readonly unit: (typeof UNITS)[number] | "unknown";
  /** A value is to be multiplied by `base ** exponent`. */
  readonly base: 2 | 10;
  readonly exponent: number;
  /** How many values: more than one for a histogram. */
  readonly size: number;
  /** Where its values begin, in bytes from the first. */
  readonly offset: number;
  /** A linear histogram's buckets are so wide; else 0. */
  readonly bucketSize: number;
}

/** What a VM or a vCPU has counted so far. It can be read after its VM was closed. */
export class Stats extends Handle {
  #descriptors: readonly StatsDescriptor[] | undefined;

  /** Takes over a statistics descriptor; `getStatsFd()` makes one. @internal */
  constructor(fd: NativeFd, label: string) {
    super(fd, label);
  }

  /** Names whose they are: `kvm-1234` for a VM, `kvm-1234/vcpu-0` for a vCPU. */
  get id(): string {
    const header = this.#header();
    return text(this.#bytes(BigInt(header.idOffset), header.nameSize));
  }

  /** Lists the statistics; they do not change while the kernel runs. */
  descriptors(): readonly StatsDescriptor[] {
    this.#descriptors ??= this.#describe();
    return this.#descriptors;
  }

  /**
   * Reads all values, by name: one or, for a histogram, its buckets.
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
