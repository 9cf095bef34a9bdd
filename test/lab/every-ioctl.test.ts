/** Every (ioctl, fd) pair called on stock kernels in the lab: what kvm_amd answers to each. */
import { beforeEach, describe, expect, test } from "vitest";
import { findKernel } from "../../lib/cli/lab-kernel.ts";
import { LabError } from "../../lib/lab/error.ts";
import { guestFolder } from "../../lib/lab/guest.ts";
import { runInLab } from "../../lib/lab/machine.ts";
import { findQemu } from "../../lib/lab/qemu.ts";
import { type Answer, isKernels, PROGRAM, readRows } from "../unit/kvm/every-ioctl.ts";

/** What kvm_amd refuses in an emulated machine, and why; all else it takes. */
const REFUSED: Readonly<Record<string, RegExp>> = {
  // VMs of another type than KVM_X86_DEFAULT_VM have private memory; Debian's kernels have no SEV.
  "KVM_SET_MEMORY_ATTRIBUTES vm": /^ENOTTY$/,
  "KVM_MEMORY_ENCRYPT_OP vm": /^ENOTTY$/,
  "KVM_MEMORY_ENCRYPT_REG_REGION vm": /^ENOTTY$/,
  "KVM_MEMORY_ENCRYPT_UNREG_REGION vm": /^ENOTTY$/,
  "KVM_MEMORY_ENCRYPT_OP vcpu": /^(ENOTTY|EINVAL)$/,
  // Debian built 6.12 without CONFIG_KVM_PRIVATE_MEM.
  "KVM_CREATE_GUEST_MEMFD vm 6.12": /^ENOTTY$/,
  // No guest runs that would have set up Xen's event channels or kvmclock.
  "KVM_XEN_HVM_EVTCHN_SEND vm": /^EINVAL$/,
  "KVM_KVMCLOCK_CTRL vcpu": /^EINVAL$/,
  // The VFIO device has no attribute that can be read, and not the one that is asked for.
  "KVM_SET_DEVICE_ATTR dev": /^ENXIO$/,
  "KVM_GET_DEVICE_ATTR dev": /^(EPERM|ENXIO)$/,
  "KVM_HAS_DEVICE_ATTR dev": /^ENXIO$/,
};

const ORDER = ["6.1", "6.12", "7.2"];
let problem: string | undefined;

beforeEach(({ skip }) => {
  try {
    findQemu();
    problem = undefined;
  } catch (error) {
    if (!(error instanceof LabError)) throw error;
    problem = error.message;
  }
  skip(problem !== undefined, problem);
});

describe.each(["6.12", "7.2"])("on Linux %s", (name) => {
  test("the kernel answers every call, and takes what it has", async () => {
    const result = await runInLab({
      kernel: await findKernel(name, undefined, AbortSignal.timeout(600_000)),
      command: ["node", "every-ioctl.mjs"],
      files: { [`${guestFolder()}/every-ioctl.mjs`]: PROGRAM },
    });
    const answers = JSON.parse(
      result.kind === "exited" ? result.stdout.toString() : "[]",
    ) as readonly Answer[];
    expect(answers).toHaveLength(119);
    expect(answers.filter((answer) => !isKernels(answer))).toEqual([]);
    const since = new Map(readRows().map((row) => [`${row.ioctl} ${row.fd}`, row.since]));
    const isNewer = (row: string): boolean =>
      ORDER.indexOf(since.get(row) ?? "") > ORDER.indexOf(name);
    const expected = ({ row }: Answer): RegExp =>
      isNewer(row) ? /^E(NOTTY|INVAL)$/ : (REFUSED[`${row} ${name}`] ?? REFUSED[row] ?? /^ok$/);
    const wrong = answers.filter((answer) => !expected(answer).test(answer.answer));
    expect(wrong).toEqual([]);
  });
});
