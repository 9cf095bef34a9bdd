/** KVM_X86_SET_MSR_FILTER: the MSRs that a guest may access. */
import { KVM_X86_SET_MSR_FILTER } from "../../abi/generated/ioctls.ts";
import { MsrFilter } from "../../abi/generated/structs.ts";
import { encode } from "../../abi/struct.ts";
import { refuseMisfit, refuseUnknown, toBytes, toList } from "../../options.ts";
import type { IoctlTarget } from "../handle.ts";

/** A range of MSRs with a bitmap of allowed accesses: `struct kvm_msr_filter_range`. */
export interface MsrFilterRangeInput {
  /** `KVM_MSR_FILTER_READ`, `KVM_MSR_FILTER_WRITE`. */
  readonly flags: number;
  /** The first MSR. */
  readonly base: number;
  /** The bitmap, with one bit per MSR from `base`: 1 allows the access. */
  readonly bitmap: Uint8Array;
  /** The number of MSRs; the default is 8 per byte of the bitmap. */
  readonly nmsrs?: number;
}

/** The MSRs that a guest may access. */
export interface MsrFilterInput {
  /**
   * The default for MSRs outside of all ranges: `KVM_MSR_FILTER_DEFAULT_DENY` denies them; otherwise they are allowed.
   */
  readonly flags?: number;
  /** At most 16. */
  readonly ranges?: readonly MsrFilterRangeInput[];
}

/** Sets the filter of a VM. */
export function setMsrFilter(handle: IoctlTarget, filter: MsrFilterInput): void {
  const where = "x86SetMsrFilter()";
  refuseUnknown(where, filter, ["flags", "ranges"], "member");
  const { flags = 0, ranges: given = [] } = filter;
  const links: Uint8Array[] = [];
  const ranges = toList(`${where}: ranges`, given).map((range, i) => {
    refuseMisfit(`${where}: ranges[${i}]`, range, ["flags", "base", "bitmap"], ["nmsrs"]);
    const { base, bitmap, nmsrs } = range;
    const bytes = toBytes(`${where}: ranges[${i}].bitmap`, bitmap);
    links.push(wholeLongs(bytes));
    return { flags: range.flags, base, nmsrs: nmsrs ?? 8 * bytes.length };
  });
  const argument = encode(MsrFilter, { flags, ranges }, where);
  handle.ioctl(KVM_X86_SET_MSR_FILTER, argument, { args: { flags, ranges }, links });
}

/** KVM reads bitmaps in longs (BITS_TO_LONGS in kvm_add_msr_filter). */
function wholeLongs(bitmap: Uint8Array): Uint8Array {
  const padded = new Uint8Array(Math.ceil(bitmap.length / 8) * 8);
  padded.set(bitmap);
  return padded;
}
