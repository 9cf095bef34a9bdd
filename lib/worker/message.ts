/**
 * The messages between a vCPU's worker and the owner, which is the thread that has created the worker. vcpu-worker.ts
 * and serve-vcpu.ts send these messages.
 */
import type { MessagePort } from "node:worker_threads";
import { isBytes } from "../abi/bytes.ts";
import { KvmError, STATE_ERRORS, StateError } from "../errors.ts";
import type { Exit } from "../kvm/exits/exit.ts";

/** The worker's `workerData`. */
export interface Start {
  readonly port: MessagePort;
  /** The buffer contains one Int32: the number of the run to interrupt. */
  readonly kicked: SharedArrayBuffer;
  /** The data that the caller passed to `VcpuWorker.start`. */
  readonly data: unknown;
}

/** A method call on an exit, which the owner's thread sends to the worker. */
export interface Answer {
  readonly method: string;
  readonly args: readonly unknown[];
}

/** The message with which the owner requests a run from the worker. */
export interface RunRequest {
  readonly number: number;
  /** The answer to the previous exit. */
  readonly answer: Answer | undefined;
}

/** The messages that the worker sends to the owner. */
export type Report =
  | { readonly kind: "ready"; readonly kickToken: bigint }
  | { readonly kind: "exit"; readonly data: object; readonly methods: readonly string[] }
  | {
      readonly kind: "error";
      readonly error: ErrorData;
      /** Whether the exit rejected the answer; if true, the guest has not run, and the exit can be answered again. */
      readonly isUnanswered?: boolean;
    };

/** An error as data that can be cloned. A cloned error of this package would be a plain Error in the other thread. */
export type ErrorData =
  | { readonly kind: "KvmError"; readonly init: ConstructorParameters<typeof KvmError>[0] }
  | { readonly kind: "StateError"; readonly code: StateError["code"]; readonly detail: string }
  | { readonly kind: "other"; readonly error: unknown };

/** Converts an exit to data that can be cloned: the methods stay in this thread, and the owner calls them by name. */
export function toReport(exit: Exit): Report {
  const entries = Object.entries(exit);
  const isMethod = ([, value]: [string, unknown]): boolean => typeof value === "function";
  const methods = entries.filter(isMethod).map(([name]) => name);
  const data = Object.fromEntries(entries.filter((entry) => !isMethod(entry)));
  return { kind: "exit", data, methods };
}

/** Converts the data of {@link toReport} to an exit whose methods call `answer`. */
export function toExit(
  { data, methods }: Extract<Report, { kind: "exit" }>,
  answer: (answer: Answer) => void,
): Exit {
  const entries = methods.map((method) => [
    method,
    (...args: unknown[]): void => answer({ method, args }),
  ]);
  return { ...data, ...Object.fromEntries(entries) } as Exit;
}

/** Converts an error to data that can be cloned. */
export function toErrorData(error: unknown): ErrorData {
  if (error instanceof KvmError) {
    const { call, object, errno, args, reason } = error;
    return { kind: "KvmError", init: { call, object, errno, args: cloneableArgs(args), reason } };
  }
  if (error instanceof StateError) {
    const { code, message } = error;
    return {
      kind: "StateError",
      code,
      detail: message.slice(0, -`: ${STATE_ERRORS[code]}`.length),
    };
  }
  try {
    return { kind: "other", error: structuredClone(error) };
  } catch {
    return { kind: "other", error: new Error(String(error)) };
  }
}

/** Returns only the arguments that can be cloned without a change: handles and functions are omitted. */
function cloneableArgs(args: KvmError["args"]): KvmError["args"] {
  return Object.fromEntries(
    Object.entries(args).flatMap(([name, value]) => {
      if (isInstance(value)) return [];
      try {
        return [[name, structuredClone(value)]];
      } catch {
        return [];
      }
    }),
  );
}

/** Returns whether a value is an instance of a class, because cloning would silently convert it to a plain object. */
function isInstance(value: unknown): boolean {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype !== null && prototype !== Object.prototype && !isBytes(value);
}

/** Creates the error from the data that {@link toErrorData} has returned. */
export function toError(data: ErrorData): unknown {
  switch (data.kind) {
    case "KvmError":
      return new KvmError(data.init);
    case "StateError":
      return new StateError(data.code, data.detail);
    case "other":
      return data.error;
    default:
      return data satisfies never;
  }
}
