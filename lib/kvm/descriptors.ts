/** How many descriptors this process has, asked of the addon. The reason made of it is explain/process.ts. */
import { type DescriptorCounts, explainNoDescriptor } from "../explain/process.ts";
import { native } from "../native.ts";

const EMFILE = 24;

/** Counts the descriptors; `undefined` if the process's limit cannot be read. */
export function descriptorCounts(): DescriptorCounts | undefined {
  const counts = native().descriptors();
  return typeof counts === "number" ? undefined : counts;
}

/** Explains an errno that any call has which opens a descriptor; `undefined` for other errnos. */
export function explainOpening(errno: number): string | undefined {
  const counts = errno === EMFILE ? descriptorCounts() : undefined;
  return counts === undefined ? undefined : explainNoDescriptor(counts);
}
