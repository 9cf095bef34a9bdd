/** Claims about a vCPU with fewer physical address bits than the host: the bits above are reserved in page tables. */
import { GuestMemory } from "node-kvm";
import { FAULT_GPA, guest, NO_FAULT, PAGE_TABLES_GPA } from "node-kvm/guest";
import { claim, expect, type Kit } from "node-kvm/test";

const PF = 14n;
const PFERR_RSVD = 8n;
const WIDTH = 36;
/** The page directory for the third GiB: the PML4, the PDPT and one directory per GiB follow each other. */
const DIRECTORY = PAGE_TABLES_GPA + 0x2000 + 2 * 0x1000;
const ADDRESS = 0x8000_0000;
/** A 2 MiB page, present and writable, at the address 2^WIDTH. */
const ENTRY = (1n << BigInt(WIDTH)) | 0x83n;

/** A guest that maps a page at the address 2^36 and reads it; it sends the value, the vector and the error code. */
const READ_BEYOND = guest("long", (g) =>
  g
    .write(DIRECTORY, ENTRY, 64)
    .attempt((a) => a.read(ADDRESS, 64))
    .read(FAULT_GPA + 8, 64)
    .sync()
    .done(),
);

const withWidth = (kit: Kit, bits: number) =>
  kit.configured({
    table: kit.supported.with({ phys_addr_bits: bits }),
    program: READ_BEYOND,
  });

claim(
  "smaller-maxphyaddr",
  "a guest gets #PF with the reserved bit for a page table entry with an address beyond its table's width",
  { number: 148 },
  (kit) => {
    kit.requireCapability("KVM_CAP_SMALLER_MAXPHYADDR");
    const { box } = withWidth(kit, WIDTH);
    const [value, vector, errorCode = 0n] = box.syncs().flat();
    expect([value, vector, errorCode & PFERR_RSVD]).toEqual([0n, PF, PFERR_RSVD]);
  },
);

claim(
  "larger-maxphyaddr",
  "a guest reads memory at the same address if the width of its table is larger",
  { number: 148 },
  (kit) => {
    kit.requireCapability("KVM_CAP_SMALLER_MAXPHYADDR");
    const bits = kit.supported.get("phys_addr_bits") ?? 0;
    kit.require(bits > WIDTH, `the host has only ${bits} physical address bits`);
    const { box } = withWidth(kit, bits);
    const memory = kit.keep(GuestMemory.allocate(0x1000));
    memory.bytes[0] = 0x5a;
    box.vm.setUserMemoryRegion({ slot: 1, guestPhysAddr: 1n << BigInt(WIDTH), memory });
    const [value, vector] = box.syncs().flat();
    expect([value, vector]).toEqual([0x5an, NO_FAULT]);
  },
);
