/** Why guest_memfds, memory attributes and faults ahead of time were refused. */
import { GUEST_MEMFD_FLAG_INIT_SHARED, GUEST_MEMFD_FLAG_MMAP } from "../abi/generated/constants.ts";
import { CreateGuestMemfd, MemoryAttributes, PreFaultMemory } from "../abi/generated/structs.ts";
import { capability, type Evidence, known, type Reasons, sentStruct } from "./refusal.ts";
import { firstOf, hex, unknownBits } from "./wording.ts";

const PAGE = 4096n;

/** Complains about numbers that are not whole pages. */
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

/** The reasons of KVM_CREATE_GUEST_MEMFD. */
export const CREATE_GUEST_MEMFD: Reasons = {
  EINVAL: (refusal) => {
    const sent = sentStruct(refusal, CreateGuestMemfd);
    if (sent === undefined) return undefined;
    const allowed = capability(refusal.evidence, "KVM_CAP_GUEST_MEMFD_FLAGS");
    const isTold = allowed !== undefined && allowed !== 0;
    const flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;
    return firstOf(
      () =>
        isTold
          ? unknownBits("flags", sent.flags, allowed, "KVM_CAP_GUEST_MEMFD_FLAGS allows")
          : unknownBits("flags", sent.flags, allowed === 0 ? 0 : flags, "this KVM knows"),
      () => (sent.size === 0n ? "size is 0" : undefined),
      () => (sent.size >> 63n === 0n ? undefined : `size ${hex(sent.size)} is negative for a file`),
      () => unaligned({ size: sent.size }),
    );
  },
};

/** The reasons of KVM_SET_MEMORY_ATTRIBUTES. */
export const SET_MEMORY_ATTRIBUTES: Reasons = {
  EINVAL: (refusal) => {
    const sent = sentStruct(refusal, MemoryAttributes);
    if (sent === undefined) return undefined;
    const allowed = capability(refusal.evidence, "KVM_CAP_MEMORY_ATTRIBUTES");
    return firstOf(
      () => unknownBits("flags", sent.flags, 0),
      () =>
        allowed === undefined
          ? undefined
          : unknownBits("attributes", sent.attributes, allowed, "KVM_CAP_MEMORY_ATTRIBUTES allows"),
      () => reachesPast("address", sent.address, sent.size),
      () => unaligned({ address: sent.address, size: sent.size }),
    );
  },
};

/** The reasons of KVM_PRE_FAULT_MEMORY. */
export const PRE_FAULT_MEMORY: Reasons = {
  EINVAL: (refusal) => {
    const sent = sentStruct(refusal, PreFaultMemory);
    if (sent === undefined) return undefined;
    return firstOf(
      () => unknownBits("flags", sent.flags, 0),
      () => unaligned({ gpa: sent.gpa, size: sent.size }),
      () => reachesPast("gpa", sent.gpa, sent.size),
    );
  },
  ENOENT: (refusal) => {
    const sent = sentStruct(refusal, PreFaultMemory);
    return sent && withoutSlot(sent.gpa, refusal.evidence);
  },
  EOPNOTSUPP: () =>
    "KVM faults in ahead of time only where the CPU translates guest physical addresses (EPT, NPT), " +
    "and not while a nested guest is active",
};

function withoutSlot(gpa: bigint, { vm }: Evidence): string | undefined {
  const slots = known(vm?.slots);
  const isThere = slots?.some(
    ({ guestPhysAddr, memorySize }) => gpa >= guestPhysAddr && gpa < guestPhysAddr + memorySize,
  );
  return isThere === false ? `gpa ${hex(gpa)}: no memory slot is there` : undefined;
}
