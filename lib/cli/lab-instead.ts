/** Runs the suite in the lab on a host without KVM, with the newest cached kernel. */
import { runCampaign } from "../lab/campaign.ts";
import { LabError } from "../lab/error.ts";
import { fetchKernel, type Kernel, listKernels } from "../lab/kernels/kernels.ts";
import { findQemu } from "../lab/machine/qemu.ts";
import { throwIfAborted } from "../lab/process/command.ts";
import { toMatrix, troubles } from "../report/matrix.ts";
import type { Report } from "../report/result.ts";
import { interruptible } from "./interrupt.ts";
import { claimsWith } from "./lab-claims.ts";
import type { OwnClaims } from "./own-claims.ts";
import { type EvidenceChoice, hasEvidence } from "./report-document.ts";

/** The result of the suite in the lab. */
export interface InsteadReport {
  readonly report: Report;
  /** Problems that are not failed claims, such as warnings in the kernel's log. */
  readonly problems: readonly string[];
}

/** Describes how to use the lab, for a host that has neither KVM nor a kernel. */
const HOW_TO_LAB: string =
  "the lab judges stock kernels in an emulated machine, on any x86-64 Linux: " +
  "apt-get install --no-install-recommends qemu-system-x86, then node-kvm lab run --kernel 6.12";

/** Returns the advice for a host without KVM: use the lab, or set the variable that names another device. */
export function adviceWithoutKvm(): string {
  const device = process.env["NODE_KVM_DEVICE"];
  if (device === undefined) return HOW_TO_LAB;
  return `NODE_KVM_DEVICE is ${device}: unset it to use /dev/kvm, or set it to the path of a KVM device`;
}

/**
 * Runs the suite in the lab, if QEMU and a cached kernel are available, and reports this on standard error.
 *
 * @returns `undefined` if QEMU or a cached kernel is missing.
 */
export async function judgeInLab(
  options: EvidenceChoice & { readonly pattern: string | undefined },
  own: OwnClaims | undefined,
): Promise<InsteadReport | undefined> {
  const { pattern } = options;
  return interruptible(async (signal) => {
    const kernel = await kernelAtHand(signal);
    if (kernel === undefined) return undefined;
    process.stderr.write(
      `node-kvm: the claims are judged in the lab instead: Linux ${kernel.release} in an emulated machine\n`,
    );
    const columns = await runCampaign({
      lanes: [{ kernel, cpu: "max" }],
      claims: await claimsWith(pattern, own, signal),
      ...(own === undefined ? {} : { program: own.program }),
      evidence: hasEvidence(options),
      signal,
      ...(pattern === undefined ? {} : { pattern }),
    });
    throwIfAborted(signal);
    const report = columns[0]?.report;
    if (report === undefined) {
      throw new LabError("ERR_LAB_TOOL", `the lab did not report: ${columns[0]?.problem ?? ""}`);
    }
    return { report, problems: troubles(toMatrix(columns), 0) };
  });
}

async function kernelAtHand(signal: AbortSignal): Promise<Kernel | undefined> {
  try {
    findQemu();
    const cached = (await listKernels({ signal })).filter((row) => row.cached);
    const newest = cached.at(-1);
    return newest === undefined ? undefined : await fetchKernel(newest.release, { signal });
  } catch (error) {
    // This function does not report why the lab cannot be used; the lab's own commands report it.
    if (error instanceof LabError && error.code !== "ERR_LAB_INTERRUPTED") return undefined;
    throw error;
  }
}
