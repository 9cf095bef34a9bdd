/** The numbers of this process's descriptors, from the addon. The reason for EMFILE is explain/process.ts. */
import type { DescriptorCounts } from "../explain/process.ts";
import { native } from "../native.ts";

/** Counts the descriptors; `undefined` if the process's limit cannot be read. */
export function descriptorCounts(): DescriptorCounts | undefined {
  const counts = native().descriptors();
  return typeof counts === "number" ? undefined : counts;
}
