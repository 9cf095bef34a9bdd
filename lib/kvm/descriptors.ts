/** The numbers of this process's file descriptors, from the addon. explain/process.ts states the reason for EMFILE. */
import type { DescriptorCounts } from "../explain/process.ts";
import { native } from "../native.ts";

/** Counts the descriptors; `undefined` if the process's limit cannot be read. */
export function descriptorCounts(): DescriptorCounts | undefined {
  const counts = native().descriptors();
  return typeof counts === "number" ? undefined : counts;
}
