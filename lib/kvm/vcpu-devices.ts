/** A vCPU's capabilities, attributes, statistics, signals, Xen and TDX. Registers are vcpu-registers.ts. */
import {
  KVM_GET_STATS_FD,
  KVM_GET_SUPPORTED_HV_CPUID,
  KVM_SET_SIGNAL_MASK,
  KVM_XEN_VCPU_GET_ATTR,
  KVM_XEN_VCPU_SET_ATTR,
} from "../abi/generated/ioctls.ts";
import { type CpuidEntry2, SignalMask, XenVcpuAttr } from "../abi/generated/structs.ts";
import { encode, read } from "../abi/struct.ts";
import type { StructWith } from "../abi/whole.ts";
import { describe, refuseMissing, toList } from "../options.ts";
import { type EnableCapInput, enableCap } from "./capability.ts";
import { growCpuid2 } from "./cpuid2.ts";
import { type Attribute, getDeviceAttr, hasDeviceAttr, setDeviceAttr } from "./device-attr.ts";
import type { MemoryLink } from "./link.ts";
import { type MemoryEncryptCommand, memoryEncryptOp } from "./memory-encrypt.ts";
import { Stats } from "./stats.ts";
import { VcpuRegisters } from "./vcpu-registers.ts";

/** Adds a vCPU's capabilities, attributes, statistics, signals, Xen and TDX. */
export abstract class VcpuDevices extends VcpuRegisters {
  /**
   * Enables a capability of this vCPU.
   *
   * @returns 0; with KVM_CAP_HYPERV_ENLIGHTENED_VMCS, the version of Hyper-V's VMCS.
   * @ioctl KVM_ENABLE_CAP (api.rst 4.37 and 6; vcpu; KVM_CAP_ENABLE_CAP)
   * @throws {@link KvmError} `EINVAL` for an unknown capability or a wrong argument.
   */
  enableCap(input: EnableCapInput): number {
    return enableCap(this, input);
  }

  /**
   * Lists the Hyper-V CPUID entries that KVM supports for this vCPU.
   *
   * @ioctl KVM_GET_SUPPORTED_HV_CPUID (api.rst 4.118; vcpu; KVM_CAP_HYPERV_CPUID)
   */
  getSupportedHvCpuid(): readonly CpuidEntry2[] {
    return growCpuid2(this, KVM_GET_SUPPORTED_HV_CPUID);
  }

  /**
   * Sets the signals that are blocked while this thread is in KVM_RUN; without an argument, the thread's own mask
   * applies. {@link immediateExit} works with any mask.
   *
   * @param signals - signal numbers, 1 to 64.
   * @ioctl KVM_SET_SIGNAL_MASK (api.rst 4.21; vcpu)
   * @throws RangeError for an invalid signal number.
   */
  setSignalMask(signals?: Iterable<number>): void {
    if (signals === undefined) {
      this.ioctl(KVM_SET_SIGNAL_MASK);
      return;
    }
    const all = toList("setSignalMask()", signals);
    this.ioctl(KVM_SET_SIGNAL_MASK, encode(SignalMask, { sigset: sigsetOf(all) }), {
      args: { signals: all },
    });
  }

  /**
   * Opens the statistics of this vCPU.
   *
   * @ioctl KVM_GET_STATS_FD (api.rst 4.133; vcpu; KVM_CAP_BINARY_STATS_FD)
   */
  getStatsFd(): Stats {
    return new Stats(this.openFd(KVM_GET_STATS_FD), `${this.label} stats`);
  }

  /**
   * Reads an attribute of the vCPU, such as `KVM_VCPU_TSC_OFFSET` of the group `KVM_VCPU_TSC_CTRL`.
   *
   * @param length - the attribute's size in bytes; from 65536, KVM_HAS_DEVICE_ATTR is called first.
   * @ioctl KVM_GET_DEVICE_ATTR (api.rst 4.80; vcpu; KVM_CAP_VCPU_ATTRIBUTES)
   * @throws {@link KvmError} `ENXIO`: the attribute does not exist.
   */
  getDeviceAttr(attribute: Attribute, length = 8): Uint8Array {
    return getDeviceAttr(this, attribute, length);
  }

  /**
   * Writes an attribute of the vCPU.
   *
   * @ioctl KVM_SET_DEVICE_ATTR (api.rst 4.80; vcpu; KVM_CAP_VCPU_ATTRIBUTES)
   * @throws {@link KvmError} `ENXIO`: the attribute does not exist.
   */
  setDeviceAttr(attribute: Attribute, bytes?: Uint8Array): void {
    setDeviceAttr(this, attribute, bytes);
  }

  /**
   * Checks that the vCPU has an attribute, and throws if it does not.
   *
   * @ioctl KVM_HAS_DEVICE_ATTR (api.rst 4.81; vcpu; KVM_CAP_VCPU_ATTRIBUTES)
   * @throws {@link KvmError} `ENXIO`: the attribute does not exist.
   */
  hasDeviceAttr(attribute: Attribute): void {
    hasDeviceAttr(this, attribute);
  }

  /**
   * Reads an attribute of the vCPU's Xen emulation: a `KVM_XEN_VCPU_ATTR_TYPE_*`. An address in this process reads as
   * 0.
   *
   * @ioctl KVM_XEN_VCPU_GET_ATTR (api.rst 4.129; vcpu; KVM_CAP_XEN_HVM)
   * @throws {@link KvmError} `ENOENT`: the attribute does not exist.
   */
  xenVcpuGetAttr(type: number): XenVcpuAttr {
    const bytes = encode(XenVcpuAttr, { type }, "xenVcpuGetAttr()");
    this.ioctl(KVM_XEN_VCPU_GET_ATTR, bytes, { args: { type } });
    return read(XenVcpuAttr, bytes);
  }

  /**
   * Writes an attribute of the vCPU's Xen emulation: a `KVM_XEN_VCPU_ATTR_TYPE_*`.
   *
   * @param vcpuInfo - the memory of vcpu_info, for `_VCPU_INFO_HVA`.
   * @ioctl KVM_XEN_VCPU_SET_ATTR (api.rst 4.128; vcpu; KVM_CAP_XEN_HVM)
   * @throws {@link KvmError} `ENOENT`: the attribute does not exist; `EINVAL`: an invalid value.
   */
  xenVcpuSetAttr(attr: StructWith<XenVcpuAttr, "type">, vcpuInfo?: MemoryLink): void {
    refuseMissing("xenVcpuSetAttr()", attr, ["type"]);
    this.ioctl(KVM_XEN_VCPU_SET_ATTR, encode(XenVcpuAttr, attr, "xenVcpuSetAttr()"), {
      args: attr as Readonly<Record<string, unknown>>,
      links: [vcpuInfo ?? null],
    });
  }

  /**
   * Runs a TDX command for this vCPU.
   *
   * @returns the low 32 bits of the TDX module's error code; 0 on success.
   * @ioctl KVM_MEMORY_ENCRYPT_OP (api.rst 4.110; vcpu; Linux 7.2)
   * @throws {@link KvmError} `ENOTTY`: this VM is not of that type; `EINVAL`: the command does not exist, or is not
   *   allowed in the current state; `EIO`: the TDX module returned an error.
   */
  memoryEncryptOp(command: MemoryEncryptCommand): number {
    return memoryEncryptOp(this, command);
  }
}

/** Encodes a kernel sigset_t. */
function sigsetOf(signals: readonly number[]): Uint8Array {
  let set = 0n;
  for (const signal of signals) {
    if (!(Number.isInteger(signal) && signal >= 1 && signal <= 64)) {
      throw new RangeError(`there is no signal ${describe(signal)}`);
    }
    set |= 1n << BigInt(signal - 1);
  }
  return new Uint8Array(BigUint64Array.of(set).buffer);
}
