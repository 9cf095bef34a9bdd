/**
 * The messages between a vCPU's worker and the thread that owns it. vcpu-worker.ts and serve-vcpu.ts send these
 * messages.
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
  /** The caller's data. */
  readonly data: unknown;
}

/** A call of an exit's method in the other thread. */
export interface Answer {
  readonly method: string;
  readonly args: readonly unknown[];
}

/** Requests a run from the worker. */
export interface RunRequest {
  readonly number: number;
  /** The answer of the previous exit. */
  readonly answer: Answer | undefined;
}

/** The worker's messages. */
export type Report =
  | { readonly kind: "ready"; readonly kickToken: bigint }
  | { readonly kind: "exit"; readonly data: object; readonly methods: readonly string[] }
  | {
      readonly kind: "error";
      readonly error: ErrorData;
      /** The exit rejected the answer: the guest has not run, and the exit can be answered again. */
      readonly isUnanswered?: boolean;
    };

/** An error in a form that can be cloned: classes of this package would arrive as plain Errors. */
export type ErrorData =
  | { readonly kind: "KvmError"; readonly init: ConstructorParameters<typeof KvmError>[0] }
  | { readonly kind: "StateError"; readonly code: StateError["code"]; readonly detail: string }
  | { readonly kind: "other"; readonly error: unknown };

/** Converts an exit to data: its methods stay in this thread and are called by name. */
export function toReport(exit: Exit): Report {
  const entries = Object.entries(exit);
  const isMethod = ([, value]: [string, unknown]): boolean => typeof value === "function";
  const methods = entries.filter(isMethod).map(([name]) => name);
  const data = Object.fromEntries(entries.filter((entry) => !isMethod(entry)));
  return { kind: "exit", data, methods };
}

/** Converts data to an exit whose methods call `answer`. */
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

/** Returns the arguments that arrive unchanged: a handle or a function cannot be cloned and is omitted. */
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

/** Whether the value has a class of its own, which cloning would lose without an error. */
function isInstance(value: unknown): boolean {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype !== null && prototype !== Object.prototype && !isBytes(value);
}

/** Creates the error from {@link toErrorData}'s data. */
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
