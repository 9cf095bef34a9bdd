/**
 * An example of the table that KVM_GET_SUPPORTED_CPUID returns, with each leaf that has an APIC id or a bit that KVM
 * sets itself.
 */
import { CpuidTable } from "../../../lib/cpuid/index.ts";

export const supported: CpuidTable = CpuidTable.from([
  { function: 1, ebx: 0x05100800, ecx: 1 },
  { function: 7, flags: 1, edx: 5 },
  { function: 0xb, flags: 1, edx: 5 },
  { function: 0xb, index: 1, flags: 1, edx: 5 },
  { function: 0xd, flags: 1, ebx: 0x340 },
  { function: 0xd, index: 1, flags: 1, ebx: 0x340 },
  { function: 0x1f, flags: 1, edx: 5 },
  { function: 0x40000000, ebx: 0x4b4d564b, ecx: 0x564b4d56, edx: 0x4d },
  { function: 0x40000001, eax: 0x80 },
  { function: 0x8000001e, eax: 5, ebx: 5 },
  { function: 0x80000026, edx: 5 },
]);
