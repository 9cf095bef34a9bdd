/**
 * Why calls of the process's own were refused: mmap for guest memory, arch_prctl for AMX, any that opens a
 * descriptor when there is none left. Opening a device is open.ts.
 */
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

/** How many descriptors this process may have open, and how many this package has open in it. */
export interface DescriptorCounts {
  /** RLIMIT_NOFILE's soft limit. */
  readonly limit: number;
  /** Open handles of this package, and shared memory's files. */
  readonly own: number;
}

/**
 * Explains `EMFILE`, which Linux answers only when each descriptor number below RLIMIT_NOFILE is in use
 * (fs/file.c, alloc_fd).
 */
export function explainNoDescriptor({ limit, own }: DescriptorCounts): string {
  const used =
    `all ${limit} descriptors that this process may have (RLIMIT_NOFILE, ulimit -n) are in use, ` +
    `${own} of them by node-kvm`;
  if (own === 0) return used;
  return (
    `${used}: call close() on handles that are no longer needed; the garbage collector closes dropped ` +
    "handles late, and only between turns of the event loop"
  );
}

/** The reasons of mmap. */
export const MMAP: Reasons = {
  EINVAL: ({ sent: { length } }) =>
    length === 0 || length === 0n ? "length 0: guest memory has at least a page" : undefined,
  ENOMEM: () =>
    "no room for that much: memory, this process's address space (ulimit -v) or its mappings " +
    "(vm.max_map_count) are used up",
};
