/**
 * A refused call: its arguments, and the evidence that can be gathered after it. Each other file of this folder judges
 * the causes of one subject.
 */
import { isBytes } from "../abi/bytes.ts";
import type { CapabilityName } from "../abi/generated/names.ts";
import type { CpuidEntry2, Run, Sregs } from "../abi/generated/structs.ts";
import type { FdKind } from "../abi/ioctl.ts";
import { encode, type Layout, read, type StructInput } from "../abi/struct.ts";
import type { DescriptorCounts } from "./process.ts";
import type { Causes, Judge } from "./verdict.ts";

/**
 * A function that gathers a piece of evidence after the call was refused. If the function returns undefined or throws,
 * the evidence is unknown.
 */
export type Ask<T> = (this: void) => T | undefined;

/** Returns the result of KVM_CHECK_EXTENSION for a capability. */
export type AskCapability = (this: void, capability: CapabilityName) => number | undefined;

/** An existing memory slot. */
export interface MemorySlot {
  /** The number of the slot in bits 0-15, and its address space in bits 16-31. */
  readonly slot: number;
  /** `KVM_MEM_*`. */
  readonly flags: number;
  /** The guest physical address of the slot. */
  readonly guestPhysAddr: bigint;
  /** The size of the slot in bytes. */
  readonly memorySize: bigint;
}

/** The interrupt controllers of a VM that are in the kernel: all controllers, only the LAPICs, or none. */
export type IrqchipMode = "kernel" | "split" | "none";

/** The evidence about /dev/kvm. */
export interface KvmEvidence {
  /** The result of KVM_CHECK_EXTENSION on /dev/kvm. */
  readonly check?: AskCapability;
  /** The result of KVM_GET_SUPPORTED_CPUID. */
  readonly supportedCpuid?: Ask<readonly CpuidEntry2[]>;
  /** The result of KVM_GET_MSRS for one feature MSR; undefined if KVM has no such feature MSR. */
  readonly featureMsr?: (this: void, index: number) => bigint | undefined;
  /** The result of KVM_X86_GET_MCE_CAP_SUPPORTED. */
  readonly mceCap?: Ask<bigint>;
}

/** The VM whose interrupt an eventfd raises: this VM, another VM of this process, or none. */
export type IrqfdPlace = "here" | "elsewhere" | "nowhere";

/** The evidence about a VM and the handles of its parts. */
export interface VmEvidence {
  /** Whether another process created the VM. */
  readonly isForeign?: Ask<boolean>;
  /** Whether the VM is dead, so that every ioctl fails with EIO, even KVM_CHECK_EXTENSION. */
  readonly isDead?: Ask<boolean>;
  /** The result of KVM_CHECK_EXTENSION on the VM. */
  readonly check?: AskCapability;
  /** All memory slots of the VM. */
  readonly slots?: Ask<readonly MemorySlot[]>;
  /** The ids of all vCPUs ever created, including closed ones, because KVM keeps their ids. */
  readonly vcpuIds?: Ask<readonly number[]>;
  /** The interrupt controllers of the VM that are in the kernel. */
  readonly irqchip?: Ask<IrqchipMode>;
  /** Whether the VM's PIT is in the kernel. */
  readonly hasPit?: Ask<boolean>;
  /** The VM's enabled capabilities, each with its latest arguments. */
  readonly enabled?: Ask<ReadonlyMap<CapabilityName, readonly bigint[]>>;
  /** The argument of KVM_SET_TSS_ADDR; `null` before the first call. */
  readonly tssAddr?: Ask<bigint | null>;
  /** The address of the identity map: the argument of KVM_SET_IDENTITY_MAP_ADDR, or KVM's default. */
  readonly identityMapAddr?: Ask<bigint>;
  /** Returns the VM to which KVM_IRQFD has connected an eventfd. */
  readonly irqfdPlace?: (this: void, file: unknown) => IrqfdPlace | undefined;
}

/**
 * The evidence about a vCPU. While the vCPU runs on another thread, an ioctl on the vCPU would block until the end of
 * the run, so evidence that needs an ioctl is unknown.
 */
export interface VcpuEvidence {
  /** The id of the vCPU. */
  readonly id: number;
  /** Whether KVM_RUN was ever called on the vCPU. */
  readonly hasRun?: Ask<boolean>;
  /** Whether the vCPU has certainly entered the guest. */
  readonly hasEntered?: Ask<boolean>;
  /**
   * The last CPUID table that KVM has accepted or returned, without later changes by KVM; empty if KVM has accepted no
   * table.
   */
  readonly cpuid?: Ask<readonly CpuidEntry2[]>;
  /** The result of KVM_GET_SREGS. */
  readonly sregs?: Ask<Sregs>;
  /** Whether the vCPU's LAPIC is in the kernel. */
  readonly hasLapic?: Ask<boolean>;
  /** The result of KVM_GET_MSRS for one MSR; undefined if KVM refuses to read this MSR. */
  readonly msr?: (this: void, index: number) => bigint | undefined;
  /** The fields of `kvm_run` that KVM_RUN reads, with their current values. */
  readonly run?: Ask<Pick<Run, "cr8" | "kvmValidRegs" | "kvmDirtyRegs">>;
}

/**
 * The evidence that can be gathered about a refused call. A handle also provides the evidence of its parents: a vCPU
 * also provides evidence about its VM and /dev/kvm.
 */
export interface Evidence {
  /** The evidence about the KVM from which the handle was created. */
  readonly kvm?: KvmEvidence;
  /** The evidence about the VM, for calls on the VM and on its vCPUs and devices. */
  readonly vm?: VmEvidence;
  /** The evidence about the vCPU, for calls on the vCPU. */
  readonly vcpu?: VcpuEvidence;
  /** The evidence about the process's descriptors. */
  readonly descriptors?: Ask<DescriptorCounts>;
}

/** A call that the kernel refused. */
export interface Refusal {
  /** The ioctl's name in C; for other calls, the system call's name. */
  readonly ioctl: string;
  /** The kind of the handle; undefined for calls that are not ioctls. */
  readonly fd?: FdKind | undefined;
  /** The kernel's errno as a positive number. */
  readonly errno: number;
  /** The argument that was passed: the integer, or the bytes of the struct. */
  readonly argument?: number | bigint | Uint8Array | undefined;
  /** The arguments under KVM's names, as in KvmError.args. */
  readonly sent: Readonly<Record<string, unknown>>;
  /** The files and memory whose descriptors and addresses are written into the struct. */
  readonly links?: readonly unknown[] | undefined;
  /** The evidence that can be gathered. */
  readonly evidence: Evidence;
}

/** The causes of one errno of one call: a rule for each cause. */
export type Rules = Causes<Refusal>;

/** Judges one cause of a refused call. */
export type Rule = Judge<Refusal>;

/** The causes of one call, by the errno's name. */
export type Reasons = Readonly<Record<string, Rules>>;

/** Gathers a piece of evidence; if the function throws, the evidence is unknown. */
export function known<T>(ask: Ask<T> | undefined): T | undefined {
  try {
    return ask?.();
  } catch {
    return undefined; // if gathering fails, the error is explained without this evidence
  }
}

/** Returns the value of a capability of the VM, or of /dev/kvm if there is no VM. */
export function capability(evidence: Evidence, name: CapabilityName): number | undefined {
  const check = evidence.vm?.check ?? evidence.kvm?.check;
  return known(check && (() => check(name)));
}

/** Returns the integer argument of an ioctl without a struct. */
export function sentInteger(refusal: Refusal): bigint | undefined {
  const { argument } = refusal;
  return typeof argument === "bigint" || typeof argument === "number"
    ? BigInt(argument)
    : undefined;
}

/**
 * Returns the count that precedes a list, a u32 at the start of the struct, from the named arguments or from the bytes.
 */
export function sentCount({ argument, sent }: Refusal, name: string): number | undefined {
  const named = sent[name];
  if (typeof named === "number") return named;
  if (!isBytes(argument) || argument.byteLength < 4) return undefined;
  return new DataView(argument.buffer, argument.byteOffset).getUint32(0, true);
}

/**
 * Returns the whole struct that was passed, from its bytes or from the named arguments; fields that are not named are
 * 0.
 *
 * Names that are not fields are ignored. Values that represent an address or a descriptor are also ignored: these
 * fields are 0, and no reason may depend on them.
 */
export function sentStruct<T>(refusal: Refusal, layout: Layout<T>): T | undefined {
  try {
    const { argument, sent } = refusal;
    if (isBytes(argument)) return read(layout, argument);
    // If no field was named, the struct is unknown. An unknown struct is not the same as a struct of zeros.
    return Object.keys(sent).length === 0 ? undefined : read(layout, encodeNamed(layout, sent));
  } catch {
    return undefined;
  }
}

function encodeNamed<T>(layout: Layout<T>, sent: Refusal["sent"]): Uint8Array {
  const isSent = ({ name, type }: Layout["fields"][number]): boolean =>
    typeof type !== "string" || ["number", "bigint"].includes(typeof sent[name]);
  const names = layout.fields.filter(isSent).map(({ name }) => name);
  if (layout.tail !== undefined) names.push(layout.tail.name);
  const named = Object.fromEntries(names.map((name) => [name, sent[name]]));
  return encode(layout, named as StructInput<T>);
}
