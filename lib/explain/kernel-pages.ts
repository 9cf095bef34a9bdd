/** The addresses of KVM's own pages in the guest's memory, and a search for slots that overlap these pages. */
import type { MemorySlot } from "./refusal.ts";

/** The address of the page that KVM adds for the first vCPU if the CPU virtualises the APIC: APIC_DEFAULT_PHYS_BASE. */
export const APIC_PAGE = 0xfee0_0000n;
/**
 * The default address of the identity map, which KVM_SET_IDENTITY_MAP_ADDR can change: VMX_EPT_IDENTITY_PAGETABLE_ADDR.
 */
export const IDENTITY_MAP = 0xfffb_c000n;
/** The size of the identity map: one page. */
export const IDENTITY_BYTES = 0x1000n;
/** The size of the TSS of an Intel VM: three pages. */
export const TSS_BYTES = 0x3000n;

const SPACE = 0x1_0000;

/** Finds a slot of the first address space that overlaps a range. */
export function slotAt(
  slots: readonly MemorySlot[],
  address: bigint,
  bytes: bigint,
): MemorySlot | undefined {
  return slots.find(
    ({ slot, guestPhysAddr, memorySize }) =>
      slot < SPACE && guestPhysAddr < address + bytes && address < guestPhysAddr + memorySize,
  );
}
