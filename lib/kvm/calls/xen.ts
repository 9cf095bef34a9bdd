/** Configures KVM's Xen emulation, and reads and writes its attributes of VMs and vCPUs. */
import {
  KVM_XEN_HVM_CONFIG,
  KVM_XEN_HVM_GET_ATTR,
  KVM_XEN_HVM_SET_ATTR,
  KVM_XEN_VCPU_GET_ATTR,
  KVM_XEN_VCPU_SET_ATTR,
} from "../../abi/generated/ioctls.ts";
import { XenHvmAttr, XenHvmConfig, XenVcpuAttr } from "../../abi/generated/structs.ts";
import { encode, read } from "../../abi/struct.ts";
import type { StructInputWith } from "../../abi/whole.ts";
import { refuseMissing, refuseUnknown } from "../../options.ts";
import type { IoctlTarget } from "../handle.ts";
import type { EventFd } from "../host-file.ts";
import type { MemoryLinkInput } from "../link.ts";

/** The pages that KVM copies into a guest, for 32-bit and for 64-bit guests. */
export interface XenBlobsInput {
  readonly blob32?: MemoryLinkInput;
  readonly blob64?: MemoryLinkInput;
}

/** The memory or the eventfd to which a VM's attribute refers. */
export interface XenHvmFilesInput {
  readonly sharedInfo?: MemoryLinkInput;
  readonly eventfd?: EventFd;
}

/** Enables Xen emulation. */
export function xenHvmConfig(
  handle: IoctlTarget,
  config: StructInputWith<XenHvmConfig, "msr">,
  blobs: XenBlobsInput,
): void {
  refuseMissing("xenHvmConfig()", config, ["msr"]);
  refuseUnknown("xenHvmConfig()", blobs, ["blob32", "blob64"], "member");
  const { blob32 = null, blob64 = null } = blobs;
  handle.ioctl(KVM_XEN_HVM_CONFIG, encode(XenHvmConfig, config, "xenHvmConfig()"), {
    args: config as Readonly<Record<string, unknown>>,
    links: [blob32, blob64],
  });
}

/** Reads an attribute of a VM. */
export function xenHvmGetAttr(handle: IoctlTarget, type: number): XenHvmAttr {
  const bytes = encode(XenHvmAttr, { type }, "xenHvmGetAttr()");
  handle.ioctl(KVM_XEN_HVM_GET_ATTR, bytes, { args: { type }, links: [] });
  return read(XenHvmAttr, bytes);
}

/** Writes an attribute of a VM. */
export function xenHvmSetAttr(
  handle: IoctlTarget,
  attr: StructInputWith<XenHvmAttr, "type">,
  files: XenHvmFilesInput,
): void {
  refuseMissing("xenHvmSetAttr()", attr, ["type"]);
  refuseUnknown("xenHvmSetAttr()", files, ["sharedInfo", "eventfd"], "member");
  const { sharedInfo = null, eventfd = null } = files;
  handle.ioctl(KVM_XEN_HVM_SET_ATTR, encode(XenHvmAttr, attr, "xenHvmSetAttr()"), {
    args: attr as Readonly<Record<string, unknown>>,
    links: [sharedInfo, eventfd],
  });
}

/** Reads an attribute of a vCPU. */
export function xenVcpuGetAttr(handle: IoctlTarget, type: number): XenVcpuAttr {
  const bytes = encode(XenVcpuAttr, { type }, "xenVcpuGetAttr()");
  handle.ioctl(KVM_XEN_VCPU_GET_ATTR, bytes, { args: { type } });
  return read(XenVcpuAttr, bytes);
}

/** Writes an attribute of a vCPU. */
export function xenVcpuSetAttr(
  handle: IoctlTarget,
  attr: StructInputWith<XenVcpuAttr, "type">,
  vcpuInfo: MemoryLinkInput | undefined,
): void {
  refuseMissing("xenVcpuSetAttr()", attr, ["type"]);
  handle.ioctl(KVM_XEN_VCPU_SET_ATTR, encode(XenVcpuAttr, attr, "xenVcpuSetAttr()"), {
    args: attr as Readonly<Record<string, unknown>>,
    links: [vcpuInfo ?? null],
  });
}
