/**
 * Tests of the explanations of exits with constructed evidence. test/unit/kvm/exits/explain.test.ts tests them on a
 * kernel.
 */
import { describe, expect, test } from "vitest";
import { Regs, Sregs, VcpuEvents } from "../../../lib/abi/generated/structs.ts";
import { encode, read, type StructInput } from "../../../lib/abi/struct.ts";
import { failedChecks } from "../../../lib/explain/entry-checks.ts";
import { type ExitEvidence, type ExplainedExit, explainExit } from "../../../lib/explain/exit.ts";
import { entryFailureName, exitCodeName, type Vendor } from "../../../lib/explain/exit-names.ts";
import { translate } from "../../../lib/explain/translate.ts";

const sregsOf = (value: StructInput<Sregs>): Sregs => read(Sregs, encode(Sregs, value));
const regsOf = (value: StructInput<Regs>): Regs => read(Regs, encode(Regs, value));
const eventsOf = (exception: StructInput<VcpuEvents>["exception"]): VcpuEvents =>
  read(VcpuEvents, encode(VcpuEvents, { exception: exception ?? {} }));

const PE = 1n;
const PG = 1n << 31n;
const PAE = 1n << 5n;
const LONG = { cr0: PG | PE, cr4: PAE, efer: 0x500n } as const;
const SLOT = { slot: 3, flags: 0, guestPhysAddr: 0x1000n, memorySize: 0x4000n };

/** Creates the evidence of a vCPU. */
function evidence(
  sregs: StructInput<Sregs>,
  regs: StructInput<Regs> = {},
  more: Partial<ExitEvidence> = {},
): ExitEvidence {
  return { sregs: () => sregsOf(sregs), regs: () => regsOf(regs), ...more };
}

const EMULATION: ExplainedExit = {
  kind: "internal_error",
  suberror: 1,
  data: [1n, 0n, 0n, 0x400n],
  emulationFailure: { flags: 1n, insnBytes: Uint8Array.of(0xd8, 0x07) },
};

describe("the explanation of an emulation failure", () => {
  test("names the address if the instruction is outside of all slots", () => {
    const asked = evidence({ cr0: PE }, { rip: 0xb_0000n }, { slots: () => [SLOT] });
    expect(explainExit(EMULATION, { ...asked, vendor: "kvm_amd" })).toBe(
      "KVM_INTERNAL_ERROR_EMULATION: the guest fetched its instruction from 0xb0000, which is in no slot; " +
        "the exit was 0x400 NPF (nested page fault)",
    );
  });

  test("names the instruction's bytes if the instruction is in a slot", () => {
    const asked = evidence({ cr0: PE }, { rip: 0x1005n }, { slots: () => [SLOT] });
    expect(explainExit(EMULATION, asked)).toBe(
      "KVM_INTERNAL_ERROR_EMULATION: KVM could not emulate the instruction d8 07 at RIP 0x1005; the " +
        "exit was 0x400",
    );
  });

  test.each<[string, ExitEvidence]>([
    ["special registers", { regs: () => regsOf({}), slots: () => [] }],
    ["registers", { sregs: () => sregsOf({}), slots: () => [] }],
    ["slots", { sregs: () => sregsOf({}), regs: () => regsOf({}) }],
    ["words of memory", evidence({ ...LONG, cs: { l: 1 } }, { rip: 0x1000n }, { slots: () => [] })],
  ])("has no address if the vCPU's %s cannot be read", (_, asked) => {
    expect(explainExit(EMULATION, asked)).toBe(
      "KVM_INTERNAL_ERROR_EMULATION: KVM could not emulate the instruction d8 07; the exit was 0x400",
    );
  });

  test.each<[string, StructInput<Sregs>, bigint]>([
    ["real mode adds the base of CS", { cs: { base: 0xf_0000n } }, 0xf_1005n],
    ["real mode has 32 bits", { cs: { base: 0xffff_f000n } }, 0x5n],
    [
      "protected mode adds it, whatever CS.L says",
      { cr0: PE, cs: { base: 0xf_0000n, l: 1 } },
      0xf_1005n,
    ],
    ["compatibility mode adds it", { ...LONG, cr3: 0x10_0000n, cs: { base: 0x2000n } }, 0x3005n],
    ["64-bit mode does not", { ...LONG, cr3: 0x10_0000n, cs: { base: 0x2000n, l: 1 } }, 0x1005n],
  ])("has the right address if %s", (_, sregs, gpa) => {
    // Every entry of every page table maps the guest's address; the entries of the last level point to the pages.
    const read = (at: bigint): bigint =>
      at < 0x10_3000n
        ? 0x10_1003n + ((at >> 12n) - 0x100n) * 0x1000n
        : (((at & 0xfffn) >> 3n) << 12n) | 3n;
    const asked = evidence(sregs, { rip: 0x1005n }, { slots: () => [], read });
    expect(explainExit(EMULATION, asked)).toContain(
      `from 0x${gpa.toString(16)}, which is in no slot`,
    );
  });

  test.each([
    [0xfffn, false],
    [0x1000n, true],
    [0x4fffn, true],
    [0x5000n, false],
  ])("reads the instruction at the edge of a slot, case %i", (rip, isInside) => {
    const text = explainExit(EMULATION, evidence({}, { rip }, { slots: () => [SLOT] })) ?? "";
    expect(text.includes("which is in no slot")).toBe(!isInside);
  });

  test("contains only the suberror if the kernel returns no details", () => {
    const exit = { ...EMULATION, data: [], emulationFailure: undefined } as ExplainedExit;
    expect(explainExit(exit, {})).toBe(
      "KVM_INTERNAL_ERROR_EMULATION: KVM could not emulate an instruction",
    );
  });

  test("does not use a slot of SMM's address space", () => {
    const slots = (): readonly (typeof SLOT)[] => [{ ...SLOT, slot: 0x1_0003 }];
    const asked = evidence({ cr0: PE }, { rip: 0x1005n }, { slots });
    expect(explainExit(EMULATION, asked)).toContain("from 0x1005, which is in no slot");
  });
});

test.each<[number, readonly bigint[], string]>([
  [2, [], "KVM_INTERNAL_ERROR_SIMUL_EX: an exception occurred while an event was being delivered"],
  [
    2,
    [0x8000_0202n],
    "KVM_INTERNAL_ERROR_SIMUL_EX: an exception occurred while NMI 2 was being delivered",
  ],
  [
    2,
    [0x8000_0480n],
    "KVM_INTERNAL_ERROR_SIMUL_EX: an exception occurred while software interrupt 128 was being delivered",
  ],
  [
    2,
    [0x8000_0107n],
    "KVM_INTERNAL_ERROR_SIMUL_EX: an exception occurred while event 7 was being delivered",
  ],
  [
    2,
    [0x8000_0603n],
    "KVM_INTERNAL_ERROR_SIMUL_EX: an exception occurred while event 3 was being delivered",
  ],
  [
    3,
    [0x8000_0020n],
    "KVM_INTERNAL_ERROR_DELIVERY_EV: the exit (unknown) occurred while interrupt 32 was being delivered",
  ],
  [
    4,
    [],
    "KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON: KVM does not expect the hardware's exit (unknown)",
  ],
  [
    2,
    [0x8000_0b0en],
    "KVM_INTERNAL_ERROR_SIMUL_EX: an exception occurred while exception 14 #PF was being delivered",
  ],
  [
    3,
    [0x8000_0020n, 48n],
    "KVM_INTERNAL_ERROR_DELIVERY_EV: the exit 0x30 EPT violation occurred while interrupt 32 was being " +
      "delivered",
  ],
  [
    4,
    [0x4cn, 0n],
    "KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON: KVM does not expect the hardware's exit 0x4c",
  ],
  [99, [], "suberror 99"],
])("the explanation of suberror %i has its name and its data", (suberror, data, text) => {
  const exit = { kind: "internal_error", suberror, data, emulationFailure: undefined } as const;
  expect(explainExit(exit, { vendor: "kvm_intel" })).toBe(text);
});

describe("the explanation of a shutdown", () => {
  const IDT = { idt: { base: 0n, limit: 0 } };

  test("names the exception that was being delivered, CR2 and the IDT", () => {
    const events = (): VcpuEvents =>
      eventsOf({ injected: 1, nr: 14, hasErrorCode: 1, errorCode: 2 });
    const asked = evidence({ ...LONG, ...IDT, cr2: 0xdead_b000n }, { rip: 0x1000n }, { events });
    expect(explainExit({ kind: "shutdown" }, { ...asked, vendor: "kvm_intel" })).toBe(
      "a triple fault while exception 14 #PF (error code 0x2) was being delivered; CR2 is " +
        "0xdeadb000; the IDT is at 0x0 with limit 0x0, which has no entry for vector 14",
    );
  });

  test("names a pending exception even if it has no error code", () => {
    const events = (): VcpuEvents => eventsOf({ pending: 1, nr: 6 });
    const asked = evidence({ ...LONG, ...IDT, cr2: 0xdead_b000n }, {}, { events });
    expect(explainExit({ kind: "shutdown" }, asked)).toBe(
      "a triple fault while exception 6 #UD was being delivered; the IDT is at 0x0 with limit " +
        "0x0, which has no entry for vector 6",
    );
  });

  test("has no details if the vCPU's registers or events cannot be read", () => {
    expect(explainExit({ kind: "shutdown" }, { vendor: "kvm_amd" })).toBe("a triple fault");
    const regs = { regs: () => regsOf({ rip: 0xfff0n }), vendor: "kvm_amd" } as const;
    expect(explainExit({ kind: "shutdown" }, regs)).toBe("a triple fault");
    const events = (): VcpuEvents => eventsOf({ injected: 1, nr: 14 });
    expect(explainExit({ kind: "shutdown" }, { events })).toBe(
      "a triple fault while exception 14 #PF was being delivered",
    );
  });

  test.each<[string, StructInput<Sregs>, number, boolean]>([
    ["long mode", LONG, 143, true],
    ["long mode", LONG, 142, false],
    ["protected mode", { cr0: PE }, 71, true],
    ["protected mode", { cr0: PE }, 70, false],
    ["real mode", {}, 35, true],
    ["real mode", {}, 34, false],
  ])(
    "states in %s, case %#, that the IDT has no entry if the limit excludes the last byte of the entry",
    (_, sregs, limit, isInside) => {
      const asked = evidence({ ...sregs, idt: { base: 0n, limit } });
      const text = explainExit({ kind: "shutdown" }, asked) ?? "";
      expect(!text.endsWith("which has no entry for vector 8")).toBe(isInside);
    },
  );

  test("names no exception if KVM reports none", () => {
    const events = (): VcpuEvents => eventsOf({});
    const asked = evidence({ ...LONG, idt: { base: 0x5000n, limit: 0xfff } }, {}, { events });
    expect(explainExit({ kind: "shutdown" }, asked)).toBe(
      "a triple fault; the IDT is at 0x5000 with limit 0xfff",
    );
  });

  const RESET = { cs: { selector: 0xf000, base: 0xffff_0000n }, ...IDT };

  test("states on AMD that the registers contain their reset values", () => {
    const asked = evidence(RESET, { rip: 0xfff0n });
    expect(explainExit({ kind: "shutdown" }, { ...asked, vendor: "kvm_amd" })).toBe(
      "a triple fault; the registers are those of a reset (RIP 0xfff0, CS 0xf000), because kvm_amd " +
        "resets the vCPU at a shutdown: they do not show the guest's state",
    );
  });

  test.each<[string, ExitEvidence]>([
    ["on Intel", { ...evidence(RESET, { rip: 0xfff0n }), vendor: "kvm_intel" }],
    ["with other registers", { ...evidence(RESET, { rip: 0x1000n }), vendor: "kvm_amd" }],
    [
      "in another code segment",
      {
        ...evidence({ ...RESET, cs: { selector: 8, base: 0xffff_0000n } }, { rip: 0xfff0n }),
        vendor: "kvm_amd",
      },
    ],
    [
      "at another base",
      { ...evidence({ ...RESET, cs: { selector: 0xf000 } }, { rip: 0xfff0n }), vendor: "kvm_amd" },
    ],
    ["without RIP", { sregs: () => sregsOf(RESET), vendor: "kvm_amd" }],
    ["of an unknown vendor", evidence(RESET, { rip: 0xfff0n })],
  ])("does not report a reset if the vCPU is %s", (_, asked) => {
    expect(explainExit({ kind: "shutdown" }, asked)).toBe(
      "a triple fault; the IDT is at 0x0 with limit 0x0, which has no entry for vector 8",
    );
  });
});

describe("the explanation of a refused VM entry", () => {
  const refused = (reason: bigint): ExplainedExit => ({
    kind: "fail_entry",
    hardwareEntryFailureReason: reason,
  });

  test.each<[Vendor, bigint, string]>([
    ["kvm_amd", 0xffff_ffffn, "0xffffffff VMEXIT_INVALID"],
    ["kvm_amd", 0xffff_ffff_ffff_ffffn, "0xffffffffffffffff VMEXIT_INVALID"],
    ["kvm_intel", 0x8000_0021n, "0x80000021 VM-entry failure: invalid guest state"],
  ])("names the check that the guest's state does not pass: %s, %i", (vendor, reason, name) => {
    const wrong = { ...LONG, cs: { l: 1, db: 1, s: 1, present: 1 }, tr: { type: 11, present: 1 } };
    const unused = Object.fromEntries(
      ["ss", "ds", "es", "fs", "gs"].map((segment) => [segment, { unusable: 1 }]),
    );
    const asked = evidence({ ...wrong, ...unused }, { rflags: 2n }, { vendor });
    expect(explainExit(refused(reason), asked)).toMatch(
      new RegExp(
        `^the CPU refused to enter the guest: ${name}; the guest's state fails a check: ` +
          "CS\\.L and CS\\.D are both 1 in long mode \\([^;]*\\)$",
      ),
    );
  });

  test("names no register of the guest if the check of the host's state failed", () => {
    const wrong = evidence({ ...LONG, cs: { l: 1, db: 1 } }, { rflags: 2n });
    expect(explainExit(refused(8n), { ...wrong, vendor: "kvm_intel" })).toBe(
      "the CPU refused to enter the guest: 0x8 VM entry with invalid host-state fields",
    );
    expect(explainExit(refused(0xffff_ffffn), wrong)).toBe(
      "the CPU refused to enter the guest: 0xffffffff",
    );
  });

  test.each<[string, ExitEvidence]>([
    ["the registers", { sregs: () => sregsOf({ cr0: PG }) }],
    ["the special registers", { regs: () => regsOf({}) }],
  ])("contains only the code if only %s of the vCPU can be read", (_, asked) => {
    expect(explainExit(refused(0xffff_ffffn), { ...asked, vendor: "kvm_amd" })).toBe(
      "the CPU refused to enter the guest: 0xffffffff VMEXIT_INVALID",
    );
  });

  test("names both checks if the state fails two checks", () => {
    const wrong = evidence({ cr0: PG | (1n << 29n) }, { rflags: 2n }, { vendor: "kvm_amd" });
    expect(explainExit(refused(0xffff_ffffn), wrong)).toMatch(
      /fails a check: CR0\.PG is 1 and CR0\.PE is 0 \(.*\); CR0\.NW is 1 and CR0\.CD is 0 \(.*\)$/,
    );
  });

  test("states if the guest's state passes all checks", () => {
    const fine = evidence({ cr0: PE }, { rflags: 2n }, { vendor: "kvm_amd" });
    expect(explainExit(refused(0xffff_ffffn), fine)).toMatch(
      /VMEXIT_INVALID; the guest's registers pass the checks that this package knows$/,
    );
  });
});

describe("the checks of the guest's state at VM entry", () => {
  const unused = { unusable: 1 };
  const GOOD = {
    ...LONG,
    cs: { l: 1, s: 1, present: 1, type: 11 },
    tr: { type: 11, present: 1, limit: 0x67 },
    ss: unused,
    ds: unused,
    es: unused,
    fs: unused,
    gs: unused,
  };
  const failed = (vendor: Vendor, sregs: StructInput<Sregs>, rflags = 2n): readonly string[] =>
    failedChecks({ sregs: sregsOf({ ...GOOD, ...sregs }), rflags }, vendor);

  test("accept a valid state", () => {
    expect([failed("kvm_amd", {}), failed("kvm_intel", {})]).toEqual([[], []]);
  });

  test.each<[Vendor, StructInput<Sregs>, bigint, string]>([
    ["kvm_amd", { cs: { l: 1, db: 1 } }, 2n, "CS.L and CS.D are both 1 in long mode"],
    ["kvm_amd", { cr4: 0n }, 2n, "EFER.LME and CR0.PG are 1 and CR4.PAE is 0"],
    ["kvm_amd", { cr0: PG }, 2n, "CR0.PG is 1 and CR0.PE is 0"],
    ["kvm_amd", { cr0: PG | PE | (1n << 29n) }, 2n, "CR0.NW is 1 and CR0.CD is 0"],
    ["kvm_intel", { cr0: PG }, 2n, "CR0.PG is 1 and CR0.PE is 0"],
    ["kvm_intel", {}, 0n, "RFLAGS bit 1 is 0"],
    ["kvm_intel", {}, 0x2_0002n, "RFLAGS.VM is 1 in long mode"],
    [
      "kvm_intel",
      { tr: { type: 9, present: 1 } },
      2n,
      "TR is not a busy TSS (type 9, S 0, present 1)",
    ],
    ["kvm_intel", { ds: { s: 1 } }, 2n, "DS is usable with S 1, present 0"],
    [
      "kvm_intel",
      { ds: { s: 1, present: 1, limit: 0xfffff, g: 0 }, es: { s: 1, present: 1, g: 1 } },
      2n,
      "ES has limit 0x0 with G 1",
    ],
    [
      "kvm_intel",
      { ds: { s: 1, present: 1, limit: 0xffff_ffff, g: 0 } },
      2n,
      "DS has limit 0xffffffff with G 0",
    ],
  ])("name the check that the state does not pass, case %#: %s", (vendor, sregs, rflags, text) => {
    expect(failed(vendor, sregs, rflags)).toEqual([expect.stringMatching(`^${escaped(text)} \\(`)]);
  });

  const CODE = { type: 11, s: 1, present: 1 };

  test.each<[string, Vendor, StructInput<Sregs>, bigint, readonly string[]]>([
    ["CS.L and CS.D without LME", "kvm_amd", { efer: 0n, cs: { l: 1, db: 1 } }, 2n, []],
    ["CS.L and CS.D without paging", "kvm_amd", { cr0: PE, cs: { l: 1, db: 1 } }, 2n, []],
    ["CS.D alone", "kvm_amd", { cs: { ...CODE, db: 1 } }, 2n, []],
    [
      "CS.L and CS.D without PAE",
      "kvm_amd",
      { cr4: 0n, cs: { l: 1, db: 1 } },
      2n,
      ["EFER.LME and CR0.PG are 1 and CR4.PAE is 0 (AMD APM Vol. 2, 15.5.1)"],
    ],
    ["paging without PAE and LME", "kvm_amd", { efer: 0n, cr4: 0n }, 2n, []],
    ["LME without paging", "kvm_amd", { cr0: PE, cr4: 0n }, 2n, []],
    [
      "paging without protection",
      "kvm_intel",
      { cr0: PG },
      2n,
      ['CR0.PG is 1 and CR0.PE is 0 (Intel SDM Vol. 3, "Checks on Guest Control Registers")'],
    ],
    [
      "an RFLAGS of 0",
      "kvm_intel",
      {},
      0n,
      ['RFLAGS bit 1 is 0 (Intel SDM Vol. 3, "Checks on Guest RIP and RFLAGS")'],
    ],
    [
      "a TR that is unusable",
      "kvm_intel",
      { tr: { type: 11, present: 1, unusable: 1 } },
      2n,
      [
        'TR is not a busy TSS (type 11, S 0, present 1) (Intel SDM Vol. 3, "Checks on Guest Segment Registers")',
      ],
    ],
    [
      "a TR of code or data",
      "kvm_intel",
      { tr: { type: 11, present: 1, s: 1 } },
      2n,
      [
        'TR is not a busy TSS (type 11, S 1, present 1) (Intel SDM Vol. 3, "Checks on Guest Segment Registers")',
      ],
    ],
    [
      "a TR that is not present",
      "kvm_intel",
      { tr: { type: 3 } },
      2n,
      [
        'TR is not a busy TSS (type 3, S 0, present 0) (Intel SDM Vol. 3, "Checks on Guest Segment Registers")',
      ],
    ],
    [
      "two segments",
      "kvm_intel",
      { ds: { present: 1 }, es: { s: 1 } },
      2n,
      [
        'DS is usable with S 0, present 1, ES is usable with S 1, present 0 (Intel SDM Vol. 3, "Checks on Guest Segment Registers")',
      ],
    ],
    [
      "segments of virtual-8086 mode",
      "kvm_intel",
      { efer: 0n, cr0: PE, cs: { s: 0 }, ds: { s: 0 } },
      0x2_0002n,
      [],
    ],
    [
      "a segment of 4 GiB",
      "kvm_intel",
      { ds: { s: 1, present: 1, limit: 0xffff_ffff, g: 1 } },
      2n,
      [],
    ],
  ])('judge the state "%s" as %s does', (_, vendor, sregs, rflags, found) => {
    expect(failed(vendor, sregs, rflags)).toEqual(found);
  });

  test("are skipped if the CPU vendor is unknown", () => {
    const state = { sregs: sregsOf({ cr0: PG }), rflags: 0n };
    expect(failedChecks(state, undefined)).toEqual([]);
  });

  test("of one vendor are skipped on the hardware of the other vendor", () => {
    expect(failed("kvm_intel", { cr0: PG | PE | (1n << 29n) })).toEqual([]);
    expect(failed("kvm_amd", {}, 0n)).toEqual([]);
    expect(failed("kvm_pvm", { cs: { l: 1, db: 1 } })).toEqual([]);
  });
});

const escaped = (text: string): string => text.replaceAll(/[.()[\]]/g, "\\$&");

describe("the explanation of a memory fault exit", () => {
  const fault = (gpa: bigint, flags = 0n): ExplainedExit => ({ kind: "memory_fault", flags, gpa });
  const slots = (): readonly (typeof SLOT)[] => [SLOT];

  test("names the slot, the page and both possible causes", () => {
    expect(explainExit(fault(0x2345n), { slots })).toBe(
      "the guest's access to 0x2345: slot 3 (0x1000-0x4fff), page at offset 0x1000: either the page " +
        "is private, or the host page behind it is not available",
    );
    expect(explainExit(fault(0x2345n, 8n), { slots })).toMatch(
      /^the guest's private access .* either the page is shared, or its slot has no guest_memfd/,
    );
  });

  test("states if the address is outside of all slots", () => {
    expect(explainExit(fault(0x9000n), { slots })).toBe(
      "the guest's access to 0x9000: it is in no slot",
    );
  });

  test("is absent if the VM is closed", () => {
    expect(explainExit(fault(0x9000n), {})).toBeUndefined();
  });
});

describe("the explanation of an MMIO exit", () => {
  const write: ExplainedExit = { kind: "mmio", isWrite: true, physAddr: 0x2000n };

  test.each<[string, number | undefined, string | undefined]>([
    ["an address in no slot", undefined, "the guest wrote to 0x2000, which is in no slot"],
    [
      "in a read-only slot",
      2,
      "the guest wrote to 0x2000, in slot 3 (0x1000-0x4fff), which is read-only",
    ],
    ["in a slot that can be written", 0, undefined],
  ])("states why the access caused an exit: %s", (_, flags, text) => {
    const slots = (): readonly (typeof SLOT)[] => (flags === undefined ? [] : [{ ...SLOT, flags }]);
    expect(explainExit(write, { slots })).toBe(text);
  });

  test("states that the access is a read, but does not name a read-only slot as the cause of a read", () => {
    const read = { ...write, isWrite: false };
    expect(explainExit(read, { slots: () => [] })).toBe(
      "the guest read from 0x2000, which is in no slot",
    );
    expect(explainExit(read, { slots: () => [{ ...SLOT, flags: 2 }] })).toBeUndefined();
    expect(explainExit(read, {})).toBeUndefined();
  });
});

test.each<[Vendor | undefined, bigint, string]>([
  ["kvm_amd", 0x7fn, "0x7f SHUTDOWN"],
  ["kvm_amd", 0x4en, "0x4e exception 14 #PF"],
  ["kvm_amd", 0x999n, "0x999"],
  ["kvm_intel", 2n, "0x2 triple fault"],
  ["kvm_pvm", 2n, "0x2"],
  [undefined, 2n, "0x2"],
])("the exit code on %s with number %i is printed as %s", (vendor, code, text) => {
  expect(exitCodeName(code, vendor)).toBe(text);
});

test("the number of a VM-instruction error is printed with the error's name, not with the name of an exit reason", () => {
  expect(entryFailureName(7n, "kvm_intel")).toBe("0x7 VM entry with invalid control fields");
  expect(explainExit({ kind: "hw", hardwareExitReason: 0x8bn }, { vendor: "kvm_amd" })).toBe(
    "KVM does not handle the hardware's exit 0x8b MWAIT",
  );
});

describe("the translation of a guest virtual address in long mode", () => {
  /** The page tables are at 0x1000 (root), 0x2000, 0x3000 and 0x4000. */
  const words = new Map<bigint, bigint>([
    [0x1000n, 0x2003n],
    [0x2000n, 0x3003n],
    [0x2008n, 0x4000_0083n],
    [0x3000n, 0x4003n],
    [0x3008n, 0x20_0083n],
    [0x4008n, 0x8000_0000_0000_7003n],
  ]);
  const readWord = (gpa: bigint): bigint | undefined => words.get(gpa);
  const at = (linear: bigint): bigint | undefined =>
    translate(linear, sregsOf({ ...LONG, cr3: 0x1000n }), readWord);

  test.each([
    ["4 KiB", 0x1234n, 0x7234n],
    ["2 MiB", 0x20_1234n, 0x20_1234n],
    ["1 GiB", 0x4012_3456n, 0x4012_3456n],
    ["no page", 0x2000n, undefined],
    ["no table", 0x80_0000_0000n, undefined],
  ])("finds a page of %s", (_, linear, gpa) => {
    expect(at(linear)).toBe(gpa);
  });

  test("does not read the page tables if paging is in another mode", () => {
    expect(translate(0x1234n, sregsOf({ cr0: PG | PE, cr3: 0x1000n }), readWord)).toBeUndefined();
  });

  test("finds no page if the root entry has the page-size bit", () => {
    const large = (): bigint => 0x2083n;
    const levels: bigint[] = [];
    const counted = (gpa: bigint): bigint => {
      levels.push(gpa);
      return large();
    };
    expect(translate(0n, sregsOf({ ...LONG, cr3: 0x1000n }), counted)).toBe(0n);
    expect(levels).toEqual([0x1000n, 0x2000n]);
  });
});
