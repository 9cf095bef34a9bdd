/**
 * Injected faults, which change the results of ioctls before the handles return them. test/lifecycle/red.test.ts checks
 * that every claim of the suite fails with at least one fault (`NODE_KVM_FAULT=name`).
 */
import { types } from "node:util";
import { type Ioctl, MsrEntry, MsrList, Msrs, offsetOf, Sregs, Xcr, Xcrs } from "../abi/index.ts";
import { Handle, type IoctlArgument, Kvm, KvmError, Vm } from "../index.ts";
import { Sandbox } from "../machine/index.ts";
import { quoted, suggestion } from "../options.ts";
import {
  EAX,
  EBX,
  ECX,
  EDX,
  ENTRIES,
  entriesOf,
  FUNCTION,
  INDEX,
  NENT,
  PADDING,
} from "./cpuid-bytes.ts";
import { replaceGuestValues, replacePermission, replaceResult, stepCount } from "./reproducer.ts";
import { RULE_FAULTS, refuse, watchRuns } from "./rule-faults.ts";
import { isProbing } from "./traits.ts";

/** Issues an ioctl on a handle, and returns the ioctl's result or throws a {@link KvmError}. */
export type IoctlCall = (ioctl: Ioctl, argument?: IoctlArgument) => number;

/**
 * A fault: a function that receives a handle and its real ioctl function, and returns the ioctl function that claims
 * use. The returned function may change the argument's bytes after the call, return another result, or throw another
 * {@link KvmError}.
 */
export type InjectedFault = (handle: Handle, call: IoctlCall) => IoctlCall;

/** For each handle, the number of calls of {@link timesBefore} with each name. */
const counted = new WeakMap<Handle, Map<string, number>>();
function timesBefore(handle: Handle, name: string): number {
  const counts = counted.get(handle) ?? new Map<string, number>();
  counted.set(handle, counts);
  const before = counts.get(name) ?? 0;
  counts.set(name, before + 1);
  return before;
}

const CPUID_IOCTLS = ["KVM_SET_CPUID2", "KVM_SET_CPUID", "KVM_GET_CPUID2"];

/** Returns the first field of a struct, which is the count of its entries. */
function countOf(argument: IoctlArgument | undefined): number {
  if (!types.isUint8Array(argument)) return 0;
  return new DataView(argument.buffer, argument.byteOffset).getUint32(0, true);
}

function flip(entry: DataView, register: number, mask: number): void {
  entry.setUint32(register, entry.getUint32(register, true) ^ mask, true);
}

/**
 * Returns whether a leaf may have KVM's features: 0x40000001, 0x40000081, 0x40000101, and so on. A claim puts KVM's
 * signature into the leaf before it.
 */
const isFeatureLeafOfKvm = (leaf: number): boolean => (leaf & 0xff00_007f) >>> 0 === 0x4000_0001;

/** Inverts the bits of an entry that KVM updates at run time. */
function makeStale(entry: DataView): void {
  const [leaf, index] = [entry.getUint32(FUNCTION, true), entry.getUint32(INDEX, true)];
  if (leaf === 1) {
    flip(entry, ECX, (1 << 27) | (1 << 3));
    flip(entry, EDX, 1 << 9);
  }
  if (leaf === 7 && index === 0) flip(entry, ECX, 1 << 4);
  if (leaf === 0xd) flip(entry, EBX, 0x100);
  if (isFeatureLeafOfKvm(leaf)) flip(entry, EAX, 1 << 7);
}

/** The ioctls that return the tables of supported and emulated features. */
const FEATURE_IOCTLS = [
  "KVM_GET_SUPPORTED_CPUID",
  "KVM_GET_EMULATED_CPUID",
  "KVM_GET_SUPPORTED_HV_CPUID",
];

/**
 * Inverts bits of Hyper-V's leaves: those that depend on the local APIC (direct synthetic timers, cluster IPIs), the
 * highest leaf, and the bit about cores that virtual CPUs do not share.
 */
function flipHyperv(entry: DataView): void {
  const leaf = entry.getUint32(FUNCTION, true);
  if (leaf === 0x4000_0000) flip(entry, EAX, 1);
  if (leaf === 0x4000_0003) flip(entry, EDX, 1 << 19);
  if (leaf === 0x4000_0004) flip(entry, EAX, (1 << 10) | (1 << 18));
}

/** The smallest count of entries with which a handle reads a list of unknown length. */
const FIRST_ROOM = 64;

/** Returns whether a handle repeats a failed call with a larger buffer; claims about E2BIG use smaller buffers. */
function isRepeated({ name }: Ioctl, room: number, { code }: KvmError): boolean {
  return code === "E2BIG" && room >= FIRST_ROOM && name.startsWith("KVM_GET_");
}

let featureCalls = 0;

/** Replaces the last entry of a table by another entry of the table; the next call of the function uses another. */
function repeatEntry(bytes: Uint8Array): void {
  const entries = Array.from(entriesOf(bytes));
  const last = entries.at(-1);
  featureCalls += 1;
  const other = entries[featureCalls % 2];
  if (last === undefined || other === undefined) return;
  for (let at = 0; at < PADDING; at += 1) last.setUint8(at, other.getUint8(at));
  last.setUint32(PADDING, 1, true);
}

const MSR_DATA = offsetOf(Msrs, "entries") + offsetOf(MsrEntry, "data");
const MSR_INDICES = offsetOf(MsrList, "indices");

/** The bits of an MSR that the fault "misreads-msrs" changes: 0, and 20, which is SMEP in MSR_IA32_VMX_CR4_FIXED1. */
const MISREAD: readonly (readonly [at: number, mask: number])[] = [
  [MSR_DATA, 1],
  [MSR_DATA + 2, 1 << 4],
];

/** The bytes of registers that the fault "misreads-registers" changes: CR4, EFER and APIC_BASE; XCR0. */
const REGISTER_BYTES: Readonly<Record<string, readonly number[]>> = {
  KVM_GET_SREGS: [
    offsetOf(Sregs, "cr4"),
    offsetOf(Sregs, "efer"),
    // Bit 8, the flag of the bootstrap processor.
    offsetOf(Sregs, "apicBase") + 1,
  ],
  KVM_GET_XCRS: [offsetOf(Xcrs, "xcrs") + offsetOf(Xcr, "value")],
};

/**
 * Inverts features that KVM reports on every host, or on none, one component of each group of XCR0, and the component of
 * IA32_XSS for the CET state of user mode.
 */
function flipFeatures(entry: DataView): void {
  const [leaf, index] = [entry.getUint32(FUNCTION, true), entry.getUint32(INDEX, true)];
  if (leaf === 1) flip(entry, ECX, (1 << 3) | (1 << 24) | (1 << 27) | (1 << 31));
  if (leaf === 7 && index === 0) flip(entry, ECX, 1 << 4);
  if (leaf === 0xd && index === 0) flip(entry, EAX, 1 | (1 << 1) | (1 << 3) | (1 << 5) | (1 << 17));
  if (leaf === 0xd && index === 1) flip(entry, ECX, 1 << 11);
}

const FAULTS_BY_NAME: ReadonlyMap<string, InjectedFault> = new Map(
  Object.entries<InjectedFault>({
    // The fault accepts all special registers, MSRs and permissions, and all CPUID tables, as Linux 5.10 does after
    // KVM_RUN.
    "accepts-all": (_handle, call) => (ioctl, argument) => {
      try {
        const result = call(ioctl, argument);
        return ioctl.name === "KVM_SET_MSRS" ? countOf(argument) : result;
      } catch (error) {
        const isIgnored = CPUID_IOCTLS.includes(ioctl.name) || ioctl.name === "KVM_SET_SREGS";
        if (isIgnored && error instanceof KvmError) return 0;
        throw error;
      }
    },
    // The fault accepts one CPUID table per vCPU and rejects every further table, even an equal one.
    "refuses-second": (handle, call) => (ioctl, argument) =>
      ioctl.name.startsWith("KVM_SET_CPUID") && timesBefore(handle, "KVM_SET_CPUID") > 0
        ? refuse(ioctl.name, handle.label, 22)
        : call(ioctl, argument),
    // The fault rejects every CPUID table.
    "refuses-first": (handle, call) => (ioctl, argument) =>
      ioctl.name.startsWith("KVM_SET_CPUID")
        ? refuse(ioctl.name, handle.label, 22)
        : call(ioctl, argument),
    // The fault accepts the special registers of a vCPU only once.
    "refuses-sregs": (handle, call) => (ioctl, argument) =>
      ioctl.name === "KVM_SET_SREGS" && timesBefore(handle, ioctl.name) > 0
        ? refuse(ioctl.name, handle.label, 22)
        : call(ioctl, argument),
    // The fault inverts a different bit in each result of KVM_GET_CPUID2, and returns E2BIG for an empty table.
    forgets: (handle, call) => (ioctl, argument) => {
      const result = call(ioctl, argument);
      if (ioctl.name !== "KVM_GET_CPUID2" || !types.isUint8Array(argument)) return result;
      const [first] = entriesOf(argument);
      if (first === undefined) return refuse(ioctl.name, handle.label, 7);
      flip(first, EAX, 1 << timesBefore(handle, "forgets"));
      return result;
    },
    // The fault inverts the bits that KVM updates at run time, as if KVM did not update them.
    "goes-stale": (_handle, call) => (ioctl, argument) => {
      const result = call(ioctl, argument);
      if (ioctl.name === "KVM_GET_CPUID2" && types.isUint8Array(argument)) {
        for (const entry of entriesOf(argument)) makeStale(entry);
      }
      return result;
    },
    // The fault does not return the count of a vCPU's table that has entries, as Linux before 6.5 does.
    "keeps-counts": (_handle, call) => (ioctl, argument) => {
      const sent = countOf(argument);
      const result = call(ioctl, argument);
      const isTable = ioctl.name === "KVM_GET_CPUID2" && types.isUint8Array(argument);
      if (isTable && countOf(argument) > 0) {
        new DataView(argument.buffer, argument.byteOffset).setUint32(NENT, sent, true);
      }
      return result;
    },
    // The fault writes no MSR.
    "refuses-msrs": (_handle, call) => (ioctl, argument) =>
      ioctl.name === "KVM_SET_MSRS" ? 0 : call(ioctl, argument),
    // The fault writes to the header of the table that was passed to KVM_SET_CPUID2 or KVM_SET_CPUID.
    "writes-to-tables": (_handle, call) => (ioctl, argument) => {
      const result = call(ioctl, argument);
      if (ioctl.name.startsWith("KVM_SET_CPUID") && types.isUint8Array(argument)) {
        argument.fill(0x5a, ENTRIES - 4, ENTRIES);
      }
      return result;
    },
    // The fault returns wrong tables of supported features: an entry twice, padding, and other Hyper-V features.
    "misstates-features": (_handle, call) => (ioctl, argument) => {
      const result = call(ioctl, argument);
      if (FEATURE_IOCTLS.includes(ioctl.name) && types.isUint8Array(argument)) {
        repeatEntry(argument);
        for (const entry of entriesOf(argument)) flipHyperv(entry);
      }
      return result;
    },
    // The fault replaces the errno of each failed call; the handles still learn that a buffer is too small.
    "names-wrong-errno": (handle, call) => (ioctl, argument) => {
      const room = countOf(argument);
      try {
        return call(ioctl, argument);
      } catch (error) {
        if (!(error instanceof KvmError) || isRepeated(ioctl, room, error)) throw error;
        return refuse(ioctl.name, handle.label, 5);
      }
    },
    // The fault returns 0 from KVM_SET_MSRS if KVM wrote an MSR, and 1 if KVM wrote none.
    "miscounts-msrs": (_handle, call) => (ioctl, argument) => {
      const result = call(ioctl, argument);
      if (ioctl.name !== "KVM_SET_MSRS") return result;
      return result === 0 ? 1 : 0;
    },
    // The fault returns another value of the first MSR of a vCPU; the MSRs of /dev/kvm remain.
    "misreads-vcpu-msrs": (handle, call) => (ioctl, argument) => {
      const result = call(ioctl, argument);
      const isRead = ioctl.name === "KVM_GET_MSRS" && !(handle instanceof Kvm);
      if (isRead && types.isUint8Array(argument))
        argument[MSR_DATA] = (argument[MSR_DATA] ?? 0) ^ 1;
      return result;
    },
    // The fault returns another value of the first MSR, and no MSR of /dev/kvm.
    "misreads-msrs": (handle, call) => (ioctl, argument) => {
      const result = call(ioctl, argument);
      if (ioctl.name !== "KVM_GET_MSRS" || !types.isUint8Array(argument)) return result;
      if (handle instanceof Kvm) return 0;
      for (const [at, mask] of MISREAD) argument[at] = (argument[at] ?? 0) ^ mask;
      return result;
    },
    // The fault returns other registers than KVM has, except from the first call for a vCPU.
    "misreads-registers": (handle, call) => (ioctl, argument) => {
      const result = call(ioctl, argument);
      if (!types.isUint8Array(argument) || !Object.hasOwn(REGISTER_BYTES, ioctl.name))
        return result;
      if (timesBefore(handle, `misreads-${ioctl.name}`) === 0) return result;
      for (const at of REGISTER_BYTES[ioctl.name] ?? []) argument[at] = (argument[at] ?? 0) ^ 1;
      return result;
    },
    // The fault rejects XCR0, and the special registers of a vCPU in real mode.
    "refuses-registers": (handle, call) => (ioctl, argument) => {
      const isReal =
        ioctl.name === "KVM_SET_SREGS" &&
        types.isUint8Array(argument) &&
        ((argument[offsetOf(Sregs, "cr0")] ?? 0) & 1) === 0;
      if (isReal || ioctl.name === "KVM_SET_XCRS") return refuse(ioctl.name, handle.label, 5);
      return call(ioctl, argument);
    },
    // The fault inverts features of KVM_GET_SUPPORTED_CPUID, and changes the lists of MSRs.
    "misreports-support": (_handle, call) => (ioctl, argument) => {
      const result = call(ioctl, argument);
      if (!types.isUint8Array(argument)) return result;
      if (ioctl.name === "KVM_GET_SUPPORTED_CPUID") {
        for (const entry of entriesOf(argument)) flipFeatures(entry);
      }
      if (ioctl.name === "KVM_GET_MSR_INDEX_LIST") argument.fill(0, MSR_INDICES);
      return result;
    },
    // The fault inverts the values that the guest sends; `misleadGuests` implements it.
    "misleads-guests": (_handle, call) => call,
    ...RULE_FAULTS,
  }),
);

/** The names of the faults that {@link injectFault} knows. */
export const FAULTS: readonly string[] = Array.from(FAULTS_BY_NAME.keys());

/**
 * Marks the class `Handle` after a fault was injected, because several files in one process must not inject the fault
 * twice.
 */
const INJECTED: unique symbol = Symbol.for("node-kvm.fault");

/**
 * Injects a fault into all calls of this process until the process ends. A process has at most one fault, so further
 * calls of this function do nothing.
 *
 * Importing `node-kvm/test` injects the fault that the environment variable `NODE_KVM_FAULT` names.
 *
 * @param fault - one of {@link FAULTS}, or a function.
 * @throws TypeError for an unknown name.
 */
export function injectFault(fault: string | InjectedFault): void {
  const change = typeof fault === "string" ? FAULTS_BY_NAME.get(fault) : fault;
  if (change === undefined) {
    throw new TypeError(
      `injectFault(): unknown fault ${quoted(String(fault))}${suggestion(String(fault), FAULTS)}`,
    );
  }
  if (Object.hasOwn(Handle.prototype, INJECTED)) return;
  Object.defineProperty(Handle.prototype, INJECTED, { value: true });
  const real = Handle.prototype.ioctl;
  Handle.prototype.ioctl = function changedIoctl(this: Handle, ioctl, argument, context) {
    // A fault concerns the claims. A trait that a fault makes up would explain the claim's failure as a deviation.
    if (isProbing()) return real.call(this, ioctl, argument, context);
    const sent = types.isUint8Array(argument) ? new Uint8Array(argument) : argument;
    const from = stepCount();
    try {
      const result = change(this, (i, a) => real.call(this, i, a, context))(ioctl, argument);
      replaceResult(from, this, ioctl, sent, result, argument);
      return result;
    } catch (error) {
      if (error instanceof KvmError) {
        replaceResult(from, this, ioctl, sent, -error.errno, argument);
      }
      throw error;
    }
  };
  if (typeof fault === "string" && Object.hasOwn(RULE_FAULTS, fault)) watchRuns();
  if (fault === "misleads-guests") misleadGuests();
  if (fault === "accepts-all") acceptPermissions();
  if (fault === "names-wrong-errno") misnameCreations();
}

/** Changes the errno of KVM_CREATE_VCPU, which returns a descriptor and does not use `Handle.ioctl`. */
function misnameCreations(): void {
  const real = Vm.prototype.createVcpu;
  Vm.prototype.createVcpu = function changedCreateVcpu(this: Vm, id?: number) {
    try {
      return real.call(this, id);
    } catch (error) {
      if (!(error instanceof KvmError) || isProbing()) throw error;
      return refuse(error.call, error.object, 5);
    }
  };
}

function acceptPermissions(): void {
  const real = Kvm.reqXcompGuestPerm;
  Kvm.reqXcompGuestPerm = function changedPermission(component: number): void {
    try {
      real(component);
    } catch (error) {
      if (!(error instanceof KvmError)) throw error;
      replacePermission();
    }
  };
}

function misleadGuests(): void {
  const real = Sandbox.prototype.next;
  Sandbox.prototype.next = function changedNext(this: Sandbox) {
    const ucall = real.call(this);
    if (isProbing()) return ucall;
    if (ucall.kind === "sync") replaceGuestValues();
    return ucall.kind === "sync"
      ? { ...ucall, values: ucall.values.map((v) => ~v & 0xffff_ffffn) }
      : ucall;
  };
}
