/** A vCPU's state of variable size: MSRs, XSAVE, nested state, registers by id. State in fixed structs is generated. */
import { KVM_REG_SIZE_MASK, KVM_REG_SIZE_SHIFT } from "../abi/generated/constants.ts";
import {
  KVM_GET_MSRS,
  KVM_GET_NESTED_STATE,
  KVM_GET_ONE_REG,
  KVM_GET_REG_LIST,
  KVM_GET_XSAVE2,
  KVM_SET_MSRS,
  KVM_SET_NESTED_STATE,
  KVM_SET_ONE_REG,
  KVM_SET_XSAVE,
} from "../abi/generated/ioctls.ts";
import { type MsrEntry, NestedState, OneReg, RegList, Xsave } from "../abi/generated/structs.ts";
import { encode, read, sizeOf } from "../abi/struct.ts";
import type { StructWith } from "../abi/whole.ts";
import { KvmError } from "../errors.ts";
import { explainMsrs, type SentMsr } from "../explain/index.ts";
import { refuseMissing, toBigInt, toBytes, toList, toU32, toU64 } from "../options.ts";
import { VcpuIoctls } from "./generated/vcpu-ioctls.ts";
import { getMsrs, setMsrs } from "./msrs.ts";

/** The limit for growing a buffer; KVM returns no state of this size. */
const MOST_BYTES = 1 << 20;

/** Adds a vCPU's registers of variable number and size. */
export abstract class VcpuRegisters extends VcpuIoctls {
  /**
   * Reads MSRs in order and stops at the first that KVM cannot read.
   *
   * @returns the entries that were read.
   * @ioctl KVM_GET_MSRS (api.rst 4.18; vcpu)
   */
  getMsrs(indices: Iterable<number>): readonly MsrEntry[] {
    return getMsrs(this, KVM_GET_MSRS, indices);
  }

  /**
   * Writes MSRs in order and stops at the first that KVM rejects.
   *
   * @returns the number of MSRs that were written: `entries[result]` is the rejected one, if any.
   * @ioctl KVM_SET_MSRS (api.rst 4.19; vcpu)
   */
  setMsrs(entries: Iterable<StructWith<MsrEntry, "index" | "data">>): number {
    return setMsrs(this, KVM_SET_MSRS, entries);
  }

  /**
   * Explains why {@link setMsrs} or {@link getMsrs} stopped at an MSR, because KVM returns only the number of processed
   * entries. Returns `undefined` if KVM processed all.
   *
   * @param sent - the entries that were passed; entries with `data` were to be written.
   * @param taken - the number that KVM processed.
   */
  explainMsrs(sent: readonly SentMsr[], taken: number): string | undefined {
    const entries = toList("explainMsrs(): sent", sent);
    const at = toU32("explainMsrs(): taken", taken);
    if (at < entries.length) refuseMissing(`explainMsrs(): sent[${at}]`, entries[at], ["index"]);
    return explainMsrs(entries, at, this.evidence());
  }

  /**
   * Reads the whole XSAVE area in its standard format: 4096 bytes, or more with AMX.
   *
   * @ioctl KVM_GET_XSAVE2 (api.rst 4.134; vcpu; KVM_CAP_XSAVE2)
   * @throws {@link KvmError} `EINVAL`: this vCPU's registers are hidden (SEV-ES, TDX).
   */
  getXsave2(): Uint8Array {
    // KVM_CAP_XSAVE2 of the VM has the size, but the VM's handle may be closed, and a guest's area can grow
    // (arch_prctl). The copy that KVM writes to ends at an unmapped page, so a buffer that is too small causes EFAULT.
    return this.#grow("EFAULT", sizeOf(Xsave), (bytes) => this.ioctl(KVM_GET_XSAVE2, bytes));
  }

  /**
   * Writes the XSAVE area in its standard format: 4096 bytes, or as many as {@link getXsave2} returns.
   *
   * @ioctl KVM_SET_XSAVE (api.rst 4.43; vcpu; KVM_CAP_XSAVE)
   * @throws {@link KvmError} `EINVAL`: a component or a bit of MXCSR that the CPU does not have; `EFAULT`: fewer bytes
   *   than the XSAVE area of this VM's guests.
   */
  setXsave(bytes: Uint8Array): void {
    const area = toBytes("setXsave()", bytes);
    this.ioctl(KVM_SET_XSAVE, area, { args: { byteLength: area.length } });
  }

  /**
   * Reads the state of nested guests: a `struct kvm_nested_state`, whose `size` field has its size in bytes.
   *
   * @ioctl KVM_GET_NESTED_STATE (api.rst 4.114; vcpu; KVM_CAP_NESTED_STATE)
   * @throws {@link KvmError} `EINVAL`: this KVM does not support nested guests.
   */
  getNestedState(): Uint8Array {
    const bytes = this.#grow("E2BIG", sizeOf(NestedState), (room) => {
      new DataView(room.buffer).setUint32(4, room.length, true);
      return this.ioctl(KVM_GET_NESTED_STATE, room);
    });
    return bytes.slice(0, read(NestedState, bytes).size);
  }

  /**
   * Writes a state that {@link getNestedState} returned.
   *
   * @ioctl KVM_SET_NESTED_STATE (api.rst 4.115; vcpu; KVM_CAP_NESTED_STATE)
   * @throws {@link KvmError} `EINVAL`: the nested state is invalid for this vCPU's state; `EFAULT`: its `size` field
   *   exceeds the number of bytes.
   */
  setNestedState(state: Uint8Array): void {
    const bytes = toBytes("setNestedState()", state);
    this.ioctl(KVM_SET_NESTED_STATE, bytes, {
      args: { byteLength: bytes.length },
      pastEnd: true,
    });
  }

  /**
   * Lists the registers that have an id: MSRs and KVM's own registers, such as the shadow stack pointer.
   *
   * @ioctl KVM_GET_REG_LIST (api.rst 4.84; vcpu; Linux 7.2)
   */
  getRegList(): readonly bigint[] {
    for (let n = 64; ; ) {
      const bytes = encode(RegList, { n: BigInt(n), reg: new Array<bigint>(n).fill(0n) });
      try {
        this.ioctl(KVM_GET_REG_LIST, bytes, { args: { n } });
        return read(RegList, bytes).reg;
      } catch (error) {
        const needed = Number(new DataView(bytes.buffer).getBigUint64(0, true));
        const grow = error instanceof KvmError && error.code === "E2BIG";
        if (!grow || needed <= n || 8 * needed > MOST_BYTES) throw error;
        n = needed;
      }
    }
  }

  /**
   * Reads a register by its id.
   *
   * @param id - `KVM_X86_REG_MSR(index)` and others, as returned by {@link getRegList}.
   * @ioctl KVM_GET_ONE_REG (api.rst 4.69; vcpu; KVM_CAP_ONE_REG; Linux 7.2)
   * @throws {@link KvmError} `EINVAL`: the id has an unknown type or size, or this vCPU does not have the register.
   */
  getOneReg(id: bigint | number): bigint {
    const number = toU64("getOneReg(): id", id);
    const bytes = new Uint8Array(registerBytes(number));
    const context = { args: { id: number }, links: [bytes] };
    this.ioctl(KVM_GET_ONE_REG, encode(OneReg, { id: number }), context);
    return BigInt(`0x${Buffer.from(bytes).reverse().toString("hex")}`);
  }

  /**
   * Writes a register by its id.
   *
   * @ioctl KVM_SET_ONE_REG (api.rst 4.68; vcpu; KVM_CAP_ONE_REG; Linux 7.2)
   * @throws {@link KvmError} `EINVAL`: the id has an unknown type or size, this vCPU does not have the register, or the
   *   value is invalid.
   * @throws RangeError if the value does not fit the register.
   */
  setOneReg(id: bigint | number, value: bigint | number): void {
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
    this.ioctl(KVM_SET_ONE_REG, encode(OneReg, { id: number }), context);
  }

  #grow(code: string, size: number, ask: (bytes: Uint8Array) => number): Uint8Array {
    for (let length = size; ; length *= 2) {
      const bytes = new Uint8Array(length);
      try {
        ask(bytes);
        return bytes;
      } catch (error) {
        const more = error instanceof KvmError && error.code === code;
        if (!more || length >= MOST_BYTES) throw error;
      }
    }
  }
}

/** Returns a register's size in bytes, a power of two, from its id. */
function registerBytes(id: bigint): number {
  return 1 << Number((id & KVM_REG_SIZE_MASK) >> BigInt(KVM_REG_SIZE_SHIFT));
}
