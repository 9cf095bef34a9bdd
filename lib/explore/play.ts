/** Executes a sequence on a subject and on the model, and finds the first answer in which they differ. */
import type { CpuidEntry2 } from "../cpuid/index.ts";
import {
  freshVm,
  type LifecycleAnswer,
  type LifecycleModel,
  type LifecycleOperation,
  type LifecycleVm,
  sameAnswer,
} from "../oracle/index.ts";
import { concrete, type Sequence, VCPUS } from "./operation.ts";
import type { Subject } from "./subject.ts";

/** An answer that the model did not predict. */
export interface Disagreement {
  /** The position of the operation in the sequence. */
  readonly position: number;
  readonly operation: LifecycleOperation;
  readonly predicted: LifecycleAnswer;
  readonly observed: LifecycleAnswer;
  /** Whether the model's vCPU had run before the operation. */
  readonly wasFrozen: boolean;
}

/** The state of the vCPU before an operation, and the answer; the explorer counts them. */
export interface PlayedStep {
  readonly call: LifecycleOperation["call"];
  readonly state: "vm" | "empty" | "configured" | "frozen";
  /** Whether an update of KVM's own bits was pending. */
  readonly isPending: boolean;
  readonly answer: LifecycleAnswer;
}

/** The model and the subject, and the functions that are called for each operation. */
export interface PlayOptions {
  readonly model: LifecycleModel;
  readonly subject: Subject;
  readonly supported: readonly CpuidEntry2[];
  /** A function that is called before each operation. */
  readonly before?: (position: number) => void;
  /** A function that is called after each operation. */
  readonly after?: (step: PlayedStep) => void;
}

function stateOf(
  vm: LifecycleVm,
  operation: LifecycleOperation,
): Pick<PlayedStep, "state" | "isPending"> {
  const vcpu = "vcpu" in operation ? vm.vcpus[operation.vcpu] : undefined;
  if (vcpu === undefined) return { state: "vm", isPending: false };
  const free = vcpu.wasSet ? "configured" : "empty";
  return { state: vcpu.hasEntered ? "frozen" : free, isPending: vcpu.isDirty };
}

/** Executes a sequence until its end, or until the first disagreement, which it returns. */
export function play(sequence: Sequence, options: PlayOptions): Disagreement | undefined {
  const { model, subject, supported } = options;
  const asked = subject.begin(sequence.vm);
  try {
    let vm = freshVm(sequence.vm, VCPUS);
    for (const [position, planned] of sequence.operations.entries()) {
      options.before?.(position);
      const operation = concrete(planned, vm, supported);
      const state = stateOf(vm, operation);
      const { vm: next, answer: predicted } = model.step(vm, operation);
      vm = next;
      const observed = asked.ask(operation);
      options.after?.({ call: operation.call, ...state, answer: observed });
      if (!sameAnswer(predicted, observed)) {
        return { position, operation, predicted, observed, wasFrozen: state.state === "frozen" };
      }
    }
    return undefined;
  } finally {
    asked.close();
  }
}

/** Whether two disagreements are the same fault: the same call in the same state of the vCPU. */
export function isSameFault(a: Disagreement, b: Disagreement): boolean {
  const callOf = ({ operation: { call } }: Disagreement): string =>
    call === "setCpuid" ? "setCpuid2" : call;
  return callOf(a) === callOf(b) && a.wasFrozen === b.wasFrozen;
}
