/** KVM_MEMORY_ENCRYPT_OP: the commands of AMD's SEV and Intel's TDX, as raw buffers of checked size. */
import { KVM_MEMORY_ENCRYPT_OP } from "../abi/generated/ioctls.ts";
import { SevCmd } from "../abi/generated/structs.ts";
import { encode, read } from "../abi/struct.ts";
import { refuseMisfit } from "../options.ts";
import type { Handle } from "./handle.ts";
import type { SevDevice } from "./host-file.ts";
import type { LinkValue } from "./link.ts";

/** A command for the hardware that encrypts a guest. */
export interface MemoryEncryptCommand {
  /** A `KVM_SEV_*` or `KVM_TDX_*`. */
  readonly id: number;
  /** TDX: the command's flags. */
  readonly flags?: number;
  /**
   * The command's struct, encoded with `encode(SevLaunchStart, ...)` and similar calls; the kernel writes its results
   * into it. Only KVM_TDX_INIT_VCPU takes a value: the vCPU's initial RCX.
   */
  readonly data?: Uint8Array | bigint | number;
  /** The values of the addresses in `data`, in the order of its fields named `*uaddr`. */
  readonly links?: readonly LinkValue[];
  /** SEV: the open `/dev/sev`. */
  readonly sev?: SevDevice;
}

/**
 * Runs a command.
 *
 * @returns the firmware's error code (`kvm_sev_cmd.error`), 0 on success.
 */
export function memoryEncryptOp(handle: Handle, command: MemoryEncryptCommand): number {
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
