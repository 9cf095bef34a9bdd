/**
 * The MSRs of a saved vCPU: reading all that can be read, writing them back, and the TSC. In which order
 * they go is state/msrs.ts; batches are msrs.ts.
 */
import { KVM_GET_MSRS, KVM_SET_MSRS } from "../abi/generated/ioctls.ts";
import type { CpuidEntry2, MsrEntry } from "../abi/generated/structs.ts";
import type { StateDifference } from "../state/error.ts";
import { IA32_MCG_CAP, IA32_TSC, unlistedMsrs } from "../state/msrs.ts";
import { partNamed } from "../state/parts.ts";
import { differences } from "../state/read-back.ts";
import type { Handle } from "./handle.ts";
import { getMsrs, setMsrs } from "./msrs.ts";
import type { Origin } from "./origin.ts";

const MSRS = partNamed("msrs");

/** Lists the MSRs that a vCPU is saved with: KVM's list, and what KVM leaves out of it. */
export function msrsToSave(
  vcpu: Handle,
  origin: Origin,
  cpuid: readonly CpuidEntry2[],
): readonly number[] {
  const mcgCap = readable(vcpu, [IA32_MCG_CAP])[0]?.data ?? 0n;
  return Array.from(new Set([...origin.msrIndexList(), ...unlistedMsrs(mcgCap, cpuid)]));
}

/** Reads those of the MSRs that KVM lets be read, in their order. */
export function readable(vcpu: Handle, indices: Iterable<number>): readonly MsrEntry[] {
  const got: MsrEntry[] = [];
  for (let rest = Array.from(indices); rest.length > 0; ) {
    const some = getMsrs(vcpu, KVM_GET_MSRS, rest);
    got.push(...some);
    // KVM stops before the first that it refuses.
    rest = rest.slice(some.length + 1);
  }
  return got;
}

/** Writes MSRs in their order, and returns the indices of those that KVM refuses. */
export function writeMsrs(vcpu: Handle, entries: readonly MsrEntry[]): readonly number[] {
  const refused: number[] = [];
  for (let rest = entries; rest.length > 0; ) {
    const taken = setMsrs(vcpu, KVM_SET_MSRS, rest);
    const entry = rest[taken];
    if (entry === undefined) break;
    refused.push(entry.index);
    rest = rest.slice(taken + 1);
  }
  return refused;
}

/** Reads MSRs that were written, and names those that have another value; what counts is left out. */
export function msrDifferences(
  vcpu: Handle,
  entries: readonly MsrEntry[],
  refused: ReadonlySet<number> = new Set(),
): readonly StateDifference[] {
  const reads = readable(vcpu, new Set(entries.map(({ index }) => index)));
  return differences({ fd: vcpu.label, part: MSRS, wrote: entries, reads, refused });
}

/** Reads the TSC. */
export function readTsc(vcpu: Handle): MsrEntry | undefined {
  return readable(vcpu, [IA32_TSC])[0];
}

/** Bit 62: as far from any TSC as can be. */
const FAR = 1n << 62n;
const distance = (a: bigint, b: bigint): bigint => (a < b ? b - a : a - b);

/**
 * Writes the TSC, and returns its index if KVM refuses it.
 *
 * KVM takes a value within a second of what another write led it to expect for an attempt to synchronise
 * vCPUs, and ignores it (x86.c:kvm_synchronize_tsc). That is right between the vCPUs of one VM. But before
 * Linux 6.7 the making of a vCPU counts as such a write, and later a first restoring does: then the TSC of
 * a young guest, or a second restoring, would change nothing. A value far away breaks the tie.
 */
export function writeTsc(vcpu: Handle, entry: MsrEntry | undefined): readonly number[] {
  if (entry === undefined) return [];
  const before = readTsc(vcpu)?.data ?? entry.data;
  const refused = writeMsrs(vcpu, [entry]);
  const after = readTsc(vcpu)?.data ?? entry.data;
  const isIgnored = distance(after, before) * 2n < distance(entry.data, before);
  if (isIgnored) writeMsrs(vcpu, [{ ...entry, data: entry.data ^ FAR }, entry]);
  return refused;
}

/**
 * Stops the timers behind MSRs that are restored late, so that none of the state before fires into the
 * restored local APIC. What KVM does not take here, it will refuse again later.
 */
export function disarm(vcpu: Handle, late: readonly MsrEntry[]): void {
  setMsrs(
    vcpu,
    KVM_SET_MSRS,
    late.map((entry) => ({ ...entry, data: 0n })),
  );
}
