/** Tests of portable(): which differences prevent a guest from continuing on another host. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type CpuidFieldValuesInput,
  CpuidTable,
  compare,
  modelTable,
  portable,
} from "../../../lib/cpuid/index.ts";

const from = CpuidTable.from([
  { function: 0, eax: 0xd, ebx: 0x756e6547, ecx: 0x6c65746e, edx: 0x49656e69 },
  { function: 1, eax: 0x906ea, ebx: 0x100800, ecx: 1 << 26 },
  { function: 4, flags: 1, eax: 0x1c004121 },
  { function: 7, flags: 1, ebx: 1 << 5 },
  { function: 0xb, flags: 1, edx: 1 },
  { function: 0xd, flags: 1, eax: 7, ebx: 0x340, ecx: 0x340 },
  { function: 0xd, index: 2, flags: 1, eax: 256, ebx: 576 },
  { function: 0x40000000, eax: 0x40000001, ebx: 0x4b4d564b, ecx: 0x564b4d56, edx: 0x4d },
  { function: 0x40000001, eax: 1 },
  { function: 0x80000000, eax: 0x80000008 },
  { function: 0x80000002, eax: 0x65746e49 },
  { function: 0x80000007 },
  { function: 0x80000008, eax: 0x3028 },
]);

const messages = (a: CpuidTable, b: CpuidTable, options = {}): readonly string[] =>
  portable(a, b, options).reasons.map(({ message }) => message);

describe("a guest can continue", () => {
  test("on the same host", () => {
    expect(portable(from, from)).toEqual({ isPortable: true, reasons: [], notes: [] });
  });

  test.each([
    ["more features", { avx: 1, adx: 1 }],
    ["larger addresses", { phys_addr_bits: 52, virt_addr_bits: 57, la57: 1 }],
    ["other ids and topology", { stepping: 1, local_apic_id: 3, n_logical_cpu: 9, x2apic_id: 7 }],
    ["other caches and brand", { cache_type: 2, cpu_brandid_0: 1 }],
    ["other highest leaves", { max_std_leaf: 7, max_ext_leaf: 0x80000007 }],
    ["bits that KVM computes", { osxsave: 1, ospke: 1, xsave_sz_xcr0: 576 }],
    ["another KVM leaf limit", { kvm_max_leaf: 0 }],
  ] as const)("on a host with %s", (_, values) => {
    expect(messages(from, from.with(values))).toEqual([]);
  });

  test.each(["x2apic", "tsc_deadline_timer", "guest_status", "monitor"] as const)(
    "with %s, although the destination does not report the feature",
    (name) => {
      expect(messages(from.with({ [name]: 1 }), from)).toEqual([]);
    },
  );

  test("if KVM's leaves have another base, for example after Hyper-V's leaves", () => {
    const beside = from
      .filter((e) => e.function < 0x40000000 || e.function > 0x40000001)
      .append(
        { function: 0x40000000, ebx: 0x7263694d },
        { function: 0x40000001, eax: 0x31237648 },
        { function: 0x40000100, ebx: 0x4b4d564b, ecx: 0x564b4d56, edx: 0x4d },
        { function: 0x40000101, eax: 1 },
      );
    expect(messages(beside, from)).toEqual([]);
    expect(messages(beside.with({ kvm_pv_unhalt: 1 }), from)).toEqual([
      "0x40000001.0:eax[7] kvm_pv_unhalt: the guest may use it, and the destination lacks it",
    ]);
  });

  test("with leaves of Xen, with a note", () => {
    const xen = from.append({
      function: 0x40000100,
      ...{ ebx: 0x566e6558, ecx: 0x65584d4d, edx: 0x4d4d566e },
    });
    expect(portable(xen, from)).toMatchObject({
      isPortable: true,
      notes: ["the guest has the leaves of xen, which the destination's table does not show"],
    });
  });

  test("with a stale sub-leaf of an XSAVE component that is not in the guest's XSAVE mask", () => {
    const stale = from.append({ function: 0xd, index: 9, flags: 1, eax: 8, ebx: 2688 });
    expect(messages(stale, from)).toEqual([]);
  });
});

describe("a guest cannot continue", () => {
  test.each([
    [
      "without a feature",
      from,
      from.with({ avx2: 0 }),
      ["0x7.0:ebx[5] avx2: the guest may use it, and the destination lacks it"],
    ],
    [
      "without a function that only its host has",
      from,
      from.with({ fdp_excptn_only: 1 }),
      [
        "0x7.0:ebx[6] fdp_excptn_only: the guest may use the function, and the destination lacks it",
      ],
    ],
    [
      "on a CPU with a flaw that it does not mitigate",
      from
        .with({ rtm_always_abort: 0 })
        .replace(3, { edx: 0 })
        .append({
          function: 7,
          index: 2,
          flags: 1,
          edx: 1 << 5,
        }),
      from,
      ["0x7.2:edx[5] mcdt_no: the guest may use it, and the destination lacks it"],
    ],
    [
      "with smaller addresses",
      from,
      from.with({ phys_addr_bits: 39 }),
      ["0x80000008.0:eax[7:0] phys_addr_bits: the guest has 40, and the destination 39"],
    ],
    [
      "without an XSAVE component",
      from,
      from.with({ xcr0_avx: 0 }).without(0xd, 2),
      ["0xd.0:eax[2] xcr0_avx: the guest's XSAVE area has 1, and the destination's 0"],
    ],
    [
      "with another layout of an XSAVE component",
      from,
      from.with({ xsave_offset: 832 }, 2),
      [
        "0xd.2:ebx[31:0] xsave_offset: the guest's XSAVE area has 0x240, and the destination's 0x340",
      ],
    ],
    [
      "with another cache line size of CLFLUSH",
      from,
      from.with({ clflush_size: 16 }),
      ["0x1.0:ebx[15:8] clflush_size: the guest has 8, and the destination 16"],
    ],
    [
      "on another vendor's CPU",
      from,
      from.with({ cpu_vendorid_0: 1, cpu_vendorid_1: 2, cpu_vendorid_2: 3 }),
      [
        "0x0.0:ebx[31:0] cpu_vendorid_0: the vendors are different: SYSENTER, SYSCALL and errata differ",
      ],
    ],
  ])("%s", (_, guest, host, expected) => {
    expect(messages(guest, host)).toEqual(expected);
  });

  test("with an invariant TSC, except if the TSC frequency stays the same", () => {
    const guest = from.with({ constant_tsc: 1 });
    expect(portable(guest, from).reasons).toMatchObject([{ kind: "tsc", difference: undefined }]);
    expect(messages(guest, from, { tsc: "unknown" })).toHaveLength(1);
    expect(messages(guest, from, { tsc: "same" })).toEqual([]);
    expect(messages(guest, from, { tsc: "scaled" })).toEqual([]);
  });
});

test("a guest with an invariant TSC on an equal table depends only on the frequency, and the reason names the remedy", () => {
  const guest = from.with({ constant_tsc: 1 });
  const { isPortable, reasons } = portable(guest, guest);
  expect([isPortable, reasons.map(({ kind }) => kind)]).toEqual([false, ["tsc"]]);
  expect(reasons[0]?.message).toContain("which tables do not contain");
  for (const remedy of ['{ tsc: "same" }', "--tsc same", '{ tsc: "scaled" }', "--tsc scaled"]) {
    expect(reasons[0]?.message).toContain(remedy);
  }
});

test("a guest of EPYC-Milan, which has no leaf 0x80000021, can continue on EPYC-Genoa, which has this leaf", () => {
  const [milan, genoa] = [modelTable("EPYC-Milan"), modelTable("EPYC-Genoa")];
  expect([milan.get("no_nested_data_bp"), genoa.get("no_nested_data_bp")]).toEqual([undefined, 1]);
  expect(messages(milan, genoa)).toEqual([]);
  const reported = milan.with({ max_ext_leaf: 0x80000021 }).append({ function: 0x80000021 });
  expect(messages(reported, genoa)).toHaveLength(1);
});

test("each reason has a kind", () => {
  const values: CpuidFieldValuesInput = { avx2: 0, fdp_excptn_only: 1, phys_addr_bits: 36 };
  const host = from.with({ ...values, xcr0_avx: 0, clflush_size: 16, cpu_vendorid_0: 1 });
  const guest = from.with({ constant_tsc: 1 });
  expect(portable(guest, host).reasons.map(({ kind }) => kind)).toEqual([
    ...["vendor", "layout", "feature", "negated", "xsave", "tsc", "size"],
  ]);
});

const word = fc.nat({ max: 0xffffffff });
const aHost: fc.Arbitrary<CpuidTable> = fc
  .record({ eax: word, ebx: word, ecx: word, edx: word })
  .map((more) =>
    from
      .append({ function: 0x80000001, ...more })
      .map((e) => (e.function === 7 ? { ...e, ecx: more.ebx } : e)),
  );

test("a guest with any subset of a host's features can continue on the host, and its table is a subset for compare()", () => {
  fc.assert(
    fc.property(aHost, word, (host, mask) => {
      const less = host.map((e) => (e.function === 7 ? { ...e, ecx: (e.ecx & mask) >>> 0 } : e));
      expect(messages(less, host)).toEqual([]);
      expect(["subset", "identical"]).toContain(compare(less, host).relation);
    }),
  );
});

test("a guest with one more feature than a host cannot continue on the host", () => {
  // Bit 4 is OSPKE, which KVM computes; bits 17 to 21 are a numeric field.
  const bit = fc.constantFrom(0, 1, 2, 3, 5, 6, 8, 9, 16, 22, 25, 31);
  fc.assert(
    fc.property(aHost, bit, (host, at) => {
      const set = (value: number): CpuidTable =>
        host.map((e) =>
          e.function === 7 ? { ...e, ecx: ((e.ecx & ~(1 << at)) | (value << at)) >>> 0 } : e,
        );
      expect(portable(set(1), set(0)).reasons).toMatchObject([{ kind: "feature" }]);
    }),
  );
});

test.each([
  [{ tcs: "same" }, 'portable(): unknown option "tcs"; did you mean "tsc"?'],
  [{ tsc: "equal" }, 'portable(): tsc is "same", "scaled" or "unknown", not "equal"'],
])("portable() refuses the argument %j", (options, message) => {
  expect(() => portable(from, from, options as object)).toThrow(TypeError);
  expect(() => portable(from, from, options as object)).toThrow(message);
});
