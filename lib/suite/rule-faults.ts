/**
 * Injected faults that each break one rule of the life cycle of a vCPU's CPUID table. test/lifecycle/red.test.ts checks
 * that the claims about the rule fail. faults.ts injects a fault.
 */
import { constants } from "node:os";
import { types } from "node:util";
import { type Exit, type Handle, type IoctlArgument, KvmError, Vcpu } from "../index.ts";
import { EAX, EBX, ECX, entriesOf, FLAGS, FUNCTION, INDEX, PADDING } from "./cpuid-bytes.ts";
import type { InjectedFault, IoctlCall } from "./faults.ts";

const { EINVAL } = constants.errno;

/** The bit OSXSAVE of leaf 1 in ECX, and the bit PV_UNHALT of KVM's features in EAX. */
const OSXSAVE = 1 << 27;
const PV_UNHALT = 1 << 7;

/** The facts about a vCPU that the faults need. */
interface Known {
  /** Whether runSync() or run() has entered the guest. */
  hasRun: boolean;
  /** Whether runSync() or run() was called. */
  wasCalled: boolean;
  /** The bytes of the table that KVM_SET_CPUID2 accepted last. */
  sent?: Uint8Array;
  /** The bytes of the table that KVM_GET_CPUID2 returned last. */
  stored?: Uint8Array;
  /** The bytes of the table that KVM_SET_CPUID2 refused last, if it accepted no table since. */
  refused?: Uint8Array;
}

const known = new WeakMap<Handle, Known>();

function knownOf(handle: Handle): Known {
  const found = known.get(handle) ?? { hasRun: false, wasCalled: false };
  known.set(handle, found);
  return found;
}

/**
 * Records from now on whether each vCPU has run; the faults of {@link RULE_FAULTS} need this. Runs of `lowLevel()` and of
 * workers are not recorded.
 */
export function watchRuns(): void {
  const { runSync, run } = Vcpu.prototype;
  const ended = (vcpu: Known, exit: Exit): Exit => {
    if (exit.kind !== "intr") vcpu.hasRun = true;
    return exit;
  };
  Vcpu.prototype.runSync = function watchedRunSync(this: Vcpu, options) {
    const vcpu = knownOf(this);
    vcpu.wasCalled = true;
    return ended(vcpu, runSync.call(this, options));
  };
  Vcpu.prototype.run = async function watchedRun(this: Vcpu, options) {
    const vcpu = knownOf(this);
    vcpu.wasCalled = true;
    return ended(vcpu, await run.call(this, options));
  };
}

/** Returns the bits of a register in an entry that contains them; `undefined` if the table has no such entry. */
function bitsOf(bytes: Uint8Array, where: BitsPlace): number | undefined {
  const entry = Array.from(entriesOf(bytes)).find((each) => where.isEntry(each));
  return entry === undefined ? undefined : entry.getUint32(where.register, true) & where.mask;
}

/** The place of bits that KVM writes itself. */
interface BitsPlace {
  readonly isEntry: (entry: DataView) => boolean;
  readonly register: number;
  readonly mask: number;
}

const isLeaf = (entry: DataView, leaf: number): boolean => entry.getUint32(FUNCTION, true) === leaf;

const OSXSAVE_BIT: BitsPlace = {
  isEntry: (entry) => isLeaf(entry, 1),
  register: ECX,
  mask: OSXSAVE,
};
const XSAVE_SIZE: BitsPlace = {
  isEntry: (entry) => isLeaf(entry, 0xd) && entry.getUint32(INDEX, true) === 0,
  register: EBX,
  mask: -1,
};
const UNHALT_BIT: BitsPlace = {
  isEntry: (entry) => isLeaf(entry, 0x4000_0001),
  register: EAX,
  mask: PV_UNHALT,
};

/** Copies the bits of one table into another. */
function copyBits(from: Uint8Array, to: Uint8Array, where: BitsPlace): void {
  const bits = bitsOf(from, where);
  for (const entry of entriesOf(to)) {
    if (bits === undefined || !where.isEntry(entry)) continue;
    const value = entry.getUint32(where.register, true);
    entry.setUint32(where.register, (value & ~where.mask) | bits, true);
  }
}

/** Throws the error of an ioctl that a fault refuses. */
export function refuse(call: string, object: string, errno: number): never {
  throw new KvmError({ call, object, errno, reason: "(an injected fault)" });
}

const refuseTable = (handle: Handle): never => refuse("KVM_SET_CPUID2", handle.label, EINVAL);

/** Returns an entry as text, for comparisons. */
const textOf = (entry: DataView, from: number = 0): string =>
  Buffer.from(entry.buffer, entry.byteOffset + from, PADDING - from).toString("hex");

const hasSameEntries = (a: Uint8Array, b: Uint8Array): boolean => {
  const sorted = (bytes: Uint8Array): string => {
    const texts = Array.from(entriesOf(bytes), (entry) => textOf(entry));
    return texts.toSorted((one, other) => (one < other ? -1 : 1)).join();
  };
  return sorted(a) === sorted(b);
};

const hasSameExceptFlags = (a: Uint8Array, b: Uint8Array): boolean => {
  const all = (bytes: Uint8Array): string =>
    Array.from(entriesOf(bytes), (e) => textOf(e).slice(0, 2 * FLAGS) + textOf(e, EAX)).join();
  return all(a) === all(b);
};

/** Replaces KVM_SET_CPUID2; the parameter `call` issues the real call. */
type SetTable = (vcpu: Known, table: Uint8Array, call: () => number, handle: Handle) => number;

/** The change of the table that KVM_GET_CPUID2 has returned. */
type GetTable = (vcpu: Known, table: Uint8Array) => void;

/** Creates a fault from a change of KVM_SET_CPUID2 and a change of the result of KVM_GET_CPUID2. */
function fault(set: SetTable | undefined, get?: GetTable): InjectedFault {
  return (handle: Handle, call: IoctlCall) => (ioctl, argument?: IoctlArgument) => {
    if (!types.isUint8Array(argument)) return call(ioctl, argument);
    const vcpu = knownOf(handle);
    if (ioctl.name === "KVM_SET_CPUID2") {
      const table = new Uint8Array(argument);
      try {
        const real = (): number => call(ioctl, argument);
        const result = set === undefined ? real() : set(vcpu, table, real, handle);
        vcpu.sent = table;
        delete vcpu.refused;
        return result;
      } catch (error) {
        vcpu.refused = table;
        throw error;
      }
    }
    const result = call(ioctl, argument);
    if (ioctl.name !== "KVM_GET_CPUID2") return result;
    get?.(vcpu, argument);
    vcpu.stored = new Uint8Array(argument);
    return result;
  };
}

/** Returns success for a table that KVM refused with EINVAL after a run, if `isAccepted` returns true. */
const acceptIf =
  (isAccepted: (before: Uint8Array, table: Uint8Array) => boolean): SetTable =>
  ({ hasRun, sent, stored }, table, call) => {
    try {
      return call();
    } catch (error) {
      const isComparison = hasRun && error instanceof KvmError && error.errno === EINVAL;
      const tables = [sent, stored].filter((each) => each !== undefined);
      if (isComparison && tables.some((before) => isAccepted(before, table))) return 0;
      throw error;
    }
  };

/** Refuses a table after a run if `isRefused` returns true; otherwise issues the real call. */
const refuseIf =
  (isRefused: (sent: Uint8Array, table: Uint8Array) => boolean): SetTable =>
  ({ hasRun, sent }, table, call, handle) =>
    hasRun && sent !== undefined && isRefused(sent, table) ? refuseTable(handle) : call();

const hasPadding = (table: Uint8Array): boolean =>
  Array.from(entriesOf(table)).some((entry) =>
    [0, 4, 8].some((at) => entry.getUint32(PADDING + at, true) !== 0),
  );

/** The faults by name. A name completes the sentence "a kernel that ...". */
export const RULE_FAULTS: Readonly<Record<string, InjectedFault>> = {
  // The fault accepts each table of a vCPU that has run, as Linux before 5.16 does.
  "accepts-changes": fault(acceptIf(() => true)),
  // The fault refuses each table of a vCPU that has run, also the same table.
  "refuses-the-same": fault(refuseIf(() => true)),
  // The fault compares the bit OSXSAVE, which KVM writes itself.
  "compares-osxsave": fault(
    refuseIf((sent, table) => bitsOf(sent, OSXSAVE_BIT) !== bitsOf(table, OSXSAVE_BIT)),
  ),
  // The fault refuses each table with padding that is not 0.
  "compares-padding": fault(refuseIf((_, table) => hasPadding(table))),
  // The fault accepts the entries of the table in another order.
  "ignores-order": fault(acceptIf(hasSameEntries)),
  // The fault accepts other flags of the entries.
  "ignores-flags": fault(acceptIf(hasSameExceptFlags)),
  // The fault returns the bit OSXSAVE as it was sent.
  "keeps-osxsave": fault(undefined, ({ sent }, table) => {
    if (sent !== undefined) copyBits(sent, table, OSXSAVE_BIT);
  }),
  // The fault returns the size of the XSAVE area as it was sent.
  "keeps-xsave-size": fault(undefined, ({ sent }, table) => {
    if (sent !== undefined) copyBits(sent, table, XSAVE_SIZE);
  }),
  // The fault returns the bit PV_UNHALT as it was sent.
  "keeps-pv-unhalt": fault(undefined, ({ sent }, table) => {
    if (sent !== undefined) copyBits(sent, table, UNHALT_BIT);
  }),
  // The fault returns a table that KVM_SET_CPUID2 refused.
  "keeps-refused-tables": fault(undefined, ({ refused }, table) => {
    if (refused !== undefined) table.set(refused.subarray(0, table.length));
  }),
  // The fault keeps the first table of a vCPU that has not run, and returns success.
  "ignores-replacements": fault(({ hasRun, sent }, _, call) =>
    hasRun || sent === undefined ? call() : 0,
  ),
  // The fault refuses each table after a call of KVM_RUN that did not enter the guest.
  "counts-each-run": fault(({ hasRun, wasCalled }, _, call, handle) =>
    wasCalled && !hasRun ? refuseTable(handle) : call(),
  ),
};
