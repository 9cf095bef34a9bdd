/** Tests of reading back: every lost value is named, except for values that may differ. */
import { describe, expect, test } from "vitest";
import type { CpuidEntry2, MsrEntry } from "../../../lib/abi/generated/structs.ts";
import { CpuidTable } from "../../../lib/cpuid/index.ts";
import { RestoreError, refuseDifferences, type StateDifference } from "../../../lib/state/error.ts";
import { COUNTING_MSRS } from "../../../lib/state/msrs.ts";
import { type Part, partNamed, VCPU_PARTS, VM_PARTS } from "../../../lib/state/parts.ts";
import { differences, MAY_DIFFER } from "../../../lib/state/read-back.ts";
import { fromBytes, toBytes } from "../../../lib/state/shape.ts";
import type { VcpuState, VmState } from "../../../lib/state/state.ts";
import { SANE } from "./any-state.ts";

type Name = Exclude<
  keyof VcpuState | keyof VmState,
  "id" | "format" | "version" | "source" | "vcpus"
>;

/** The members of a part, as paths with values. */
type Changes = Readonly<Record<string, unknown>>;

const VCPU = SANE.vcpus[0] as VcpuState;
const NAMES = [...VCPU_PARTS, ...VM_PARTS].map(({ name }) => name as Name);

/** Returns the value of a part, from the full state or filled with zeros. */
function partValue(part: Part): unknown {
  const value: unknown = Reflect.get({ ...SANE, ...VCPU }, part.name);
  return value ?? fromBytes(part.shape, new Uint8Array(part.get.size));
}

const compared = (
  name: Name,
  wrote: unknown,
  reads: unknown,
  state: VcpuState = { id: 0 },
): readonly StateDifference[] =>
  differences({ object: "vcpu 0", part: partNamed(name), wrote, reads, state });

/**
 * Returns a part of zeros in which some members are changed, such as `"cs.base"`; `"regs[0x20]"` is a 32-bit word of
 * bytes.
 */
function withMembers(name: Name, changes: Changes): unknown {
  const { shape, get } = partNamed(name);
  const size = shape.kind === "struct" ? shape.layout.size : get.size;
  const value = fromBytes(shape, new Uint8Array(Math.max(size, 4)));
  for (const [path, one] of Object.entries(changes)) {
    if (path === "") return one;
    const names = path.split(/[.[\]]+/).filter((word) => word !== "");
    const owner = names
      .slice(0, -1)
      .reduce<object>((at, word) => Reflect.get(at, word), Object(value));
    const last = names.at(-1) ?? "";
    if (owner instanceof Uint8Array)
      new DataView(owner.buffer).setUint32(Number(last), Number(one), true);
    else Reflect.set(owner, last, one);
  }
  return value;
}

describe.each(NAMES)("reading back the part %s", (name) => {
  const value = partValue(partNamed(name));

  test("reports no difference if the written value is read", () => {
    expect(compared(name, value, structuredClone(value))).toEqual([]);
  });

  test("reports that the part does not exist after writing", () => {
    expect(compared(name, value, undefined).map(({ path, reads }) => [path, reads])).toEqual([
      [name, undefined],
    ]);
  });
});

/** For each row: the written value of a part, the value that is read back, and the difference. */
const LOST: readonly (readonly [Name, Changes, Changes, string, unknown, unknown])[] = [
  ["regs", { rip: 7n }, {}, "regs.rip", 7n, 0n],
  ["sregs2", { "cs.base": 5n }, {}, "sregs2.cs.base", 5n, 0n],
  ["sregs2", { cr8: 5n }, {}, "sregs2.cr8", 5n, 0n],
  ["sregs2", { flags: 1n, "pdptrs[2]": 5n }, { flags: 1n }, "sregs2.pdptrs[2]", 5n, 0n],
  ["sregs2", { flags: 1n }, {}, "sregs2.flags", 1n, 0n],
  ["sregs", { efer: 0x500n }, { efer: 0n }, "sregs.efer", 0x500n, 0n],
  ["debugregs", { dr7: 0x400n }, {}, "debugregs.dr7", 0x400n, 0n],
  ["lapic", { "regs[800]": 0x2_00ef }, {}, "lapic.regs[0x320]", 0x2_00ef, 0],
  ["lapic", { "regs[512]": 4 }, { "regs[512]": 8 }, "lapic.regs[0x200]", 4, 8],
  ["lapic", { "regs[256]": 4 }, {}, "lapic.regs[0x100]", 4, 0],
  ["vcpuEvents", { "interrupt.injected": 1 }, {}, "vcpuEvents.interrupt.injected", 1, 0],
  ["vcpuEvents", { flags: 1, "nmi.pending": 1 }, {}, "vcpuEvents.nmi.pending", 1, 0],
  ["vcpuEvents", { flags: 4, "interrupt.shadow": 1 }, {}, "vcpuEvents.interrupt.shadow", 1, 0],
  ["vcpuEvents", { flags: 4 }, { "interrupt.shadow": 3 }, "vcpuEvents.interrupt.shadow", 0, 3],
  ["vcpuEvents", { flags: 8, "smi.smm": 1 }, {}, "vcpuEvents.smi.smm", 1, 0],
  ["vcpuEvents", { flags: 16, exceptionPayload: 1n }, {}, "vcpuEvents.exceptionPayload", 1n, 0n],
  [
    "vcpuEvents",
    { flags: 32, "tripleFault.pending": 1 },
    {},
    "vcpuEvents.tripleFault.pending",
    1,
    0,
  ],
  ["mpState", { "": 3 }, { "": 0 }, "mpState", 3, 0],
  ["tscKhz", { "": 5 }, { "": 6 }, "tscKhz", 5, 6],
  ["picMaster", { imr: 0xff }, {}, "picMaster.imr", 0xff, 0],
  ["ioapic", { "redirtbl[3]": 0x1_0000n }, {}, "ioapic.redirtbl[3]", 0x1_0000n, 0n],
  ["ioapic", { id: 3 }, {}, "ioapic.id", 3, 0],
  ["clock", { clock: 7n }, { clock: 6n }, "clock.clock", 7n, 6n],
  ["pit2", { "channels[0].mode": 2 }, {}, "pit2.channels[0].mode", 2, 0],
  ["pit2", { "channels[0].count": 9 }, {}, "pit2.channels[0].count", 9, 0],
  ["xcrs", { nrXcrs: 1, "xcrs[0].value": 7n }, {}, "xcrs.xcrs[0].value", 7n, 0n],
];

test.each(LOST)(
  "reading back %s: %o was written, and %o is a difference",
  (name, a, b, path, wrote, reads) => {
    const found = compared(name, withMembers(name, a), withMembers(name, b));
    expect(found).toEqual([{ object: "vcpu 0", part: name, path, wrote, reads, isRefused: false }]);
  },
);

/** Allowed differences: one example for each row of MAY_DIFFER. */
const FINE: readonly (readonly [Name, Changes, Changes])[] = [
  ["sregs2", { "ldt.unusable": 1, "ldt.type": 2 }, { "ldt.unusable": 1 }],
  ["sregs", { "gs.unusable": 1, "gs.limit": 2 }, { "gs.unusable": 1 }],
  ["sregs2", {}, { flags: 1n }],
  ["sregs2", { "pdptrs[0]": 1n }, {}],
  ["sregs", { "interruptBitmap[0]": 1n }, {}],
  ["lapic", { "regs[48]": 1, "regs[160]": 2, "regs[912]": 3 }, {}],
  ["lapic", { "regs[512]": 4 }, { "regs[512]": 12 }],
  ["lapic", {}, { "regs[384]": 4, "regs[496]": 1 }],
  ["vcpuEvents", { flags: 0, sipiVector: 5 }, { flags: 13 }],
  ["vcpuEvents", { "nmi.pending": 1 }, {}],
  ["vcpuEvents", { "interrupt.shadow": 1 }, {}],
  ["vcpuEvents", { flags: 4, "interrupt.shadow": 1 }, { "interrupt.shadow": 3 }],
  ["vcpuEvents", { "smi.smm": 1, "smi.pending": 1 }, {}],
  ["vcpuEvents", { "exception.pending": 1, exceptionPayload: 1n, exceptionHasPayload: 1 }, {}],
  ["vcpuEvents", { "tripleFault.pending": 1 }, {}],
  ["mpState", { "": 4 }, { "": 0 }],
  ["picMaster", { irr: 1 }, { lastIrr: 1 }],
  ["picSlave", { lastIrr: 1 }, { irr: 1 }],
  ["ioapic", { irr: 4 }, {}],
  ["ioapic", { "redirtbl[0]": 0x31n }, { "redirtbl[0]": 0x5031n }],
  ["clock", { clock: 7n, hostTsc: 1n, realtime: 2n, flags: 8 }, { clock: 9n, flags: 14 }],
  ["pit2", { "channels[1].countLoadTime": 1n }, {}],
  ["pit2", { "channels[0].count": 0 }, { "channels[0].count": 0x10000 }],
  ["xcrs", { nrXcrs: 0, "xcrs[0].value": 7n }, { nrXcrs: 1 }],
  ["debugregs", { "reserved[0]": 7n }, {}],
  ["regs", {}, {}],
];

test.each(FINE)("reading back %s: %o was written, and %o is allowed", (name, a, b) => {
  expect(compared(name, withMembers(name, a), withMembers(name, b))).toEqual([]);
});

test("every row of MAY_DIFFER has an example and a reason", () => {
  const covered = (parts: readonly string[]): boolean =>
    parts.includes("msrs") || parts.some((name) => FINE.some(([one]) => one === name));
  expect(MAY_DIFFER.filter(({ parts, why }) => !covered(parts) || why.length < 15)).toEqual([]);
});

const msr = (index: number, data: bigint): MsrEntry => ({ index, reserved: 0, data });

describe("reading back an MSR", () => {
  const lost = (wrote: readonly MsrEntry[], reads: readonly MsrEntry[]) =>
    compared("msrs", wrote, reads).map((one) => [one.path, one.wrote, one.reads]);

  test.each([0x48, 0x122, 0x1d9, 0x4b56_4d07])(
    "reports the MSR %i if KVM accepts a value but returns 0",
    (index) => {
      expect(lost([msr(index, 1n)], [msr(index, 0n)])).toEqual([
        [`msrs[0x${index.toString(16)}]`, 1n, 0n],
      ]);
    },
  );

  test("reports an MSR that cannot be read if the written value was not 0", () => {
    expect(lost([msr(0x49, 1n), msr(0x4a, 0n)], [])).toEqual([["msrs[0x49]", 1n, undefined]]);
  });

  test("compares with the last value if the MSR was written twice", () => {
    expect(lost([msr(0x48, 1n), msr(0x48, 2n)], [msr(0x48, 2n)])).toEqual([]);
    expect(lost([msr(0x48, 2n), msr(0x48, 1n)], [msr(0x48, 2n)])).toEqual([["msrs[0x48]", 1n, 2n]]);
  });

  test.each(COUNTING_MSRS.map(({ index }) => index))(
    "allows a difference of the counting MSR %i",
    (index) => {
      expect(lost([msr(index, 1n)], [msr(index, 2n)])).toEqual([]);
    },
  );

  test("allows 0 in the TSC deadline only if the deadline has passed", () => {
    const tsc = [msr(0x10, 100n), msr(0x6e0, 0n)];
    expect(lost([msr(0x6e0, 100n)], tsc)).toEqual([]);
    expect(lost([msr(0x6e0, 101n)], tsc)).toEqual([["msrs[0x6e0]", 101n, 0n]]);
    expect(lost([msr(0x6e0, 1n)], [msr(0x6e0, 0n)])).toEqual([["msrs[0x6e0]", 1n, 0n]]);
    expect(lost([msr(0x6e0, 50n)], [msr(0x10, 100n), msr(0x6e0, 7n)])).toEqual([
      ["msrs[0x6e0]", 50n, 7n],
    ]);
  });

  test("reports a changed value of a disabled synthetic timer", () => {
    expect(lost([msr(0x4000_00b0, 3n)], [msr(0x4000_00b0, 2n)])).toEqual([]);
    expect(lost([msr(0x4000_00b0, 0n)], [msr(0x4000_00b0, 1n)])).toEqual([
      ["msrs[0x400000b0]", 0n, 1n],
    ]);
  });
});

describe("reading back a CPUID table", () => {
  const table = CpuidTable.from([{ function: 1 }, { function: 7, flags: 1, ebx: 0x20 }]);
  const lost = (reads: Iterable<CpuidEntry2>) =>
    compared("cpuid", [...table], [...reads]).map((one) => [one.path, one.wrote, one.reads]);

  test("reports a lost feature by the field's name", () => {
    expect(lost(table.with({ avx2: 0 }))).toEqual([["cpuid 0x7.0:ebx[5] avx2", 1, 0]]);
  });

  test("reports a lost entry", () => {
    expect(lost(table.without(7))).toEqual([
      ["cpuid table entries", 2, 1],
      ["cpuid 0x7.0 entry", "present", "absent"],
    ]);
  });

  test("allows other values of bits that KVM writes itself", () => {
    expect(lost(table.with({ osxsave: 1, apic: 1, ospke: 1 }))).toEqual([]);
  });
});

describe("reading back an XSAVE area", () => {
  const cpuid = [...CpuidTable.from([{ function: 0xd, index: 2, flags: 1, eax: 256, ebx: 576 }])];
  const area = (bits: bigint, words: Readonly<Record<number, number>> = {}): Uint8Array => {
    const bytes = new Uint8Array(4096);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(512, bits, true);
    for (const [at, word] of Object.entries(words)) view.setUint32(Number(at), word, true);
    return bytes;
  };
  const lost = (wrote: Uint8Array, reads: Uint8Array) =>
    compared("xsave", wrote, reads, { id: 0, cpuid }).map(({ path }) => path);

  test.each([
    ["x87", 0],
    ["x87's stack", 32],
    ["MXCSR", 24],
    ["XMM15", 412],
    ["the first half of YMM0", 576],
    ["the last of AVX", 828],
  ])("reports a lost %s", (_, at) => {
    expect(lost(area(7n, { [at]: 5 }), area(7n))).toEqual([`xsave[0x${at.toString(16)}]`]);
  });

  test.each([
    ["the mask of MXCSR", 28],
    ["what software may use", 464],
    ["behind its components", 832],
  ])("allows a difference in %s", (_, at) => {
    expect(lost(area(7n, { [at]: 5 }), area(7n))).toEqual([]);
  });

  test("allows a difference in a component that was not written", () => {
    expect(lost(area(3n, { 576: 5 }), area(3n))).toEqual([]);
  });

  test("reports a component that was lost, but not a component that was added", () => {
    expect(lost(area(7n), area(3n))).toEqual(["xsave.xstate_bv"]);
    expect(lost(area(3n), area(7n))).toEqual([]);
  });
});

describe("reading back nested state", () => {
  const nested = (changes: Readonly<Record<number, number>>): Uint8Array => {
    const bytes = new Uint8Array(256);
    for (const [at, byte] of Object.entries(changes)) bytes[Number(at)] = byte;
    return bytes;
  };
  const lost = (wrote: Uint8Array, reads: Uint8Array) =>
    compared("nestedState", wrote, reads).map(({ path }) => path);

  test.each([0, 2, 8, 31])("reports a difference in byte %i of the header", (at) => {
    expect(lost(nested({ [at]: 1 }), nested({}))).toHaveLength(1);
  });

  test.each([4, 32, 39, 128, 255])(
    "allows a difference in size, deadline and pages: byte %i",
    (at) => {
      expect(lost(nested({ [at]: 1 }), nested({}))).toEqual([]);
    },
  );
});

describe("the error about a state that reads back differently", () => {
  const one = (object: string, path: string, isRefused = false): StateDifference => ({
    ...{ object, part: "msrs", path, wrote: 7n, reads: undefined, isRefused },
  });

  test("is not thrown if nothing differs", () => {
    expect(() => refuseDifferences([])).not.toThrow();
  });

  test("has the path, the written value and the read value of one difference", () => {
    expect(() => refuseDifferences([one("vcpu 0", "msrs[0x48]")])).toThrow(
      "restoring msrs (vcpu 0): msrs[0x48]: wrote 0x7, reads nothing",
    );
  });

  test("names the differences of several vCPUs, and contains them as members", () => {
    const all = [one("vcpu 0", "msrs[0x48]"), one("vcpu 1", "msrs[0x49]", true)];
    expect(() => refuseDifferences(all)).toThrow(
      "\n  vcpu 0: msrs[0x48]: wrote 0x7, reads nothing\n  vcpu 1: msrs[0x49]: KVM refused 0x7",
    );
    expect(() => refuseDifferences(all)).toThrow(expect.objectContaining({ differences: all }));
    expect(() => refuseDifferences(all)).toThrow(RestoreError);
  });

  test("has a limited length for 1,000 differences", () => {
    const all = Array.from({ length: 1_000 }, (_, i) => one("vcpu 0", `msrs[${i}]`));
    expect(() => refuseDifferences(all)).toThrow(/and 900 more$/);
  });
});

test("members that a written struct omits count as zero when the state is read back", () => {
  const { regs } = SANE.vcpus[0] ?? {};
  const reads = fromBytes(partNamed("regs").shape, toBytes(partNamed("regs").shape, regs));
  expect(compared("regs", { rip: 1n }, reads).length).toBeGreaterThan(15);
});
