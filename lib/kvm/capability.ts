/** Capabilities by name or number, and switching them on. Which there are is abi/generated. */
import {
  type CapabilityName,
  KVM_CAP_HYPERV_ENLIGHTENED_VMCS,
  KVM_CAPABILITIES,
} from "../abi/generated/constants.ts";
import { KVM_ENABLE_CAP } from "../abi/generated/ioctls.ts";
import { EnableCap } from "../abi/generated/structs.ts";
import { encode } from "../abi/struct.ts";
import type { Handle } from "./handle.ts";
import type { LinkValue, OpenFile } from "./link.ts";

/** A capability by its C name, or by number when this package does not know it yet. */
export type Capability = CapabilityName | number;

/** What the arguments of capabilities are called (api.rst 6 and 7); the others have none. */
const ARGUMENTS = {
  KVM_CAP_DIRTY_LOG_RING: ["bytes"],
  KVM_CAP_DIRTY_LOG_RING_ACQ_REL: ["bytes"],
  KVM_CAP_DISABLE_QUIRKS: ["quirks"],
  KVM_CAP_DISABLE_QUIRKS2: ["quirks"],
  KVM_CAP_ENFORCE_PV_FEATURE_CPUID: ["enable"],
  KVM_CAP_EXCEPTION_PAYLOAD: ["enable"],
  KVM_CAP_EXIT_HYPERCALL: ["mask"],
  KVM_CAP_EXIT_ON_EMULATION_FAILURE: ["enable"],
  KVM_CAP_HALT_POLL: ["maxHaltPollNs"],
  KVM_CAP_HYPERV_ENFORCE_CPUID: ["enable"],
  KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: ["flags"],
  KVM_CAP_MAX_VCPU_ID: ["maxVcpuId"],
  KVM_CAP_MSR_PLATFORM_INFO: ["enable"],
  KVM_CAP_PMU_CAPABILITY: ["mask"],
  KVM_CAP_SPLIT_IRQCHIP: ["ioapicPins"],
  KVM_CAP_X2APIC_API: ["flags"],
  KVM_CAP_X86_APIC_BUS_CYCLES_NS: ["ns"],
  KVM_CAP_X86_BUS_LOCK_EXIT: ["flags"],
  KVM_CAP_X86_DISABLE_EXITS: ["mask"],
  KVM_CAP_X86_NOTIFY_VMEXIT: ["windowAndFlags"],
  KVM_CAP_X86_TRIPLE_FAULT_EVENT: ["enable"],
  KVM_CAP_X86_USER_SPACE_MSR: ["mask"],
} as const;

/** What capabilities take whose argument is an open file, and where it stands in `ioctl.links`. */
const FILES = {
  KVM_CAP_SGX_ATTRIBUTE: 1,
  KVM_CAP_VM_COPY_ENC_CONTEXT_FROM: 2,
  KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM: 3,
} as const;

type Arguments = typeof ARGUMENTS;

/** Switching on a capability whose arguments have names, such as `mask`: numbers or bigints. */
export type NamedCap = {
  [C in keyof Arguments]: { readonly cap: C } & {
    readonly [A in Arguments[C][number]]: number | bigint;
  };
}[keyof Arguments];

/** Switching on a capability that takes an open file: another VM, or `/dev/sgx_provision`. */
export interface FileCap {
  readonly cap: keyof typeof FILES;
  readonly file: OpenFile;
}

/** Switching on any capability with arguments as they are: `struct kvm_enable_cap`. */
export interface RawCap {
  /** Which capability. */
  readonly cap: Capability;
  /** None are defined; 0 when left out. */
  readonly flags?: number;
  /** Up to four arguments, as api.rst section 6 (vCPU) or 7 (VM) gives them. */
  readonly args?: readonly bigint[];
}

/** An extension to switch on, with its arguments by name where they have one. */
export type EnableCapInput = NamedCap | FileCap | RawCap;

/** The number behind a capability's name; numbers pass. */
export function capabilityNumber(capability: Capability): number {
  if (typeof capability === "number") return capability;
  const number: number | undefined = KVM_CAPABILITIES[capability];
  if (number === undefined) throw new TypeError(`unknown capability ${String(capability)}`);
  return number;
}

/**
 * Switches on a capability of a VM or a vCPU; returns what KVM answers: 0, or the version of
 * Hyper-V's VMCS.
 */
export function enableCap(handle: Handle, input: EnableCapInput): number {
  const raw = toRaw(input);
  const cap = capabilityNumber(raw.cap);
  const bytes = encode(EnableCap, { cap, flags: raw.flags ?? 0, args: raw.args ?? [] });
  const version = new Uint8Array(2);
  const links = cap === KVM_CAP_HYPERV_ENLIGHTENED_VMCS ? [version] : linksOf(input);
  handle.ioctl(KVM_ENABLE_CAP, bytes, { args: { ...raw }, links });
  return new DataView(version.buffer).getUint16(0, true);
}

/** The struct's own fields, whichever way they were named. */
export function toRaw(input: EnableCapInput): RawCap {
  if ("args" in input || "file" in input) return input;
  const names: readonly string[] = ARGUMENTS[input.cap as keyof Arguments] ?? [];
  const values = input as unknown as Readonly<Record<string, number | bigint | undefined>>;
  // A capability's own argument may be called `flags`; then it is not the struct's field.
  if (!names.every((name) => values[name] !== undefined)) return input as RawCap;
  return { cap: input.cap, args: names.map((name) => BigInt(values[name] ?? 0)) };
}

function linksOf(input: EnableCapInput): readonly LinkValue[] {
  if (!("file" in input)) return [];
  const links: LinkValue[] = [null, null, null, null];
  links[FILES[input.cap]] = input.file;
  return links;
}
