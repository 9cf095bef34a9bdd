/** Builds one vCPU's table from the entries that KVM supports. Fields are table.ts; the bits that KVM overwrites are lib/oracle. */
import { refuseUnknown, toList } from "../options.ts";
import { apicIdBits, apicIdPlace, checkApicId } from "./apic-id.ts";
import type { CpuidEntry2Input } from "./entry.ts";
import { writeField } from "./field.ts";
import { CpuidTable } from "./table.ts";

/** The options of {@link fromSupported}. */
export interface FromSupportedOptions {
  /** The vCPU's APIC id, which is its KVM_CREATE_VCPU number; 0 by default. */
  readonly apicId?: number;
}

/**
 * Makes one vCPU's table from the entries of KVM_GET_SUPPORTED_CPUID. These have the APIC id of the CPU that made the
 * ioctl, so two calls may differ. This sets `apicId` in 0x1:ebx[31:24] (its low eight bits), in edx of every 0xb, 0x1f
 * and 0x80000026, and in eax of 0x8000001e, where they exist. Everything else is unchanged, including order and flags.
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
