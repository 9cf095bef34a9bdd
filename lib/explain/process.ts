/** Why calls of the process's own were refused: mmap for guest memory, arch_prctl for AMX. Opening a device is open.ts. */
import type { Reasons, Refusal } from "./refusal.ts";

const component = ({ sent }: Refusal): string => `component ${sent["component"]}`;

/** The reasons of arch_prctl's ARCH_REQ_XCOMP_GUEST_PERM (arch/x86/kernel/fpu/xstate.c). */
export const ARCH_PRCTL: Reasons = {
  EBUSY: () => "too late: it must come before the process's first vCPU",
  EOPNOTSUPP: (refusal) =>
    `${component(refusal)}: this CPU has it not, or not one that needs a permission`,
  EINVAL: (refusal) =>
    `${component(refusal)}: there is no such XSAVE component, or this kernel has no such permission`,
};

/** The reasons of mmap. */
export const MMAP: Reasons = {
  EINVAL: ({ sent: { length } }) =>
    length === 0 || length === 0n ? "length 0: guest memory has at least a page" : undefined,
  ENOMEM: () =>
    "no room for that much: memory, this process's address space (ulimit -v) or its mappings " +
    "(vm.max_map_count) are used up",
};
