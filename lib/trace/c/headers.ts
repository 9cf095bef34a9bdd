/** What the oldest kernel headers lack that a C file must compile with: those of Linux 6.1. */
import { KVM_CAPABILITIES } from "../../abi/generated/constants.ts";
import type { Ioctl } from "../../abi/ioctl.ts";

/** Structs that are written as bytes: Linux 6.1's headers do not have them. */
const STRUCTS = new Set([
  "kvm_create_guest_memfd",
  "kvm_memory_attributes",
  "kvm_pre_fault_memory",
  "kvm_userspace_memory_region2",
  // This one they have, but as an array of char, to which a compiler does not like to give 0xff.
  "kvm_lapic_state",
]);

/** Fields that they do not have, by struct; of a nested struct its path is the name. */
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  // Also of char; its other members say more.
  "kvm_irqchip.chip": ["dummy"],
  kvm_sev_cmd: ["pad0"],
  "kvm_xen_hvm_attr.u": ["runstate_update_flag"],
  "kvm_xen_hvm_attr.u.shared_info": ["hva"],
  "kvm_xen_vcpu_attr.u": ["hva"],
};

/** Parts of kvm_run's union that they do not have. */
const RUN = ["iocsr_io", "memory_fault", "tdx", "arm_sea", "snp_req_certs"];

/** Fields that are pointers in C, not integers that hold an address; of all structs. */
const POINTERS = ["dirty_bitmap", "bitmap"];

/** The last capability and the last exit reason that they have. */
const [LAST_CAPABILITY, LAST_EXIT] = [223, 37];

/** Whether every header has a struct. */
export function hasStruct(name: string): boolean {
  return !STRUCTS.has(name);
}

/** Whether every header has a field of a struct; both by their C names. */
export function hasField(struct: string, field: string): boolean {
  return FIELDS[struct]?.includes(field) !== true;
}

/** Whether every header has a field of kvm_run, by its path. */
export function hasRunField(path: string): boolean {
  return !RUN.includes(path.split(".")[0] ?? "");
}

/** Whether a field is a pointer, by its C name. */
export function isPointer(field: string): boolean {
  return POINTERS.includes(field);
}

/** Constants that a file may need to define itself. */
export class Definitions {
  readonly #needed = new Map<string, string>();

  /** The name of an ioctl's request. */
  ioctl(ioctl: Ioctl): string {
    const isOld = Object.values(ioctl.since).includes("6.1");
    if (!isOld) this.#needed.set(ioctl.name, `0x${ioctl.request.toString(16)}`);
    return ioctl.name;
  }

  /** The name of a capability, or its number when it has none. */
  capability(number: number): string {
    const name = Object.entries(KVM_CAPABILITIES).find(([, value]) => value === number)?.[0];
    if (name !== undefined && number > LAST_CAPABILITY) this.#needed.set(name, String(number));
    return name ?? String(number);
  }

  /** The name of an exit reason. */
  exit(reason: number, name: string): string {
    if (reason > LAST_EXIT) this.#needed.set(name, String(reason));
    return name;
  }

  /** The lines that define what an old header lacks. */
  lines(): readonly string[] {
    return Array.from(this.#needed).flatMap(([name, value]) => [
      `#ifndef ${name}`,
      `#define ${name} ${value}`,
      "#endif",
    ]);
  }
}
