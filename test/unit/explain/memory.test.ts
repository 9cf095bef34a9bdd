/** Tests of the reasons of refused calls about memory: slots, dirty logs, guest_memfds, attributes and pre-faulting. */
import { describe, expect, test } from "vitest";
import type { MemorySlot } from "../../../lib/explain/index.ts";
import { tableWith, vmWith, why } from "./refused.ts";

const SET = "KVM_SET_USER_MEMORY_REGION EINVAL";
const SET2 = "KVM_SET_USER_MEMORY_REGION2 EINVAL";
const LIMITS = {
  KVM_CAP_NR_MEMSLOTS: 509,
  KVM_CAP_MULTI_ADDRESS_SPACE: 2,
  KVM_CAP_READONLY_MEM: 1,
};
const region = (more: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> => ({
  slot: 1,
  flags: 0,
  guestPhysAddr: 0x10000n,
  memorySize: 0x2000n,
  memoryOffset: 0,
  ...more,
});

/** Slot 0 is 16 KiB at address 0; slot 3 has a dirty log and 65 pages at 16 MiB; address space 1 has another slot 0. */
const slots: readonly MemorySlot[] = [
  { slot: 0, flags: 0, guestPhysAddr: 0n, memorySize: 0x4000n },
  { slot: 3, flags: 1, guestPhysAddr: 0x100_0000n, memorySize: 0x41000n },
  { slot: 0x1_0000, flags: 0, guestPhysAddr: 0x10000n, memorySize: 0x4000n },
];
const vm = {
  ...vmWith(LIMITS, { slots: () => slots }),
  kvm: { supportedCpuid: () => tableWith() },
};
const GMEM = vmWith({ ...LIMITS, KVM_CAP_GUEST_MEMFD: 1 }, { slots: () => slots });

describe("the reason of a failed KVM_SET_USER_MEMORY_REGION for a slot", () => {
  test("names the other slot and the address if the slot overlaps another slot", () => {
    const at = (guestPhysAddr: bigint): string | undefined =>
      why("KVM_SET_USER_MEMORY_REGION EEXIST", region({ guestPhysAddr }), vm);
    expect(at(0x1000n)).toBe("slot 1 overlaps slot 0 at 0x1000: 0x1000-0x2fff against 0x0-0x3fff");
    expect(at(0xff_f000n)).toBe(
      "slot 1 overlaps slot 3 at 0x1000000: 0xfff000-0x1000fff against 0x1000000-0x1040fff",
    );
  });

  test("is an overlap with a page that KVM uses itself, if the slot overlaps no other slot of the VM", () => {
    const sent = region({ guestPhysAddr: 0xfee0_0000n });
    expect(why("KVM_SET_USER_MEMORY_REGION EEXIST", sent, vm)).toMatch(
      /^either slot 1 \(0xfee00000-0xfee01fff\) overlaps pages that KVM keeps for itself at 0xfee00000: those of the APIC, .*, or another cause$/,
    );
  });

  test.each([
    ["before", 0xfedf_e000n, undefined],
    ["at the beginning of", 0xfedf_f000n, 0xfee0_0000n],
    ["at the end of", 0xfee0_0000n, 0xfee0_0000n],
    ["after", 0xfee0_1000n, undefined],
    ["before", 0x50_e000n, undefined],
    ["at", 0x51_0000n, 0x51_0000n],
    ["after", 0x51_1000n, undefined],
    ["before", 0x60_e000n, undefined],
    ["at the end of", 0x61_2000n, 0x61_0000n],
    ["after", 0x61_3000n, undefined],
  ])(
    "names a page that KVM uses itself only if the slot contains the page: a slot %s the page, at %i",
    (_, guestPhysAddr, start) => {
      const own = { identityMapAddr: () => 0x51_0000n, tssAddr: () => 0x61_0000n };
      const asked = vmWith(LIMITS, { slots: () => slots, vcpuIds: () => [0], ...own });
      const reason = why("KVM_SET_USER_MEMORY_REGION EEXIST", region({ guestPhysAddr }), asked);
      expect(/itself at (0x[0-9a-f]+):/.exec(reason ?? "")?.[1]).toBe(
        start && `0x${start.toString(16)}`,
      );
    },
  );

  test.each(["KVM_SET_USER_MEMORY_REGION EEXIST"])(
    "names no page that KVM uses itself if the slot is for SMM, or if there is no vCPU yet: %s",
    (call) => {
      const at = { guestPhysAddr: 0xfee0_0000n };
      const asked = vmWith(LIMITS, { slots: () => slots, vcpuIds: () => [] });
      expect(why(call, region(at), asked)).toBeUndefined();
      const map = { identityMapAddr: () => 0xfee0_0000n };
      expect(why(call, region(at), vmWith(LIMITS, { ...asked.vm, ...map }))).toBeUndefined();
      expect(why(call, region({ ...at, slot: 0x1_0001 }), vm)).toBeUndefined();
    },
  );

  test.each([
    [{ guestPhysAddr: 0x3000n }, /^slot 1 overlaps slot 0 at 0x3000/],
    [{ guestPhysAddr: 0x4000n }, undefined],
    [{ guestPhysAddr: 0xff_e000n }, undefined],
    [{ guestPhysAddr: 0xff_f000n }, /^slot 1 overlaps slot 3 at 0x1000000/],
    [{ slot: 0, guestPhysAddr: 0x1000n }, undefined],
    [{ slot: 0x1_0000, guestPhysAddr: 0x1_1000n }, undefined],
    [{ guestPhysAddr: 0x1_1000n }, undefined],
    [{ guestPhysAddr: 0n }, /^slot 1 overlaps slot 0 at 0x0/],
  ])("is an overlap if and only if the two slots have a common byte: %o", (more, reason) => {
    const text = why("KVM_SET_USER_MEMORY_REGION EEXIST", region(more), vm) ?? "nothing";
    expect(text).toMatch(reason ?? /^nothing$/);
  });

  test.each(["slot", "flags", "guestPhysAddr", "memorySize"])(
    "is absent if the %s is not a number",
    (name) => {
      for (const call of [SET, "KVM_SET_USER_MEMORY_REGION EEXIST"]) {
        expect(why(call, { ...region({ flags: 0x80 }), [name]: "none" }, vm)).toBeUndefined();
      }
    },
  );

  test("names no overlap with a slot of another address space", () => {
    const sent = region({ slot: 0x1_0005 });
    expect(why("KVM_SET_USER_MEMORY_REGION EEXIST", sent, vm)).toMatch(
      /^slot 5 of address space 1 overlaps slot 0 of address space 1 at 0x10000: /,
    );
  });

  test.each([
    ["unknown flags", { flags: 0x80 }, "flags 0x80: bit 7 may not be set; Linux 7.2 has 0x3"],
    ["a guest_memfd", { flags: 4 }, "KVM_MEM_GUEST_MEMFD is for KVM_SET_USER_MEMORY_REGION2"],
    ["half a page", { memorySize: 0x1800n }, "memorySize 0x1800 is not a multiple of 4096"],
    [
      "half an address",
      { guestPhysAddr: 0x10800n },
      "guestPhysAddr 0x10800 is not a multiple of 4096",
    ],
    ["half an offset", { memoryOffset: 0x800 }, "memoryOffset 0x800 is not a multiple of 4096"],
    ["a high number", { slot: 509 }, "slot 509: this VM has slots 0 to 508 (KVM_CAP_NR_MEMSLOTS)"],
    [
      "a third address space",
      { slot: 0x2_0000 },
      "slot 0x20000 is in address space 2 (bits 16-31), and this VM has 2 (KVM_CAP_MULTI_ADDRESS_SPACE)",
    ],
    [
      "the end of all addresses",
      { guestPhysAddr: 2n ** 64n - 0x1000n },
      "guestPhysAddr 0xfffffffffffff000 and memorySize 0x2000 reach past 2^64",
    ],
    [
      "too many pages",
      { memorySize: 2n ** 43n },
      "memorySize 0x80000000000 is 2147483648 pages, but a slot has at most 2147483647",
    ],
    [
      "the last byte of all addresses",
      { guestPhysAddr: 2n ** 64n - 0x2000n },
      "guestPhysAddr 0xffffffffffffe000 and memorySize 0x2000 reach past 2^64",
    ],
    [
      "as many pages as can be",
      { memorySize: 2n ** 43n - 0x1000n },
      "the slot ends at 0x8000000efff, but this KVM's guest physical addresses have 40 bits " +
        "(0x80000008.0:eax[7:0] phys_addr_bits)",
    ],
    [
      "nothing to delete",
      { memorySize: 0n },
      "memorySize 0 deletes a slot, but slot 1 does not exist",
    ],
    [
      "another size",
      { slot: 0, guestPhysAddr: 0n },
      "slot 0 has 0x4000 bytes, and its size cannot become 0x2000: delete it first (memorySize 0)",
    ],
    [
      "read-only, later",
      { slot: 0, guestPhysAddr: 0n, memorySize: 0x4000n, flags: 2 },
      "slot 0 cannot become read-only: delete it first (memorySize 0)",
    ],
    [
      "other memory",
      { slot: 0, guestPhysAddr: 0n, memorySize: 0x4000n },
      "either slot 0 would get other memory: delete the slot first (memorySize 0), or another cause",
    ],
    [
      "an address that no CPU has",
      { guestPhysAddr: 2n ** 52n },
      "the slot ends at 0x10000000001fff, but guest physical addresses have at most 52 bits",
    ],
    [
      "an address that this CPU does not have",
      { guestPhysAddr: 2n ** 40n },
      "the slot ends at 0x10000001fff, but this KVM's guest physical addresses have 40 bits " +
        "(0x80000008.0:eax[7:0] phys_addr_bits)",
    ],
  ])("is stated for %s", (_, more, reason) => {
    expect(why(SET, region(more), vm)).toBe(reason);
  });

  test("is absent if the arguments of the slot are correct", () => {
    expect(why(SET, region({}), vm)).toBeUndefined();
    expect(why(SET, region({ flags: 3 }), vm)).toBeUndefined();
    expect(why(SET, region({ slot: 0, memorySize: 0n, guestPhysAddr: 0n }), vm)).toBeUndefined();
  });

  test("does not name the read-only flag if the VM has KVM_CAP_READONLY_MEM", () => {
    const without = vmWith({ ...LIMITS, KVM_CAP_READONLY_MEM: 0 }, { slots: () => slots });
    expect(why(SET, region({ flags: 2 }), without)).toBe(
      "KVM_MEM_READONLY: this VM has no KVM_CAP_READONLY_MEM",
    );
  });

  test("is that an existing slot cannot become read-only or writable", () => {
    const asked = vmWith(LIMITS, {
      slots: () => [{ slot: 1, flags: 2, guestPhysAddr: 0x10000n, memorySize: 0x2000n }],
    });
    expect(why(SET, region({}), asked)).toBe(
      "slot 1 cannot become writable: delete it first (memorySize 0)",
    );
  });

  test("does not name KVM_CAP_READONLY_MEM for a writable slot", () => {
    const without = vmWith({ ...LIMITS, KVM_CAP_READONLY_MEM: 0 }, { slots: () => slots });
    expect(why(SET, region({}), without)).toBeUndefined();
  });

  test("is absent if the limits are unknown", () => {
    expect(why(SET, region({ slot: 0xffff }), vmWith({}))).toBeUndefined();
  });

  test("does not name the guest_memfd if the call deletes the slot", () => {
    const gone = region({ slot: 0, flags: 4, guestPhysAddr: 0n, memorySize: 0n });
    expect(why(SET2, gone, GMEM)).toBeUndefined();
  });

  test("is that the VM has only address space 0 (KVM_CAP_MULTI_ADDRESS_SPACE is 0)", () => {
    const one = vmWith({ ...LIMITS, KVM_CAP_MULTI_ADDRESS_SPACE: 0 }, { slots: () => slots });
    expect(why(SET, region({}), one)).toBeUndefined();
    expect(why(SET, region({ slot: 0x1_0001 }), one)).toMatch(/and this VM has 1 /);
  });

  test("is absent if the VM's slots are unknown", () => {
    const unknown = vmWith(LIMITS);
    expect(why(SET, region({ memorySize: 0n }), unknown)).toBeUndefined();
    expect(why("KVM_SET_USER_MEMORY_REGION EEXIST", region({}), unknown)).toBeUndefined();
  });
});

describe("the reason of a failed KVM_SET_USER_MEMORY_REGION2 for a slot with a guest_memfd", () => {
  test.each([
    [
      "without the capability",
      { flags: 4 },
      vmWith({ KVM_CAP_GUEST_MEMFD: 0 }),
      "KVM_MEM_GUEST_MEMFD: this VM has no KVM_CAP_GUEST_MEMFD",
    ],
    [
      "read-only",
      { flags: 6 },
      GMEM,
      "KVM_MEM_GUEST_MEMFD and KVM_MEM_READONLY exclude each other",
    ],
    [
      "logged",
      { flags: 5 },
      GMEM,
      "KVM_MEM_GUEST_MEMFD and KVM_MEM_LOG_DIRTY_PAGES exclude each other",
    ],
    [
      "at half a page",
      { flags: 4, guestMemfdOffset: 0x10n },
      GMEM,
      "guestMemfdOffset 0x10 is not a multiple of 4096",
    ],
    [
      "on a slot that is there",
      { slot: 0, flags: 4, guestPhysAddr: 0n, memorySize: 0x4000n },
      GMEM,
      "slot 0 has a guest_memfd, and cannot be changed: delete it first (memorySize 0)",
    ],
  ])("is stated for %s", (_, more, evidence, reason) => {
    expect(why(SET2, region(more), evidence)).toBe(reason);
  });

  test("is the guest_memfd itself if all other members are correct", () => {
    expect(why(SET2, region({ flags: 4 }), GMEM)).toMatch(
      /^either guestMemfd is not a guest_memfd of this VM, or guestMemfd ends/,
    );
    expect(why("KVM_SET_USER_MEMORY_REGION2 EBADF", region({ flags: 4 }), GMEM)).toBe(
      "guestMemfd is not an open descriptor",
    );
  });
});

describe("the reason of a failed call about a dirty log", () => {
  test.each([
    ["KVM_GET_DIRTY_LOG ENOENT", { slot: 7 }, "slot 0x7 does not exist"],
    [
      "KVM_GET_DIRTY_LOG ENOENT",
      { slot: 0 },
      "slot 0 does not log dirty pages: its flags lack KVM_MEM_LOG_DIRTY_PAGES",
    ],
    ["KVM_GET_DIRTY_LOG ENOENT", { slot: 3 }, undefined],
    [
      "KVM_GET_DIRTY_LOG EINVAL",
      { slot: 510 },
      "slot 510: this VM has slots 0 to 508 (KVM_CAP_NR_MEMSLOTS)",
    ],
    [
      "KVM_GET_DIRTY_LOG EINVAL",
      { slot: 0x3_0000 },
      "slot 0x30000: address space 3 (bits 16-31) does not exist",
    ],
    ["KVM_GET_DIRTY_LOG EINVAL", { slot: 3 }, undefined],
    [
      "KVM_GET_DIRTY_LOG EINVAL",
      { slot: 0x2_0000 },
      "slot 0x20000: address space 2 (bits 16-31) does not exist",
    ],
    ["KVM_GET_DIRTY_LOG EINVAL", { slot: 0x1_0000 }, undefined],
    ["KVM_GET_DIRTY_LOG EFAULT", { slot: 7 }, undefined],
    ["KVM_CLEAR_DIRTY_LOG EFAULT", { slot: 3, firstPage: 0n, numPages: 0 }, undefined],
    [
      "KVM_GET_DIRTY_LOG EFAULT",
      { slot: 3 },
      "either slot 3 has 65 pages, so dirtyBitmap needs 16 bytes, or another cause",
    ],
    [
      "KVM_CLEAR_DIRTY_LOG ENOENT",
      { slot: 7, firstPage: 0n, numPages: 64 },
      "slot 0x7 does not exist",
    ],
    [
      "KVM_CLEAR_DIRTY_LOG EINVAL",
      { slot: 3, firstPage: 8n, numPages: 1 },
      "firstPage 8 is not a multiple of 64",
    ],
    [
      "KVM_CLEAR_DIRTY_LOG EINVAL",
      { slot: 3, firstPage: 64n, numPages: 2 },
      "pages 64 to 65: slot 3 has 65",
    ],
    [
      "KVM_CLEAR_DIRTY_LOG EINVAL",
      { slot: 3, firstPage: 0n, numPages: 63 },
      "numPages 63 is not a multiple of 64, and does not reach the end of slot 3",
    ],
    ["KVM_CLEAR_DIRTY_LOG EINVAL", { slot: 3, firstPage: 64n, numPages: 1 }, undefined],
    ["KVM_CLEAR_DIRTY_LOG EINVAL", { slot: 3, firstPage: 0n, numPages: 64 }, undefined],
    [
      "KVM_CLEAR_DIRTY_LOG EFAULT",
      { slot: 3, firstPage: 0n, numPages: 65 },
      "either numPages 65: dirtyBitmap needs 16 bytes, or another cause",
    ],
    [
      "KVM_RESET_DIRTY_RINGS EINVAL",
      {},
      "the VM has no dirty rings: KVM_CAP_DIRTY_LOG_RING must be enabled first",
    ],
  ])("is stated for %s with %o", (call, sent, reason) => {
    expect(why(call, sent, vm)).toBe(reason);
  });

  test("is absent if the slots or the limits are unknown", () => {
    expect(why("KVM_GET_DIRTY_LOG ENOENT", { slot: 7 })).toBeUndefined();
    expect(why("KVM_GET_DIRTY_LOG EINVAL", { slot: 0x9_ffff })).toBeUndefined();
  });

  test("is that the VM has only address space 0 (KVM_CAP_MULTI_ADDRESS_SPACE is 0)", () => {
    const one = vmWith({ KVM_CAP_MULTI_ADDRESS_SPACE: 0 });
    expect(why("KVM_GET_DIRTY_LOG EINVAL", { slot: 0x1_0000 }, one)).toMatch(
      /address space 1 .* does not exist/,
    );
    expect(why("KVM_GET_DIRTY_LOG EINVAL", { slot: 9 }, one)).toBeUndefined();
  });

  test.each(["KVM_GET_DIRTY_LOG ENXIO", "KVM_CLEAR_DIRTY_LOG ENXIO"])(
    "is that the VM uses dirty rings, for %s",
    (call) => {
      expect(why(call, { slot: 0 }, vm)).toMatch(/^the VM logs dirty pages in rings/);
    },
  );
});

describe("the reason of a failed call for private memory is stated for", () => {
  const gmemFlags = vmWith({ KVM_CAP_GUEST_MEMFD: 1, KVM_CAP_GUEST_MEMFD_FLAGS: 3 });
  const attributes = vmWith({ KVM_CAP_MEMORY_ATTRIBUTES: 8 });

  test.each([
    ["a size of 0", { size: 0n }, "size is 0"],
    ["half a page", { size: 0x800n }, "size 0x800 is not a multiple of 4096"],
    ["a negative size", { size: 2n ** 63n }, "size 0x8000000000000000 is negative for a file"],
    [
      "unknown flags",
      { size: 0x1000n, flags: 4n },
      "flags 0x4: bit 2 may not be set; KVM_CAP_GUEST_MEMFD_FLAGS allows 0x3",
    ],
    ["nothing wrong", { size: 0x1000n, flags: 3n }, undefined],
  ])("KVM_CREATE_GUEST_MEMFD with %s", (_, sent, reason) => {
    expect(why("KVM_CREATE_GUEST_MEMFD EINVAL", sent, gmemFlags)).toBe(reason);
  });

  test("KVM_CREATE_GUEST_MEMFD with a flag on a kernel that supports no flags yet", () => {
    const before = vmWith({ KVM_CAP_GUEST_MEMFD: 1, KVM_CAP_GUEST_MEMFD_FLAGS: 0 });
    expect(why("KVM_CREATE_GUEST_MEMFD EINVAL", { size: 0x1000n, flags: 1n }, before)).toBe(
      "flags 0x1: bit 0 may not be set; this KVM knows 0x0",
    );
  });

  test.each([
    ["flags", { flags: 1n }, "flags 0x1: bit 0 may not be set; Linux 7.2 has 0x0"],
    [
      "an unknown attribute",
      { size: 0x1000n, attributes: 1n },
      "attributes 0x1: bit 0 may not be set; KVM_CAP_MEMORY_ATTRIBUTES allows 0x8",
    ],
    ["a size of 0", { address: 0x1000n }, "size is 0"],
    [
      "a wrap",
      { address: 2n ** 64n - 0x1000n, size: 0x1000n },
      "address 0xfffffffffffff000 and size 0x1000 reach past 2^64",
    ],
    ["half a page", { address: 0x10n, size: 0x1000n }, "address 0x10 is not a multiple of 4096"],
    ["nothing wrong", { address: 0x1000n, size: 0x1000n, attributes: 8n }, undefined],
  ])("KVM_SET_MEMORY_ATTRIBUTES with %s", (_, sent, reason) => {
    expect(why("KVM_SET_MEMORY_ATTRIBUTES EINVAL", sent, attributes)).toBe(reason);
  });

  test("KVM_SET_MEMORY_ATTRIBUTES with unknown attributes", () => {
    const sent = { size: 0x1000n, attributes: 1n };
    expect(why("KVM_SET_MEMORY_ATTRIBUTES EINVAL", sent)).toBeUndefined();
  });

  test.each([
    ["EINVAL", { gpa: 0x10n, size: 0x1000n }, "gpa 0x10 is not a multiple of 4096"],
    ["EINVAL", { gpa: 0x1000n, size: 0n }, "size is 0"],
    [
      "EINVAL",
      { gpa: 0n, size: 0x1000n, flags: 2n },
      "flags 0x2: bit 1 may not be set; Linux 7.2 has 0x0",
    ],
    ["ENOENT", { gpa: 0x8000n, size: 0x1000n }, "gpa 0x8000 is in no memory slot"],
    ["ENOENT", { gpa: 0x3000n, size: 0x1000n }, undefined],
    ["ENOENT", { gpa: 0x4000n, size: 0x1000n }, "gpa 0x4000 is in no memory slot"],
    ["ENOENT", { gpa: 0x100_0000n, size: 0x1000n }, undefined],
  ])("%s with %o", (errno, sent, reason) => {
    const there = vmWith({ KVM_CAP_PRE_FAULT_MEMORY: 1 }, { slots: () => slots });
    expect(why(`KVM_PRE_FAULT_MEMORY ${errno}`, sent, there)).toBe(reason);
  });

  test("KVM_PRE_FAULT_MEMORY on a CPU without two-dimensional paging", () => {
    expect(why("KVM_PRE_FAULT_MEMORY EOPNOTSUPP")).toMatch(
      /^either the CPU .*EPT, NPT.*, or a nested guest .*, or/,
    );
  });
});
