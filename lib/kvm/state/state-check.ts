/**
 * Reads the properties of a VM and its vCPUs that the checks of a saved state need, and checks that the vCPUs belong to
 * the VM. state/check.ts has the rules.
 */
import { toList } from "../../options.ts";
import { findMisfits, type Target, type TargetVcpu } from "../../state/check.ts";
import type { StateFinding } from "../../state/error.ts";
import { partNamed, VM_PARTS } from "../../state/parts.ts";
import type { VcpuState, VmState } from "../../state/state.ts";
import type { Handle } from "../handle.ts";
import type { Origin } from "../origin.ts";
import { readPart } from "./state-part.ts";

/** The members of a vCPU that the checks use. */
interface CheckedVcpu extends Handle {
  readonly id: number;
  readonly vm: object;
}

/**
 * Checks vCPUs, and returns them as an array.
 *
 * @param where - the called method, which the error message names.
 * @throws TypeError if a value is not a vCPU, belongs to another VM, or is listed twice.
 */
export function vcpusOf<T extends CheckedVcpu>(
  where: string,
  vm: object,
  vcpus: Iterable<T>,
): readonly T[] {
  const all = toList(where, vcpus);
  const seen = new Set<unknown>();
  for (const [i, vcpu] of all.entries()) {
    const given: unknown = vcpu;
    if (
      typeof given !== "object" ||
      given === null ||
      !(Object.hasOwn(given, "vm") && Object.hasOwn(given, "id"))
    ) {
      throw new TypeError(`${where}: vcpus[${i}] is not a vCPU`);
    }
    if (vcpu.vm !== vm) throw new TypeError(`${where}: ${vcpu.label} is of another VM`);
    if (seen.has(vcpu)) throw new TypeError(`${where}: ${vcpu.label} is listed twice`);
    seen.add(vcpu);
  }
  return all;
}

function targetOf(
  vcpus: readonly CheckedVcpu[],
  origin: Origin,
  hasPart: Target["hasPart"],
): Target {
  const [lapic, tscKhz] = [partNamed("lapic"), partNamed("tscKhz")];
  const toTarget = (vcpu: CheckedVcpu): TargetVcpu => ({
    id: vcpu.id,
    hasLapic: () => readPart(vcpu, lapic, origin) !== undefined,
    tscKhz: () => readPart(vcpu, tscKhz, origin) as number | undefined,
  });
  return {
    checkExtension: (capability) => origin.checkExtension(capability),
    supportedCpuid: () => origin.supportedCpuid(),
    msrIndexList: () => origin.msrIndexList(),
    featureMsrs: () => origin.featureMsrs(),
    hasPart,
    vcpus: vcpus.map(toTarget),
  };
}

/** Finds incompatibilities between saved states of vCPUs and the vCPUs into which they would be restored. */
export function checkVcpus(
  pairs: readonly (readonly [vcpu: CheckedVcpu, state: VcpuState])[],
  origin: Origin,
): readonly StateFinding[] {
  const vcpus = pairs.map(([vcpu]) => vcpu);
  const states = pairs.map(([, state]) => state);
  return findMisfits({ vcpus: states }, targetOf(vcpus, origin, undefined));
}

/** Finds incompatibilities between a saved state and a VM with its vCPUs. */
export function checkVm(
  vm: Handle,
  state: VmState,
  vcpus: readonly CheckedVcpu[],
  origin: Origin,
): readonly StateFinding[] {
  const hasPart = (name: string): boolean =>
    VM_PARTS.some((part) => part.name === name && readPart(vm, part, origin) !== undefined);
  return findMisfits(state, targetOf(vcpus, origin, hasPart));
}
