/** What is known about a refused call: what was sent, and what KVM answers when asked. Judging it is the files by subject. */
import { isBytes } from "../abi/bytes.ts";
import type { CapabilityName } from "../abi/generated/constants.ts";
import type { CpuidEntry2, Run, Sregs } from "../abi/generated/structs.ts";
import type { FdKind } from "../abi/ioctl.ts";
import { encode, type Layout, read, type StructInput } from "../abi/struct.ts";
import type { DescriptorCounts } from "./process.ts";
import type { Causes, Judge } from "./verdict.ts";

/** A question about the world after the refusal. `undefined` and a throw both mean: not known. */
export type Ask<T> = (this: void) => T | undefined;

/** Asks what KVM_CHECK_EXTENSION says of a capability. */
export type AskCapability = (this: void, capability: CapabilityName) => number | undefined;

/** A memory slot that is there. */
export interface MemorySlot {
  /** Bits 0-15: the slot; bits 16-31: the address space. */
  readonly slot: number;
  /** `KVM_MEM_*`. */
  readonly flags: number;
  /** Where the guest sees it. */
  readonly guestPhysAddr: bigint;
  /** Bytes. */
  readonly memorySize: bigint;
}

/** Which interrupt controllers of a VM are in the kernel: all, only the LAPICs, or none. */
export type IrqchipMode = "kernel" | "split" | "none";

/** What /dev/kvm can be asked. */
export interface KvmEvidence {
  /** KVM_CHECK_EXTENSION on /dev/kvm. */
  readonly check?: AskCapability;
  /** KVM_GET_SUPPORTED_CPUID. */
  readonly supportedCpuid?: Ask<readonly CpuidEntry2[]>;
  /** KVM_GET_MSRS of one feature MSR; unknown when KVM has no such feature MSR. */
  readonly featureMsr?: (this: void, index: number) => bigint | undefined;
  /** KVM_X86_GET_MCE_CAP_SUPPORTED. */
  readonly mceCap?: Ask<bigint>;
}

/** Which VMs of this process an eventfd raises an interrupt of. */
export type IrqfdPlace = "here" | "elsewhere" | "nowhere";

/** What a VM, and the handles that made its parts, can be asked. */
export interface VmEvidence {
  /** Whether another process than this one made the VM. */
  readonly isForeign?: Ask<boolean>;
  /** Whether even KVM_CHECK_EXTENSION is answered with EIO. */
  readonly isDead?: Ask<boolean>;
  /** KVM_CHECK_EXTENSION on the VM. */
  readonly check?: AskCapability;
  /** All memory slots that there are. */
  readonly slots?: Ask<readonly MemorySlot[]>;
  /** The ids of all vCPUs that were ever made, closed ones too: KVM forgets none. */
  readonly vcpuIds?: Ask<readonly number[]>;
  /** Which interrupt controllers are in the kernel. */
  readonly irqchip?: Ask<IrqchipMode>;
  /** Whether the PIT is in the kernel. */
  readonly hasPit?: Ask<boolean>;
  /** The capabilities that were switched on, each with the arguments of the last time. */
  readonly enabled?: Ask<ReadonlyMap<CapabilityName, readonly bigint[]>>;
  /** What KVM_SET_TSS_ADDR was given; `null` before the first call. */
  readonly tssAddr?: Ask<bigint | null>;
  /** Where the page of the identity map is: what KVM_SET_IDENTITY_MAP_ADDR was given, or KVM's own choice. */
  readonly identityMapAddr?: Ask<bigint>;
  /** Which VMs an eventfd is an irqfd of; asked with the file itself. */
  readonly irqfdPlace?: (this: void, file: unknown) => IrqfdPlace | undefined;
}

/**
 * What a vCPU can be asked. While it runs elsewhere, an ioctl on it waits for the end of the run:
 * whoever gathers evidence leaves those questions out then.
 */
export interface VcpuEvidence {
  /** Its number. */
  readonly id: number;
  /** Whether KVM_RUN was ever called. */
  readonly hasRun?: Ask<boolean>;
  /** Whether the guest surely was entered. */
  readonly hasEntered?: Ask<boolean>;
  /** The table that the vCPU was last given; empty before the first. KVM's own changes are not in it. */
  readonly cpuid?: Ask<readonly CpuidEntry2[]>;
  /** KVM_GET_SREGS. */
  readonly sregs?: Ask<Sregs>;
  /** Whether the LAPIC is in the kernel. */
  readonly hasLapic?: Ask<boolean>;
  /** KVM_GET_MSRS of one MSR; unknown when KVM refuses to read it. */
  readonly msr?: (this: void, index: number) => bigint | undefined;
  /** What KVM_RUN reads of `kvm_run`. */
  readonly run?: Ask<Pick<Run, "cr8" | "kvmValidRegs" | "kvmDirtyRegs">>;
}

/** Whom one can ask about a refusal. A handle gives what is above it too: a vCPU its VM and /dev/kvm. */
export interface Evidence {
  /** The KVM that the handle comes from. */
  readonly kvm?: KvmEvidence;
  /** The VM, for calls on it and below it. */
  readonly vm?: VmEvidence;
  /** The vCPU, for calls on it. */
  readonly vcpu?: VcpuEvidence;
  /** The process's descriptors. */
  readonly descriptors?: Ask<DescriptorCounts>;
}

/** A call that the kernel refused. */
export interface Refusal {
  /** The ioctl's name in C; the system call's name for other calls. */
  readonly ioctl: string;
  /** The kind of the handle that was asked; none for calls that are no ioctls. */
  readonly fd?: FdKind | undefined;
  /** The kernel's errno, positive. */
  readonly errno: number;
  /** The argument itself: the integer, or the bytes of the struct, as they were sent. */
  readonly argument?: number | bigint | Uint8Array | undefined;
  /** What was sent, under KVM's names; what KvmError.args shows. */
  readonly sent: Readonly<Record<string, unknown>>;
  /** The files and memory that fill the struct's descriptors and addresses. */
  readonly links?: readonly unknown[] | undefined;
  /** Whom to ask. */
  readonly evidence: Evidence;
}

/** The causes of one errno of one call. */
export type Rules = Causes<Refusal>;

/** Judges one cause of a refused call. */
export type Rule = Judge<Refusal>;

/** The causes of one call, by the errno's name. */
export type Reasons = Readonly<Record<string, Rules>>;

/** Asks, and takes every failure for not knowing. */
export function known<T>(ask: Ask<T> | undefined): T | undefined {
  try {
    return ask?.();
  } catch {
    return undefined; // the refusal is the news, not that its reason cannot be asked for
  }
}

/** Asks for a capability: of the VM where there is one, else of /dev/kvm. */
export function capability(evidence: Evidence, name: CapabilityName): number | undefined {
  const check = evidence.vm?.check ?? evidence.kvm?.check;
  return known(check && (() => check(name)));
}

/** The integer that an ioctl without a struct was sent. */
export function sentInteger(refusal: Refusal): bigint | undefined {
  const { argument } = refusal;
  return typeof argument === "bigint" || typeof argument === "number"
    ? BigInt(argument)
    : undefined;
}

/** The count before a list, a u32 that the struct begins with: as it was named, or in the bytes. */
export function sentCount({ argument, sent }: Refusal, name: string): number | undefined {
  const named = sent[name];
  if (typeof named === "number") return named;
  if (!isBytes(argument) || argument.byteLength < 4) return undefined;
  return new DataView(argument.buffer, argument.byteOffset).getUint32(0, true);
}

/**
 * The struct that was sent, whole: from its bytes, or from what was named of it, the rest zero.
 *
 * Names that the struct has not, and what stands for an address or a descriptor, are left out:
 * their fields read as zero, and no reason may rest on them.
 */
export function sentStruct<T>(refusal: Refusal, layout: Layout<T>): T | undefined {
  try {
    const { argument, sent } = refusal;
    if (isBytes(argument)) return read(layout, argument);
    // Of a struct of which nothing was named, nothing is known: its fields are not zero.
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
