/** Tests of the reasons of refused MSRs and MSR filters: they name the MSR or range, and the part that is wrong. */
import { describe, expect, test } from "vitest";
import { Msrs, PmuEventFilter } from "../../../lib/abi/generated/structs.ts";
import { encode } from "../../../lib/abi/struct.ts";
import { type Evidence, explainMsrs } from "../../../lib/explain/index.ts";
import { tableWith, why } from "./refused.ts";

const bit = (n: number): bigint => 1n << BigInt(n);

/** A vCPU on which every MSR except 0xdeadbeef reads 0x11. */
function vcpu(more: Evidence["vcpu"] | object = {}): Evidence {
  return {
    kvm: { supportedCpuid: () => tableWith("nx", "lm") },
    vcpu: {
      id: 0,
      cpuid: () => tableWith(),
      msr: (index) => (index === 0xdead_beef ? undefined : 0x11n),
      ...more,
    },
  };
}

const write = (index: number, data: bigint, evidence = vcpu()): string | undefined =>
  explainMsrs([{ index, data }], 0, evidence);

describe("the reason of a KVM_SET_MSRS that wrote only some entries", () => {
  test("names the first entry that KVM did not write", () => {
    const sent = [
      { index: 0x174, data: 0x10n },
      { index: 0x277, data: 2n },
    ];
    expect(explainMsrs(sent, 1, vcpu())).toBe(
      "entries[1] MSR 0x277 MSR_IA32_CR_PAT = 0x2: byte 0 is 2, which is not a memory type",
    );
    expect(explainMsrs(sent, 2, vcpu())).toBeUndefined();
  });

  test.each([
    [
      0xdead_beef,
      1n,
      "either this KVM has no such MSR, or this vCPU's CPUID lacks the feature to which this MSR belongs",
    ],
    [0x1b, 0xfee0_0401n, "apicBase 0xfee00401: bit 0 is reserved"],
    [0x277, 0x0007_0406_0003_0406n, "byte 2 is 3, which is not a memory type"],
    [0x250, 0x02n << 56n, "byte 7 is 2, which is not a memory type"],
    [0x26f, 7n, "byte 0 is 7, which is not a memory type"],
    [0x2ff, 0x1000n, "bit 12 may not be set; the register has 0xcff"],
    [0x2ff, 0xc02n, "type 2 is not a memory type"],
    [0x200, 2n, "type 2 is not a memory type"],
    [0x200, 0x106n, "bits 8-11 are reserved"],
    [0x201, 0x1n, "bits 0-10 are reserved"],
    [
      0x20f,
      bit(40),
      "the value is wider than the 40 bits of this vCPU's physical addresses " +
        "(0x80000008.0:eax[7:0] phys_addr_bits)",
    ],
    [0xda0, 1n, "bit 0 may not be set; this KVM's guests have 0x0"],
    [
      0xc000_0080,
      bit(12),
      "EFER bit 12 SVME: this KVM cannot give it to a guest (0x80000001.0:ecx[2] svm)",
    ],
    [0xc000_0082, bit(62), "the address is not canonical"],
    [0xc000_0100, 0x8000_0000_0000n, "the address is not canonical"],
    [0xc000_0103, bit(32), "either bits 32-63 are reserved, or another cause"],
  ] as const)("is stated for MSR %i = %i", (index, data, reason) => {
    const place = write(index, data)?.split(": ")[0] ?? "";
    expect(write(index, data)).toBe(`${place}: ${reason}`);
    expect(place).toMatch(
      new RegExp(`^entries\\[0\\] MSR 0x${index.toString(16)}.* = 0x${data.toString(16)}$`),
    );
  });

  test.each([
    [0x277, 0x0007_0406_0007_0406n],
    [0x250, 0x0606_0606_0605_0401n],
    [0x2ff, 0xc06n],
    [0x200, 6n],
    [0x201, 0x800n],
    [0xc000_0080, 0xd01n],
    [0xc000_0082, 0xffff_8000_0000_0000n],
    [0xc000_0103, 0xffff_ffffn],
    [0x174, 0x10n],
  ] as const)("names no cause for MSR %i = %i, because KVM may accept the value", (index, data) => {
    expect(write(index, data)).toMatch(/^entries\[0\] MSR 0x\w+( \w+)? = 0x\w+ was refused$/);
  });

  test.each([
    [0x1b, "MSR_IA32_APICBASE"],
    [0x3a, "MSR_IA32_FEAT_CTL"],
    [0x49, "MSR_IA32_PRED_CMD"],
    [0x10a, "MSR_IA32_ARCH_CAPABILITIES"],
    [0x10b, "MSR_IA32_FLUSH_CMD"],
    [0x277, "MSR_IA32_CR_PAT"],
    [0x2ff, "MSR_MTRRdefType"],
    [0x345, "MSR_IA32_PERF_CAPABILITIES"],
    [0x38d, "MSR_CORE_PERF_FIXED_CTR_CTRL"],
    [0xda0, "MSR_IA32_XSS"],
    [0xc000_0080, "MSR_EFER"],
    [0xc000_0082, "MSR_LSTAR"],
    [0xc000_0083, "MSR_CSTAR"],
    [0xc000_0100, "MSR_FS_BASE"],
    [0xc000_0101, "MSR_GS_BASE"],
    [0xc000_0102, "MSR_KERNEL_GS_BASE"],
    [0xc000_0103, "MSR_TSC_AUX"],
    [0xc001_1029, "MSR_AMD64_DE_CFG"],
    [0x4b56_4d02, "MSR_KVM_ASYNC_PF_EN"],
    [0x4b56_4d03, "MSR_KVM_STEAL_TIME"],
    [0x4b56_4d04, "MSR_KVM_PV_EOI_EN"],
    [0x4b56_4d05, "MSR_KVM_POLL_CONTROL"],
    [0x4b56_4d06, "MSR_KVM_ASYNC_PF_INT"],
    [0x4b56_4d08, "MSR_KVM_MIGRATION_CONTROL"],
  ])("names MSR %i as %s", (index, name) => {
    expect(write(index, 0n, {})).toContain(`MSR 0x${index.toString(16)} ${name} = 0x0`);
  });

  test.each([0xc000_0082, 0xc000_0083, 0xc000_0100, 0xc000_0101, 0xc000_0102])(
    "is that MSR %i has a non-canonical address: of 48 bits, or of 57 bits with LA57",
    (index) => {
      const with57 = vcpu({ cpuid: () => tableWith("la57") });
      expect(write(index, bit(47))).toMatch(/: the address is not canonical$/);
      expect(write(index, bit(47), with57)).toMatch(/: either the address is not canonical, or /);
      expect(write(index, bit(57), with57)).toMatch(/: the address is not canonical$/);
      expect(write(index, bit(47), {})).toMatch(
        /: either the address is not canonical, or another cause$/,
      );
    },
  );

  test("names no bit of XSS if KVM's leaf 0xd is unknown", () => {
    const bare = { ...vcpu(), kvm: { supportedCpuid: () => [] } };
    expect(write(0xda0, 1n, bare)).toMatch(/ was refused$/);
  });

  test("is that a feature MSR cannot change after KVM_RUN", () => {
    const ran = vcpu({ hasEntered: () => true });
    const reason = "this MSR describes the CPU, and cannot change after KVM_RUN: it is 0x11";
    expect(write(0x10a, 1n, ran)).toBe(
      `entries[0] MSR 0x10a MSR_IA32_ARCH_CAPABILITIES = 0x1: ${reason}`,
    );
    expect(write(0x480, 1n, ran)).toBe(`entries[0] MSR 0x480 MSR_IA32_VMX_BASIC = 0x1: ${reason}`);
    expect(write(0x10a, 0x11n, ran)).toMatch(/this KVM cannot give arch_capabilities/);
    expect(write(0x10a, 1n)).toMatch(/this KVM cannot give arch_capabilities/);
  });

  test("has only the MSR's name if no evidence is available", () => {
    expect(write(0xdead_beef, 1n, {})).toBe("entries[0] MSR 0xdeadbeef = 0x1 was refused");
  });
});

test("the reason of a KVM_GET_MSRS that read only some entries does not repeat the read", () => {
  const asked: number[] = [];
  const evidence = vcpu({ msr: (index: number) => void asked.push(index) });
  expect(explainMsrs([{ index: 0x174 }], 0, evidence)).toMatch(/no such MSR/);
  expect(asked).toEqual([]);
});

test("the reason of a KVM_GET_MSRS that read only some entries names the first MSR that was not read", () => {
  expect(explainMsrs([{ index: 0x174 }, { index: 0xdead_beef }], 1, vcpu())).toBe(
    "entries[1] MSR 0xdeadbeef: either this KVM has no such MSR, or this vCPU's CPUID lacks the feature to which this MSR belongs",
  );
});

test.each(["KVM_SET_MSRS", "KVM_GET_MSRS"])(
  "the reason of %s with too many MSRs names the limit",
  (ioctl) => {
    const reason = "nmsrs 256: KVM accepts at most 255 in one call (MAX_IO_MSRS)";
    expect(why(`${ioctl} E2BIG vcpu`, { nmsrs: 256 })).toBe(reason);
    expect(why(`${ioctl} E2BIG vcpu`, encode(Msrs, { nmsrs: 256 }))).toBe(reason);
    expect(why(`${ioctl} E2BIG vcpu`, {})).toBeUndefined();
  },
);

describe("the reason of a failed KVM_X86_SET_MSR_FILTER is stated for", () => {
  const set = (sent: Readonly<Record<string, unknown>>): string | undefined =>
    why("KVM_X86_SET_MSR_FILTER EINVAL", sent);

  test.each([
    ["unknown flags", { flags: 2 }, "flags 0x2: bit 1 may not be set; Linux 7.2 has 0x1"],
    [
      "no ranges to allow",
      { flags: 1 },
      "KVM_MSR_FILTER_DEFAULT_DENY without any range would deny every MSR, which KVM does not accept",
    ],
    [
      "a range for nothing",
      { ranges: [{ flags: 0, nmsrs: 8 }] },
      "ranges[0].flags is 0, but a range needs KVM_MSR_FILTER_READ, _WRITE or both",
    ],
    [
      "unknown flags of a range",
      {
        ranges: [
          { flags: 1, nmsrs: 8 },
          { flags: 4, nmsrs: 8 },
        ],
      },
      "ranges[1].flags 0x4: bit 2 may not be set; Linux 7.2 has 0x3",
    ],
    [
      "a long range",
      { ranges: [{ flags: 3, nmsrs: 12289 }] },
      "ranges[0].nmsrs 12289: a range has at most 12288",
    ],
    ["the longest range", { ranges: [{ flags: 3, nmsrs: 12288 }] }, undefined],
    [
      "nothing but unused ranges",
      { flags: 1, ranges: [{ flags: 1, nmsrs: 0 }] },
      "KVM_MSR_FILTER_DEFAULT_DENY without any range would deny every MSR, which KVM does not accept",
    ],
    [
      "a range beside an unused one",
      {
        flags: 1,
        ranges: [
          { flags: 1, nmsrs: 0 },
          { flags: 1, nmsrs: 8 },
        ],
      },
      undefined,
    ],
    ["an unused range", { ranges: [{ flags: 0, nmsrs: 0 }] }, undefined],
    ["no filter at all", {}, undefined],
  ])("%s", (_, sent, reason) => {
    expect(set(sent)).toBe(reason);
  });
});

describe("the reason of a failed KVM_SET_PMU_EVENT_FILTER is stated for", () => {
  test.each([
    [
      "an action",
      { action: 2 },
      "action 2: it must be 0 (KVM_PMU_EVENT_ALLOW) or 1 (KVM_PMU_EVENT_DENY)",
    ],
    ["flags", { flags: 2 }, "flags 0x2: bit 1 may not be set; Linux 7.2 has 0x1"],
    [
      "a masked event's reserved bits",
      { flags: 1, events: [0n, bit(20)] },
      "events[1] 0x100000 has bits outside of a masked event (0xff80000f0000ffff)",
    ],
    ["nothing wrong", { flags: 1, action: 1, events: [0xffn] }, undefined],
    ["an event that is not masked", { events: [bit(20)] }, undefined],
  ])("%s", (_, sent, reason) => {
    expect(why("KVM_SET_PMU_EVENT_FILTER EINVAL", sent)).toBe(reason);
  });

  test("too many events", () => {
    expect(why("KVM_SET_PMU_EVENT_FILTER E2BIG", { nevents: 301 })).toBe(
      "nevents 301: KVM accepts at most 300",
    );
    expect(why("KVM_SET_PMU_EVENT_FILTER E2BIG", { nevents: "999" })).toBeUndefined();
    const bytes = encode(PmuEventFilter, { events: new Array<bigint>(301).fill(0n) });
    expect(why("KVM_SET_PMU_EVENT_FILTER E2BIG", bytes)).toBe(
      "nevents 301: KVM accepts at most 300",
    );
  });
});
