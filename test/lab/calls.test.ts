/**
 * Tests every pair of ioctl and descriptor, and the errors of common mistakes, with kvm_amd on Debian's kernels in the
 * lab.
 */
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { findKernel } from "../../lib/cli/lab-kernel.ts";
import { LabError } from "../../lib/lab/error.ts";
import { guestFolder } from "../../lib/lab/machine/guest.ts";
import { runInLab } from "../../lib/lab/machine/machine.ts";
import { findQemu } from "../../lib/lab/machine/qemu.ts";
import {
  type Answer,
  PROGRAM as EVERY_IOCTL,
  isKernels,
  readRows,
} from "../unit/kvm/every-ioctl.ts";
import { CAUSES, type Said, unexplained, PROGRAM as WRONG_CALLS } from "../unit/kvm/wrong-calls.ts";

/** The calls that kvm_amd rejects in an emulated machine, each with its reason; kvm_amd accepts all other calls. */
const REFUSED: Readonly<Record<string, RegExp>> = {
  // Only VMs of a type other than KVM_X86_DEFAULT_VM have private memory, and Debian's kernels are built without SEV.
  "KVM_SET_MEMORY_ATTRIBUTES vm": /^ENOTTY$/,
  "KVM_MEMORY_ENCRYPT_OP vm": /^ENOTTY$/,
  "KVM_MEMORY_ENCRYPT_REG_REGION vm": /^ENOTTY$/,
  "KVM_MEMORY_ENCRYPT_UNREG_REGION vm": /^ENOTTY$/,
  "KVM_MEMORY_ENCRYPT_OP vcpu": /^(ENOTTY|EINVAL)$/,
  // Debian built 6.12 without CONFIG_KVM_PRIVATE_MEM.
  "KVM_CREATE_GUEST_MEMFD vm 6.12": /^ENOTTY$/,
  // No guest in this test has set up Xen's event channels or kvmclock.
  "KVM_XEN_HVM_EVTCHN_SEND vm": /^EINVAL$/,
  "KVM_KVMCLOCK_CTRL vcpu": /^EINVAL$/,
  // The VFIO device has no readable attribute, so the requested attribute does not exist.
  "KVM_SET_DEVICE_ATTR dev": /^ENXIO$/,
  "KVM_GET_DEVICE_ATTR dev": /^(EPERM|ENXIO)$/,
  "KVM_HAS_DEVICE_ATTR dev": /^ENXIO$/,
};

const ORDER = ["6.1", "6.12", "7.2"];
const problem = emulatorProblem();

/** Returns the reason why no kernel can be tested, or `undefined` if QEMU is installed. */
function emulatorProblem(): string | undefined {
  try {
    findQemu();
    return undefined;
  } catch (error) {
    if (error instanceof LabError) return error.message;
    throw error;
  }
}

describe.each(["6.12", "7.2"])("on Linux %s", (name) => {
  let lines: readonly string[] = [];

  beforeAll(async () => {
    if (problem !== undefined) return;
    const result = await runInLab({
      kernel: await findKernel(name, undefined, AbortSignal.timeout(600_000)),
      command: ["sh", "-c", "node every-ioctl.mjs && node wrong-calls.mjs"],
      files: {
        [`${guestFolder()}/every-ioctl.mjs`]: EVERY_IOCTL,
        [`${guestFolder()}/wrong-calls.mjs`]: WRONG_CALLS,
      },
    });
    if (result.kind !== "exited") throw new Error(`the machine ${result.kind}`);
    lines = result.stdout.toString().trim().split("\n");
  });

  beforeEach(({ skip }) => skip(problem !== undefined, problem));

  test("the kernel accepts every call that it supports, and rejects the others with the expected errno", () => {
    const answers = JSON.parse(lines[0] ?? "") as readonly Answer[];
    expect(answers).toHaveLength(119);
    expect(answers.filter((answer) => !isKernels(answer))).toEqual([]);
    const since = new Map(readRows().map((row) => [`${row.ioctl} ${row.fd}`, row.since]));
    const isNewer = (row: string): boolean =>
      ORDER.indexOf(since.get(row) ?? "") > ORDER.indexOf(name);
    const expected = ({ row }: Answer): RegExp =>
      isNewer(row) ? /^E(NOTTY|INVAL)$/ : (REFUSED[`${row} ${name}`] ?? REFUSED[row] ?? /^ok$/);
    expect(answers.filter((answer) => !expected(answer).test(answer.answer))).toEqual([]);
  });

  test("for users' common mistakes, the reason of the error names the cause", () => {
    const said = JSON.parse(lines[1] ?? "") as readonly Said[];
    expect(unexplained(said)).toEqual([]);
    expect(said).toHaveLength(Object.keys(CAUSES).length);
  });
});
