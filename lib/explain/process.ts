/**
 * Explains why system calls that are not ioctls failed: arch_prctl, mmap, write and others. open.ts explains failures
 * of open.
 */
import { explainMap } from "./map-memory.ts";
import { known, type Reasons, type Refusal } from "./refusal.ts";
import { claim, only, open } from "./verdict.ts";

const component = ({ sent }: Refusal): string => `component ${sent["component"]}`;
const PAGE = 4096n;

/** The causes of errors of arch_prctl's ARCH_REQ_XCOMP_GUEST_PERM. */
export const ARCH_PRCTL: Reasons = {
  EBUSY: {
    "after the first vCPU": () =>
      only(
        "arch/x86/kernel/fpu/xstate.c:__xstate_request_perm",
        "too late: the call must come before the process's first vCPU",
      ),
  },
  EOPNOTSUPP: {
    "CPU without it": (refusal) =>
      open(`${component(refusal)}: this CPU does not have the component`),
    "no permission needed": (refusal) => open(`${component(refusal)} needs no permission`),
  },
  EINVAL: {
    "unknown component": (refusal) =>
      open(`${component(refusal)}: the kernel has no such XSAVE component`),
    "old kernel": () =>
      open("this kernel has no ARCH_REQ_XCOMP_GUEST_PERM, which Linux 5.17 added"),
  },
};

/** The limit for this process's descriptors, and the number of descriptors that this package has open. */
export interface DescriptorCounts {
  /** The soft limit of RLIMIT_NOFILE. */
  readonly limit: number;
  /** The number of open handles of this package, and of files of shared memory. */
  readonly own: number;
}

/**
 * Explains `EMFILE`, which Linux returns only if each descriptor number below RLIMIT_NOFILE is in use
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

/** The causes of errors of mmap. */
export const MMAP: Reasons = {
  ...explainMap,
  EINVAL: {
    "no bytes": ({ sent: { length, byteLength = length } }) =>
      claim(byteLength === 0 || byteLength === 0n, "length 0: guest memory has at least a page"),
    // virt/kvm/kvm_main.c:kvm_vcpu_mmap maps the ring's pages only if the vCPU has a ring
    "VM without rings": ({ sent, evidence: { vm } }) => {
      if (sent["what"] !== "dirty ring") return undefined;
      const enabled = known(vm?.enabled);
      const text = "the VM has no dirty rings: KVM_CAP_DIRTY_LOG_RING must be enabled first";
      const has = (name: "KVM_CAP_DIRTY_LOG_RING" | "KVM_CAP_DIRTY_LOG_RING_ACQ_REL"): boolean =>
        enabled?.has(name) === true;
      return claim(
        enabled && !has("KVM_CAP_DIRTY_LOG_RING") && !has("KVM_CAP_DIRTY_LOG_RING_ACQ_REL"),
        text,
      );
    },
    ...explainMap["EINVAL"],
  },
  ENODEV: {
    // virt/kvm/guest_memfd.c:kvm_gmem_mmap returns ENODEV
    "guest_memfd without MMAP": ({ sent: { what } }) =>
      what === "guest_memfd"
        ? only(
            "virt/kvm/guest_memfd.c:kvm_gmem_mmap",
            "the guest_memfd was created without GUEST_MEMFD_FLAG_MMAP",
          )
        : undefined,
    ...explainMap["ENODEV"],
  },
  ENOMEM: {
    ...explainMap["ENOMEM"],
    memory: () => open("there is not enough memory (the cgroup's limit counts too)"),
    "address space": () => open("this process's address space is used up (ulimit -v)"),
    mappings: () => open("this process has too many mappings (vm.max_map_count)"),
  },
};

const integer = (value: unknown): bigint => (typeof value === "bigint" ? value : 0n);

/** The causes of errors of fallocate on a guest_memfd (virt/kvm/guest_memfd.c:kvm_gmem_fallocate). */
export const FALLOCATE: Reasons = {
  EINVAL: {
    "half a page": ({ sent }) => {
      const name = ["offset", "length"].find((key) => integer(sent[key]) % PAGE !== 0n);
      return claim(name !== undefined, `${name} ${sent[name ?? ""]} is not a multiple of ${PAGE}`);
    },
    "no length": ({ sent: { length } }) => claim(length === 0n, "length is 0"),
    negative: ({ sent: { offset, length } }) =>
      claim(
        integer(offset) >> 63n !== 0n || integer(length) >> 63n !== 0n,
        "offset or length is negative for a file",
      ),
    "past the end": ({ sent: { offset, length, size } }) =>
      claim(
        typeof size === "bigint" && integer(offset) + integer(length) > size,
        `offset ${offset} and length ${length} reach past the ${size} bytes of the file`,
      ),
  },
  ENOMEM: { memory: () => open("there is not enough memory (the cgroup's limit counts too)") },
};

/** The causes of errors of a pread of a stats descriptor. */
export const PREAD: Reasons = {
  EIO: {
    "VM of another process": ({ evidence: { vm } }) =>
      claim(known(vm?.isForeign) === true, "this VM belongs to another process"),
  },
};

/** The causes of errors of a write to an eventfd (fs/eventfd.c:eventfd_write). */
export const WRITE: Reasons = {
  EAGAIN: {
    "full counter": () =>
      only(
        "fs/eventfd.c:eventfd_write",
        "the counter would exceed 2^64 - 2, because it was not read",
      ),
  },
  EINVAL: {
    "highest value": ({ sent: { value } }) =>
      claim(value === (1n << 64n) - 1n, `value ${value}: an eventfd takes up to 2^64 - 2`),
  },
};

/** The causes of errors of pthread_create (pthread_create(3)). */
export const PTHREAD_CREATE: Reasons = {
  EAGAIN: {
    "limit of threads": () =>
      open("the user or the cgroup has too many threads (ulimit -u, pids.max)"),
    "limit of the system": () =>
      open("the system has too many threads (kernel.threads-max, kernel.pid_max)"),
    memory: () => open("no memory or address space is left for the thread's stack (ulimit -v)"),
  },
  ENOMEM: {
    memory: () => open("no memory or address space is left for the thread's stack (ulimit -v)"),
  },
};

/** The causes of errors of epoll_ctl on an eventfd. */
export const EPOLL_CTL: Reasons = {
  ENOSPC: {
    watches: () =>
      only("fs/eventpoll.c:ep_insert", "the user has too many watches (fs.epoll.max_user_watches)"),
  },
};
