/** KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG. dirty-pages.ts iterates over the pages of a bitmap or of a dirty ring. */
import { KVM_CLEAR_DIRTY_LOG, KVM_GET_DIRTY_LOG } from "../../abi/generated/ioctls.ts";
import { ClearDirtyLog, DirtyLog } from "../../abi/generated/structs.ts";
import { encode } from "../../abi/struct.ts";
import { refuseMisfit, toU32, toU64 } from "../../options.ts";
import type { IoctlTarget } from "../handle.ts";

/** Pages of a slot that the guest has written, and for which KVM must track writes again. */
export interface ClearDirtyLogInput {
  /** As in {@link UserspaceMemoryRegionInput}. */
  readonly slot: number;
  /** The first page, relative to the slot's start; a multiple of 64. */
  readonly firstPage: bigint | number;
  /** The number of pages; a multiple of 64, or the number up to the slot's end. */
  readonly numPages: number;
  /** A bitmap with one bit per page, starting with `firstPage`. */
  readonly dirtyBitmap: Uint8Array;
}

/**
 * Reads the dirty bitmap of a slot with `pages` pages; if `pages` is `undefined`, `pagesOf` returns the number of
 * pages.
 */
export function getDirtyLog(
  handle: IoctlTarget,
  slot: number,
  pages: bigint | number | undefined,
  pagesOf: (slot: number) => bigint,
): Uint8Array {
  const where = "getDirtyLog()";
  const number = toU32(`${where}: slot`, slot);
  const count = toU64(`${where}: pages`, pages === undefined ? pagesOf(number) : pages);
  const bitmap = new Uint8Array(8 * Number((count + 63n) / 64n));
  const bytes = encode(DirtyLog, { slot: number }, where);
  handle.ioctl(KVM_GET_DIRTY_LOG, bytes, { args: { slot: number }, links: [bitmap] });
  return bitmap;
}

/** Makes KVM track writes to the pages of a range again. */
export function clearDirtyLog(handle: IoctlTarget, range: ClearDirtyLogInput): void {
  const where = "clearDirtyLog()";
  refuseMisfit(where, range, ["slot", "firstPage", "numPages", "dirtyBitmap"]);
  const { slot, firstPage, numPages, dirtyBitmap } = range;
  const args = { slot, firstPage, numPages };
  const bytes = encode(ClearDirtyLog, args, where);
  handle.ioctl(KVM_CLEAR_DIRTY_LOG, bytes, { args, links: [dirtyBitmap] });
}
