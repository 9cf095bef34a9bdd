/** Tests of the reasons of VMs, vCPUs and devices that could not be created, and of calls that came too late. */
import { describe, expect, test } from "vitest";
import type { Evidence } from "../../../lib/explain/index.ts";
import { vmWith, why } from "./refused.ts";

const kvm = (types: number): Evidence => ({
  kvm: { check: (name) => (name === "KVM_CAP_VM_TYPES" ? types : undefined) },
});
const withVcpus = vmWith(
  { KVM_CAP_MAX_VCPU_ID: 4096, KVM_CAP_MAX_VCPUS: 2 },
  { vcpuIds: () => [3, 4] },
);
const empty = vmWith({ KVM_CAP_MAX_VCPU_ID: 4096, KVM_CAP_MAX_VCPUS: 2 }, { vcpuIds: () => [] });

describe("the reason of a refused KVM_CREATE_VM", () => {
  test.each([
    [
      1,
      1,
      "type 1 KVM_X86_SW_PROTECTED_VM: this KVM has only the types whose bits are in 0x1 (KVM_CAP_VM_TYPES)",
    ],
    [
      0,
      2,
      "type 0 KVM_X86_DEFAULT_VM: this KVM has only the types whose bits are in 0x2 (KVM_CAP_VM_TYPES)",
    ],
    [
      2,
      1,
      "type 2 KVM_X86_SEV_VM: this KVM has only the types whose bits are in 0x1 (KVM_CAP_VM_TYPES)",
    ],
    [
      3,
      1,
      "type 3 KVM_X86_SEV_ES_VM: this KVM has only the types whose bits are in 0x1 (KVM_CAP_VM_TYPES)",
    ],
    [
      4,
      1,
      "type 4 KVM_X86_SNP_VM: this KVM has only the types whose bits are in 0x1 (KVM_CAP_VM_TYPES)",
    ],
    [64, 1, "type 64: this KVM has only the types whose bits are in 0x1 (KVM_CAP_VM_TYPES)"],
    [77, 3, "type 77: this KVM has only the types whose bits are in 0x3 (KVM_CAP_VM_TYPES)"],
    [
      5,
      0,
      "type 5 KVM_X86_TDX_VM: this KVM has only the types whose bits are in 0x1 (KVM_CAP_VM_TYPES)",
    ],
    [1, 3, undefined],
    [0, 0, undefined],
  ])("is stated for type %i if the supported types are %i", (type, types, reason) => {
    expect(why("KVM_CREATE_VM EINVAL", type, kvm(types))).toBe(reason);
  });

  test("is that another hypervisor uses the CPU, for EBUSY", () => {
    expect(why("KVM_CREATE_VM EBUSY", 0)).toMatch(
      /^either another hypervisor uses .*: stop it first, or the host/,
    );
  });

  test("is that the process has reached its limit of descriptors, for EMFILE", () => {
    expect(why("KVM_CREATE_VM EMFILE", 0)).toBe(
      "this process has no descriptor left (RLIMIT_NOFILE, ulimit -n)",
    );
  });
});

describe("the reason of a refused KVM_CREATE_VCPU", () => {
  test("is that the id is in use, for EEXIST", () => {
    expect(why("KVM_CREATE_VCPU EEXIST", 3, withVcpus)).toBe(
      "vCPU 3 was created before; an id stays in use after its vCPU is closed",
    );
  });

  test("is that the id is too large for KVM, for EINVAL", () => {
    expect(why("KVM_CREATE_VCPU EINVAL", 4096, empty)).toBe(
      "id 4096: this KVM has ids 0 to 4095 (KVM_CAP_MAX_VCPU_ID)",
    );
  });

  test.each<[string, Evidence, string]>([
    [
      "slots that are not known",
      vmWith({}, { identityMapAddr: () => 0x1000n }),
      "either a slot overlaps the first vCPU's APIC page at 0xfee00000: delete or shorten the slot, or a slot overlaps the identity map that this CPU needs (it has no unrestricted guest) at 0x1000: delete or shorten the slot",
    ],
    [
      "an identity map that is not known",
      vmWith({}, { slots: () => [] }),
      "either a slot overlaps the identity map that this CPU needs (it has no unrestricted guest): delete or shorten the slot, or another cause",
    ],
  ])(
    "is that a slot covers the APIC page or the identity map, for EEXIST with %s",
    (_, evidence, reason) => {
      const vm = { ...evidence.vm, vcpuIds: () => [] };
      expect(why("KVM_CREATE_VCPU EEXIST", 0, { vm })).toBe(reason);
    },
  );

  test.each([
    ["ids without evidence", vmWith({}, { vcpuIds: () => [3] })],
    ["a limit of ids that is 0", vmWith({ KVM_CAP_MAX_VCPU_ID: 0 })],
    ["vCPUs without evidence", vmWith({ KVM_CAP_MAX_VCPUS: 0 })],
    ["a limit of vCPUs that is 0", vmWith({ KVM_CAP_MAX_VCPUS: 0 }, { vcpuIds: () => [3] })],
    ["vCPUs that cannot be counted", vmWith({ KVM_CAP_MAX_VCPUS: 2 })],
  ])("is absent for EINVAL with %s", (_, evidence) => {
    expect(why("KVM_CREATE_VCPU EINVAL", 5, evidence)).toBeUndefined();
  });

  test("is that the id is too large for the VM, for EINVAL", () => {
    const enabled = new Map([["KVM_CAP_MAX_VCPU_ID", [8n]]] as const);
    const vm = vmWith({ KVM_CAP_MAX_VCPU_ID: 4096 }, { enabled: () => enabled });
    expect(why("KVM_CREATE_VCPU EINVAL", 8, vm)).toBe(
      "id 8: KVM_CAP_MAX_VCPU_ID was set to 8, so the ids end at 7",
    );
    expect(why("KVM_CREATE_VCPU EINVAL", 7, vm)).toBeUndefined();
  });

  test("is that the VM has the maximum number of vCPUs, for EINVAL at KVM's limit", () => {
    expect(why("KVM_CREATE_VCPU EINVAL", 5, withVcpus)).toBe(
      "the VM has 2 vCPUs, and this KVM supports at most 2 (KVM_CAP_MAX_VCPUS)",
    );
  });

  test("is absent for EINVAL without a known cause", () => {
    expect(why("KVM_CREATE_VCPU EINVAL", 5, empty)).toBeUndefined();
    expect(why("KVM_CREATE_VCPU EINVAL", 5)).toBeUndefined();
  });
});

describe("for a call that must come before the first vCPU, the reason names the vCPU:", () => {
  const LATE = "too late: the call must come before the first vCPU, but vCPU 3 exists";

  test.each([
    ["KVM_SET_IDENTITY_MAP_ADDR EINVAL", {}],
    ["KVM_SET_BOOT_CPU_ID EBUSY", 0],
    ["KVM_CREATE_IRQCHIP EINVAL", {}],
  ] as const)("%s", (call, sent) => {
    expect(why(call, sent, withVcpus)).toBe(LATE);
    expect(why(call, sent, empty)).toBeUndefined();
  });
});

test("the reason of a refused KVM_SET_TSC_KHZ of a vCPU is never that a vCPU exists already", () => {
  const vm = vmWith({ KVM_CAP_TSC_CONTROL: 0 }, { vcpuIds: () => [3] });
  expect(why("KVM_SET_TSC_KHZ EINVAL vcpu", 1000, vm)).toMatch(/^1000 kHz is lower than/);
});

test("KVM_SET_TSC_KHZ of a VM with vCPUs is refused since Linux 6.17, and the reason mentions this if no other cause applies", () => {
  const evidence = (scales: number) =>
    vmWith({ KVM_CAP_TSC_CONTROL: scales }, { vcpuIds: () => [3] });
  expect(why("KVM_SET_TSC_KHZ EINVAL vm", 1000, evidence(0))).toMatch(/^too late: .* vCPU 3/);
  expect(why("KVM_SET_TSC_KHZ EINVAL vm", 1000, evidence(1))).toMatch(
    /^either too late: .*, or 1000 kHz is higher/,
  );
});

describe("the reason why a VM refuses an address or a number is stated for", () => {
  test.each([
    [
      "KVM_SET_TSS_ADDR EINVAL",
      0xffff_e000,
      "address 0xffffe000: its three pages must be below 4 GiB, so 0xffffd000 is the last",
    ],
    ["KVM_SET_TSS_ADDR EINVAL", 0xffff_d000, undefined],
    [
      "KVM_SET_NR_MMU_PAGES EINVAL",
      63,
      "63 pages, and KVM requires at least 64 (KVM_MIN_ALLOC_MMU_PAGES)",
    ],
    ["KVM_SET_NR_MMU_PAGES EINVAL", 64, undefined],
    [
      "KVM_SET_BOOT_CPU_ID EINVAL",
      5000,
      "id 5000: this KVM has ids 0 to 4095 (KVM_CAP_MAX_VCPU_ID)",
    ],
  ] as const)("%s %i", (call, value, reason) => {
    expect(why(call, value, empty)).toBe(reason);
  });
});

describe("the reason of a refused KVM_SET_TSS_ADDR on Intel is stated for", () => {
  const slot = { slot: 2, flags: 0, guestPhysAddr: 0x8000n, memorySize: 0x1000n };
  const vm = vmWith({}, { slots: () => [slot], tssAddr: () => null });

  test.each([
    [0x6000, "address 0x6000: slot 2 contains one of the TSS's three pages"],
    [0x8000, "address 0x8000: slot 2 contains one of the TSS's three pages"],
    [0x5000, undefined],
    [0x9000, undefined],
  ])("the address %i", (address, reason) => {
    expect(why("KVM_SET_TSS_ADDR EEXIST", address, vm)).toBe(reason);
    expect(why("KVM_SET_TSS_ADDR EEXIST", address)).toBe(
      "either the address of the VM's TSS is already set, and can be set only once, or " +
        `address 0x${address.toString(16)}: a slot contains one of the TSS's three pages`,
    );
  });

  test.each([
    [0xfedf_d000, undefined],
    [0xfedf_e000, "0xfedfe000"],
    [0xfee0_0000, "0xfee00000"],
    [0xfee0_1000, undefined],
    [0x1_d000, undefined],
    [0x1_e000, "0x1e000"],
    [0x2_0000, "0x20000"],
    [0x2_1000, undefined],
  ])("the address %i, which overlaps the APIC page or the identity map", (address, place) => {
    const own = vmWith(
      {},
      { slots: () => [], tssAddr: () => null, identityMapAddr: () => 0x2_0000n },
    );
    expect(why("KVM_SET_TSS_ADDR EEXIST", address, own)).toBe(
      place &&
        `either address ${place}: one of the TSS's three pages would be KVM's own page (the APIC's or the identity map's), or another cause`,
    );
  });

  test("an address that was set before", () => {
    const set = vmWith({}, { slots: () => [slot], tssAddr: () => 0xfffb_d000n });
    expect(why("KVM_SET_TSS_ADDR EEXIST", 0x9000, set)).toBe(
      "the address of the VM's TSS is already set, and can be set only once: 0xfffbd000",
    );
  });
});

describe("the reason of a refused device call", () => {
  test("is that the type of device is unknown", () => {
    expect(why("KVM_CREATE_DEVICE ENODEV", { type: 16 })).toBe(
      "type 16: this kernel has no such device (its module may be missing)",
    );
    expect(why("KVM_CREATE_DEVICE EBUSY", { type: 4 })).toMatch(/can have only one/);
    expect(why("KVM_CREATE_DEVICE EBUSY", { type: 5 })).toBeUndefined();
  });

  test.each(["sys", "vcpu", "dev"])("is that the attribute of a %s is unknown", (kind) => {
    expect(why(`KVM_HAS_DEVICE_ATTR ENXIO ${kind}`, { group: 1, attr: 7n })).toBe(
      "this device has no attribute 7 in group 1",
    );
  });

  test("is that the device does not implement the call", () => {
    expect(why("KVM_GET_DEVICE_ATTR EPERM dev", { group: 1 })).toBe(
      "this device does not implement KVM_GET_DEVICE_ATTR",
    );
    expect(why("KVM_GET_DEVICE_ATTR EPERM vcpu", { group: 1 })).toBeUndefined();
  });
});

test("a dirty ring with acquire semantics can be mapped, as an ordinary dirty ring can", () => {
  const enabled = new Map([["KVM_CAP_DIRTY_LOG_RING_ACQ_REL", [4096n]]] as const);
  const mapped = (vm: Evidence["vm"] & object): string | undefined =>
    why("mmap EINVAL", { what: "dirty ring", length: 4096 }, { vm });
  expect(mapped({ enabled: () => enabled })).toBeUndefined();
  expect(mapped({ enabled: () => new Map() })).toMatch(/^the VM has no dirty rings/);
});

describe("the reason of a failed system call of this process is stated for", () => {
  test.each([
    [
      "arch_prctl EBUSY",
      { component: 18 },
      "too late: the call must come before the process's first vCPU",
    ],
    [
      "arch_prctl EOPNOTSUPP",
      { component: 17 },
      "either component 17: this CPU does not have the component, or component 17 needs no permission",
    ],
    [
      "arch_prctl EINVAL",
      { component: 99 },
      "either component 99: the kernel has no such XSAVE component, or this kernel has no ARCH_REQ_XCOMP_GUEST_PERM, which Linux 5.17 added",
    ],
    ["mmap EINVAL", { length: 0 }, "length 0: guest memory has at least a page"],
    ["mmap EINVAL", { length: 4096 }, undefined],
    ["mmap EINVAL", { length: 0n }, "length 0: guest memory has at least a page"],
    ["fallocate EINVAL", { offset: 0n, length: 0x800n }, "length 2048 is not a multiple of 4096"],
    [
      "fallocate EINVAL",
      { offset: 0n, length: 2n ** 63n },
      "offset or length is negative for a file",
    ],
    ["fallocate EINVAL", { offset: 0x1000n, length: 0x1000n }, undefined],
    ["fallocate EINVAL", {}, undefined],
    ["fallocate EINVAL", { offset: 0x1000n, length: 0x1000n, size: 0x2000n }, undefined],
    [
      "mmap ENOMEM",
      { length: 4096 },
      "either there is not enough memory (the cgroup's limit counts too), or this process's address space is used up (ulimit -v), or this process has too many mappings (vm.max_map_count)",
    ],
  ])("%s of %o", (call, sent, reason) => {
    expect(why(call, sent)).toBe(reason);
  });
});
