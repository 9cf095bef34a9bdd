/** The places of the vCPU's APIC id in a CPUID table. builder.ts writes the id, and check.ts checks it. */
import { describe } from "../options.ts";
import type { CpuidEntry2, CpuidRegister } from "./entry.ts";
import { readField } from "./field.ts";

/** A place of the APIC id: an inclusive bit range of one register, in each sub-leaf of a function. */
interface ApicIdPlace {
  /** The leaf. */
  readonly function: number;
  /** The register. */
  readonly register: CpuidRegister;
  /** The lowest bit. */
  readonly low: number;
  /** The highest bit; a range of fewer than 32 bits contains the low bits of the id. */
  readonly high: number;
  /** If all registers of the entry are 0, the CPU does not have the leaf. */
  readonly isOptional: boolean;
}

/** Lists all places of the APIC id. Source: SDM volume 2A, CPUID; AMD APM volume 3, appendix E. */
const APIC_ID_PLACES: readonly ApicIdPlace[] = [
  { function: 0x1, register: "ebx", low: 24, high: 31, isOptional: false },
  { function: 0xb, register: "edx", low: 0, high: 31, isOptional: false },
  { function: 0x1f, register: "edx", low: 0, high: 31, isOptional: false },
  { function: 0x8000001e, register: "eax", low: 0, high: 31, isOptional: true },
  { function: 0x80000026, register: "edx", low: 0, high: 31, isOptional: true },
];

/** Returns the place of the APIC id in an entry's function; undefined if the function has no APIC id. */
export function apicIdPlace({
  function: fn,
}: Pick<CpuidEntry2, "function">): ApicIdPlace | undefined {
  return APIC_ID_PLACES.find((place) => place.function === fn);
}

/** Returns the low bits of an APIC id, as many as the place has. */
export function apicIdBits({ low, high }: ApicIdPlace, id: number): number {
  return readField(id, 0, high - low);
}

/** Throws a RangeError if the id is not an unsigned 32-bit integer. */
export function checkApicId(name: string, id: number): void {
  if (Number.isInteger(id) && id >= 0 && id <= 0xffffffff) return;
  throw new RangeError(`${name} ${describe(id)} is not an unsigned 32-bit integer`);
}
