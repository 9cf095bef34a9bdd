/** Tests of the check of a state before it is restored: each rule reports its incompatibility and no other. */
import { describe, expect, test } from "vitest";
import type { CapabilityName } from "../../../lib/abi/generated/names.ts";
import {
  type CpuidEntry2,
  type MsrEntry,
  NestedState,
  Regs,
  VcpuEvents,
  Xcrs,
} from "../../../lib/abi/generated/structs.ts";
import { encode, read } from "../../../lib/abi/struct.ts";
import { CpuidTable } from "../../../lib/cpuid/index.ts";
import { findMisfits, STATE_RULES, type Target } from "../../../lib/state/check.ts";
import { RestoreError, refuseMisfits, type StateFinding } from "../../../lib/state/error.ts";
import { PIC, SANE } from "./any-state.ts";

const SUPPORTED = CpuidTable.from([
  { function: 1, ecx: 0, edx: 0x201 },
  { function: 7, flags: 1, ebx: 0x20 },
  { function: 0xd, flags: 1, eax: 7 },
  { function: 0x8000_0001, ecx: 4 },
]);

interface Machine {
  readonly has?: Partial<Record<CapabilityName, number>>;
  readonly lapic?: boolean;
  readonly khz?: number;
  readonly ids?: readonly number[];
  readonly parts?: readonly string[];
  readonly supported?: readonly CpuidEntry2[];
  readonly listed?: readonly number[];
  readonly features?: readonly MsrEntry[];
}

/** An AMD host with every capability except for TSC scaling and the given capabilities. */
function machine(options: Machine): Target {
  const { has = {}, lapic = true, khz = 2_000_000, ids = [0], parts } = options;
  const { supported = [...SUPPORTED], listed = [0x10, 0x174] } = options;
  const { features = [msr(0x10a, 5n)] } = options;
  return {
    checkExtension: (name) => has[name] ?? (name === "KVM_CAP_TSC_CONTROL" ? 0 : 1),
    supportedCpuid: () => supported,
    msrIndexList: () => listed,
    featureMsrs: () => features,
    hasPart: parts && ((name) => parts.includes(name)),
    vcpus: ids.map((id) => ({ id, hasLapic: () => lapic, tscKhz: () => khz })),
  };
}

const bytes = (length: number): Uint8Array => new Uint8Array(length);
const nested = (format: number): Uint8Array =>
  encode(NestedState, { size: NestedState.size, format });
const msr = (index: number, data: bigint): MsrEntry => ({ index, reserved: 0, data });
const xcrs = (value: bigint) =>
  read(
    Xcrs,
    encode(Xcrs, { nrXcrs: 1, xcrs: Array.from({ length: 16 }, () => ({ xcr: 0, value })) }),
  );
const events = (flags: number) => ({ ...read(VcpuEvents, bytes(VcpuEvents.size)), flags });
const table = (...entries: readonly Partial<CpuidEntry2>[]): readonly CpuidEntry2[] => [
  ...CpuidTable.from(entries as readonly CpuidEntry2[]),
];

function xsave(bits: bigint, length = 4096): Uint8Array {
  const area = bytes(length);
  new DataView(area.buffer).setBigUint64(512, bits, true);
  return area;
}

const SANE_REGS = read(Regs, bytes(Regs.size));

type Case = readonly [
  rule: string,
  about: string,
  vcpu: object,
  machine: Machine,
  path: string,
  message: string,
  prevents: boolean,
];

const CASES: readonly Case[] = [
  [
    "shape",
    "a register that is left out",
    { regs: { ...SANE_REGS, rax: undefined } },
    {},
    "vcpus[0].regs",
    "missing rax",
    true,
  ],
  [
    "shape",
    "an unknown part",
    { msr: [] },
    {},
    "vcpus[0].msr",
    'a saved vcpu has no such part; did you mean "msrs"?',
    true,
  ],
  [
    "vcpus",
    "other ids",
    {},
    { ids: [0, 2] },
    "vcpus",
    "the state has the vCPU ids 0; the passed vCPUs have the ids 0, 2",
    true,
  ],
  [
    "capability",
    "a part that the kernel cannot write",
    { xcrs: xcrs(1n) },
    { has: { KVM_CAP_XCRS: 0 } },
    "vcpus[0].xcrs",
    "this kernel has no KVM_SET_XCRS (KVM_CAP_XCRS)",
    true,
  ],
  [
    "cpuid-count",
    "a table of 257 entries",
    { cpuid: table(...Array.from({ length: 257 }, (_, i) => ({ function: 0x100 + i }))) },
    {},
    "vcpus[0].cpuid",
    "257 entries, and KVM accepts 256",
    true,
  ],
  [
    "cpuid-features",
    "a feature that KVM lacks",
    { cpuid: table({ function: 7, flags: 1, ebx: 0x28 }) },
    {},
    "vcpus[0].cpuid[0]",
    "0x7.0:ebx[3] bmi1: KVM does not support it",
    false,
  ],
  [
    "hypervisor",
    "Hyper-V's leaves",
    { cpuid: table({ function: 0x4000_0001, eax: 0x3123_7648 }) },
    { has: { KVM_CAP_HYPERV: 0 } },
    "vcpus[0].cpuid",
    "the table has Hyper-V's leaves, and this KVM has no KVM_CAP_HYPERV",
    false,
  ],
  [
    "hypervisor",
    "Xen's leaves",
    { cpuid: table({ function: 0x4000_0000, ebx: 0x566e6558, ecx: 0x65584d4d, edx: 0x4d4d566e }) },
    { has: { KVM_CAP_XEN_HVM: 0 } },
    "vcpus[0].cpuid",
    "the table has Xen's leaves, and this KVM has no KVM_CAP_XEN_HVM",
    false,
  ],
  [
    "tsc-khz",
    "a lower frequency, which KVM refuses",
    { tscKhz: 1_999_000 },
    {},
    "vcpus[0].tscKhz",
    "1999000 kHz, and this vCPU has 2000000 kHz, which this host cannot scale (KVM_CAP_TSC_CONTROL)",
    true,
  ],
  [
    "tsc-khz",
    "a higher frequency, which KVM imitates",
    { tscKhz: 2_001_000 },
    {},
    "vcpus[0].tscKhz",
    "2001000 kHz, and this vCPU has 2000000 kHz, which this host cannot scale (KVM_CAP_TSC_CONTROL)",
    false,
  ],
  [
    "xcr0",
    "an XCR0 bit that guests cannot have",
    { xcrs: xcrs(0x207n) },
    {},
    "vcpus[0].xcrs.xcrs[0].value",
    "XCR0 0x207 has 0x200, which this KVM's guests cannot have",
    true,
  ],
  [
    "xsave",
    "a component that guests cannot have",
    { xsave: xsave(0x207n) },
    {},
    "vcpus[0].xsave",
    "it has the components 0x200, which this KVM's guests cannot have",
    true,
  ],
  [
    "xsave-size",
    "a larger area",
    { xsave: xsave(7n, 11_008) },
    {},
    "vcpus[0].xsave",
    "11008 bytes, and this KVM's area has 4096 (KVM_CAP_XSAVE2)",
    false,
  ],
  [
    "msr-unknown",
    "an MSR that KVM does not list",
    { msrs: [msr(0x174, 1n), msr(0x2a, 5n)] },
    {},
    "vcpus[0].msrs[0x2a]",
    "0x5, and KVM_GET_MSR_INDEX_LIST does not have this MSR",
    false,
  ],
  [
    "msr-features",
    "a feature MSR with a bit that KVM does not offer",
    { msrs: [msr(0x10a, 7n)] },
    {},
    "vcpus[0].msrs[0x10a]",
    "0x7 has 0x2, which this KVM does not offer (KVM_GET_MSRS of /dev/kvm: 0x5)",
    false,
  ],
  [
    "lapic",
    "a local APIC",
    { lapic: { regs: bytes(1024) } },
    { lapic: false },
    "vcpus[0].lapic",
    "this vCPU has no local APIC in the kernel: createIrqchip() before the vCPU",
    true,
  ],
  [
    "events",
    "a triple fault event",
    { vcpuEvents: events(0x20) },
    { has: { KVM_CAP_X86_TRIPLE_FAULT_EVENT: 0 } },
    "vcpus[0].vcpuEvents.flags",
    "it has 0x20, and this KVM has no KVM_CAP_X86_TRIPLE_FAULT_EVENT",
    true,
  ],
  [
    "events",
    "an exception payload",
    { vcpuEvents: events(0x10) },
    { has: { KVM_CAP_EXCEPTION_PAYLOAD: 0 } },
    "vcpus[0].vcpuEvents.flags",
    "it has 0x10, and this KVM has no KVM_CAP_EXCEPTION_PAYLOAD",
    true,
  ],
  [
    "mp-state",
    "a halted vCPU without a local APIC",
    { mpState: 3 },
    { lapic: false },
    "vcpus[0].mpState",
    "MP state 3 needs a local APIC in the kernel: createIrqchip() before the vCPU",
    true,
  ],
  [
    "mp-state",
    "an MP state of s390",
    { mpState: 5 },
    {},
    "vcpus[0].mpState",
    "x86 has no MP state 5",
    true,
  ],
  [
    "nested-state",
    "VMX on a host with SVM",
    { nestedState: nested(0) },
    {},
    "vcpus[0].nestedState",
    "it is in the format of VMX, but this KVM's guests have no VMX",
    true,
  ],
  [
    "nested-state",
    "an unknown format",
    { nestedState: nested(2) },
    {},
    "vcpus[0].nestedState",
    "format 2 is neither VMX (0) nor SVM (1)",
    true,
  ],
];

describe("the check of a saved state before it is restored", () => {
  test.each(CASES)(
    "reports one incompatibility for %s: %s",
    (_, __, vcpu, target, path, message, prevents) => {
      const found = findMisfits({ vcpus: [{ id: 0, ...vcpu }] }, machine(target));
      const [, part = "vcpus"] = /^vcpus\[0\]\.(\w+)/.exec(path) ?? [];
      const object = part === "vcpus" ? "vm" : "vcpu 0";
      expect(found).toEqual([{ object, part, path, message, prevents }]);
    },
  );

  test("reports one incompatibility, with the missing capability, if the kernel cannot write a part of the VM's state", () => {
    const target = machine({ has: { KVM_CAP_PIT_STATE2: 0 } });
    const pit2 = SANE.pit2;
    expect(findMisfits({ ...(pit2 && { pit2 }), vcpus: [{ id: 0 }] }, target)).toEqual([
      {
        object: "vm",
        part: "pit2",
        path: "pit2",
        message: "this kernel has no KVM_SET_PIT2 (KVM_CAP_PIT_STATE2)",
        prevents: true,
      },
    ]);
  });

  test("reports a call without vCPUs as one incompatibility", () => {
    expect(findMisfits({ vcpus: [{ id: 3 }, { id: 1 }] }, machine({ ids: [] }))).toEqual([
      expect.objectContaining({
        message: "the state has the vCPU ids 3, 1; the passed vCPUs have the ids none",
      }),
    ]);
  });

  test("reports an incompatibility of the second vCPU with the vCPU's number and the part", () => {
    const found = findMisfits(
      { vcpus: [{ id: 7 }, { id: 5, mpState: 5 }] },
      machine({ ids: [5, 7] }),
    );
    expect(found.map(({ object, path }) => [object, path])).toEqual([
      ["vcpu 5", "vcpus[1].mpState"],
    ]);
  });

  test.each([
    [
      "a controller that the VM lacks",
      { picMaster: PIC },
      [],
      "picMaster",
      "the VM has none: it needs the interrupt controllers in the kernel: createIrqchip() before the vCPUs",
      true,
    ],
    [
      "no timer where the VM has one",
      {},
      ["pit2"],
      "pit2",
      "the VM has it but the state does not, so it is not changed",
      false,
    ],
  ] as const)(
    "reports one incompatibility of the devices for %s",
    (_, state, parts, path, message, prevents) => {
      const found = findMisfits({ ...state, vcpus: [{ id: 0 }] }, machine({ parts }));
      expect(found).toEqual([{ object: "vm", part: path, path, message, prevents }]);
    },
  );
});

describe("the check of a saved state before it is restored accepts", () => {
  test.each([
    ["a frequency within 250 ppm", { tscKhz: 1_999_500 }, {}],
    ["a frequency of 250 ppm more", { tscKhz: 2_000_500 }, {}],
    ["another frequency on a host that scales", { tscKhz: 1 }, { has: { KVM_CAP_TSC_CONTROL: 1 } }],
    [
      "a table of 256 entries",
      { cpuid: table(...Array.from({ length: 256 }, (_, i) => ({ function: 0x100 + i }))) },
      {},
    ],
    [
      "Hyper-V's leaves where KVM has them",
      { cpuid: table({ function: 0x4000_0001, eax: 0x3123_7648 }) },
      {},
    ],
    [
      "another leaf of a hypervisor without signature",
      { cpuid: table({ function: 0x4000_0001 }) },
      { has: { KVM_CAP_HYPERV: 0, KVM_CAP_XEN_HVM: 0 } },
    ],
    [
      "an area of the size that KVM has",
      { xsave: xsave(7n, 11_008) },
      { has: { KVM_CAP_XSAVE2: 11_008 } },
    ],
    ["an XSAVE area of x87 and SSE, which every host has", { xsave: xsave(3n) }, { supported: [] }],
    ["XCR0 of x87 and SSE, which every host has", { xcrs: xcrs(3n) }, { supported: [] }],
    [
      "XCR0 with a bit above 31 that the host has",
      { xcrs: xcrs(0x1_0000_0003n) },
      { supported: table({ function: 0xd, flags: 1, edx: 1 }) },
    ],
    [
      "a value of another register than XCR0",
      { xcrs: { ...xcrs(0x207n), xcrs: [{ xcr: 1, reserved: 0, value: 0x207n }] } },
      {},
    ],
    ["a value behind the number of registers", { xcrs: { ...xcrs(0x207n), nrXcrs: 0 } }, {}],
    [
      "an MSR of the saved banks of machine checks",
      { msrs: [msr(0x179, 2n), msr(0x407, 5n)] },
      { listed: [0x179] },
    ],
    [
      "an MSR of Hyper-V that KVM does not list",
      { msrs: [msr(0x4000_0090, 5n)], cpuid: table({ function: 0x4000_0001, eax: 0x3123_7648 }) },
      {},
    ],
    [
      "a bit of an MSR that is no feature",
      { msrs: [msr(0x10b, 7n)] },
      { listed: [0x10b], features: [msr(0x10b, 1n)] },
    ],
    ["a local APIC where one is in the kernel", { lapic: { regs: bytes(1024) } }, {}],
    ["events whose capabilities the host has", { vcpuEvents: events(0x30) }, {}],
    [
      "events without flags",
      { vcpuEvents: events(0) },
      { has: { KVM_CAP_EXCEPTION_PAYLOAD: 0, KVM_CAP_X86_TRIPLE_FAULT_EVENT: 0 } },
    ],
    ["the last MP state of x86", { mpState: 4 }, {}],
    ["a vCPU that is held in reset", { mpState: 9 }, {}],
    ["an unknown MSR that is 0", { msrs: [msr(0x2a, 0n)] }, {}],
    ["an MTRR, which KVM does not list", { msrs: [msr(0x2ff, 6n)] }, {}],
    ["a feature MSR with fewer bits", { msrs: [msr(0x10a, 4n)] }, {}],
    ["a running vCPU without a local APIC", { mpState: 0 }, { lapic: false }],
    ["nested state of the host's vendor", { nestedState: nested(1) }, {}],
    ["XCR0 with what the host has", { xcrs: xcrs(7n) }, {}],
    ["the host's features", { cpuid: [...SUPPORTED] }, {}],
    ["an absent part of an absent capability", {}, { has: { KVM_CAP_XCRS: 0 } }],
  ] as const)("%s", (_, vcpu, target) => {
    expect(findMisfits({ vcpus: [{ id: 0, ...vcpu }] }, machine(target))).toEqual([]);
  });

  test("vCPUs in another order", () => {
    expect(findMisfits({ vcpus: [{ id: 1 }, { id: 0 }] }, machine({ ids: [0, 1] }))).toEqual([]);
  });

  test("a VM without devices, for a state without devices", () => {
    expect(findMisfits({ vcpus: [] }, machine({ ids: [], parts: [] }))).toEqual([]);
  });
});

test("a saved TSC frequency is not compared if the host's TSC is not stable", () => {
  const target = machine({});
  const vcpus = [{ id: 0, hasLapic: () => true, tscKhz: () => undefined }];
  expect(findMisfits({ vcpus: [{ id: 0, tscKhz: 5 }] }, { ...target, vcpus })).toEqual([]);
});

test("every rule for incompatible states has a sentence", () => {
  expect(STATE_RULES.filter(({ why }) => why.length < 20)).toEqual([]);
});

test("every rule for incompatible states is violated by a state of this test", () => {
  const broken = new Set(["devices", ...CASES.map(([rule]) => rule)]);
  expect(STATE_RULES.map(({ name }) => name).filter((name) => !broken.has(name))).toEqual([]);
});

test("the error about an incompatible state names all incompatibilities", () => {
  const vcpu = { id: 0, tscKhz: 1, mpState: 5, xcrs: xcrs(0x207n), nestedState: nested(0) };
  const found = findMisfits({ vcpus: [vcpu] }, machine({ ids: [1] }));
  expect(found.map(({ path }) => path)).toEqual([
    "vcpus",
    "vcpus[0].xcrs.xcrs[0].value",
    "vcpus[0].mpState",
    "vcpus[0].nestedState",
  ]);
  expect(() => refuseMisfits(found)).toThrow(RestoreError);
  for (const { path, message } of found) {
    expect(() => refuseMisfits(found)).toThrow(`\n  ${path}: ${message}`);
  }
});

describe("incompatibilities that do not prevent restoring", () => {
  const finding = (prevents: boolean): StateFinding => ({
    ...{ object: "vcpu 0", part: "msrs", path: "vcpus[0].msrs[0x2a]", message: "5" },
    prevents,
  });

  test("do not cause an error", () => {
    expect(() => refuseMisfits([finding(false)])).not.toThrow();
  });

  test("are also listed in the error about an incompatibility that prevents the restoration", () => {
    expect(() => refuseMisfits([finding(false), finding(true)])).toThrow(
      expect.objectContaining({ findings: [finding(false), finding(true)], part: "msrs" }),
    );
  });
});

test("the message about 1,000 incompatibilities has a limited length", () => {
  const many = Array.from({ length: 1_000 }, (_, i) => ({ id: i, mpState: 5 }));
  const found = findMisfits({ ...SANE, vcpus: many }, machine({ ids: many.map(({ id }) => id) }));
  expect(found).toHaveLength(1_000);
  expect(() => refuseMisfits(found)).toThrow(/and 900 more$/);
});
