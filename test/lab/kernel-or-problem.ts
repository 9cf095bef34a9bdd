/** The kernel that a test boots, or the reason why the test is skipped. */
import { findKernel } from "../../lib/cli/lab-kernel.ts";
import { LabError } from "../../lib/lab/error.ts";
import type { Kernel } from "../../lib/lab/kernels/kernels.ts";
import { findQemu } from "../../lib/lab/machine/qemu.ts";

/** Finds QEMU and a kernel; returns the lab's error message if QEMU or the kernel is missing. */
export async function kernelOrProblem(name: string, modules?: string): Promise<Kernel | string> {
  try {
    findQemu();
    return await findKernel(name, modules, new AbortController().signal);
  } catch (error) {
    if (!(error instanceof LabError)) throw error;
    return error.message;
  }
}
