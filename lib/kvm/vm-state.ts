/**
 * A VM's state as a value: its vCPUs, its interrupt controllers, its timer, its clock. A single part is
 * state-part.ts, vCPUs are vcpu-state.ts; guest memory is the caller's.
 */
import { RestoreError } from "../state/error.ts";
import { VM_PARTS, VM_PARTS_TO_READ } from "../state/parts.ts";
import { STATE_FORMAT, STATE_VERSION, type VcpuState, type VmState } from "../state/state.ts";
import type { Handle } from "./handle.ts";
import { kernelRelease, vendorModule } from "./host.ts";
import type { Origin } from "./origin.ts";
import { readPart, writePart } from "./state-part.ts";
import { restoreVcpus, type SaveStateOptions, type StatefulVcpu, saveVcpus } from "./vcpu-state.ts";

/** Reads the state of a VM and of its vCPUs, none of which runs. */
export function saveVm(
  vm: Handle,
  vcpus: Iterable<StatefulVcpu>,
  origin: Origin,
  options: SaveStateOptions,
): VmState {
  const all = Array.from(vcpus);
  for (const vcpu of all) vcpu.completeExit();
  const values = new Map(VM_PARTS_TO_READ.map((part) => [part.name, readPart(vm, part, origin)]));
  const parts = VM_PARTS.filter(({ name }) => values.get(name) !== undefined);
  const vendor = vendorModule();
  return {
    format: STATE_FORMAT,
    version: STATE_VERSION,
    source: { kernel: kernelRelease(), ...(vendor === undefined ? {} : { vendor }) },
    ...Object.fromEntries(parts.map(({ name }) => [name, values.get(name)])),
    vcpus: saveVcpus(all, origin, options),
  };
}

/** Writes the state of a VM and of its vCPUs, none of which runs. */
export function restoreVm(
  vm: Handle,
  state: VmState,
  vcpus: Iterable<StatefulVcpu>,
  origin: Origin,
): void {
  restoreVcpus(paired(vm, Array.from(vcpus), state.vcpus), origin);
  for (const part of VM_PARTS) {
    const value: unknown = Reflect.get(state, part.name);
    if (value !== undefined) writePart(vm, part, value, origin);
  }
}

/** Each vCPU with the state of its id; the order of either does not matter. */
function paired(
  vm: Handle,
  vcpus: readonly StatefulVcpu[],
  states: readonly VcpuState[],
): readonly (readonly [StatefulVcpu, VcpuState])[] {
  const pairs = states.flatMap((state) => {
    const vcpu = vcpus.find(({ id }) => id === state.id);
    return vcpu === undefined ? [] : [[vcpu, state] as const];
  });
  if (pairs.length === states.length && pairs.length === vcpus.length) return pairs;
  const list = (all: readonly { id: number }[]) => all.map(({ id }) => id).join(", ") || "none";
  const reason = `the state has vCPUs ${list(states)}; given were ${list(vcpus)}`;
  throw new RestoreError(vm.label, "vcpus", reason);
}
