/**
 * Tests of reasons that apply to every call, of reasons of KVM_RUN, and of reasons about buffers that are too small.
 */
import { describe, expect, test } from "vitest";
import { IOCTLS } from "../../../lib/abi/generated/ioctls.ts";
import { Cpuid, Cpuid2, PmuEventFilter } from "../../../lib/abi/generated/structs.ts";
import { encode } from "../../../lib/abi/struct.ts";
import type { Evidence } from "../../../lib/explain/index.ts";
import { explain } from "../../../lib/explain/index.ts";
import { errnoOf, tableWith, vmWith, why } from "./refused.ts";

describe("the reason of EIO", () => {
  const vm = (isForeign: boolean, isDead: boolean): Evidence => ({
    vm: { isForeign: () => isForeign, isDead: () => isDead },
  });

  test.each([
    "KVM_RUN EIO",
    "KVM_GET_REGS EIO",
    "KVM_CREATE_VCPU EIO",
    "KVM_SET_DEVICE_ATTR EIO dev",
  ])("is that the VM is dead: %s", (call) => {
    expect(why(call, {}, vm(false, true))).toBe(
      "VM is dead: the kernel disabled it, and its log (dmesg) may contain the cause",
    );
  });

  test("is that the handle belongs to another process", () => {
    expect(why("KVM_RUN EIO", {}, vm(true, true))).toBe("this VM belongs to another process");
  });

  test("is absent if the VM is not dead", () => {
    expect(why("KVM_RUN EIO", {}, vm(false, false))).toBeUndefined();
    expect(why("KVM_RUN EIO")).toBeUndefined();
  });
});

describe("the reason of an ioctl that does not exist", () => {
  test.each([
    ["KVM_KVMCLOCK_CTRL ENOTTY vm", "KVM_KVMCLOCK_CTRL is an ioctl of a vCPU, not of a VM"],
    ["KVM_KVMCLOCK_CTRL EINVAL sys", "KVM_KVMCLOCK_CTRL is an ioctl of a vCPU, not of /dev/kvm"],
    ["KVM_CREATE_VCPU EINVAL vcpu", "KVM_CREATE_VCPU is an ioctl of a VM, not of a vCPU"],
    [
      "KVM_GET_TSC_KHZ EINVAL sys",
      "KVM_GET_TSC_KHZ is an ioctl of a VM or a vCPU, not of /dev/kvm",
    ],
  ])("is that this kind of handle does not have the ioctl: %s", (call, reason) => {
    expect(why(call)).toBe(reason);
  });

  test.each([
    [
      "KVM_SET_MEMORY_ATTRIBUTES ENOTTY",
      "this kernel has no KVM_SET_MEMORY_ATTRIBUTES for a VM: Linux 6.12 has it, 6.1 does not",
    ],
    ["KVM_HYPERV_EVENTFD ENOTTY", "this kernel has no KVM_HYPERV_EVENTFD for a VM"],
    ["KVM_SMI ENOTTY", undefined],
  ])("is that this kernel does not have the ioctl: %s", (call, reason) => {
    expect(why(call)).toBe(reason);
  });

  test("is the missing capability of a vCPU, for any arguments", () => {
    const none = vmWith({ KVM_CAP_PRE_FAULT_MEMORY: 0, KVM_CAP_X86_SMM: 0 });
    expect(why("KVM_PRE_FAULT_MEMORY EINVAL", { gpa: 1n }, none)).toBe(
      "KVM_PRE_FAULT_MEMORY needs KVM_CAP_PRE_FAULT_MEMORY, which is missing (KVM_CHECK_EXTENSION returns 0)",
    );
    expect(why("KVM_SMI ENOTTY", {}, none)).toMatch(/^KVM_SMI needs KVM_CAP_X86_SMM/);
  });

  test("is that a device does not have the ioctl, or that only a device has the ioctl", () => {
    expect(why("KVM_CREATE_VCPU ENOTTY dev")).toBe(
      "KVM_CREATE_VCPU is an ioctl of a VM, not of a device",
    );
    expect(why("KVM_MADE_UP ENOTTY vm")).toBeUndefined();
    expect(why("KVM_MADE_UP ENOMEM vcpu")).toMatch(/no memory/);
    const nothing = { vm: { check: () => 0 } };
    expect(why("KVM_MADE_UP EINVAL vm", {}, nothing)).toBeUndefined();
    expect(why("KVM_GET_REGS EINVAL", {}, nothing)).toBeUndefined();
    const call = { ioctl: "KVM_GET_REGS", errno: errnoOf("EFAULT"), sent: {}, evidence: nothing };
    expect(explain(call)).toBeUndefined();
    expect(why("KVM_MADE_UP ENOTTY")).toBeUndefined();
  });

  test("names the first known Linux version that has the ioctl, and the last version that does not", () => {
    const news = IOCTLS.flatMap(({ name, since }) =>
      since.vm === undefined || since.vm === "6.1" ? [] : [[name, since.vm] as const],
    );
    const before: Readonly<Record<string, string>> = { "6.12": "6.1", "7.2": "6.12" };
    const said = news.map(([name]) => why(`${name} ENOTTY vm`));
    expect(said).toEqual(
      news.map(
        ([name, since]) =>
          `this kernel has no ${name} for a VM: Linux ${since} has it, ${before[since]} does not`,
      ),
    );
  });

  test("is the missing capability of a VM if no other cause applies", () => {
    const mce = vmWith({ KVM_CAP_MCE: 0 });
    expect(why("KVM_X86_SETUP_MCE EINVAL", { mcgCap: 1n }, mce)).toMatch(
      /^either KVM_X86_SETUP_MCE needs KVM_CAP_MCE, which is missing .*, or another cause$/,
    );
    const none = vmWith({ KVM_CAP_GUEST_MEMFD: 0 });
    expect(why("KVM_CREATE_GUEST_MEMFD EINVAL", { size: 0n }, none)).toBe("size is 0");
    expect(why("KVM_CREATE_GUEST_MEMFD ENOTTY", {}, none)).toMatch(
      /^KVM_CREATE_GUEST_MEMFD needs KVM_CAP_GUEST_MEMFD/,
    );
  });

  test("states two possible causes for an ioctl about memory encryption", () => {
    expect(why("KVM_MEMORY_ENCRYPT_OP ENOTTY vm")).toMatch(
      /^either this KVM has no memory encryption .*, or this VM/,
    );
  });
});

describe("the reason of a reached limit is stated for", () => {
  test.each([
    ["EMFILE", "this process has no descriptor left (RLIMIT_NOFILE, ulimit -n)"],
    ["ENFILE", "the system has no descriptor left (fs.file-max)"],
    [
      "ENOMEM",
      "either the kernel has no memory for this call (the cgroup's limit counts too), or a limit of this process is reached (ulimit -v, ulimit -l)",
    ],
    ["EBADF", undefined],
  ])("%s", (errno, reason) => {
    expect(why(`KVM_CREATE_VCPU ${errno}`, 0)).toBe(reason);
  });

  test("EMFILE, with the number of descriptors, and with a remedy if some descriptors belong to node-kvm", () => {
    const counted = (own: number): Evidence => ({ descriptors: () => ({ limit: 1024, own }) });
    const all =
      "all 1024 descriptors that this process may have (RLIMIT_NOFILE, ulimit -n) are in use";
    expect(why("KVM_CREATE_VM EMFILE", 0, counted(0))).toBe(`${all}, 0 of them by node-kvm`);
    expect(why("KVM_CREATE_VM EMFILE", 0, counted(687))).toBe(
      `${all}, 687 of them by node-kvm: call close() on handles that are no longer needed; the ` +
        "garbage collector closes dropped handles late, and only between turns of the event loop",
    );
    expect(why("KVM_CREATE_VM ENFILE", 0, counted(687))).toMatch(/^the system has no descriptor/);
  });

  test("a count that is larger than the number of entries", () => {
    const bytes = encode(Cpuid2, { nent: 3, entries: [{ function: 0 }] });
    expect(why("KVM_GET_SUPPORTED_CPUID EFAULT", bytes)).toBe(
      "nent is 3, but only 1 entries were passed",
    );
    const none = encode(Cpuid2, { nent: 3, entries: [] });
    expect(why("KVM_GET_SUPPORTED_CPUID EFAULT", none)).toBe(
      "nent is 3, but only 0 entries were passed",
    );
    const filter = encode(PmuEventFilter, { action: 9, nevents: 3, events: [0n, 0n] });
    expect(why("KVM_SET_PMU_EVENT_FILTER EFAULT", filter)).toBe(
      "nevents is 3, but only 2 entries were passed",
    );
    expect(why("KVM_SET_PMU_EVENT_FILTER EFAULT", filter.subarray(0, 31))).toBeUndefined();
    expect(why("KVM_GET_REGS EFAULT", new Uint8Array(144))).toBeUndefined();
    const whole = encode(Cpuid2, { entries: [{ function: 0 }] });
    expect(why("KVM_GET_SUPPORTED_CPUID EFAULT", whole)).toBeUndefined();
  });

  test("a list with too little space, with the required count", () => {
    const answered = new Uint8Array(Uint32Array.of(70, 0).buffer);
    const sent = {
      ioctl: "KVM_GET_MSR_INDEX_LIST",
      fd: "sys",
      errno: errnoOf("E2BIG"),
      evidence: {},
    } as const;
    expect(explain({ ...sent, argument: answered, sent: { nmsrs: 1 } })).toBe(
      "nmsrs 1: there are 70",
    );
    expect(explain({ ...sent, argument: answered, sent: { nmsrs: 99 } })).toBeUndefined();
    expect(explain({ ...sent, argument: answered, sent: { nmsrs: 70 } })).toBeUndefined();
    expect(explain({ ...sent, argument: answered, sent: {} })).toBeUndefined();
    expect(explain({ ...sent, argument: answered, sent: { nmsrs: "1" } })).toBeUndefined();
    expect(explain({ ...sent, argument: answered.subarray(0, 4), sent: { nmsrs: 1 } })).toBe(
      "nmsrs 1: there are 70",
    );
    expect(
      explain({ ...sent, argument: answered.subarray(0, 3), sent: { nmsrs: 1 } }),
    ).toBeUndefined();
  });

  test.each([
    "KVM_GET_SUPPORTED_CPUID",
    "KVM_GET_EMULATED_CPUID",
    "KVM_GET_SUPPORTED_HV_CPUID",
    "KVM_GET_CPUID2",
  ])("%s, whose list has too little space", (ioctl) => {
    expect(why(`${ioctl} E2BIG`, { nent: 2 })).toBe("nent is 2, but the table has more entries");
  });
});

test("the reason of KVM_GET_CPUID2's E2BIG is absent if the size of the list is unknown", () => {
  expect(why("KVM_GET_CPUID2 E2BIG", {})).toBeUndefined();
});

describe("the reason of a failed KVM_RUN is stated for", () => {
  const run = (more: object, vm: Evidence["vm"] | object = {}): Evidence => ({
    vm: { check: () => 3, ...vm },
    vcpu: { id: 0, run: () => ({ cr8: 0n, kvmValidRegs: 0n, kvmDirtyRegs: 0n, ...more }) },
  });

  test.each([
    [
      "an unknown set of registers",
      run({ kvmValidRegs: 8n }),
      "kvmValidRegs 0x8: bit 3 may not be set; KVM_CAP_SYNC_REGS allows 0x3",
    ],
    [
      "every set, where this KVM has none",
      run(
        { kvmValidRegs: 7n },
        { check: (name: string) => (name === "KVM_CAP_SYNC_REGS" ? 0 : 1) },
      ),
      "kvmValidRegs 0x7: bits 0 REGS, 1 SREGS, 2 EVENTS may not be set; KVM_CAP_SYNC_REGS allows 0x0",
    ],
    [
      "a set that this KVM does not",
      run({ kvmDirtyRegs: 4n }),
      "kvmDirtyRegs 0x4: bit 2 EVENTS may not be set; KVM_CAP_SYNC_REGS allows 0x3",
    ],
    [
      "special registers that cannot be",
      run({ kvmDirtyRegs: 2n }),
      "kvmDirtyRegs passes special registers that KVM_SET_SREGS would refuse",
    ],
    [
      "events that cannot be",
      run({ kvmDirtyRegs: 4n }, { check: () => 7 }),
      "kvmDirtyRegs passes events that KVM_SET_VCPU_EVENTS would refuse",
    ],
    [
      "a high priority",
      run({ cr8: 16n }, { irqchip: () => "none" }),
      "cr8 0x10: the task priority has four bits",
    ],
    ["a priority that is the LAPIC's", run({ cr8: 16n }, { irqchip: () => "kernel" }), undefined],
    ["nothing wrong", run({ cr8: 15n, kvmValidRegs: 3n }, { irqchip: () => "none" }), undefined],
    ["a set without evidence", run({ kvmValidRegs: 8n }, { check: () => undefined }), undefined],
    ["nothing known", {}, undefined],
  ])("EINVAL with %s", (_, evidence, reason) => {
    expect(why("KVM_RUN EINVAL", {}, evidence)).toBe(reason);
  });

  test("EAGAIN while the vCPU waits for its startup IPI", () => {
    expect(why("KVM_RUN EAGAIN")).toMatch(/^the vCPU waits for INIT and SIPI/);
  });

  test("EFAULT and EHWPOISON, which concern the host's pages", () => {
    expect(why("KVM_RUN EFAULT")).toMatch(
      /^either memory that the guest accessed has no host page: .*, or the guest wrote/,
    );
    expect(why("KVM_RUN EHWPOISON")).toMatch(/broken/);
  });

  test("KVM_SET_SIGNAL_MASK with a set that does not have eight bytes", () => {
    expect(why("KVM_SET_SIGNAL_MASK EINVAL", { len: 16, sigset: new Uint8Array(16) })).toBe(
      "len 16: the kernel's signal set has 8 bytes",
    );
    expect(why("KVM_SET_SIGNAL_MASK EINVAL", { sigset: new Uint8Array(8) })).toBeUndefined();
  });
});

describe("the reason of a failed KVM_SET_CPUID2", () => {
  const vcpu = (hasRun: boolean): Evidence => ({
    vcpu: { id: 0, hasRun: () => hasRun, hasEntered: () => hasRun, cpuid: () => tableWith() },
  });

  test("names the bits that differ if the vCPU has run", () => {
    const entries = tableWith("la57");
    const reason = "the table changed after KVM_RUN: 0x7.0:ecx[16] la57: ran with 0, got 1";
    expect(why("KVM_SET_CPUID2 EINVAL", { entries }, vcpu(true))).toBe(reason);
    expect(why("KVM_SET_CPUID2 EINVAL", encode(Cpuid2, { entries }), vcpu(true))).toBe(reason);
    expect(why("KVM_SET_CPUID2 EINVAL", { entries }, vcpu(false))).toBeUndefined();
  });

  test("is also stated for KVM_SET_CPUID, whose entries have no index", () => {
    const sent = encode(Cpuid, { entries: [{ function: 0x8000_0008, eax: 49 << 8 }] });
    expect(why("KVM_SET_CPUID EINVAL", sent, vcpu(false))).toMatch(/virt_addr_bits: 49/);
  });

  test("names the count if there are too many entries, even if the count is larger than the number of entries", () => {
    const bytes = encode(Cpuid2, { nent: 257, entries: [] });
    expect(why("KVM_SET_CPUID2 E2BIG", bytes)).toMatch(/^257 entries, but KVM accepts at most 256/);
    expect(why("KVM_SET_CPUID E2BIG", { nent: 300 })).toMatch(/^300 entries/);
  });
});

describe("lib/explain accepts unusual calls and evidence:", () => {
  const ERRNOS = [
    "EPERM",
    "ENOENT",
    "EIO",
    "ENXIO",
    "E2BIG",
    "EBADF",
    "EAGAIN",
    "ENOMEM",
    "EFAULT",
    "EBUSY",
  ];
  const MORE = ["EEXIST", "ENODEV", "EINVAL", "ENOTTY", "ENOSPC", "EOPNOTSUPP"];
  const calls = IOCTLS.flatMap(({ name, fds }) =>
    [...ERRNOS, ...MORE].flatMap((errno) => fds.map((fd) => `${name} ${errno} ${fd}`)),
  );
  const fail = (): never => {
    throw new Error("no answer");
  };
  const broken: Evidence = {
    descriptors: fail,
    kvm: { check: fail, supportedCpuid: fail, featureMsr: fail, mceCap: fail },
    vm: {
      isForeign: fail,
      isDead: fail,
      check: fail,
      slots: fail,
      vcpuIds: fail,
      irqchip: fail,
      hasPit: fail,
      enabled: fail,
      tssAddr: fail,
      identityMapAddr: fail,
      irqfdPlace: fail,
    },
    vcpu: {
      id: 0,
      hasRun: fail,
      hasEntered: fail,
      cpuid: fail,
      sregs: fail,
      hasLapic: fail,
      msr: fail,
      run: fail,
    },
  };

  test("evidence that cannot be read has the same reason as missing evidence", () => {
    expect(calls.filter((call) => why(call, {}, broken) !== why(call, {}))).toEqual([]);
  });

  test("arguments without a meaning cause no exception", () => {
    const nonsense = [
      new Uint8Array(0),
      new Uint8Array(5).fill(255),
      2n ** 64n - 1n,
      { slot: "one", args: 7 },
    ];
    const said = nonsense.flatMap((sent) => calls.map((call) => why(call, sent, broken)));
    expect(said.filter((reason) => reason === "")).toEqual([]);
  });

  test("an unknown call gets the reasons that apply to every call", () => {
    expect(why("KVM_MADE_UP ENOMEM")).toMatch(/no memory/);
    expect(why("KVM_MADE_UP EINVAL")).toBeUndefined();
    expect(why("mmap ENOSPC")).toBeUndefined();
    expect(why("constructor EINVAL")).toBeUndefined();
  });

  test("a failed open() is explained in the same way with all evidence", () => {
    expect(why("open EACCES", { path: "/dev/kvm" })).toMatch(
      /no permission for \/dev\/kvm|security module/,
    );
  });
});
