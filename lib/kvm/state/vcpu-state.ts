/**
 * Reads the state of vCPUs, and writes it in the order of state/parts.ts. state-part.ts reads and writes a single part,
 * and vcpu-msrs.ts the MSRs.
 */

import { KVM_MP_STATE_SIPI_RECEIVED } from "../../abi/generated/constants.ts";
import { KVM_GET_CPUID2 } from "../../abi/generated/ioctls.ts";
import type { CpuidEntry2, MsrEntry } from "../../abi/generated/structs.ts";
import { KVM_MAX_CPUID_ENTRIES } from "../../abi/limits.ts";
import { refuseNonBooleans, refuseUnknown, toList } from "../../options.ts";
import { refuseDifferences, refuseMisfits, type StateDifference } from "../../state/error.ts";
import { inOrder } from "../../state/msrs.ts";
import { type Part, VCPU_PARTS, VCPU_PARTS_TO_READ } from "../../state/parts.ts";
import { differences } from "../../state/read-back.ts";
import type { VcpuState } from "../../state/state.ts";
import { getCpuid2 } from "../calls/cpuid2.ts";
import type { Handle } from "../handle.ts";
import type { Origin } from "../origin.ts";
import { checkVcpus } from "./state-check.ts";
import { readPart, writePart } from "./state-part.ts";
import {
  disarm,
  msrDifferences,
  msrsToSave,
  readable,
  readTsc,
  writeMsrs,
  writeTsc,
} from "./vcpu-msrs.ts";

/** The options for saving a vCPU's state. */
export interface SaveStateOptions {
  /**
   * The MSRs to save, in the order of restoring. The default is KVM_GET_MSR_INDEX_LIST, the MTRRs, the machine-check
   * banks, and Hyper-V's MSRs if the guest has Hyper-V. MSRs that KVM cannot read are skipped.
   */
  readonly msrs?: Iterable<number>;
}

/** The members of a vCPU that this file uses. */
export interface StatefulVcpu extends Handle {
  readonly id: number;
  /** The vCPU's VM. */
  readonly vm: object;
  completeExit(answer?: () => void): void;
  setCpuid2(entries: Iterable<CpuidEntry2>): void;
}

/**
 * Reads the state of vCPUs. Each part is read from all vCPUs before the next part, so that the vCPUs' values of a part
 * are from nearly the same time.
 */
export function saveVcpus(
  vcpus: readonly StatefulVcpu[],
  origin: Origin,
  options: SaveStateOptions,
): readonly VcpuState[] {
  const msrs = options.msrs && toList("saveState(): msrs", options.msrs);
  const all = vcpus.map((vcpu) => ({ vcpu, values: new Map<string, unknown>() }));
  for (const { vcpu } of all) vcpu.completeExit();
  for (const part of VCPU_PARTS_TO_READ) {
    for (const { vcpu, values } of all) {
      const isSaved = part.insteadOf !== undefined && values.get(part.insteadOf) !== undefined;
      if (!isSaved) values.set(part.name, read(vcpu, part, origin, msrs));
    }
  }
  // The TSCs are read in direct succession, because KVM does not synchronise TSCs that are a second apart.
  const tscs = vcpus.map(readTsc);
  return all.map(({ vcpu, values }, i) => {
    const parts = VCPU_PARTS.filter(({ name }) => values.get(name) !== undefined);
    const state = Object.fromEntries(parts.map(({ name }) => [name, values.get(name)]));
    return withTsc({ id: vcpu.id, ...state }, tscs[i]);
  });
}

function read(
  vcpu: StatefulVcpu,
  part: Part,
  origin: Origin,
  msrs: readonly number[] | undefined,
): unknown {
  const cpuid = () => getCpuid2(vcpu, KVM_GET_CPUID2, KVM_MAX_CPUID_ENTRIES);
  if (part.name === "cpuid") return cpuid();
  if (part.name === "msrs") return readable(vcpu, msrs ?? msrsToSave(vcpu, origin, cpuid()));
  return readPart(vcpu, part, origin);
}

function withTsc(state: VcpuState, tsc: MsrEntry | undefined): VcpuState {
  const msrs = state.msrs?.map((entry) => (entry.index === tsc?.index ? tsc : entry));
  return msrs === undefined ? state : { ...state, msrs };
}

/** The options for restoring. */
export interface RestoreStateOptions {
  /**
   * Whether to read and compare every part after all parts were written; the default is true. The comparison costs
   * about as much as saving the same parts.
   */
  readonly readBack?: boolean;
}

/** A vCPU, and the state to write into it. */
export type VcpuPair = readonly [vcpu: StatefulVcpu, state: VcpuState];

/** The MSRs that KVM rejected for each vCPU. */
type Refused = ReadonlyMap<StatefulVcpu, ReadonlySet<number>>;

/** Writes the state of vCPUs. Each part is written into all vCPUs before the next part. */
export function writeVcpus(pairs: readonly VcpuPair[], origin: Origin): Refused {
  const refused = new Map(pairs.map(([vcpu]) => [vcpu, new Set<number>()]));
  const addRefused = (vcpu: StatefulVcpu, indices: readonly number[]): void => {
    for (const index of indices) refused.get(vcpu)?.add(index);
  };
  // A pending exit is completed first, because its completion would otherwise change the restored registers.
  for (const [vcpu] of pairs) vcpu.completeExit(() => {});
  for (const part of VCPU_PARTS) {
    for (const [vcpu, state] of pairs) addRefused(vcpu, write(vcpu, part, state, origin));
    if (part.name !== "msrs") continue;
    for (const [vcpu, { msrs = [] }] of pairs) addRefused(vcpu, writeTsc(vcpu, inOrder(msrs).tsc));
  }
  for (const [vcpu, { msrs = [] }] of pairs) addRefused(vcpu, writeMsrs(vcpu, inOrder(msrs).late));
  return refused;
}

/** Writes one part, and returns the MSRs that KVM rejected if the part contains MSRs. */
function write(
  vcpu: StatefulVcpu,
  part: Part,
  state: VcpuState,
  origin: Origin,
): readonly number[] {
  const value: unknown = Reflect.get(state, part.name);
  if (value === undefined) return [];
  if (part.name === "cpuid") {
    vcpu.setCpuid2(value as readonly CpuidEntry2[]);
  } else if (part.name === "msrs") {
    const { early, late } = inOrder(value as readonly MsrEntry[]);
    disarm(vcpu, late);
    return writeMsrs(vcpu, early);
  } else if (part.set.kind !== "value" || readPart(vcpu, part, origin) !== value) {
    // A setting that already has the saved value is not written, because the write could require a capability.
    writePart(vcpu, part, value, origin);
  }
  return [];
}

/**
 * Reads every written part in the order of saving, and returns each value that differs. The reads have the same side
 * effects as a save. A part is omitted if reading it would change the vCPU.
 */
export function vcpuDifferences(
  pairs: readonly VcpuPair[],
  origin: Origin,
  refused: Refused,
): readonly StateDifference[] {
  return VCPU_PARTS_TO_READ.flatMap((part) =>
    pairs.flatMap(([vcpu, state]) => {
      const wrote: unknown = Reflect.get(state, part.name);
      if (wrote === undefined || isChangedByReading(part, wrote)) return [];
      if (part.name === "msrs") {
        return msrDifferences(vcpu, wrote as readonly MsrEntry[], refused.get(vcpu));
      }
      const reads =
        part.name === "cpuid"
          ? getCpuid2(vcpu, KVM_GET_CPUID2, KVM_MAX_CPUID_ENTRIES)
          : readPart(vcpu, part, origin);
      return differences({ object: vcpu.label, part, wrote, reads, state });
    }),
  );
}

/**
 * KVM_GET_MP_STATE consumes a pending SIPI (x86.c:kvm_arch_vcpu_ioctl_get_mpstate), which the guest must still receive.
 */
const isChangedByReading = (part: Part, wrote: unknown): boolean =>
  part.name === "mpState" && wrote === KVM_MP_STATE_SIPI_RECEIVED;

/** Restores vCPUs: checks the saved states, writes them, and reads the vCPUs' states back. */
export function restoreVcpus(
  pairs: readonly VcpuPair[],
  origin: Origin,
  options: RestoreStateOptions = {},
): void {
  refuseUnknown("vcpu.restoreState()", options, RESTORE_OPTIONS);
  refuseNonBooleans("vcpu.restoreState()", options, RESTORE_OPTIONS);
  refuseMisfits(checkVcpus(pairs, origin));
  const refused = writeVcpus(pairs, origin);
  if (options.readBack ?? true) refuseDifferences(vcpuDifferences(pairs, origin, refused));
}

/** The names of {@link SaveStateOptions}. */
export const SAVE_OPTIONS: readonly string[] = ["msrs"];

/** The names of {@link RestoreStateOptions}. */
export const RESTORE_OPTIONS: readonly string[] = ["readBack"];
