/**
 * Tests of the reasons of a refused KVM_ENABLE_CAP: the bits of the argument, required earlier calls, and unsupported
 * values.
 */
import { describe, expect, test } from "vitest";
import type { CapabilityName } from "../../../lib/abi/generated/names.ts";
import { EnableCap } from "../../../lib/abi/generated/structs.ts";
import { encode } from "../../../lib/abi/struct.ts";
import type { Evidence, VmEvidence } from "../../../lib/explain/index.ts";
import { vmWith, why } from "./refused.ts";

/** Returns evidence for a VM whose KVM_CHECK_EXTENSION returns this value, and which may have vCPUs. */
const having = (cap: CapabilityName, value: number, more: VmEvidence = {}): Evidence =>
  vmWith({ [cap]: value, KVM_CAP_IRQ_ROUTING: 4096 }, more);

const enable = (
  cap: CapabilityName,
  arg: bigint,
  value: number,
  more: VmEvidence = {},
  errno = "EINVAL",
): string | undefined =>
  why(`KVM_ENABLE_CAP ${errno} vm`, { cap, args: [arg] }, having(cap, value, more));

const LATE = "too late: the call must come before the first vCPU, but vCPU 0 exists";
const late: VmEvidence = { vcpuIds: () => [0] };
const set = (cap: CapabilityName, value: bigint): VmEvidence => ({
  enabled: () => new Map([[cap, [value]]]),
});

describe("if KVM_ENABLE_CAP is refused because of its argument, the reason", () => {
  test.each([
    [
      "KVM_CAP_DISABLE_QUIRKS2",
      0x1000n,
      0x7f,
      "args[0] 0x1000: bit 12 may not be set; KVM_CAP_DISABLE_QUIRKS2 allows 0x7f",
    ],
    ["KVM_CAP_DISABLE_QUIRKS2", 0x7fn, 0x7f, undefined],
    [
      "KVM_CAP_X2APIC_API",
      0x10n,
      3,
      "args[0] 0x10: bit 4 may not be set; KVM_CAP_X2APIC_API allows 0x3",
    ],
    [
      "KVM_CAP_X2APIC_API",
      0xcn,
      15,
      "args[0] 0xc: bit 2 and bit 3 (ENABLE and DISABLE_SUPPRESS_EOI_BROADCAST) exclude each other",
    ],
    ["KVM_CAP_X2APIC_API", 3n, 3, undefined],
    ["KVM_CAP_X2APIC_API", 4n, 15, undefined],
    ["KVM_CAP_X2APIC_API", 8n, 15, undefined],
    ["KVM_CAP_X86_BUS_LOCK_EXIT", 1n, 0, undefined],
    ["KVM_CAP_X86_BUS_LOCK_EXIT", 2n, 0, undefined],
    [
      "KVM_CAP_X86_DISABLE_EXITS",
      0x20n,
      0xf,
      "args[0] 0x20: bit 5 may not be set; KVM_CAP_X86_DISABLE_EXITS allows 0xf",
    ],
    ["KVM_CAP_X86_USER_SPACE_MSR", 8n, 1, "args[0] 0x8: bit 3 may not be set; Linux 7.2 has 0x7"],
    ["KVM_CAP_X86_USER_SPACE_MSR", 7n, 1, undefined],
    ["KVM_CAP_X86_BUS_LOCK_EXIT", 4n, 0, "args[0] 0x4: bit 2 may not be set; Linux 7.2 has 0x3"],
    [
      "KVM_CAP_X86_BUS_LOCK_EXIT",
      3n,
      0,
      "args[0] 0x3: bit 0 and bit 1 (KVM_BUS_LOCK_DETECTION_OFF and _EXIT) exclude each other",
    ],
    [
      "KVM_CAP_EXIT_HYPERCALL",
      1n,
      0x1000,
      "args[0] 0x1: bit 0 may not be set; KVM_CAP_EXIT_HYPERCALL allows 0x1000",
    ],
    [
      "KVM_CAP_EXIT_ON_EMULATION_FAILURE",
      2n,
      1,
      "args[0] 0x2: bit 1 may not be set; Linux 7.2 has 0x1",
    ],
    [
      "KVM_CAP_PMU_CAPABILITY",
      2n,
      1,
      "args[0] 0x2: bit 1 may not be set; KVM_CAP_PMU_CAPABILITY allows 0x1",
    ],
    ["KVM_CAP_MAX_VCPU_ID", 5000n, 4096, "args[0] 5000: the ids of this KVM end before 4096"],
    [
      "KVM_CAP_X86_NOTIFY_VMEXIT",
      0x8_0000_0004n,
      1,
      "args[0] bits 0-31 0x4: bit 2 may not be set; Linux 7.2 has 0x3",
    ],
    [
      "KVM_CAP_X86_NOTIFY_VMEXIT",
      2n,
      1,
      "args[0] lacks bit 0 KVM_X86_NOTIFY_VMEXIT_ENABLED, but the capability cannot be disabled",
    ],
    ["KVM_CAP_VM_DISABLE_NX_HUGE_PAGES", 1n, 1, "args[0] 0x1 must be 0"],
    ["KVM_CAP_X86_APIC_BUS_CYCLES_NS", 0n, 1, "args[0] must not be 0"],
    [
      "KVM_CAP_X86_APIC_BUS_CYCLES_NS",
      2n ** 26n,
      1,
      "args[0] 67108864 ns is too long: its product with 2^32 - 1 and 128 must fit 64 bits",
    ],
    ["KVM_CAP_X86_APIC_BUS_CYCLES_NS", 1000n, 1, undefined],
    [
      "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2",
      2n,
      3,
      "args[0] 0x2 lacks bit 0 KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, which every other bit requires",
    ],
    [
      "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2",
      5n,
      3,
      "args[0] 0x5: bit 2 may not be set; KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 allows 0x3",
    ],
    ["KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2", 3n, 3, undefined],
    ["KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2", 0n, 3, undefined],
    ["KVM_CAP_SPLIT_IRQCHIP", 24n, 1, undefined],
    ["KVM_CAP_SPLIT_IRQCHIP", 4096n, 1, undefined],
    [
      "KVM_CAP_MAX_VCPU_ID",
      4096n,
      4096,
      "either args[0] 4096: KVM_SET_BOOT_CPU_ID has selected a vCPU with a higher id, or another cause",
    ],
    [
      "KVM_CAP_DIRTY_LOG_RING",
      4096n,
      1 << 20,
      "either args[0] 4096 bytes is less than the entries that KVM reserves for itself (9216 bytes with PML), or another cause",
    ],
    ["KVM_CAP_HALT_POLL", 2n ** 32n - 1n, 1, undefined],
    ["KVM_CAP_HALT_POLL", 2n ** 32n, 1, "args[0] 0x100000000 does not fit 32 bits (nanoseconds)"],
    [
      "KVM_CAP_SPLIT_IRQCHIP",
      4097n,
      1,
      "args[0] is 4097 IOAPIC pins, but KVM reserves at most 4096 routes",
    ],
    ["KVM_CAP_DIRTY_LOG_RING", 5000n, 1 << 20, "args[0] 5000 bytes is not a power of two"],
    ["KVM_CAP_DIRTY_LOG_RING", 0n, 1 << 20, "args[0] 0 bytes is not a power of two"],
    ["KVM_CAP_DIRTY_LOG_RING_ACQ_REL", 2048n, 1 << 20, "args[0] 2048 bytes is less than a page"],
    ["KVM_CAP_DIRTY_LOG_RING", 65536n, 1 << 20, undefined],
  ] as const)(
    "is stated for %s with argument %i if KVM_CHECK_EXTENSION returns %i",
    (cap, arg, value, reason) => {
      expect(enable(cap, arg, value)).toBe(reason);
    },
  );

  test.each([{}, { KVM_CAP_IRQ_ROUTING: 0 }])(
    "is absent for a split irqchip if the GSI routes are unknown: %o",
    (capabilities) => {
      const sent = { cap: "KVM_CAP_SPLIT_IRQCHIP", args: [4097n] };
      expect(why("KVM_ENABLE_CAP EINVAL vm", sent, vmWith(capabilities))).toBeUndefined();
    },
  );

  test.each(["KVM_CAP_MAX_VCPU_ID", "KVM_CAP_DIRTY_LOG_RING"])(
    "is absent for %s if the VM's state is unknown",
    (cap) => {
      const sent = { cap, args: [65536n] };
      for (const evidence of [{}, { vm: {} }, { vm: { enabled: () => new Map() } }]) {
        expect(why("KVM_ENABLE_CAP EINVAL vm", sent, evidence) ?? "").not.toMatch(/set only once/);
      }
    },
  );

  test("is absent if the call has no arguments", () => {
    const sent = { cap: "KVM_CAP_HYPERV_SYNIC" };
    expect(why("KVM_ENABLE_CAP EINVAL vm", sent)).toBe(
      "KVM_CAP_HYPERV_SYNIC is enabled on a vcpu, not on a vm",
    );
  });

  test("is absent if the supported bits are unknown", () => {
    const sent = { cap: "KVM_CAP_DISABLE_QUIRKS2", args: [0x1000n] };
    expect(why("KVM_ENABLE_CAP EINVAL vm", sent)).toBeUndefined();
  });

  test("is that the dirty ring with acquire semantics is larger than KVM's maximum", () => {
    expect(enable("KVM_CAP_DIRTY_LOG_RING_ACQ_REL", 2n ** 21n, 1 << 20, {}, "E2BIG")).toBe(
      "args[0] is 2097152 bytes, but a ring has at most 1048576 (KVM_CAP_DIRTY_LOG_RING_ACQ_REL)",
    );
    expect(enable("KVM_CAP_HALT_POLL", 1n, 1, {}, "E2BIG")).toBeUndefined();
  });

  test("is that the dirty ring is larger than KVM's maximum", () => {
    expect(enable("KVM_CAP_DIRTY_LOG_RING", 2n ** 21n, 1 << 20, {}, "E2BIG")).toBe(
      "args[0] is 2097152 bytes, but a ring has at most 1048576 (KVM_CAP_DIRTY_LOG_RING)",
    );
  });
});

describe("if KVM_ENABLE_CAP is refused because of earlier calls, the reason", () => {
  test.each([
    ["KVM_CAP_X86_DISABLE_EXITS", 2n, 0xf],
    ["KVM_CAP_PMU_CAPABILITY", 1n, 1],
    ["KVM_CAP_X86_NOTIFY_VMEXIT", 1n, 1],
    ["KVM_CAP_VM_DISABLE_NX_HUGE_PAGES", 0n, 1],
    ["KVM_CAP_X86_APIC_BUS_CYCLES_NS", 10n, 1],
    ["KVM_CAP_DIRTY_LOG_RING", 65536n, 1 << 20],
  ] as const)("is that a vCPU already exists, for %s", (cap, arg, value) => {
    expect(enable(cap, arg, value, late)).toBe(LATE);
    expect(enable(cap, arg, value, { vcpuIds: () => [] })).toBeUndefined();
  });

  test("is that the capability can be set only once", () => {
    expect(enable("KVM_CAP_MAX_VCPU_ID", 8n, 4096, set("KVM_CAP_MAX_VCPU_ID", 4n))).toBe(
      "the value was set to 4 before, and can be set only once",
    );
    const again = set("KVM_CAP_MAX_VCPU_ID", 4n);
    const sent = { cap: "KVM_CAP_MAX_VCPU_ID", args: [8n] };
    expect(why("KVM_ENABLE_CAP EINVAL vm", sent, { vm: again })).toMatch(
      /^the value was set to 4 before/,
    );
    for (const kind of ["KVM_CAP_DIRTY_LOG_RING", "KVM_CAP_DIRTY_LOG_RING_ACQ_REL"] as const) {
      expect(enable(kind, 8192n, 1 << 20, set(kind, 4096n))).toBe(
        "the rings' size was set to 4096 before, and can be set only once",
      );
    }
  });

  test("is absent for KVM_CAP_MAX_VCPU_ID, which may be set after vCPUs exist, and again to the same value", () => {
    const reason =
      /^either args\[0\] 8: KVM_SET_BOOT_CPU_ID has selected a vCPU with a higher id, or/;
    expect(enable("KVM_CAP_MAX_VCPU_ID", 8n, 4096, set("KVM_CAP_MAX_VCPU_ID", 8n))).toMatch(reason);
    expect(enable("KVM_CAP_MAX_VCPU_ID", 8n, 4096, late)).toMatch(reason);
  });

  test("is that an irqchip or a vCPU already exists, for a split irqchip", () => {
    const split = (more: VmEvidence): string | undefined =>
      enable("KVM_CAP_SPLIT_IRQCHIP", 24n, 1, more, "EEXIST");
    expect(split({ irqchip: () => "kernel" })).toBe("the VM has an irqchip (KVM_CREATE_IRQCHIP)");
    expect(split({ irqchip: () => "split" })).toBe("the VM has a split irqchip");
    expect(split({ irqchip: () => "none", ...late })).toBe(LATE);
  });

  test("is that the local APIC is missing, for the APIC bus frequency", () => {
    const none = { irqchip: () => "none" as const };
    expect(enable("KVM_CAP_X86_APIC_BUS_CYCLES_NS", 10n, 1, none, "ENXIO")).toMatch(
      /^the VM has no interrupt controllers in the kernel/,
    );
  });
});

describe("if KVM_ENABLE_CAP is refused because of the capability, the reason", () => {
  test("is that the VM does not have the capability", () => {
    expect(enable("KVM_CAP_X86_NOTIFY_VMEXIT", 1n, 0)).toBe(
      "this VM has no KVM_CAP_X86_NOTIFY_VMEXIT",
    );
    expect(enable("KVM_CAP_EXCEPTION_PAYLOAD", 1n, 1)).toBeUndefined();
  });

  test("is that the capability exists only for KVM_CHECK_EXTENSION", () => {
    expect(enable("KVM_CAP_NR_MEMSLOTS", 1n, 509)).toBe(
      "KVM_CAP_NR_MEMSLOTS cannot be enabled on x86: it is only a result of KVM_CHECK_EXTENSION",
    );
  });

  test("is that a VM's capability was enabled on a vCPU, or the reverse", () => {
    const cap = "KVM_CAP_HYPERV_SYNIC";
    expect(enable(cap, 0n, 1)).toBe("KVM_CAP_HYPERV_SYNIC is enabled on a vcpu, not on a vm");
    expect(enable("KVM_CAP_HYPERV_ENFORCE_CPUID", 0n, 1)).toBe(
      "KVM_CAP_HYPERV_ENFORCE_CPUID is enabled on a vcpu, not on a vm",
    );
    expect(why("KVM_ENABLE_CAP EINVAL vcpu", { cap: "KVM_CAP_HALT_POLL" })).toBe(
      "KVM_CAP_HALT_POLL is enabled on a vm, not on a vcpu",
    );
  });

  test("is that the local APIC is not in the kernel, for Hyper-V's SynIC", () => {
    const none = having("KVM_CAP_HYPERV_SYNIC2", 1, { irqchip: () => "none" });
    const sent = { cap: "KVM_CAP_HYPERV_SYNIC2", args: [0n] };
    expect(why("KVM_ENABLE_CAP EINVAL vcpu", sent, none)).toMatch(
      /^the VM has no interrupt controllers/,
    );
    expect(why("KVM_ENABLE_CAP EINVAL vcpu", { cap: "KVM_CAP_HYPERV_SYNIC" }, none)).toMatch(
      /^the VM has no interrupt controllers/,
    );
    expect(why("KVM_ENABLE_CAP EINVAL vcpu", { ...sent, args: [1n] }, none)).toBe(
      "args[0] 0x1 must be 0",
    );
  });

  test("is that this host does not support the capability at all", () => {
    const cap = "KVM_CAP_HYPERV_ENLIGHTENED_VMCS";
    expect(why("KVM_ENABLE_CAP ENOTTY vcpu", { cap }, having(cap, 0))).toBe(
      "this VM has no KVM_CAP_HYPERV_ENLIGHTENED_VMCS",
    );
  });

  test("is that the process does not have a privilege", () => {
    expect(enable("KVM_CAP_VM_DISABLE_NX_HUGE_PAGES", 0n, 1, {}, "EPERM")).toBe(
      "this process has no CAP_SYS_BOOT in the first user namespace",
    );
    expect(enable("KVM_CAP_SGX_ATTRIBUTE", 0n, 1, {}, "EPERM")).toBeUndefined();
  });

  test("names the capability even if it was passed as a number or in bytes", () => {
    const vm = having("KVM_CAP_DISABLE_QUIRKS2", 1);
    expect(why("KVM_ENABLE_CAP EINVAL vm", { cap: 213, args: [2n] }, vm)).toMatch(
      /^args\[0\] 0x2: bit 1/,
    );
    const bytes = encode(EnableCap, { cap: 213, args: [2n] });
    expect(why("KVM_ENABLE_CAP EINVAL vm", bytes, vm)).toMatch(/^args\[0\] 0x2: bit 1/);
    expect(why("KVM_ENABLE_CAP EINVAL vm", { cap: 9999 }, vm)).toBeUndefined();
  });

  test("is absent if the arguments cannot be read", () => {
    const sent = { cap: "KVM_CAP_HALT_POLL", args: 7 };
    expect(why("KVM_ENABLE_CAP EINVAL vm", sent)).toBeUndefined();
  });

  test("is that flags were passed", () => {
    expect(why("KVM_ENABLE_CAP EINVAL vm", { cap: 213, flags: 1 })).toBe("flags 0x1 must be 0");
  });
});
