/**
 * Encrypted guests: issues the commands of AMD's SEV and Intel's TDX, checks the sizes of their buffers, and pins
 * memory for SEV.
 */
import {
  KVM_MEMORY_ENCRYPT_OP,
  type KVM_MEMORY_ENCRYPT_REG_REGION,
} from "../../abi/generated/ioctls.ts";
import { EncRegion, SevCmd } from "../../abi/generated/structs.ts";
import { encode, read } from "../../abi/struct.ts";
import { refuseMisfit, toU64 } from "../../options.ts";
import type { IoctlTarget } from "../handle.ts";
import type { SevDevice } from "../host-file.ts";
import type { LinkInput, MemoryLinkInput } from "../link.ts";
import { methodOf } from "../method-name.ts";

/** A command for the hardware that encrypts a guest. */
export interface MemoryEncryptOpInput {
  /** A `KVM_SEV_*` or `KVM_TDX_*`. */
  readonly id: number;
  /** The flags of a TDX command. */
  readonly flags?: number;
  /**
   * The command's struct, encoded with `encode(SevLaunchStart, ...)` and similar calls; the kernel writes its results
   * into these bytes. For KVM_TDX_INIT_VCPU only, the data is a value: the vCPU's initial RCX.
   */
  readonly data?: Uint8Array | bigint | number;
  /** The values for the addresses in `data`, in the order of the fields named `*uaddr`. */
  readonly links?: readonly LinkInput[];
  /** The open file `/dev/sev` for an SEV command. */
  readonly sev?: SevDevice;
}

/**
 * Runs a command.
 *
 * @returns the firmware's error code (`kvm_sev_cmd.error`), 0 on success.
 */
export function memoryEncryptOp(handle: IoctlTarget, command: MemoryEncryptOpInput): number {
  const where = "memoryEncryptOp()";
  refuseMisfit(where, command, ["id"], ["flags", "data", "links", "sev"]);
  const { id, flags = 0, data, links = [], sev } = command;
  const isValue = typeof data === "bigint" || typeof data === "number";
  const bytes = encode(SevCmd, { id, pad0: flags, data: isValue ? data : 0n }, where);
  const struct = data === undefined || isValue ? null : { bytes: data, links };
  handle.ioctl(KVM_MEMORY_ENCRYPT_OP, bytes, {
    args: { id, flags },
    links: [struct, ...(sev === undefined ? [] : [sev])],
  });
  return read(SevCmd, bytes).error;
}

/** A range of guest memory whose pages are pinned for SEV. */
export interface EncRegionInput extends MemoryLinkInput {
  /** Bytes. */
  readonly size: bigint | number;
}

/** Registers or unregisters a range, which must be inside the memory. */
export function setEncRegion(
  handle: IoctlTarget,
  ioctl: typeof KVM_MEMORY_ENCRYPT_REG_REGION,
  region: EncRegionInput,
): void {
  const where = methodOf(ioctl.name);
  refuseMisfit(where, region, ["memory", "size"], ["offset"]);
  const { memory, offset = 0 } = region;
  const size = toU64(`${where}: size`, region.size);
  if (size > BigInt(Math.max(0, memory.byteLength - offset))) {
    throw new RangeError(`size ${size} at offset ${offset} is beyond the memory's end`);
  }
  handle.ioctl(ioctl, encode(EncRegion, { size }, where), {
    args: { size, offset },
    links: [{ memory, offset }],
  });
}
