/** Counts this process's file descriptors, with the addon. explain/process.ts uses the counts to explain EMFILE. */
import type { DescriptorCounts } from "../explain/process.ts";
import { native } from "../native.ts";

/**
 * Returns the limit of descriptors and the number that this package has open; `undefined` if the limit cannot be read.
 */
export function descriptorCounts(): DescriptorCounts | undefined {
  const counts = native().descriptors();
  return typeof counts === "number" ? undefined : counts;
}
