/** The interface to the KVM that the explorer compares with the model, and an implementation that is a model itself. */
import type { Capability } from "../index.ts";
import {
  freshVm,
  type LifecycleAnswer,
  type LifecycleModel,
  type LifecycleOperation,
  type LifecycleVmOptions,
} from "../oracle/index.ts";
import { VCPUS } from "./operation.ts";

/** A VM with {@link VCPUS} new vCPUs. */
export interface SubjectVm {
  /** Executes an operation. */
  ask(operation: LifecycleOperation): LifecycleAnswer;
  /** Ends the use of the vCPUs. */
  close(): void;
}

/** A KVM, or a model that stands for it. */
export interface Subject {
  /** Returns the value of KVM_CHECK_EXTENSION. */
  capability(name: Capability): number;
  /** Makes a VM for one sequence. */
  begin(options: LifecycleVmOptions): SubjectVm;
}

const EVERY_BIT = 0x7fff_ffff;

/** Makes a subject that answers as a model predicts, and has every capability of the model's kernel. */
export function modelSubject(model: LifecycleModel): Subject {
  return {
    capability: (name) =>
      name === "KVM_CAP_XSAVE2" && !model.rules.hasDynamicComponents ? 0 : EVERY_BIT,
    begin: (options) => {
      let vm = freshVm(options, VCPUS);
      return {
        ask: (operation) => {
          const step = model.step(vm, operation);
          vm = step.vm;
          return step.answer;
        },
        close: () => undefined,
      };
    },
  };
}
