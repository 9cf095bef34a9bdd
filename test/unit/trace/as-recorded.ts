/** Calls for traces without a kernel: each is told to the sink as lib/kvm does, with an answer of our own. */
import type { Ioctl } from "../../../lib/abi/ioctl.ts";
import { encode, type Layout, type StructInput } from "../../../lib/abi/struct.ts";
import {
  type TraceLink,
  traceAnswer,
  traceCall,
  traced,
  traceOpen,
} from "../../../lib/trace/sink.ts";
import type { Traced } from "../../../lib/trace/traced.ts";

/** Opens a device that is none. */
export function open(path = "/dev/kvm"): Traced {
  const fd = {};
  traceOpen(path, fd);
  return traced(fd, path);
}

/** A call that makes an object. */
export function make(
  on: Traced,
  ioctl: Ioctl,
  argument: number | Uint8Array,
  label: string,
): Traced {
  const fd = {};
  traceAnswer(traceCall(on, ioctl, argument), fd);
  return traced(fd, label);
}

/** A call that the kernel answers with a number, and by changing the argument. */
export function ask(
  on: Traced,
  ioctl: Ioctl,
  argument: number | bigint | Uint8Array | undefined,
  result: number,
  change: (argument: Uint8Array) => void = () => {},
  links: readonly TraceLink[] = [],
): void {
  const call = traceCall(on, ioctl, argument, links);
  if (argument instanceof Uint8Array) change(argument);
  traceAnswer(call, result);
}

/** What the kernel writes into an argument. */
export function writing<T>(
  layout: Layout<T>,
  value: StructInput<T>,
): (argument: Uint8Array) => void {
  return (argument) => argument.set(encode(layout, value));
}
