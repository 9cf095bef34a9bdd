/** A vCPU without KVM: each KVM_RUN executes one entry of a script, which fills kvm_run. */
import { Run } from "../../../lib/abi/generated/structs.ts";
import { type StructInput, write } from "../../../lib/abi/struct.ts";
import { RunGate } from "../../../lib/kvm/run/run-gate.ts";
import { Vcpu } from "../../../lib/kvm/vcpu.ts";
import type { Vm } from "../../../lib/kvm/vm.ts";
import type { NativeFd, NativeRun } from "../../../lib/native.ts";
import { MAPPED } from "./kvm-run.ts";

/** One KVM_RUN: it writes these fields, or returns `-errno`; `stray` stands for a signal that is not a kick. */
export type ScriptedRun = StructInput<Run> | number | "stray";

const EINTR = 4;
const STRAY = 4;

/** Creates a vCPU with these runs; every later run returns `-EINTR`. */
export function scriptedVcpu(script: readonly ScriptedRun[]): Vcpu {
  const runs = [...script];
  const bytes = new ArrayBuffer(MAPPED);
  let done: (result: number) => void = () => undefined;
  let history = 0;
  const run = (): number => {
    const next = runs.shift() ?? -EINTR;
    history = next === "stray" ? STRAY : 0;
    if (next === "stray") return -EINTR;
    if (typeof next === "number") return next;
    write(Run, next, new Uint8Array(bytes));
    return 0;
  };
  const native: NativeRun = {
    bytes,
    token: 1n,
    run,
    start: () => {
      setImmediate(() => done(run()));
      return 0;
    },
    kick: () => 0,
    history: () => history,
    setFilter: () => 0,
  };
  const fd: Pick<NativeFd, "mapRun" | "close" | "ioctl"> = {
    mapRun: (ended) => {
      done = ended;
      return native;
    },
    ioctl: () => 0,
    // As in the addon, the views of a closed vCPU are empty.
    close: () => void structuredClone(bytes, { transfer: [bytes] }),
  };
  const vm = { gate: new RunGate(), evidence: () => ({}) };
  return new Vcpu(fd as NativeFd, 0, vm as unknown as Vm);
}
