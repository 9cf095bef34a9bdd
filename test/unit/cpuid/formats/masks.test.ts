/** Tests of Xen's cpuid setting and Cloud Hypervisor's profiles. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CPUID_REGISTERS } from "../../../../lib/cpuid/entry.ts";
import { cloudHypervisor } from "../../../../lib/cpuid/formats/cloud-hypervisor.ts";
import type { CpuidDump, CpuidFormat, CpuidMask } from "../../../../lib/cpuid/formats/dump.ts";
import { xenFeatures, xenMask } from "../../../../lib/cpuid/formats/xen.ts";
import { SAMPLES } from "./samples.ts";

const parse = (format: CpuidFormat, text: string): CpuidDump =>
  format.parse(new TextEncoder().encode(text));
const faults = (dump: CpuidDump): readonly string[] =>
  dump.problems.map((p) => `${p.line}:${p.column} ${p.message}`);
const maskOf = (dump: CpuidDump): CpuidMask => {
  if (dump.kind !== "mask") throw new Error(`a ${dump.kind}`);
  return dump;
};

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const change = fc
  .record({ function: u32, register: fc.constantFrom(...CPUID_REGISTERS), mask: u32, bits: u32 })
  .map(({ bits, ...rest }) => ({
    ...rest,
    value: (rest.mask & bits) >>> 0,
    flags: undefined,
    line: 0,
  }));
const one = u32.map((index) => ({ first: index, last: index }));
const range = fc.tuple(u32, u32).map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) }));

/** Writes a mask and reads it again, with all line numbers set to 0. */
const again = (format: CpuidFormat, contents: CpuidMask): CpuidMask => {
  const read = maskOf(format.parse(format.formatMask?.(contents) ?? new Uint8Array()));
  return { ...read, mask: read.mask.map((c) => ({ ...c, line: 0 })) };
};

describe("Xen's cpuid list", () => {
  test("has bits that are set, bits that are cleared, and bits that are copied from the host", () => {
    const dump = parse(xenMask, SAMPLES["xen-cpuid"]);
    expect(dump.problems).toEqual([]);
    expect(maskOf(dump)).toMatchObject({
      unlisted: "keep",
      mask: [
        {
          function: 7,
          indexes: { first: 0, last: 0 },
          register: "ebx",
          mask: 0x80000020,
          value: 0x80000000,
          host: 5,
          line: 3,
        },
        { function: 1, indexes: undefined, register: "ecx", mask: 0x80000000, value: 0, line: 4 },
        { function: 1, indexes: undefined, register: "edx", mask: 1, value: 1, line: 4 },
      ],
    });
  });

  const bits = "x".repeat(32);
  test.each([
    [`cpuid = ["0x1:ecx=${bits}x"]`, "1:15 ecx:"],
    [`cpuid = ["0x1:ecx=${bits.slice(1)}"]`, "is not 32 characters of 0, 1, x, k and s"],
    [`cpuid = ["0x1:ecx=${bits.slice(1)}y"]`, "is not 32 characters of 0, 1, x, k and s"],
    [`cpuid = ["0x1:eex=${bits}"]`, "is not register=bits"],
    [`cpuid = ["0x1"]`, '1:11 "0x1" does not begin with "leaf:" or "leaf,subleaf:"'],
    [`cpuid = ["z:ecx=${bits}"]`, 'does not begin with "leaf:"'],
    [`cpuid = ["0x100000000:ecx=${bits}"]`, 'does not begin with "leaf:"'],
    [`cpuid = ["1,2,3:ecx=${bits}"]`, 'does not begin with "leaf:"'],
    [`cpuid = [\n"0x1:ecx=${bits}"`, '2:43 expected "," or "]"'],
    [`cpuid = [ 5 ]`, '1:11 expected a text in quotes or "]"'],
    [`cpuid = ["0x1\n"]`, '1:10 expected a text in quotes or "]"'],
    ["", "0:1 there is no cpuid setting"],
  ])("refuses %j", (text, fault) => {
    expect(faults(parse(xenMask, text))[0]).toContain(fault);
  });

  test("has the same changes after it was written and read, except for bits that are copied from the host", () => {
    const withPlace = fc
      .tuple(change, fc.option(one, { nil: undefined }))
      .map(([c, indexes]) => ({ ...c, indexes }));
    fc.assert(
      fc.property(fc.array(withPlace), (mask) => {
        expect(again(xenMask, { mask, unlisted: "keep", capabilities: [] }).mask).toEqual(mask);
      }),
    );
  });
});

describe("Xen's short form", () => {
  test("has features, and properties for values that are not features", () => {
    const dump = parse(xenFeatures, SAMPLES["xen-features"]);
    expect(dump).toMatchObject({
      problems: [],
      features: {
        model: "host",
        on: ["sse3"],
        off: ["tm"],
        properties: { aes: "k", family: "0x6" },
      },
    });
  });

  test.each([
    [`cpuid = "guest,tm=0"`, '1:10 the short form begins with "host", not with "guest"'],
    [`cpuid = "host,tm"`, '1:15 "tm" is not name=value'],
    [`cpuid = "host,tm=2"`, '1:15 tm: "2" is not 0, 1, x, k or s'],
    [`cpuid = "host,family=z"`, '1:15 family: "z" is not a number, x, k or s'],
    [`cpuid = "host,tm=0,tm=1"`, '1:20 "tm" is there twice'],
    [`cpuid = "host`, "1:9 expected a text in quotes"],
  ])("refuses %j", (text, fault) => {
    expect(faults(parse(xenFeatures, text))).toEqual([fault]);
  });

  test("has the same features after it was written and read", () => {
    const names = fc.uniqueArray(fc.stringMatching(/^[a-z][a-z0-9_]{2,8}$/), { maxLength: 9 });
    fc.assert(
      fc.property(names, fc.nat(9), fc.nat(9), (all, a, b) => {
        const [first, last] = [Math.min(a, b), Math.max(a, b)];
        const features = {
          model: "host",
          vendor: undefined,
          on: all.slice(0, first).filter((name) => name !== "family"),
          off: all.slice(first, last).filter((name) => name !== "family"),
          properties: Object.fromEntries(all.slice(last).map((name) => [name, "k"])),
        };
        const text = xenFeatures.formatFeatures?.(features) ?? new Uint8Array();
        expect(xenFeatures.parse(text)).toMatchObject({ problems: [], features });
      }),
    );
  });
});

describe("a Cloud Hypervisor profile", () => {
  test("has changes for ranges of sub-leaves, and clears the other registers", () => {
    const dump = parse(cloudHypervisor, SAMPLES["cloud-hypervisor"]);
    expect(dump).toEqual({
      kind: "mask",
      format: "cloud-hypervisor",
      mask: [
        {
          function: 7,
          indexes: { first: 0, last: 1 },
          register: "ebx",
          mask: 0xffffff20,
          value: 0x20,
          flags: undefined,
          line: 3,
        },
      ],
      unlisted: "clear",
      capabilities: [],
      problems: [],
      notes: [],
      msrs: [],
    });
  });

  const place = { leaf: "0x7", sub_leaf: { start: "0x0", end: "0x0" }, register: "EBX" };
  const bits = { replacements: "0x0", mask: "0x0" };
  test.each([
    [{}, "1:1 there is no adjustments"],
    [[5], "adjustments[0]: expected an array, got 5"],
    [[[place]], "adjustments[0]: expected a place and a change"],
    [[[{ ...place, leaf: 7 }, bits]], "adjustments[0][0].leaf: expected text, got 7"],
    [
      [[{ ...place, register: "ebx" }, bits]],
      "adjustments[0][0].register: expected EAX, EBX, ECX or EDX",
    ],
    [
      [[{ ...place, sub_leaf: { start: "0x2", end: "0x1" } }, bits]],
      "adjustments[0][0].sub_leaf: it ends before it starts",
    ],
    [[[place, { mask: "0x0" }]], "adjustments[0][1]: there is no replacements"],
    [
      [[place, { ...bits, mask: "0x100000000" }]],
      'adjustments[0][1].mask: "0x100000000" does not fit 32 bits',
    ],
  ])("refuses %j", (value, fault) => {
    const dump = parse(cloudHypervisor, JSON.stringify(value));
    expect(faults(dump)).toEqual([expect.stringContaining(fault)]);
    expect(maskOf(dump).mask).toEqual([]);
  });

  test("has the same changes after it was written and read", () => {
    const withPlace = fc.tuple(change, range).map(([c, indexes]) => ({ ...c, indexes }));
    fc.assert(
      fc.property(fc.array(withPlace), (mask) => {
        expect(again(cloudHypervisor, { mask, unlisted: "clear", capabilities: [] }).mask).toEqual(
          mask,
        );
      }),
    );
  });
});
