/** Identifies capabilities by name or number, and enables them. abi/generated has the list of capabilities. */
import { KVM_CAP_HYPERV_ENLIGHTENED_VMCS } from "../../abi/generated/constants.ts";
import { KVM_ENABLE_CAP } from "../../abi/generated/ioctls.ts";
import { type CapabilityName, KVM_CAPABILITIES } from "../../abi/generated/names.ts";
import { EnableCap } from "../../abi/generated/structs.ts";
import { encode } from "../../abi/struct.ts";
import {
  describe,
  quoted,
  refuseMisfit,
  refuseMissing,
  refuseUnknown,
  suggestion,
  toU64,
} from "../../options.ts";
import type { IoctlTarget } from "../handle.ts";
import type { LinkInput, OpenFile } from "../link.ts";

/** A capability by its C name, or by number if this package does not know it. */
export type Capability = CapabilityName | number;

/**
 * The names of the arguments of each capability (api.rst 6 and 7); a capability that is not listed has no named
 * arguments.
 */
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

/** The capabilities that have an open file as argument, each with the file's index in `ioctl.links`. */
const FILES = {
  KVM_CAP_SGX_ATTRIBUTE: 1,
  KVM_CAP_VM_COPY_ENC_CONTEXT_FROM: 2,
  KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM: 3,
} as const;

type Arguments = typeof ARGUMENTS;

/** Enables a capability with named arguments, such as `mask`. The value of an argument is a number or a bigint. */
export type NamedCapInput = {
  [C in keyof Arguments]: { readonly cap: C } & {
    readonly [A in Arguments[C][number]]: number | bigint;
  };
}[keyof Arguments];

/** Enables a capability whose argument is an open file: another VM, or `/dev/sgx_provision`. */
export interface FileCapInput {
  readonly cap: keyof typeof FILES;
  readonly file: OpenFile;
}

/** Enables any capability with unnamed arguments: `struct kvm_enable_cap`. */
export interface RawCapInput {
  readonly cap: Capability;
  /** The flags of `kvm_enable_cap`, for which the kernel defines no value; 0 if omitted. */
  readonly flags?: number;
  /** Up to four arguments, in the order of api.rst section 6 (vCPU) or 7 (VM). */
  readonly args: readonly (bigint | number)[];
}

/** Enables a capability without named arguments and without a file; omitted arguments are 0. */
export interface PlainCapInput {
  readonly cap: Exclude<CapabilityName, keyof Arguments | keyof typeof FILES> | number;
  /** The flags of `kvm_enable_cap`, for which the kernel defines no value; 0 if omitted. */
  readonly flags?: number;
  /** The arguments, as in {@link RawCapInput}. */
  readonly args?: readonly (bigint | number)[];
}

/** A capability to enable, with its named or unnamed arguments, or its open file. */
export type EnableCapInput = NamedCapInput | FileCapInput | RawCapInput | PlainCapInput;

/** Returns the number of a capability's name; returns a number unchanged. */
export function capabilityNumber(capability: Capability): number {
  if (typeof capability === "number") return capability;
  if (typeof capability !== "string") {
    throw new TypeError(`capability: expected a name or a number, got ${describe(capability)}`);
  }
  if (Object.hasOwn(KVM_CAPABILITIES, capability)) return KVM_CAPABILITIES[capability];
  const end = suggestion(capability, Object.keys(KVM_CAPABILITIES), 0);
  throw new TypeError(`unknown capability ${quoted(capability)}${end}`);
}

/** Enables a capability of a VM or a vCPU. Returns KVM's result, which is 0 or the version of Hyper-V's VMCS. */
export function enableCap(handle: IoctlTarget, input: EnableCapInput): number {
  const raw = toRaw(input);
  const cap = capabilityNumber(raw.cap);
  const bytes = encode(EnableCap, { cap, flags: raw.flags, args: raw.args }, WHERE);
  const version = new Uint8Array(2);
  const links = cap === KVM_CAP_HYPERV_ENLIGHTENED_VMCS ? [version] : linksOf(raw);
  handle.ioctl(KVM_ENABLE_CAP, bytes, {
    args: { cap: raw.cap, flags: raw.flags, args: raw.args },
    links,
  });
  return new DataView(version.buffer).getUint16(0, true);
}

/** The fields of `kvm_enable_cap`, which are the same for all forms of the input. */
export interface SentCap {
  readonly cap: Capability;
  readonly flags: number;
  readonly args: readonly bigint[];
  readonly file?: OpenFile;
}

const WHERE = "enableCap()";
const RAW: readonly string[] = ["cap", "flags", "args"];

/**
 * Returns the own property of a table with this name; `undefined` if the table only inherits the name, such as
 * `toString`.
 */
function rowOf<T>(table: Readonly<Record<string, T>>, cap: unknown): T | undefined {
  return typeof cap === "string" && Object.hasOwn(table, cap) ? table[cap] : undefined;
}

/**
 * Reads each member of the input once, and returns the struct's fields.
 *
 * @throws TypeError for an unknown capability, and for unknown or missing members.
 */
export function toRaw(input: EnableCapInput): SentCap {
  refuseMissing(WHERE, input, ["cap"]);
  const members = { ...input } as Readonly<Record<string, unknown>>;
  const cap = members["cap"] as Capability;
  capabilityNumber(cap);
  const names = rowOf<readonly string[]>(ARGUMENTS, cap);
  const isFile = rowOf(FILES, cap) !== undefined;
  // A capability may have an argument named `flags`; if the input has `args`, `flags` is the struct's field.
  if (members["args"] === undefined && names !== undefined) {
    refuseMisfit(`${WHERE}: ${cap}`, members, ["cap", ...names]);
    const args = names.map((name) => toU64(`${WHERE}: ${name}`, members[name]));
    return { cap, flags: 0, args };
  }
  if (members["args"] === undefined && isFile) {
    refuseMisfit(`${WHERE}: ${cap}`, members, ["cap", "file"]);
    return { cap, flags: 0, args: [], file: members["file"] as OpenFile };
  }
  refuseUnknown(WHERE, members, RAW, "member");
  const { flags = 0, args = [] } = members as Partial<RawCapInput>;
  if (!Array.isArray(args)) {
    throw new TypeError(`${WHERE}: args: expected an array of bigints, got ${describe(args)}`);
  }
  return { cap, flags, args: args.map((arg, i) => toU64(`${WHERE}: args[${i}]`, arg)) };
}

function linksOf({ cap, file }: SentCap): readonly LinkInput[] {
  if (file === undefined) return [];
  const links: LinkInput[] = [null, null, null, null];
  links[rowOf(FILES, cap) ?? 0] = file;
  return links;
}
