/** Why KVM_SET_CPUID2 was refused, told from the table sent and the table stored. */
import {
  type CpuidChange,
  type CpuidEntry2Input,
  CpuidTable,
  diff,
  formatChange,
  isOwned,
} from "../cpuid/index.ts";

const MOST_CHANGES = 4;
const XTILE_DATA = 1 << 18;

/**
 * Says what differs between the table that the vCPU has run with and the one that was sent.
 *
 * KVM compares the tables after it has written its own bits into both (kvm_cpuid_check_equal). The table
 * at hand is the one that was given, or read last, so a difference in those bits alone may not be in it.
 */
export function explainChanges(
  given: readonly CpuidEntry2Input[],
  sent: readonly CpuidEntry2Input[],
): string {
  const changes = diff(CpuidTable.from(given), CpuidTable.from(sent));
  const culprits = changes.filter((change) => !isOwned(change));
  if (culprits.length > 0) return `the table changed after KVM_RUN: ${list(culprits)}`;
  const own = changes.length === 0 ? "" : `: ${list(changes)}`;
  return `the vCPU has run, and only bits that KVM itself sets can differ from the table that it ran with${own}`;
}

/** Says that the width of virtual addresses is none that KVM takes (kvm_check_cpuid). */
export function explainAddressWidth(sent: CpuidTable): string | undefined {
  const width = ((sent.find(0x80000008)?.eax ?? 0) >>> 8) & 0xff;
  if (width === 0 || width === 48 || width === 57) return undefined;
  return `0x80000008.0:eax[15:8] virt_addr_bits: ${width}, and KVM takes only 0, 48 or 57`;
}

/** Says that the table asks for AMX, which needs a permission (fpu_enable_guest_xfd_features). */
export function explainPermission(sent: CpuidTable): string | undefined {
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
