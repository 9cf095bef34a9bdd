/** The places of KVM's own pages in the guest's memory, and the slots that overlap them. */
import type { MemorySlot } from "./refusal.ts";

/** APIC_DEFAULT_PHYS_BASE: KVM adds a page there for the first vCPU, if the CPU virtualises the APIC. */
export const APIC_PAGE = 0xfee0_0000n;
/** VMX_EPT_IDENTITY_PAGETABLE_ADDR: the place of the identity map without KVM_SET_IDENTITY_MAP_ADDR. */
export const IDENTITY_MAP = 0xfffb_c000n;
/** The identity map is one page. */
export const IDENTITY_BYTES = 0x1000n;
/** The TSS of an Intel VM is three pages. */
export const TSS_BYTES = 0x3000n;

const SPACE = 0x1_0000;

/** Finds a slot of the first address space that has a byte of a range. */
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
