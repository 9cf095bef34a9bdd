/** What crosses between a vCPU's worker and the thread that owns it. Who sends what is vcpu-worker.ts and serve-vcpu.ts. */
import type { MessagePort } from "node:worker_threads";
import { KvmError, STATE_ERRORS, StateError } from "../errors.ts";
import type { Exit } from "../kvm/exit.ts";

/** What the worker is started with. */
export interface Start {
  readonly port: MessagePort;
  /** One Int32: the number of the run that is to end. */
  readonly kicked: SharedArrayBuffer;
  /** The program's own. */
  readonly data: unknown;
}

/** A method of an exit that was called on the other side. */
export interface Answer {
  readonly method: string;
  readonly args: readonly unknown[];
}

/** Asks the worker for a run. */
export interface RunRequest {
  readonly number: number;
  /** What the exit before it is answered with. */
  readonly answer: Answer | undefined;
}

/** What the worker tells. */
export type Report =
  | { readonly kind: "ready"; readonly kickToken: bigint }
  | { readonly kind: "exit"; readonly data: object; readonly methods: readonly string[] }
  | {
      readonly kind: "error";
      readonly error: ErrorData;
      /** The exit's answer was refused: the guest has not run, and the exit can be answered again. */
      readonly isUnanswered?: boolean;
    };

/** An error as it crosses: classes of ours would arrive as plain Errors. */
export type ErrorData =
  | { readonly kind: "KvmError"; readonly init: ConstructorParameters<typeof KvmError>[0] }
  | { readonly kind: "StateError"; readonly code: StateError["code"]; readonly detail: string }
  | { readonly kind: "other"; readonly error: unknown };

/** Takes an exit apart: its methods stay here and are called by name. */
export function toReport(exit: Exit): Report {
  const entries = Object.entries(exit);
  const isMethod = ([, value]: [string, unknown]): boolean => typeof value === "function";
  const methods = entries.filter(isMethod).map(([name]) => name);
  const data = Object.fromEntries(entries.filter((entry) => !isMethod(entry)));
  return { kind: "exit", data, methods };
}

/** Puts an exit together, whose methods call `answer`. */
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

/** Makes an error fit to cross. */
export function toErrorData(error: unknown): ErrorData {
  if (error instanceof KvmError) {
    const { ioctl, fd, errno, reason } = error;
    return { kind: "KvmError", init: { ioctl, fd, errno, reason } };
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

/** Makes the error again that {@link toErrorData} has taken apart. */
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
