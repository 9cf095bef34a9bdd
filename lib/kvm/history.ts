/**
 * Records the calls of a handle that KVM has accepted. The records explain later errors, because no ioctl returns the
 * arguments of earlier calls without side effects.
 */
import { copyOf, isBytes } from "../abi/bytes.ts";
import { type CapabilityName, KVM_CAPABILITIES } from "../abi/generated/names.ts";
import { Cpuid, Cpuid2, type CpuidEntry2, EnableCap } from "../abi/generated/structs.ts";
import type { Ioctl } from "../abi/ioctl.ts";
import { offsetOf, read, sizeOf } from "../abi/struct.ts";
import { IDENTITY_MAP } from "../explain/index.ts";
import type { IoctlArgument } from "./handle.ts";

/** The calls that a VM has accepted. */
export class VmHistory {
  /** The id of the process that created the VM. */
  readonly pid: number = process.pid;
  readonly #vcpuIds: number[] = [];
  readonly #enabled = new Map<CapabilityName, readonly bigint[]>();
  #tssAddr: bigint | null = null;
  #identityMapAddr: bigint = IDENTITY_MAP;

  /** The ids of all vCPUs that were created. */
  get vcpuIds(): readonly number[] {
    return this.#vcpuIds;
  }

  /** The enabled capabilities, with their arguments. */
  get enabled(): ReadonlyMap<CapabilityName, readonly bigint[]> {
    return this.#enabled;
  }

  /** The argument of the last KVM_SET_TSS_ADDR. */
  get tssAddr(): bigint | null {
    return this.#tssAddr;
  }

  /** The address of the identity map. */
  get identityMapAddr(): bigint {
    return this.#identityMapAddr;
  }

  /** Records an accepted call. */
  record(ioctl: Ioctl, argument: IoctlArgument | undefined): void {
    const bytes = isBytes(argument) ? argument : new Uint8Array();
    switch (ioctl.name) {
      case "KVM_CREATE_VCPU":
        this.#vcpuIds.push(Number(argument));
        return;
      case "KVM_ENABLE_CAP": {
        const { cap, args } = read(EnableCap, bytes);
        const name = nameOf(cap);
        if (name !== undefined) this.#enabled.set(name, args);
        return;
      }
      case "KVM_SET_TSS_ADDR":
        this.#tssAddr = BigInt(Number(argument));
        return;
      case "KVM_SET_IDENTITY_MAP_ADDR":
        this.#identityMapAddr =
          new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true) || IDENTITY_MAP;
        return;
      default:
    }
  }
}

/** Returns the name of a capability that this package knows. */
function nameOf(cap: number): CapabilityName | undefined {
  const names = Object.keys(KVM_CAPABILITIES) as CapabilityName[];
  return names.find((name) => KVM_CAPABILITIES[name] === cap);
}

/** The ioctls that pass a vCPU's CPUID table. */
const TABLES: readonly string[] = ["KVM_SET_CPUID2", "KVM_SET_CPUID", "KVM_GET_CPUID2"];
const NENT = offsetOf(Cpuid2, "nent");

/**
 * The last CPUID table that a vCPU has accepted or that the program has read. The table is kept, because an additional
 * KVM_GET_CPUID2 would change the state that must be explained. A table from KVM_GET_CPUID2 replaces the table that the
 * program has set, because kvm_pvm stores a different table.
 */
export class CpuidHistory {
  #ioctl = "";
  #bytes: Uint8Array = new Uint8Array();

  /** Records an accepted call. */
  record(ioctl: Ioctl, argument: IoctlArgument | undefined): void {
    if (!TABLES.includes(ioctl.name) || !isBytes(argument)) return;
    if (ioctl.name === "KVM_GET_CPUID2" && !hasCount(argument)) return;
    // The bytes are copied into the existing array, because allocating an array takes half as long as encoding the
    // table.
    if (this.#bytes.length === argument.length) this.#bytes.set(argument);
    else this.#bytes = copyOf(argument);
    this.#ioctl = ioctl.name;
  }

  /** Decodes the table; the result is empty if no table was recorded. */
  entries(): readonly CpuidEntry2[] {
    if (this.#ioctl === "") return [];
    return this.#ioctl === "KVM_SET_CPUID"
      ? oldForm(this.#bytes)
      : read(Cpuid2, this.#bytes).entries;
  }
}

/**
 * Returns whether KVM has written the number of entries. Linux 6.1 does not write the number, so the field still has
 * the number of entries that fit the buffer.
 */
function hasCount(bytes: Uint8Array): boolean {
  const nent = new DataView(bytes.buffer, bytes.byteOffset).getUint32(NENT, true);
  return sizeOf(Cpuid2, nent) < bytes.length;
}

/** Returns the entries of KVM_SET_CPUID as KVM stores them. */
function oldForm(bytes: Uint8Array): readonly CpuidEntry2[] {
  const rest = { index: 0, flags: 0, padding: [0, 0, 0] };
  return read(Cpuid, bytes).entries.map((entry) => ({ ...entry, ...rest }));
}
