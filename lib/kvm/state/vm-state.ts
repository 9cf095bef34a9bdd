/**
 * Reads and writes the state of a VM: its vCPUs, interrupt controllers, timer and clock. state-part.ts reads and writes
 * a single part, and vcpu-state.ts the vCPUs. The caller must save guest memory itself.
 */
import { refuseNonBooleans, refuseUnknown } from "../../options.ts";
import { refuseDifferences, refuseMisfits, type StateFinding } from "../../state/error.ts";
import { VM_PARTS, VM_PARTS_TO_READ } from "../../state/parts.ts";
import { differences } from "../../state/read-back.ts";
import { refuseNoState } from "../../state/shapeless.ts";
import { STATE_FORMAT, STATE_VERSION, type VmState } from "../../state/state.ts";
import type { Handle } from "../handle.ts";
import { kernelRelease, vendorModule } from "../host.ts";
import type { Origin } from "../origin.ts";
import { checkVm, vcpusOf } from "./state-check.ts";
import { readPart, writePart } from "./state-part.ts";
import {
  RESTORE_OPTIONS,
  type RestoreStateOptions,
  SAVE_OPTIONS,
  type SaveStateOptions,
  type StatefulVcpu,
  saveVcpus,
  type VcpuPair,
  vcpuDifferences,
  writeVcpus,
} from "./vcpu-state.ts";

/** Reads the state of a VM and of its vCPUs, none of which may run. */
export function saveVm(
  vm: Handle,
  vcpus: Iterable<StatefulVcpu>,
  origin: Origin,
  options: SaveStateOptions,
): VmState {
  refuseUnknown("vm.saveState()", options, SAVE_OPTIONS);
  const all = vcpusOf("vm.saveState()", vm, vcpus);
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

/** Finds incompatibilities between a state and a VM with its vCPUs, without writing anything. */
export function checkVmState(
  vm: Handle,
  state: VmState,
  vcpus: Iterable<StatefulVcpu>,
  origin: Origin,
): readonly StateFinding[] {
  const all = vcpusOf("vm.checkState()", vm, vcpus);
  refuseNoState("vm.checkState()", state);
  return checkVm(vm, state, all, origin);
}

/** Restores a VM and its vCPUs, none of which may run: checks the state, writes it, and reads it back. */
export function restoreVm(
  vm: Handle,
  state: VmState,
  vcpus: Iterable<StatefulVcpu>,
  origin: Origin,
  options: RestoreStateOptions = {},
): void {
  refuseUnknown("vm.restoreState()", options, RESTORE_OPTIONS);
  refuseNonBooleans("vm.restoreState()", options, RESTORE_OPTIONS);
  const all = vcpusOf("vm.restoreState()", vm, vcpus);
  refuseNoState("vm.restoreState()", state);
  refuseMisfits(checkVm(vm, state, all, origin));
  const byId = new Map(all.map((vcpu) => [vcpu.id, vcpu]));
  const pairs = state.vcpus.flatMap((one): readonly VcpuPair[] => {
    const vcpu = byId.get(one.id);
    return vcpu === undefined ? [] : [[vcpu, one]];
  });
  const refused = writeVcpus(pairs, origin);
  const written = VM_PARTS.filter(({ name }) => Reflect.get(state, name) !== undefined);
  for (const part of written) writePart(vm, part, Reflect.get(state, part.name), origin);
  if (!(options.readBack ?? true)) return;
  const back = VM_PARTS_TO_READ.filter((part) => written.includes(part)).flatMap((part) =>
    differences({
      object: vm.label,
      part,
      wrote: Reflect.get(state, part.name),
      reads: readPart(vm, part, origin),
    }),
  );
  refuseDifferences([...vcpuDifferences(pairs, origin, refused), ...back]);
}
