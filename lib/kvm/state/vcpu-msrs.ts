/**
 * Reads all readable MSRs of a vCPU for a saved state, and writes saved MSRs, with a special case for the TSC.
 * state/msrs.ts has the order of the MSRs; calls/msrs.ts splits them into batches.
 */
import { KVM_GET_MSRS, KVM_SET_MSRS } from "../../abi/generated/ioctls.ts";
import type { CpuidEntry2, MsrEntry } from "../../abi/generated/structs.ts";
import { MSRS } from "../../abi/msrs.ts";
import type { StateDifference } from "../../state/error.ts";
import { unlistedMsrs } from "../../state/msrs.ts";
import { partNamed } from "../../state/parts.ts";
import { differences } from "../../state/read-back.ts";
import { getMsrs, setMsrs } from "../calls/msrs.ts";
import type { Handle } from "../handle.ts";
import type { Origin } from "../origin.ts";

const PART = partNamed("msrs");

/** Lists the MSRs to save: KVM's list, and additional MSRs that this list does not contain. */
export function msrsToSave(
  vcpu: Handle,
  origin: Origin,
  cpuid: readonly CpuidEntry2[],
): readonly number[] {
  const mcgCap = readable(vcpu, [MSRS.MSR_IA32_MCG_CAP])[0]?.data ?? 0n;
  return Array.from(new Set([...origin.msrIndexList(), ...unlistedMsrs(mcgCap, cpuid)]));
}

/** Reads MSRs in order, and omits MSRs that KVM cannot read. */
export function readable(vcpu: Handle, indices: Iterable<number>): readonly MsrEntry[] {
  const got: MsrEntry[] = [];
  for (let rest = Array.from(indices); rest.length > 0; ) {
    const some = getMsrs(vcpu, KVM_GET_MSRS, rest);
    got.push(...some);
    // KVM stops at the first MSR that it rejects.
    rest = rest.slice(some.length + 1);
  }
  return got;
}

/** Writes MSRs in the order of the list, and returns the indices of the MSRs that KVM rejects. */
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

/** Reads MSRs that were written, and returns the MSRs whose value differs, except counters. */
export function msrDifferences(
  vcpu: Handle,
  entries: readonly MsrEntry[],
  refused: ReadonlySet<number> = new Set(),
): readonly StateDifference[] {
  const reads = readable(vcpu, new Set(entries.map(({ index }) => index)));
  return differences({ object: vcpu.label, part: PART, wrote: entries, reads, refused });
}

/** Reads the TSC. */
export function readTsc(vcpu: Handle): MsrEntry | undefined {
  return readable(vcpu, [MSRS.MSR_IA32_TSC])[0];
}

/** A bit that makes a TSC value far greater than the value of every real TSC. */
const FAR = 1n << 62n;
const distance = (a: bigint, b: bigint): bigint => (a < b ? b - a : a - b);

/**
 * Writes the TSC; if KVM rejects the value, returns the MSR's index.
 *
 * After an earlier write, KVM expects a certain TSC value. If a new value differs by less than a second, KVM assumes
 * that the program wants to synchronise vCPUs, and ignores the new value (x86.c:kvm_synchronize_tsc). For the vCPUs of
 * one VM, this result is right. Before Linux 6.7, however, the creation of a vCPU also counts as a write, so KVM would
 * ignore the TSC of a guest that has run for less than a second. Since Linux 6.7, a first restore counts as a write, so
 * KVM would ignore the TSC of a second restore. Writing a distant value first prevents both cases.
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
 * Stops the timers behind MSRs that are restored late, so that no old timer fires into the restored local APIC. If KVM
 * rejects an MSR here, KVM also rejects this MSR when it is restored later.
 */
export function disarm(vcpu: Handle, late: readonly MsrEntry[]): void {
  setMsrs(
    vcpu,
    KVM_SET_MSRS,
    late.map((entry) => ({ ...entry, data: 0n })),
  );
}
