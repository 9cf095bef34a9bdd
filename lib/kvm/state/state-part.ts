/**
 * Reads and writes one part of a saved state, defined by its row in state/parts.ts. vcpu-state.ts and vm-state.ts have
 * the list of parts and their order.
 */
import { Irqchip } from "../../abi/generated/structs.ts";
import { encode, offsetOf, read, write } from "../../abi/struct.ts";
import { KvmError } from "../../errors.ts";
import type { Part } from "../../state/parts.ts";
import { fromBytes, toBytes } from "../../state/shape.ts";
import type { Handle } from "../handle.ts";
import type { Origin } from "../origin.ts";

const CHIP_OFFSET = offsetOf(Irqchip, "chip");

/**
 * Reads a part; `undefined` if this kernel, this VM or this vCPU does not have it.
 *
 * @throws {@link KvmError} with an errno that does not mean this.
 */
export function readPart(handle: Handle, part: Part, origin: Origin): unknown {
  const capability = part.get.capability[part.fd];
  const isThere = capability == null || origin.checkExtension(capability) !== 0;
  const get = isThere ? part.get : part.getBefore;
  if (get === undefined) return undefined;
  const bytes = roomFor(part, origin);
  try {
    const answer = handle.ioctl(get, get.kind === "none" ? undefined : bytes);
    return get.kind === "none" ? answer : fromBytes(part.shape, written(part, bytes));
  } catch (error) {
    if (error instanceof KvmError && error.code === part.absent) return undefined;
    throw error;
  }
}

/**
 * Writes a part.
 *
 * @throws RangeError for a number that KVM cannot return when the part is read back.
 * @throws {@link KvmError} with KVM's errno, and with the requirement of the part.
 */
export function writePart(handle: Handle, part: Part, value: unknown, origin: Origin): void {
  const { name, set, needs } = part;
  const explain = (): string => `the saved ${name} ${needs}`;
  if (set.kind === "value") {
    toBytes(part.shape, value);
    handle.ioctl(set, value as number, { args: { [name]: value }, explain });
    return;
  }
  handle.ioctl(set, argumentFor(part, toBytes(part.shape, value), origin), { explain });
}

/** The number of bytes that KVM may read or write, for a struct that does not contain its size. */
function capacity({ size, get }: Part, origin: Origin): number {
  return Math.max(get.size, size === undefined ? 0 : origin.checkExtension(size.capability));
}

function roomFor(part: Part, origin: Origin): Uint8Array {
  const { chipId, size, get } = part;
  const bytes = new Uint8Array(capacity(part, origin));
  if (chipId !== undefined) write(Irqchip, { chipId }, bytes);
  if (size?.field !== undefined && get.struct !== undefined) {
    write(get.struct, { [size.field]: bytes.length } as never, bytes);
  }
  return bytes;
}

function written({ chipId, shape, size, get }: Part, bytes: Uint8Array): Uint8Array {
  if (chipId !== undefined && shape.kind === "struct") {
    return bytes.subarray(CHIP_OFFSET, CHIP_OFFSET + shape.layout.size);
  }
  if (size?.field === undefined || get.struct === undefined) return bytes;
  const header = read(get.struct, bytes) as Readonly<Record<string, number>>;
  return bytes.subarray(0, header[size.field]);
}

function argumentFor(part: Part, bytes: Uint8Array, origin: Origin): Uint8Array {
  const { chipId, sentAs, set, size } = part;
  if (chipId !== undefined) {
    const argument = encode(Irqchip, { chipId });
    argument.set(bytes, CHIP_OFFSET);
    return argument;
  }
  if (sentAs !== undefined && set.struct !== undefined) write(set.struct, sentAs as never, bytes);
  if (size === undefined || size.field !== undefined) return bytes;
  // KVM reads a whole area of this vCPU, which may be larger than the saved area.
  const whole = new Uint8Array(Math.max(bytes.length, capacity(part, origin)));
  whole.set(bytes);
  return whole;
}
