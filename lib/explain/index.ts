/**
 * The functions of explain/ that other folders may use. They find the reason for a refused call from its arguments and
 * from evidence.
 */
import { errnoName } from "../errors.ts";
import { ENABLE_CAP } from "./capability.ts";
import { KVMCLOCK_CTRL, SET_CLOCK, SET_TSC_KHZ } from "./clock.ts";
import { GET_CPUID, SET_CPUID } from "./cpuid.ts";
import {
  CREATE_DEVICE,
  CREATE_VCPU,
  CREATE_VM,
  DEVICE_ATTR,
  SET_BOOT_CPU_ID,
  SET_IDENTITY_MAP_ADDR,
  SET_NR_MMU_PAGES,
  SET_TSS_ADDR,
} from "./creation.ts";
import { CLEAR_DIRTY_LOG, GET_DIRTY_LOG, RESET_DIRTY_RINGS } from "./dirty-log.ts";
import { COALESCED_MMIO, IOEVENTFD, IRQFD } from "./eventfd.ts";
import {
  SET_DEBUGREGS,
  SET_GUEST_DEBUG,
  SET_MP_STATE,
  SET_VAPIC_ADDR,
  SET_VCPU_EVENTS,
  TPR_ACCESS_REPORTING,
  X86_SET_MCE,
  X86_SETUP_MCE,
} from "./events.ts";
import { SET_PMU_EVENT_FILTER, X86_SET_MSR_FILTER } from "./filter.ts";
import { ENCRYPTION, GENERAL, listRoom, MISSING } from "./general.ts";
import {
  CREATE_IRQCHIP,
  CREATE_PIT,
  GET_LAPIC,
  INTERRUPT,
  IRQ_LINE,
  IRQCHIP,
  PIT,
  SET_GSI_ROUTING,
  SET_LAPIC,
  SIGNAL_MSI,
} from "./irq.ts";
import { MADVISE, MEMFD_CREATE } from "./map-memory.ts";
import { SET_USER_MEMORY_REGION, SET_USER_MEMORY_REGION2 } from "./memory-region.ts";
import { MSRS } from "./msrs.ts";
import { GET_NESTED_STATE, SET_NESTED_STATE } from "./nested.ts";
import { OPEN } from "./open.ts";
import { CREATE_GUEST_MEMFD, PRE_FAULT_MEMORY, SET_MEMORY_ATTRIBUTES } from "./private-memory.ts";
import { ARCH_PRCTL, EPOLL_CTL, FALLOCATE, MMAP, PREAD, PTHREAD_CREATE, WRITE } from "./process.ts";
import type { Reasons, Refusal, Rule, Rules } from "./refusal.ts";
import { RUN, SET_SIGNAL_MASK } from "./run.ts";
import { SET_SREGS, SET_SREGS2 } from "./sregs.ts";
import { decide, write } from "./verdict.ts";
import { GET_XSAVE, GET_XSAVE2, SET_XCRS, SET_XSAVE } from "./xsave.ts";

export { IDENTITY_MAP } from "./kernel-pages.ts";
export { explainMsrs } from "./msrs.ts";
export type {
  Evidence,
  IrqchipMode,
  IrqfdPlace,
  KvmEvidence,
  MemorySlot,
  Refusal,
  VcpuEvidence,
  VmEvidence,
} from "./refusal.ts";

const LIST: Reasons = { E2BIG: { "too little room": listRoom } };

/** The causes of the errors of each call, by errno. */
const REASONS: Readonly<Record<string, Reasons>> = {
  open: OPEN,
  arch_prctl: ARCH_PRCTL,
  mmap: MMAP,
  madvise: MADVISE,
  memfd_create: MEMFD_CREATE,
  fallocate: FALLOCATE,
  pread: PREAD,
  write: WRITE,
  pthread_create: PTHREAD_CREATE,
  epoll_ctl: EPOLL_CTL,
  KVM_CREATE_VM: CREATE_VM,
  KVM_GET_MSR_INDEX_LIST: LIST,
  KVM_GET_MSR_FEATURE_INDEX_LIST: LIST,
  KVM_GET_SUPPORTED_CPUID: GET_CPUID,
  KVM_GET_EMULATED_CPUID: GET_CPUID,
  KVM_GET_SUPPORTED_HV_CPUID: GET_CPUID,
  KVM_CREATE_VCPU: CREATE_VCPU,
  KVM_SET_BOOT_CPU_ID: SET_BOOT_CPU_ID,
  KVM_SET_TSS_ADDR: SET_TSS_ADDR,
  KVM_SET_IDENTITY_MAP_ADDR: SET_IDENTITY_MAP_ADDR,
  KVM_SET_NR_MMU_PAGES: SET_NR_MMU_PAGES,
  KVM_CREATE_DEVICE: CREATE_DEVICE,
  KVM_SET_DEVICE_ATTR: DEVICE_ATTR,
  KVM_GET_DEVICE_ATTR: DEVICE_ATTR,
  KVM_HAS_DEVICE_ATTR: DEVICE_ATTR,
  KVM_ENABLE_CAP: ENABLE_CAP,
  KVM_SET_USER_MEMORY_REGION: SET_USER_MEMORY_REGION,
  KVM_SET_USER_MEMORY_REGION2: SET_USER_MEMORY_REGION2,
  KVM_CREATE_GUEST_MEMFD: CREATE_GUEST_MEMFD,
  KVM_SET_MEMORY_ATTRIBUTES: SET_MEMORY_ATTRIBUTES,
  KVM_PRE_FAULT_MEMORY: PRE_FAULT_MEMORY,
  KVM_GET_DIRTY_LOG: GET_DIRTY_LOG,
  KVM_CLEAR_DIRTY_LOG: CLEAR_DIRTY_LOG,
  KVM_RESET_DIRTY_RINGS: RESET_DIRTY_RINGS,
  KVM_CREATE_IRQCHIP: CREATE_IRQCHIP,
  KVM_GET_IRQCHIP: IRQCHIP,
  KVM_SET_IRQCHIP: IRQCHIP,
  KVM_CREATE_PIT: CREATE_PIT,
  KVM_CREATE_PIT2: CREATE_PIT,
  KVM_GET_PIT: PIT,
  KVM_SET_PIT: PIT,
  KVM_GET_PIT2: PIT,
  KVM_SET_PIT2: PIT,
  KVM_REINJECT_CONTROL: PIT,
  KVM_IRQ_LINE: IRQ_LINE,
  KVM_IRQ_LINE_STATUS: IRQ_LINE,
  KVM_SET_GSI_ROUTING: SET_GSI_ROUTING,
  KVM_SIGNAL_MSI: SIGNAL_MSI,
  KVM_IRQFD: IRQFD,
  KVM_IOEVENTFD: IOEVENTFD,
  KVM_REGISTER_COALESCED_MMIO: COALESCED_MMIO,
  KVM_UNREGISTER_COALESCED_MMIO: COALESCED_MMIO,
  KVM_X86_SET_MSR_FILTER: X86_SET_MSR_FILTER,
  KVM_SET_PMU_EVENT_FILTER: SET_PMU_EVENT_FILTER,
  KVM_SET_CLOCK: SET_CLOCK,
  KVM_SET_TSC_KHZ: SET_TSC_KHZ,
  KVM_MEMORY_ENCRYPT_OP: ENCRYPTION,
  KVM_MEMORY_ENCRYPT_REG_REGION: ENCRYPTION,
  KVM_MEMORY_ENCRYPT_UNREG_REGION: ENCRYPTION,
  KVM_RUN: RUN,
  KVM_SET_SIGNAL_MASK: SET_SIGNAL_MASK,
  KVM_SET_CPUID: SET_CPUID,
  KVM_SET_CPUID2: SET_CPUID,
  KVM_GET_CPUID2: GET_CPUID,
  KVM_SET_SREGS: SET_SREGS,
  KVM_SET_SREGS2: SET_SREGS2,
  KVM_GET_MSRS: MSRS,
  KVM_SET_MSRS: MSRS,
  KVM_SET_XCRS: SET_XCRS,
  KVM_SET_XSAVE: SET_XSAVE,
  KVM_GET_XSAVE: GET_XSAVE,
  KVM_GET_XSAVE2: GET_XSAVE2,
  KVM_SET_VCPU_EVENTS: SET_VCPU_EVENTS,
  KVM_SET_MP_STATE: SET_MP_STATE,
  KVM_SET_DEBUGREGS: SET_DEBUGREGS,
  KVM_SET_GUEST_DEBUG: SET_GUEST_DEBUG,
  KVM_GET_LAPIC: GET_LAPIC,
  KVM_SET_LAPIC: SET_LAPIC,
  KVM_SET_VAPIC_ADDR: SET_VAPIC_ADDR,
  KVM_TPR_ACCESS_REPORTING: TPR_ACCESS_REPORTING,
  KVM_INTERRUPT: INTERRUPT,
  KVM_X86_SETUP_MCE: X86_SETUP_MCE,
  KVM_X86_SET_MCE: X86_SET_MCE,
  KVM_KVMCLOCK_CTRL: KVMCLOCK_CTRL,
  KVM_GET_NESTED_STATE: GET_NESTED_STATE,
  KVM_SET_NESTED_STATE: SET_NESTED_STATE,
};

/** A rule for an errno of a specific call, or for an errno of any call. */
type NamedRule = readonly [call: string, errno: string, cause: string, rule: Rule];

/** Lists every rule, for the tests of explain/. The list is not cached, because only tests call this function. */
export function everyRule(): readonly NamedRule[] {
  return Object.entries({ ...REASONS, "any call": GENERAL }).flatMap(([call, reasons]) =>
    Object.entries(reasons).flatMap(([errno, rules]) =>
      Object.entries(rules).map(([cause, rule]) => [call, errno, cause, rule] as const),
    ),
  );
}

/**
 * Explains why the kernel refused a call, in a sentence that names the argument.
 *
 * If the evidence proves a cause, the sentence names this cause as a fact. If several causes stay open, the sentence
 * has the form "either … or …". This function never throws: if no reason is known, it returns undefined. This function
 * gathers only the evidence that the errno requires, because each piece of evidence may need an additional system call.
 */
export function explain(refusal: Refusal): string | undefined {
  try {
    const errno = errnoName(refusal.errno);
    // If no cause of the specific call applies, the causes that any call can have are judged.
    for (const rules of [
      MISSING,
      rulesOf(REASONS[refusal.ioctl], errno),
      rulesOf(GENERAL, errno),
    ]) {
      const verdicts = decide(rules, refusal);
      if (verdicts.length > 0) return write(verdicts);
    }
    return undefined;
  } catch {
    return undefined; // if finding a reason fails, the error is reported without a reason
  }
}

function rulesOf(reasons: Reasons | undefined, errno: string): Rules {
  const has = reasons !== undefined && Object.hasOwn(reasons, errno);
  return (has ? reasons[errno] : undefined) ?? {};
}
