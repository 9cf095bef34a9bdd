/** Lists the definitions that the headers of Linux 6.1 lack, because a C file must compile with these headers. */
import { KVM_CAPABILITIES } from "../../abi/generated/names.ts";
import type { Ioctl } from "../../abi/ioctl.ts";

/** Structs that are written as bytes, because the headers of Linux 6.1 do not have them. */
const STRUCTS = new Set([
  "kvm_create_guest_memfd",
  "kvm_memory_attributes",
  "kvm_pre_fault_memory",
  "kvm_userspace_memory_region2",
  // The headers declare this field as an array of char, for which compilers warn about 0xff.
  "kvm_lapic_state",
]);

/** Fields that the headers of Linux 6.1 do not have, by struct; a field of a nested struct is named by its path. */
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  // The headers declare this field as an array of char too; the other members of its union are easier to read.
  "kvm_irqchip.chip": ["dummy"],
  kvm_sev_cmd: ["pad0"],
  "kvm_xen_hvm_attr.u": ["runstate_update_flag"],
  "kvm_xen_hvm_attr.u.shared_info": ["hva"],
  "kvm_xen_vcpu_attr.u": ["hva"],
};

/** Members of kvm_run's union that the headers of Linux 6.1 do not have. */
const RUN = ["iocsr_io", "memory_fault", "tdx", "arm_sea", "snp_req_certs"];

/** The fields that are pointers in C, and not integers that contain an address. */
const POINTERS = ["dirty_bitmap", "bitmap"];

/** The last capability and the last exit reason in the headers of Linux 6.1. */
const [LAST_CAPABILITY, LAST_EXIT] = [223, 37];

/** Whether the headers of all supported kernels have a struct. */
export function hasStruct(name: string): boolean {
  return !STRUCTS.has(name);
}

/** Whether the headers of all supported kernels have a field of a struct; both are named as in C. */
export function hasField(struct: string, field: string): boolean {
  return FIELDS[struct]?.includes(field) !== true;
}

/** Whether the headers of all supported kernels have a field of kvm_run, by its path. */
export function hasRunField(path: string): boolean {
  return !RUN.includes(path.split(".")[0] ?? "");
}

/** Whether a field is a pointer, by its C name. */
export function isPointer(field: string): boolean {
  return POINTERS.includes(field);
}

/** Constants that a C file may have to define, because old headers lack them. */
export class Definitions {
  readonly #needed = new Map<string, string>();

  /** Returns the name of an ioctl's request. */
  ioctl(ioctl: Ioctl): string {
    const isOld = Object.values(ioctl.since).includes("6.1");
    if (!isOld) this.#needed.set(ioctl.name, `0x${ioctl.request.toString(16)}`);
    return ioctl.name;
  }

  /** Returns the name of a capability, or its number if it has no name. */
  capability(number: number): string {
    const name = Object.entries(KVM_CAPABILITIES).find(([, value]) => value === number)?.[0];
    if (name !== undefined && number > LAST_CAPABILITY) this.#needed.set(name, String(number));
    return name ?? String(number);
  }

  /** Returns the name of an exit reason. */
  exit(reason: number, name: string): string {
    if (reason > LAST_EXIT) this.#needed.set(name, String(reason));
    return name;
  }

  /** Returns the lines that define the constants that an old header lacks. */
  lines(): readonly string[] {
    return Array.from(this.#needed).flatMap(([name, value]) => [
      `#ifndef ${name}`,
      `#define ${name} ${value}`,
      "#endif",
    ]);
  }
}
