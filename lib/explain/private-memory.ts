/** Explains why calls for guest_memfds, memory attributes and prefaulting were refused. */
import { GUEST_MEMFD_FLAG_INIT_SHARED, GUEST_MEMFD_FLAG_MMAP } from "../abi/generated/constants.ts";
import { CreateGuestMemfd, MemoryAttributes, PreFaultMemory } from "../abi/generated/structs.ts";
import {
  capability,
  type Evidence,
  known,
  type Reasons,
  type Refusal,
  sentStruct,
} from "./refusal.ts";
import { claim, fault, open } from "./verdict.ts";
import { hex, unknownBits } from "./wording.ts";

const PAGE = 4096n;

/** Finds a number in the arguments that is not a multiple of the page size. */
function unaligned(values: Readonly<Record<string, bigint>>): string | undefined {
  const [name, value] = Object.entries(values).find(([, size]) => size % PAGE !== 0n) ?? [];
  return value === undefined ? undefined : `${name} ${hex(value)} is not a multiple of ${PAGE}`;
}

function reachesPast(name: string, start: bigint, size: bigint): string | undefined {
  if (size === 0n) return "size is 0";
  return start + size >= 1n << 64n
    ? `${name} ${hex(start)} and size ${hex(size)} reach past 2^64`
    : undefined;
}

const memfdOf = (refusal: Refusal): CreateGuestMemfd | undefined =>
  sentStruct(refusal, CreateGuestMemfd);

/** The causes of errors of KVM_CREATE_GUEST_MEMFD. */
export const CREATE_GUEST_MEMFD: Reasons = {
  EINVAL: {
    flags: (refusal) => {
      const { flags = 0n } = memfdOf(refusal) ?? {};
      const allowed = capability(refusal.evidence, "KVM_CAP_GUEST_MEMFD_FLAGS");
      const isTold = allowed !== undefined && allowed !== 0;
      const most = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;
      return fault(
        isTold
          ? unknownBits("flags", flags, allowed, "KVM_CAP_GUEST_MEMFD_FLAGS allows")
          : unknownBits("flags", flags, allowed === 0 ? 0 : most, "this KVM knows"),
      );
    },
    "no size": (refusal) => claim(memfdOf(refusal)?.size === 0n, "size is 0"),
    "negative size": (refusal) => {
      const { size = 0n } = memfdOf(refusal) ?? {};
      return claim(size >> 63n !== 0n, `size ${hex(size)} is negative for a file`);
    },
    alignment: (refusal) => fault(unaligned({ size: memfdOf(refusal)?.size ?? 0n })),
  },
};

const attributesOf = (refusal: Refusal): MemoryAttributes | undefined =>
  sentStruct(refusal, MemoryAttributes);

/** The causes of errors of KVM_SET_MEMORY_ATTRIBUTES. */
export const SET_MEMORY_ATTRIBUTES: Reasons = {
  EINVAL: {
    flags: (refusal) => fault(unknownBits("flags", attributesOf(refusal)?.flags ?? 0n, 0)),
    attributes: (refusal) => {
      const { attributes = 0n } = attributesOf(refusal) ?? {};
      const allowed = capability(refusal.evidence, "KVM_CAP_MEMORY_ATTRIBUTES");
      if (allowed === undefined) return undefined;
      const allowedBy = "KVM_CAP_MEMORY_ATTRIBUTES allows";
      return fault(unknownBits("attributes", attributes, allowed, allowedBy));
    },
    range: (refusal) => {
      const sent = attributesOf(refusal);
      return fault(sent && reachesPast("address", sent.address, sent.size));
    },
    alignment: (refusal) => {
      const { address = 0n, size = 0n } = attributesOf(refusal) ?? {};
      return fault(unaligned({ address, size }));
    },
  },
};

const faultOf = (refusal: Refusal): PreFaultMemory | undefined =>
  sentStruct(refusal, PreFaultMemory);

/** The causes of errors of KVM_PRE_FAULT_MEMORY. */
export const PRE_FAULT_MEMORY: Reasons = {
  EINVAL: {
    flags: (refusal) => fault(unknownBits("flags", faultOf(refusal)?.flags ?? 0n, 0)),
    alignment: (refusal) => {
      const { gpa = 0n, size = 0n } = faultOf(refusal) ?? {};
      return fault(unaligned({ gpa, size }));
    },
    range: (refusal) => {
      const sent = faultOf(refusal);
      return fault(sent && reachesPast("gpa", sent.gpa, sent.size));
    },
  },
  ENOENT: {
    "no slot": (refusal) => {
      const sent = faultOf(refusal);
      return fault(sent && withoutSlot(sent.gpa, refusal.evidence));
    },
  },
  // arch/x86/kvm/mmu/mmu.c:kvm_arch_vcpu_pre_fault_memory returns EOPNOTSUPP
  EOPNOTSUPP: {
    "shadow paging": () =>
      open("the CPU does not translate guest physical addresses in this mode (EPT, NPT)"),
    "nested guest": () => open("a nested guest is active"),
    "protected VM": () =>
      open("the VM is of a protected type (SNP, TDX) and was not finalised yet"),
  },
};

function withoutSlot(gpa: bigint, { vm }: Evidence): string | undefined {
  const slots = known(vm?.slots);
  const isThere = slots?.some(
    ({ guestPhysAddr, memorySize }) => gpa >= guestPhysAddr && gpa < guestPhysAddr + memorySize,
  );
  return isThere === false ? `gpa ${hex(gpa)} is in no memory slot` : undefined;
}
