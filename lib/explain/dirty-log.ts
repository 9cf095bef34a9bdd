/** Explains why a dirty log could not be read or cleared, or why dirty rings could not be reset. */
import { isBytes } from "../abi/bytes.ts";
import { KVM_MEM_LOG_DIRTY_PAGES } from "../abi/generated/constants.ts";
import { ClearDirtyLog, DirtyLog } from "../abi/generated/structs.ts";
import {
  capability,
  type Evidence,
  known,
  type Reasons,
  type Rule,
  sentStruct,
} from "./refusal.ts";
import { fault, only, open } from "./verdict.ts";
import { hex } from "./wording.ts";

const PAGES_PER_WORD = 64n;
const PAGE = 4096n;

const ringOnly: Rule = () =>
  only(
    "virt/kvm/dirty_ring.c:kvm_use_dirty_bitmap",
    "the VM logs dirty pages in rings (KVM_CAP_DIRTY_LOG_RING), and has no bitmaps",
  );

function withoutLog(slot: number | undefined, { vm }: Evidence): string | undefined {
  const slots = known(vm?.slots);
  if (slot === undefined || slots === undefined) return undefined;
  const found = slots.find((one) => one.slot === slot);
  if (found === undefined) return `slot ${hex(slot)} does not exist`;
  return (found.flags & KVM_MEM_LOG_DIRTY_PAGES) === 0
    ? `slot ${slot} does not log dirty pages: its flags lack KVM_MEM_LOG_DIRTY_PAGES`
    : undefined;
}

function explainSlot(slot: number, evidence: Evidence): string | undefined {
  const most = capability(evidence, "KVM_CAP_NR_MEMSLOTS");
  const spaces = capability(evidence, "KVM_CAP_MULTI_ADDRESS_SPACE");
  if (most !== undefined && (slot & 0xffff) >= most) {
    return `slot ${slot & 0xffff}: this VM has slots 0 to ${most - 1} (KVM_CAP_NR_MEMSLOTS)`;
  }
  return spaces !== undefined && slot >>> 16 >= Math.max(1, spaces)
    ? `slot ${hex(slot)}: address space ${slot >>> 16} (bits 16-31) does not exist`
    : undefined;
}

/** A bitmap consists of words of 64 pages; the last word may have more bits than the slot has pages. */
const bitmapBytes = (pages: bigint): bigint =>
  ((pages + PAGES_PER_WORD - 1n) / PAGES_PER_WORD) * (PAGES_PER_WORD / 8n);

/** The causes of errors of KVM_GET_DIRTY_LOG. */
export const GET_DIRTY_LOG: Reasons = {
  ENXIO: { "rings instead": ringOnly },
  ENOENT: {
    "slot without a log": (refusal) =>
      fault(withoutLog(sentStruct(refusal, DirtyLog)?.slot, refusal.evidence)),
  },
  EINVAL: {
    "slot number": (refusal) => {
      const log = sentStruct(refusal, DirtyLog);
      return fault(log && explainSlot(log.slot, refusal.evidence));
    },
  },
  EFAULT: {
    "short bitmap": (refusal) => {
      const slot = sentStruct(refusal, DirtyLog)?.slot;
      const found = known(refusal.evidence.vm?.slots)?.find((one) => one.slot === slot);
      if (found === undefined) return undefined;
      const pages = found.memorySize / PAGE;
      const needed = `slot ${slot} has ${pages} pages, so dirtyBitmap needs ${bitmapBytes(pages)} bytes`;
      return bitmapFault(needed, bitmapBytes(pages), refusal.links?.[0]);
    },
  },
};

/** Judges the length of a bitmap; if the length is unknown, the cause stays open. */
function bitmapFault(text: string, needed: bigint, bitmap: unknown): ReturnType<Rule> {
  if (!isBytes(bitmap)) return open(text);
  return fault(BigInt(bitmap.length) < needed ? `${text}, and has ${bitmap.length}` : undefined);
}

/** The causes of errors of KVM_CLEAR_DIRTY_LOG. */
export const CLEAR_DIRTY_LOG: Reasons = {
  ENXIO: { "rings instead": ringOnly },
  ENOENT: {
    "slot without a log": (refusal) =>
      fault(withoutLog(sentStruct(refusal, ClearDirtyLog)?.slot, refusal.evidence)),
  },
  EINVAL: {
    "slot number": (refusal) => {
      const log = sentStruct(refusal, ClearDirtyLog);
      return fault(log && explainSlot(log.slot, refusal.evidence));
    },
    "range of pages": (refusal) => {
      const log = sentStruct(refusal, ClearDirtyLog);
      return fault(log && explainPages(log, refusal.evidence));
    },
  },
  EFAULT: {
    "short bitmap": (refusal) => {
      const log = sentStruct(refusal, ClearDirtyLog);
      if (log === undefined) return undefined;
      const bytes = bitmapBytes(BigInt(log.numPages));
      const needed = `numPages ${log.numPages}: dirtyBitmap needs ${bytes} bytes`;
      return log.numPages === 0 ? undefined : bitmapFault(needed, bytes, refusal.links?.[0]);
    },
  },
};

function explainPages({ slot, firstPage, numPages }: ClearDirtyLog, { vm }: Evidence) {
  if (firstPage % PAGES_PER_WORD !== 0n) return `firstPage ${firstPage} is not a multiple of 64`;
  const found = known(vm?.slots)?.find((one) => one.slot === slot);
  if (found === undefined) return undefined;
  const pages = found.memorySize / PAGE;
  const end = firstPage + BigInt(numPages);
  if (end > pages) return `pages ${firstPage} to ${end - 1n}: slot ${slot} has ${pages}`;
  return BigInt(numPages) % PAGES_PER_WORD !== 0n && end < pages
    ? `numPages ${numPages} is not a multiple of 64, and does not reach the end of slot ${slot}`
    : undefined;
}

/** The causes of errors of KVM_RESET_DIRTY_RINGS. */
export const RESET_DIRTY_RINGS: Reasons = {
  EINVAL: {
    "no rings": () =>
      only(
        "virt/kvm/kvm_main.c:kvm_vm_ioctl_reset_dirty_pages",
        "the VM has no dirty rings: KVM_CAP_DIRTY_LOG_RING must be enabled first",
      ),
  },
};
