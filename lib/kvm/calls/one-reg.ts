/** Registers by id: KVM_GET_REG_LIST, KVM_GET_ONE_REG, KVM_SET_ONE_REG. */
import { KVM_REG_SIZE_MASK, KVM_REG_SIZE_SHIFT } from "../../abi/generated/constants.ts";
import { KVM_GET_ONE_REG, KVM_GET_REG_LIST, KVM_SET_ONE_REG } from "../../abi/generated/ioctls.ts";
import { OneReg, RegList } from "../../abi/generated/structs.ts";
import { encode, offsetOf, read, sizeOf } from "../../abi/struct.ts";
import { KvmError } from "../../errors.ts";
import { toBigInt, toU64 } from "../../options.ts";
import type { IoctlTarget } from "../handle.ts";

/** The maximum number of ids for which a buffer is allocated; no list of KVM has this size. */
const MOST_BYTES = 1 << 20;
const COUNT = offsetOf(RegList, "n");

/**
 * Lists the ids of all registers. After E2BIG, the call is repeated with a buffer for the number of ids that KVM has
 * returned.
 */
export function getRegList(handle: IoctlTarget): readonly bigint[] {
  for (let n = 64; ; ) {
    const bytes = encode(RegList, { n: BigInt(n), reg: new Array<bigint>(n).fill(0n) });
    try {
      handle.ioctl(KVM_GET_REG_LIST, bytes, { args: { n } });
      return read(RegList, bytes).reg;
    } catch (error) {
      const needed = Number(new DataView(bytes.buffer).getBigUint64(COUNT, true));
      const grow = error instanceof KvmError && error.code === "E2BIG";
      if (!grow || needed <= n || sizeOf(RegList, needed) > MOST_BYTES) throw error;
      n = needed;
    }
  }
}

/** Reads a register of 1 to 2048 bytes as a little-endian integer. */
export function getOneReg(handle: IoctlTarget, id: bigint | number): bigint {
  const number = toU64("getOneReg(): id", id);
  const bytes = new Uint8Array(registerBytes(number));
  const context = { args: { id: number }, links: [bytes] };
  handle.ioctl(KVM_GET_ONE_REG, encode(OneReg, { id: number }), context);
  return BigInt(`0x${Buffer.from(bytes).reverse().toString("hex")}`);
}

/**
 * Writes a register.
 *
 * @throws RangeError if the value does not fit the register.
 */
export function setOneReg(handle: IoctlTarget, id: bigint | number, value: bigint | number): void {
  const number = toU64("setOneReg(): id", id);
  const wide = toBigInt("setOneReg(): value", value);
  const size = registerBytes(number);
  if (BigInt.asUintN(8 * size, wide) !== wide) {
    const register = `register 0x${number.toString(16)}`;
    throw new RangeError(`setOneReg(): ${register}: ${wide} does not fit ${size} bytes`);
  }
  const hex = wide.toString(16).padStart(2 * size, "0");
  const bytes = Uint8Array.from(Buffer.from(hex, "hex").reverse());
  const context = { args: { id: number, value: wide }, links: [bytes] };
  handle.ioctl(KVM_SET_ONE_REG, encode(OneReg, { id: number }), context);
}

/** Returns a register's size in bytes, a power of two, from its id. */
function registerBytes(id: bigint): number {
  return 1 << Number((id & KVM_REG_SIZE_MASK) >> BigInt(KVM_REG_SIZE_SHIFT));
}
