/**
 * Explains why KVM_SET_USER_MEMORY_REGION or KVM_SET_USER_MEMORY_REGION2 was refused: flags, alignment, conflicts with
 * other slots.
 */
import {
  KVM_MEM_GUEST_MEMFD,
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_MEM_READONLY,
} from "../abi/generated/constants.ts";
import { physicalBits } from "../oracle/features.ts";
import { placesOf } from "./findings.ts";
import { APIC_PAGE, IDENTITY_BYTES, TSS_BYTES } from "./kernel-pages.ts";
import {
  capability,
  known,
  type MemorySlot,
  type Reasons,
  type Refusal,
  type Rule,
} from "./refusal.ts";
import { supportedTable } from "./tables.ts";
import { fault, only, open } from "./verdict.ts";
import { hex, range, unknownBits } from "./wording.ts";

/** The known fields of the region that was passed. */
interface Region {
  readonly slot: number;
  readonly flags: number;
  readonly guestPhysAddr: bigint;
  readonly memorySize: bigint;
  readonly memoryOffset: bigint;
  readonly guestMemfdOffset: bigint;
}

const PAGE = 4096n;
/** The maximum number of pages of a slot: KVM_MEM_MAX_NR_PAGES in include/linux/kvm_host.h. */
const MOST_PAGES = (1n << 31n) - 1n;
/** The maximum number of physical address bits of an x86 CPU. */
const WIDEST_GPA = 52;
const V1_FLAGS = KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY;
const V2_FLAGS = V1_FLAGS | KVM_MEM_GUEST_MEMFD;

type RegionRule = (region: Region, refusal: Refusal) => ReturnType<Rule>;

/** Judges the region that was passed, if it is known. */
const region =
  (judge: RegionRule): Rule =>
  (refusal) => {
    const sent = regionOf(refusal);
    return sent && judge(sent, refusal);
  };

/** The causes of errors of both ioctls, in the order of virt/kvm/kvm_main.c:kvm_set_memory_region. */
export const SET_USER_MEMORY_REGION: Reasons = {
  EEXIST: {
    "another slot": region((sent, { evidence: { vm } }) =>
      fault(explainOverlap(sent, known(vm?.slots) ?? [])),
    ),
    // KVM_CREATE_VCPU adds the page at this address if the CPU virtualises the APIC.
    "the APIC's page": region((sent, { evidence: { vm } }) =>
      kernelPages(
        sent,
        APIC_PAGE,
        0x1000n,
        "of the APIC, added with the first vCPU",
        known(vm?.vcpuIds)?.length !== 0,
      ),
    ),
    // KVM_CREATE_VCPU adds this page on a CPU without unrestricted guest.
    "the identity map": region((sent, { evidence: { vm } }) =>
      kernelPages(
        sent,
        known(vm?.identityMapAddr),
        IDENTITY_BYTES,
        "of the identity map, added with the first vCPU",
        known(vm?.vcpuIds)?.length !== 0,
      ),
    ),
    "the TSS": region((sent, { evidence: { vm } }) => {
      const tss = known(vm?.tssAddr);
      return kernelPages(sent, tss ?? undefined, TSS_BYTES, "of KVM_SET_TSS_ADDR", true);
    }),
  },
  EINVAL: {
    flags: region((sent, refusal) => fault(explainFlags(sent, refusal))),
    alignment: region((sent) => fault(explainAlignment(sent))),
    "slot number": region((sent, refusal) => fault(explainNumber(sent, refusal))),
    size: region((sent) => fault(explainSize(sent))),
    "slot that cannot change": region((sent, refusal) => fault(explainChange(sent, refusal))),
    "address too wide": region((sent, refusal) => fault(explainWidth(sent, refusal))),
    "other memory": region((sent, { evidence: { vm } }) =>
      open(
        sent.memorySize !== 0n && known(vm?.slots)?.some(({ slot }) => slot === sent.slot) === true
          ? `${nameOf(sent.slot)} would get other memory: delete the slot first (memorySize 0)`
          : undefined,
      ),
    ),
    // virt/kvm/guest_memfd.c:kvm_gmem_bind checks the guest_memfd of a slot
    "guest_memfd of another VM": guestMemfd("guestMemfd is not a guest_memfd of this VM"),
    "short guest_memfd": guestMemfd("guestMemfd ends before the end of the slot"),
    "guest_memfd in use": guestMemfd("another slot uses this part of guestMemfd"),
  },
};

/** The causes of errors of KVM_SET_USER_MEMORY_REGION2, which takes a guest_memfd. */
export const SET_USER_MEMORY_REGION2: Reasons = {
  ...SET_USER_MEMORY_REGION,
  EBADF: {
    "no guest_memfd": () =>
      only("virt/kvm/guest_memfd.c:kvm_gmem_bind", "guestMemfd is not an open descriptor"),
  },
};

function guestMemfd(text: string): Rule {
  return region(({ flags, memorySize }) =>
    open((flags & KVM_MEM_GUEST_MEMFD) !== 0 && memorySize !== 0n ? text : undefined),
  );
}

/** Returns an open verdict if a slot overlaps KVM's own pages, because KVM has these pages only on some CPUs. */
function kernelPages(
  { slot, guestPhysAddr, memorySize }: Region,
  start: bigint | undefined,
  bytes: bigint,
  what: string,
  canExist: boolean,
): ReturnType<Rule> {
  const isOver =
    start !== undefined &&
    slot >>> 16 === 0 &&
    guestPhysAddr < start + bytes &&
    start < guestPhysAddr + memorySize;
  return open(
    isOver && canExist
      ? `${nameOf(slot)} (${range(guestPhysAddr, memorySize)}) overlaps pages that KVM keeps for itself at ${hex(start)}: those ${what}`
      : undefined,
  );
}

function regionOf({ sent }: Refusal): Region | undefined {
  const { slot, flags = 0, guestPhysAddr, memorySize } = sent;
  if (typeof slot !== "number" || typeof flags !== "number") return undefined;
  if (typeof guestPhysAddr !== "bigint" || typeof memorySize !== "bigint") return undefined;
  const memoryOffset = integer(sent["memoryOffset"]);
  const guestMemfdOffset = integer(sent["guestMemfdOffset"]);
  return { slot, flags, guestPhysAddr, memorySize, memoryOffset, guestMemfdOffset };
}

function integer(value: unknown): bigint {
  return typeof value === "number" || typeof value === "bigint" ? BigInt(value) : 0n;
}

/** Formats the number of a slot and, if it is not 0, the slot's address space. */
function nameOf(slot: number): string {
  const space = slot >>> 16;
  return space === 0 ? `slot ${slot}` : `slot ${slot & 0xffff} of address space ${space}`;
}

function explainOverlap(region: Region, slots: readonly MemorySlot[]): string | undefined {
  const other = slots.find((slot) => isOverlap(region, slot));
  if (other === undefined) return undefined;
  const isInside = region.guestPhysAddr >= other.guestPhysAddr;
  return (
    `${nameOf(region.slot)} overlaps ${nameOf(other.slot)} ` +
    `at ${hex((isInside ? region : other).guestPhysAddr)}: ` +
    `${range(region.guestPhysAddr, region.memorySize)} against ` +
    `${range(other.guestPhysAddr, other.memorySize)}`
  );
}

function isOverlap(region: Region, other: MemorySlot): boolean {
  return (
    other.slot !== region.slot &&
    other.slot >>> 16 === region.slot >>> 16 &&
    region.guestPhysAddr < other.guestPhysAddr + other.memorySize &&
    other.guestPhysAddr < region.guestPhysAddr + region.memorySize
  );
}

// virt/kvm/kvm_main.c:check_memory_region_flags checks the flags
function explainFlags({ flags }: Region, { ioctl, evidence }: Refusal): string | undefined {
  const isFirst = ioctl === "KVM_SET_USER_MEMORY_REGION";
  const isPrivate = (flags & KVM_MEM_GUEST_MEMFD) !== 0;
  if (isFirst && isPrivate) return "KVM_MEM_GUEST_MEMFD is for KVM_SET_USER_MEMORY_REGION2";
  const unknown = unknownBits("flags", flags, isFirst ? V1_FLAGS : V2_FLAGS);
  if (unknown !== undefined) return unknown;
  if ((flags & KVM_MEM_READONLY) !== 0 && capability(evidence, "KVM_CAP_READONLY_MEM") === 0) {
    return "KVM_MEM_READONLY: this VM has no KVM_CAP_READONLY_MEM";
  }
  if (!isPrivate) return undefined;
  if (capability(evidence, "KVM_CAP_GUEST_MEMFD") === 0) {
    return "KVM_MEM_GUEST_MEMFD: this VM has no KVM_CAP_GUEST_MEMFD";
  }
  const other = flags & KVM_MEM_READONLY ? "KVM_MEM_READONLY" : "KVM_MEM_LOG_DIRTY_PAGES";
  return flags === KVM_MEM_GUEST_MEMFD
    ? undefined
    : `KVM_MEM_GUEST_MEMFD and ${other} exclude each other`;
}

function explainAlignment(region: Region): string | undefined {
  const names = ["memorySize", "guestPhysAddr", "memoryOffset", "guestMemfdOffset"] as const;
  const name = names.find((key) => region[key] % PAGE !== 0n);
  return name && `${name} ${hex(region[name])} is not a multiple of ${PAGE}`;
}

function explainNumber({ slot }: Region, { evidence }: Refusal): string | undefined {
  const most = capability(evidence, "KVM_CAP_NR_MEMSLOTS");
  const id = slot & 0xffff;
  if (most !== undefined && id >= most) {
    return `slot ${id}: this VM has slots 0 to ${most - 1} (KVM_CAP_NR_MEMSLOTS)`;
  }
  const spaces = capability(evidence, "KVM_CAP_MULTI_ADDRESS_SPACE");
  const space = slot >>> 16;
  // A VM has two address spaces if KVM supports SMM; without KVM_CAP_MULTI_ADDRESS_SPACE, it has one.
  if (spaces === undefined || space < Math.max(1, spaces)) return undefined;
  return (
    `slot ${hex(slot)} is in address space ${space} (bits 16-31), and this VM has ` +
    `${Math.max(1, spaces)} (KVM_CAP_MULTI_ADDRESS_SPACE)`
  );
}

function explainSize({ guestPhysAddr, memorySize }: Region): string | undefined {
  if (guestPhysAddr + memorySize >= 1n << 64n) {
    return `guestPhysAddr ${hex(guestPhysAddr)} and memorySize ${hex(memorySize)} reach past 2^64`;
  }
  if (memorySize / PAGE <= MOST_PAGES) return undefined;
  return `memorySize ${hex(memorySize)} is ${memorySize / PAGE} pages, but a slot has at most ${MOST_PAGES}`;
}

function explainChange(region: Region, { evidence }: Refusal): string | undefined {
  const slots = known(evidence.vm?.slots);
  if (slots === undefined) return undefined;
  const old = slots.find(({ slot }) => slot === region.slot);
  const name = nameOf(region.slot);
  if (old === undefined) {
    return region.memorySize === 0n
      ? `memorySize 0 deletes a slot, but ${name} does not exist`
      : undefined;
  }
  if (region.memorySize === 0n) return undefined;
  const rule = "delete it first (memorySize 0)";
  if (region.memorySize !== old.memorySize) {
    return `${name} has ${hex(old.memorySize)} bytes, and its size cannot become ${hex(region.memorySize)}: ${rule}`;
  }
  const changed = region.flags ^ old.flags;
  if ((changed & KVM_MEM_READONLY) !== 0) {
    return `${name} cannot become ${(region.flags & KVM_MEM_READONLY) === 0 ? "writable" : "read-only"}: ${rule}`;
  }
  if (((region.flags | old.flags) & KVM_MEM_GUEST_MEMFD) !== 0) {
    return `${name} has a guest_memfd, and cannot be changed: ${rule}`;
  }
  return undefined;
}

function explainWidth(
  { guestPhysAddr, memorySize }: Region,
  { evidence }: Pick<Refusal, "evidence">,
): string | undefined {
  if (memorySize === 0n) return undefined;
  const last = guestPhysAddr + memorySize - 1n;
  if (last >> BigInt(WIDEST_GPA) !== 0n) {
    return `the slot ends at ${hex(last)}, but guest physical addresses have at most ${WIDEST_GPA} bits`;
  }
  const table = supportedTable(evidence);
  if (table === undefined) return undefined;
  const bits = physicalBits(table);
  if (last >> BigInt(bits) === 0n) return undefined;
  return (
    `the slot ends at ${hex(last)}, but this KVM's guest physical addresses have ${bits} bits ` +
    `(${placesOf(["phys_addr_bits"])})`
  );
}
