/** Formats a step as one line of JSON. line.ts formats text. */
import { isBytes } from "../abi/bytes.ts";
import { exitName } from "../abi/exits.ts";
import { read } from "../abi/struct.ts";
import { errnoName } from "../errors.ts";
import { ioctlOf, toLine } from "./line.ts";
import type { IoctlStep, ObjectRef, Step } from "./record.ts";

/**
 * Writes a step as one line of JSON, without the newline. In this format, bytes are hexadecimal, 64-bit integers are
 * decimal strings, and `text` is the same as {@link toLine}. For an ioctl whose argument this package knows, `argument`
 * contains the fields of the struct before the call, and `answer` the fields after the call.
 */
export function toNdjson(step: Step): string {
  return JSON.stringify({ ...step, ...decoded(step), text: toLine(step) }, replace);
}

function decoded(step: Step): object {
  switch (step.kind) {
    case "ioctl":
      return {
        ...errno(step.result),
        request: `0x${step.request.toString(16).padStart(8, "0")}`,
        ...fields(step, "argument", step.before),
        ...fields(step, "answer", step.after),
      };
    case "run":
      return { ...errno(step.result), exit_reason: exitName(step.exitReason) };
    case "open":
    case "permission":
    case "eventfd":
    case "file":
    case "counter":
    case "fallocate":
      return errno(step.result);
    case "map":
    case "write":
    case "close":
      return {};
    default:
      return step satisfies never;
  }
}

function errno(result: number): object {
  return result < 0 ? { errno: errnoName(-result) } : {};
}

/** Returns the fields of a struct; `undefined` if the struct's count exceeds its bytes. */
function fields(step: IoctlStep, key: string, bytes: bigint | Uint8Array | undefined): object {
  const layout = ioctlOf(step.request, step.fd)?.struct;
  if (layout === undefined || !isBytes(bytes)) return {};
  try {
    return { [key]: read(layout, bytes) };
  } catch (error) {
    if (error instanceof RangeError) return {};
    throw error;
  }
}

function replace(_: string, value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  if (isBytes(value)) return Buffer.from(value).toString("hex");
  return isObjectRef(value) ? { id: value.id, kind: value.kind, label: value.label } : value;
}

/** Removes the ring from a descriptor, because a line must not contain the ring. */
function isObjectRef(value: unknown): value is ObjectRef {
  return typeof value === "object" && value !== null && "ring" in value && "label" in value;
}
