/**
 * Builds one vCPU's table from the entries that KVM supports. table.ts reads and writes fields; lib/oracle lists the
 * bits that KVM overwrites.
 */
import { refuseUnknown, toList } from "../options.ts";
import { apicIdBits, apicIdPlace, checkApicId } from "./apic-id.ts";
import type { CpuidEntry2Input } from "./entry.ts";
import { writeField } from "./field.ts";
import { CpuidTable } from "./table.ts";

/** The options of {@link fromSupported}. */
export interface FromSupportedOptions {
  /** The vCPU's APIC id, which is the argument of KVM_CREATE_VCPU; 0 by default. */
  readonly apicId?: number;
}

/**
 * Makes one vCPU's table from the entries of KVM_GET_SUPPORTED_CPUID. The entries of KVM_GET_SUPPORTED_CPUID contain
 * the APIC id of the CPU that executed the ioctl, so two calls may return different entries. The function writes
 * `apicId` into 0x1:ebx[31:24] (the low eight bits), into EDX of each sub-leaf of 0xb, 0x1f and 0x80000026, and into
 * EAX of 0x8000001e, if these leaves exist. All other fields, the order and the flags of the entries stay unchanged.
 *
 * @throws TypeError for an unknown option; RangeError for an `apicId` that is not a u32.
 */
export function fromSupported(
  entries: Iterable<CpuidEntry2Input>,
  options: FromSupportedOptions = {},
): CpuidTable {
  refuseUnknown("fromSupported()", options, ["apicId"]);
  const { apicId = 0 } = options;
  checkApicId("apicId", apicId);
  return CpuidTable.from(toList("fromSupported()", entries)).map((e) => {
    const place = apicIdPlace(e);
    if (place === undefined) return e;
    const { register, low, high } = place;
    return { ...e, [register]: writeField(e[register], low, high, apicIdBits(place, apicId)) };
  });
}
