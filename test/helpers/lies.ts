/**
 * Kernels that break their promises. With NODE_KVM_LIE=name the suite sees KVM through one of these
 * liars, and the claims that the lie breaks must turn red: that is how each claim has been seen to
 * be able to fail (test/lifecycle/red.test.ts counts them). Without it, nothing here does anything.
 */
import { Handle, type IoctlArgument, Kvm, KvmError } from "node-kvm";
import type { Ioctl } from "node-kvm/abi";
import { Sandbox } from "node-kvm/machine";
import { retell, retellGuest, retellPermission, stepCount } from "./reproducer.ts";

type Door = (ioctl: Ioctl, argument?: IoctlArgument) => number;
type Liar = (handle: Handle, honest: Door) => Door;

const refuse = (ioctl: Ioctl, object: string, errno: number): never => {
  throw new KvmError({ call: ioctl.name, object, errno, reason: "(a lie)" });
};

/** Which request on which handle, so many times before. */
const asked = new WeakMap<Handle, Map<string, number>>();
function timesAsked(handle: Handle, name: string): number {
  const counts = asked.get(handle) ?? new Map<string, number>();
  asked.set(handle, counts);
  const before = counts.get(name) ?? 0;
  counts.set(name, before + 1);
  return before;
}

const NENT = 0;
const ENTRIES = 8;
const ENTRY_BYTES = 40;
const CPUID_IOCTLS = ["KVM_SET_CPUID2", "KVM_SET_CPUID", "KVM_GET_CPUID2"];

/** Every entry of a struct kvm_cpuid2, to read and to falsify. */
function* entriesOf(bytes: Uint8Array): Generator<DataView> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < view.getUint32(NENT, true); i += 1) {
    yield new DataView(view.buffer, view.byteOffset + ENTRIES + i * ENTRY_BYTES, ENTRY_BYTES);
  }
}

/** Where a kvm_cpuid_entry2 holds what. */
const [FUNCTION, INDEX, EAX, EBX, ECX, EDX] = [0, 4, 12, 16, 20, 24];

function flip(entry: DataView, register: number, mask: number): void {
  entry.setUint32(register, entry.getUint32(register, true) ^ mask, true);
}

/** What a kernel that keeps no runtime bit up to date would answer. */
function makeStale(entry: DataView): void {
  const [leaf, index] = [entry.getUint32(FUNCTION, true), entry.getUint32(INDEX, true)];
  if (leaf === 1) {
    flip(entry, ECX, 1 << 27);
    flip(entry, EDX, 1 << 9);
  }
  if (leaf === 7 && index === 0) flip(entry, ECX, 1 << 4);
  if (leaf === 0xd && index === 0) flip(entry, EBX, 0x100);
}

const LIARS: Readonly<Record<string, Liar>> = {
  // Refuses nothing that has to do with CPUID (5.10 did so after KVM_RUN), nor a permission (see below).
  "accepts-all": (_handle, honest) => (ioctl, argument) => {
    try {
      return honest(ioctl, argument);
    } catch (error) {
      const swallowed = CPUID_IOCTLS.includes(ioctl.name) || ioctl.name === "KVM_SET_SREGS";
      if (swallowed && error instanceof KvmError) return 0;
      throw error;
    }
  },
  // Takes one table a vCPU and no other, not even the same.
  "refuses-second": (handle, honest) => (ioctl, argument) =>
    ioctl.name.startsWith("KVM_SET_CPUID") && timesAsked(handle, "KVM_SET_CPUID") > 0
      ? refuse(ioctl, handle.label, 22)
      : honest(ioctl, argument),
  // Takes no table at all.
  "refuses-first": (handle, honest) => (ioctl, argument) =>
    ioctl.name.startsWith("KVM_SET_CPUID")
      ? refuse(ioctl, handle.label, 22)
      : honest(ioctl, argument),
  // Lets the special registers be set once and never again.
  "refuses-sregs": (handle, honest) => (ioctl, argument) =>
    ioctl.name === "KVM_SET_SREGS" && timesAsked(handle, ioctl.name) > 0
      ? refuse(ioctl, handle.label, 22)
      : honest(ioctl, argument),
  // Answers with the table of another vCPU: one bit off, and E2BIG where there is none.
  forgets: (handle, honest) => (ioctl, argument) => {
    const result = honest(ioctl, argument);
    if (ioctl.name !== "KVM_GET_CPUID2" || !(argument instanceof Uint8Array)) return result;
    const [first] = entriesOf(argument);
    if (first === undefined) return refuse(ioctl, handle.label, 7);
    flip(first, EAX, 1 << timesAsked(handle, "forgets"));
    return result;
  },
  // Never updates the bits that KVM owns.
  "goes-stale": (_handle, honest) => (ioctl, argument) => {
    const result = honest(ioctl, argument);
    if (ioctl.name === "KVM_GET_CPUID2" && argument instanceof Uint8Array) {
      for (const entry of entriesOf(argument)) makeStale(entry);
    }
    return result;
  },
  // Refuses for another reason than it says.
  "names-wrong-errno": (handle, honest) => (ioctl, argument) => {
    try {
      return honest(ioctl, argument);
    } catch (error) {
      if (error instanceof KvmError) return refuse(ioctl, handle.label, 5);
      throw error;
    }
  },
  // Shows the guest other values than it has stored (see below).
  "misleads-guests": (_handle, honest) => honest,
};

/** The names of the lies. */
export const LIES: readonly string[] = Object.keys(LIARS);

/** Where a process keeps that it lies: files that share a process must not lie twice. */
const TOLD: unique symbol = Symbol.for("node-kvm.lie");

/** Makes every handle of this process lie. */
export function tellLie(name: string): void {
  const liar = LIARS[name];
  if (liar === undefined) {
    throw new Error(`NODE_KVM_LIE: no lie ${name}; there are ${LIES.join(", ")}`);
  }
  if (TOLD in globalThis) return;
  Object.defineProperty(globalThis, TOLD, { value: name });
  const honest = Handle.prototype.ioctl;
  Handle.prototype.ioctl = function lie(this: Handle, ioctl, argument, context) {
    const sent = argument instanceof Uint8Array ? new Uint8Array(argument) : argument;
    const from = stepCount();
    try {
      const result = liar(this, (i, a) => honest.call(this, i, a, context))(ioctl, argument);
      retell(from, this, ioctl, sent, result, argument);
      return result;
    } catch (error) {
      if (error instanceof KvmError) retell(from, this, ioctl, sent, -error.errno, argument);
      throw error;
    }
  };
  if (name === "misleads-guests") misleadGuests();
  if (name === "accepts-all") permitAll();
}

function permitAll(): void {
  const honest = Kvm.reqXcompGuestPerm;
  Kvm.reqXcompGuestPerm = function lie(component: number): void {
    try {
      honest(component);
    } catch (error) {
      if (!(error instanceof KvmError)) throw error;
      retellPermission();
    }
  };
}

function misleadGuests(): void {
  const honest = Sandbox.prototype.next;
  Sandbox.prototype.next = function lie(this: Sandbox) {
    const ucall = honest.call(this);
    if (ucall.kind === "sync") retellGuest();
    return ucall.kind === "sync"
      ? { ...ucall, values: ucall.values.map((v) => ~v & 0xffff_ffffn) }
      : ucall;
  };
}
