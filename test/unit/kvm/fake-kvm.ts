/** A fake vCPU and a fake VM that store the arguments and the order of ioctls. */
import type { CapabilityName } from "../../../lib/abi/generated/names.ts";
import {
  Cpuid2,
  type CpuidEntry2,
  MsrEntry,
  Msrs,
  NestedState,
} from "../../../lib/abi/generated/structs.ts";
import type { Ioctl } from "../../../lib/abi/ioctl.ts";
import { encode, read } from "../../../lib/abi/struct.ts";
import { KvmError } from "../../../lib/errors.ts";
import { Handle, type IoctlArgument, type IoctlOptions } from "../../../lib/kvm/handle.ts";
import type { Origin } from "../../../lib/kvm/origin.ts";
import type { StatefulVcpu } from "../../../lib/kvm/state/vcpu-state.ts";
import type { NativeFd } from "../../../lib/native.ts";

const HEADER = 8;
/** The TSC cycles between two ioctls, and the TSC cycles of one second. */
const [TICK, SECOND] = [1000n, 1_000_000_000n];

/** The behaviours in which a fake differs from a kernel that accepts and returns every value. */
export interface Habits {
  /** The errno of each ioctl that fails. */
  readonly refuses?: Readonly<Record<string, number>>;
  /** The MSRs that cannot be read. */
  readonly hidden?: readonly number[];
  /** The MSRs that cannot be written. */
  readonly readOnly?: readonly number[];
  /** Changes the value that an ioctl reads. */
  readonly loses?: Readonly<Record<string, (bytes: Uint8Array) => void>>;
  /** The MSRs that can be written and always read 0. */
  readonly forgets?: readonly number[];
  /** The TSC of another vCPU. If a written TSC differs by less than one second, the fake stores this TSC instead. */
  readonly expectsTsc?: bigint;
}

/**
 * Returns the name under which the fake stores a struct, so that one ioctl reads the struct that another ioctl wrote.
 * Each interrupt chip has a separate name.
 */
function keyOf(name: string, bytes: Uint8Array): string {
  const struct = name.slice("KVM_GET_".length).replace("XSAVE2", "XSAVE");
  return struct === "IRQCHIP" ? `${struct} ${bytes[0]}` : struct;
}

/** A handle whose ioctls are handled by this class instead of the kernel. */
export class FakeHandle extends Handle {
  /** The names of the issued ioctls. */
  readonly called: string[];
  /** The last argument of each ioctl. */
  readonly given: Map<string, IoctlArgument | undefined> = new Map();
  /** The values of the MSRs; other MSRs are 0. */
  readonly msrs: Map<number, bigint> = new Map();
  /** The bytes of a `struct kvm_cpuid2`. */
  cpuid: Uint8Array = new Uint8Array(8);
  readonly #kept: Map<string, Uint8Array> = new Map();
  readonly #habits: Habits;
  #expectedTsc: bigint | undefined;

  /** Creates a fake handle; several handles may share a list of calls. */
  constructor(label: string, habits: Habits = {}, called: string[] = []) {
    super({ mapRun: () => -1 } as unknown as NativeFd, label);
    this.#habits = habits;
    this.#expectedTsc = habits.expectsTsc;
    this.called = called;
  }

  /** Handles an ioctl, with the arguments of earlier ioctls as state. */
  override ioctl(ioctl: Ioctl, argument?: IoctlArgument, context: IoctlOptions = {}): number {
    const { name } = ioctl;
    this.called.push(name);
    this.msrs.set(0x10, (this.msrs.get(0x10) ?? 0n) + TICK);
    const errno = this.#habits.refuses?.[name];
    if (errno !== undefined) {
      throw new KvmError({
        call: name,
        object: this.label,
        errno,
        reason: context.explain ? context.explain(errno) : undefined,
      });
    }
    this.given.set(name, argument instanceof Uint8Array ? argument.slice() : argument);
    if (name.startsWith("KVM_SET_") && argument instanceof Uint8Array) {
      this.#kept.set(keyOf(name, argument), argument.slice());
    }
    if (!(argument instanceof Uint8Array)) return Number(this.given.get("KVM_SET_TSC_KHZ") ?? 0);
    return this.#answer(name, argument);
  }

  #answer(name: string, bytes: Uint8Array): number {
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    switch (name) {
      case "KVM_GET_CPUID2":
        bytes.set(this.cpuid.subarray(0, bytes.length));
        return 0;
      case "KVM_GET_NESTED_STATE":
        view.setUint32(4, NestedState.size, true);
        return this.#give(name, bytes);
      case "KVM_GET_MSRS":
        return this.#msrs(bytes, (entry) => this.#read(entry));
      case "KVM_SET_MSRS":
        return this.#msrs(bytes, (entry) => this.#write(entry));
      default:
        return this.#give(name, bytes);
    }
  }

  /** Returns the value that was set, except for values that the configured behaviour drops. */
  #give(name: string, bytes: Uint8Array): number {
    if (!name.startsWith("KVM_GET_")) return 0;
    const kept = this.#kept.get(keyOf(name, bytes));
    if (kept !== undefined) bytes.set(kept.subarray(0, bytes.length));
    this.#habits.loses?.[name]?.(bytes);
    return 0;
  }

  /** Calls a function for each MSR, until the function fails. */
  #msrs(bytes: Uint8Array, visit: (entry: MsrEntry) => bigint | undefined): number {
    const { entries } = read(Msrs, bytes);
    for (const [i, entry] of entries.entries()) {
      const data = visit(entry);
      if (data === undefined) return i;
      bytes.set(encode(MsrEntry, { ...entry, data }), HEADER + i * MsrEntry.size);
    }
    return entries.length;
  }

  #read({ index }: MsrEntry): bigint | undefined {
    return this.#habits.hidden?.includes(index) ? undefined : (this.msrs.get(index) ?? 0n);
  }

  #write({ index, data }: MsrEntry): bigint | undefined {
    if (this.#habits.readOnly?.includes(index)) return undefined;
    this.called.push(`${hex(index)}=${hex(data)}`);
    const isLost = this.#habits.forgets?.includes(index) ?? false;
    if (!isLost) this.msrs.set(index, index === 0x10 ? this.#synchronised(data) : data);
    return data;
  }

  #synchronised(data: bigint): bigint {
    const away = data - (this.#expectedTsc ?? data);
    if (away > -SECOND && away < SECOND) return this.#expectedTsc ?? data;
    this.#expectedTsc = data;
    return data;
  }
}

/** Creates a fake vCPU. */
export class FakeVcpu extends FakeHandle implements StatefulVcpu {
  readonly id: number;
  /** The VM; by default the vCPU itself, because most tests do not use the VM. */
  vm: object = this;

  /** Makes a vCPU. */
  constructor(id = 0, habits: Habits = {}, called: string[] = []) {
    super(`vcpu ${id}`, habits, called);
    this.id = id;
  }

  /** Records the name of the ioctl. */
  completeExit(): void {
    this.called.push("completeExit");
  }

  /** Stores the CPUID table. */
  setCpuid2(entries: Iterable<CpuidEntry2>): void {
    this.called.push("KVM_SET_CPUID2");
    this.cpuid = encode(Cpuid2, { entries: Array.from(entries) });
  }
}

const ALL = { eax: 0xffffffff, ebx: 0xffffffff, ecx: 0xffffffff, edx: 0xffffffff };
const ALL_CPUID: readonly CpuidEntry2[] = [
  { function: 1, index: 0, flags: 0, ...ALL, padding: [0, 0, 0] },
  { function: 0xd, index: 0, flags: 1, ...ALL, padding: [0, 0, 0] },
  { function: 0x8000_0001, index: 0, flags: 0, ...ALL, padding: [0, 0, 0] },
];

/** Creates a fake /dev/kvm that returns 1 or the given value for every capability, and lists two MSRs. */
export function fakeOrigin(has: Partial<Record<CapabilityName, number>> = {}): Origin {
  return {
    checkExtension: (capability) => has[capability] ?? 1,
    msrIndexList: () => [0x10, 0x174, 0x6e0],
    supportedCpuid: () => ALL_CPUID,
    featureMsrs: () => [],
  };
}

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}
