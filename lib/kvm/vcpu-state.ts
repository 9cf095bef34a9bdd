/**
 * The state of vCPUs as values: gathering it, and putting it back in the order of state/parts.ts. A single
 * part is state-part.ts, MSRs are vcpu-msrs.ts.
 */
import { KVM_GET_CPUID2 } from "../abi/generated/ioctls.ts";
import type { CpuidEntry2, MsrEntry } from "../abi/generated/structs.ts";
import { RestoreError } from "../state/error.ts";
import { inOrder } from "../state/msrs.ts";
import { type Part, VCPU_PARTS, VCPU_PARTS_TO_READ } from "../state/parts.ts";
import type { VcpuState } from "../state/state.ts";
import { getCpuid2, KVM_MAX_CPUID_ENTRIES } from "./cpuid2.ts";
import type { Handle } from "./handle.ts";
import type { Origin } from "./origin.ts";
import { readPart, writePart } from "./state-part.ts";
import { disarm, msrsToSave, readable, readTsc, writeMsrs, writeTsc } from "./vcpu-msrs.ts";

/** What of a vCPU is saved. */
export interface SaveStateOptions {
  /**
   * The MSRs to save, in the order in which they shall be restored. Left out: those of
   * KVM_GET_MSR_INDEX_LIST, the MTRRs, the banks of machine checks, and Hyper-V's where the guest sees
   * Hyper-V. Those that KVM does not let be read are skipped.
   */
  readonly msrs?: Iterable<number>;
}

/** What is asked of a vCPU beyond its ioctls. */
export interface StatefulVcpu extends Handle {
  readonly id: number;
  completeExit(answer?: () => void): void;
  setCpuid2(entries: Iterable<CpuidEntry2>): void;
}

/** Reads the state of vCPUs: part by part, so that the same part of all is of nearly the same time. */
export function saveVcpus(
  vcpus: readonly StatefulVcpu[],
  origin: Origin,
  options: SaveStateOptions,
): readonly VcpuState[] {
  const msrs = options.msrs && Array.from(options.msrs);
  const all = vcpus.map((vcpu) => ({ vcpu, values: new Map<string, unknown>() }));
  for (const { vcpu } of all) vcpu.completeExit();
  for (const part of VCPU_PARTS_TO_READ) {
    for (const { vcpu, values } of all) {
      const isSaved = part.insteadOf !== undefined && values.get(part.insteadOf) !== undefined;
      if (!isSaved) values.set(part.name, read(vcpu, part, origin, msrs));
    }
  }
  // One right after the other: KVM takes TSCs that are a second apart for not synchronised.
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

/** Writes the state of vCPUs, each part into all of them before the next one. */
export function restoreVcpus(
  pairs: readonly (readonly [vcpu: StatefulVcpu, state: VcpuState])[],
  origin: Origin,
): void {
  for (const [vcpu, state] of pairs) {
    if (state.id === vcpu.id) continue;
    throw new RestoreError(vcpu.label, "id", `the state is that of vCPU ${state.id}`);
  }
  // What still follows a pending exit would be done to the restored registers.
  for (const [vcpu] of pairs) vcpu.completeExit(() => {});
  for (const part of VCPU_PARTS) {
    for (const [vcpu, state] of pairs) write(vcpu, part, state, origin);
    if (part.name !== "msrs") continue;
    for (const [vcpu, { msrs = [] }] of pairs) writeTsc(vcpu, inOrder(msrs).tsc);
  }
  for (const [vcpu, { msrs = [] }] of pairs) writeMsrs(vcpu, inOrder(msrs).late);
}

function write(vcpu: StatefulVcpu, part: Part, state: VcpuState, origin: Origin): void {
  const value: unknown = Reflect.get(state, part.name);
  if (value === undefined) return;
  if (part.name === "cpuid") {
    vcpu.setCpuid2(value as readonly CpuidEntry2[]);
  } else if (part.name === "msrs") {
    const { early, late } = inOrder(value as readonly MsrEntry[]);
    disarm(vcpu, late);
    writeMsrs(vcpu, early);
  } else if (part.set.kind !== "value" || readPart(vcpu, part, origin) !== value) {
    // A setting that is right is not asked for: it could need a capability.
    writePart(vcpu, part, value, origin);
  }
}
