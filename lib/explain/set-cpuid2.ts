/** Why KVM_SET_CPUID2 was refused, told from the table sent and the table stored. */
import {
  type CpuidChange,
  type CpuidEntry2,
  type CpuidEntryInput,
  CpuidTable,
  diff,
  formatChange,
  isOwned,
} from "../cpuid/index.ts";

/** What is known about a refused KVM_SET_CPUID2. */
export interface RefusedCpuid {
  /** The kernel's errno, positive. */
  readonly errno: number;
  /** The count that was sent. */
  readonly nent: number;
  /** The entries that were sent. */
  readonly sent: readonly CpuidEntryInput[];
  /** Whether the guest surely was entered; a run that a signal ended may have entered it or not. */
  readonly isFrozen: boolean;
  /** The table that KVM has, if the vCPU may have run. */
  readonly stored: () => readonly CpuidEntry2[] | undefined;
}

const EPERM = 1;
const E2BIG = 7;
const EFAULT = 14;
const EINVAL = 22;
const MOST_CHANGES = 4;
const XTILE_DATA = 1 << 18;

/** Says why, in a sentence; `undefined` when we do not know. */
export function explainSetCpuid2(refused: RefusedCpuid): string | undefined {
  switch (refused.errno) {
    case E2BIG:
      return `${refused.nent} entries, and KVM takes at most 256 (KVM_MAX_CPUID_ENTRIES)`;
    case EFAULT:
      return `nent is ${refused.nent}, but only ${refused.sent.length} entries were sent`;
    case EPERM:
      return explainPermission(CpuidTable.from(refused.sent));
    case EINVAL:
      return explainInvalid(refused);
    default:
      return undefined;
  }
}

function explainInvalid(refused: RefusedCpuid): string | undefined {
  const sent = CpuidTable.from(refused.sent);
  const width = explainAddressWidth(sent);
  if (!refused.isFrozen && width !== undefined) return width;
  let stored: readonly CpuidEntry2[] | undefined;
  try {
    stored = refused.stored();
  } catch {
    return undefined; // the refusal is the news, not that its reason cannot be asked for
  }
  if (stored === undefined) return undefined;
  const changes = diff(CpuidTable.from(stored), sent);
  if (changes.length === 0) return "the vCPU has run, but its table is the one that was sent";
  // KVM writes its own bits into the table sent before it compares, so others are to blame.
  const culprits = changes.filter((change) => !isOwned(change));
  if (culprits.length === 0) {
    return `the vCPU has run, and only bits that KVM itself sets differ: ${list(changes)}`;
  }
  return `the table changed after KVM_RUN: ${list(culprits)}`;
}

// arch/x86/kvm/cpuid.c:kvm_check_cpuid
function explainAddressWidth(sent: CpuidTable): string | undefined {
  const width = ((sent.find(0x80000008)?.eax ?? 0) >>> 8) & 0xff;
  if (width === 0 || width === 48 || width === 57) return undefined;
  return `0x80000008.0:eax[15:8] virt_addr_bits: ${width}, and KVM takes only 0, 48 or 57`;
}

// arch/x86/kernel/fpu/xstate.c:fpu_enable_guest_xfd_features
function explainPermission(sent: CpuidTable): string | undefined {
  if (((sent.find(0xd, 0)?.eax ?? 0) & XTILE_DATA) === 0) return undefined;
  return (
    "0xd.0:eax[18] asks for AMX tile data, which this process has no permission to give a guest " +
    "(arch_prctl ARCH_REQ_XCOMP_GUEST_PERM)"
  );
}

function list(changes: readonly CpuidChange[]): string {
  const shown = changes
    .slice(0, MOST_CHANGES)
    .map((change) => formatChange(change, { before: "ran with", after: "got" }));
  const rest = changes.length - shown.length;
  return shown.join("; ") + (rest > 0 ? `; and ${rest} more` : "");
}
