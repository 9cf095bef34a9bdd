/**
 * Records calls for traces without a kernel: each call is passed to the sink in the same way as by lib/kvm, with a
 * given result.
 */
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

/** Opens a fake device. */
export function open(path = "/dev/kvm"): Traced {
  const fd = {};
  traceOpen(path, fd);
  return traced(fd, path);
}

/** Records a call that creates an object. */
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

/** Records a call that returns a number and changes its argument. */
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

/** The bytes that the fake kernel writes into an argument. */
export function writing<T>(
  layout: Layout<T>,
  value: StructInput<T>,
): (argument: Uint8Array) => void {
  return (argument) => argument.set(encode(layout, value));
}
