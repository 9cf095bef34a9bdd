/** Tests of libvirt's <cpudata> and <cpu>. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isIndexed } from "../../../../lib/cpuid/entry.ts";
import type { CpuidDump, CpuidFeatureList } from "../../../../lib/cpuid/formats/dump.ts";
import { libvirtCpu, libvirtCpudata } from "../../../../lib/cpuid/formats/libvirt.ts";
import { CpuidTable } from "../../../../lib/cpuid/table.ts";
import { SAMPLES } from "./samples.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const faults = (dump: CpuidDump): readonly string[] =>
  dump.problems.map((p) => `${p.line}:${p.column} ${p.message}`);

describe("libvirt's <cpudata>", () => {
  const read = (text: string): CpuidDump => libvirtCpudata.parse(bytes(text));

  test("has a table with the flags that KVM sets, and MSRs", () => {
    const dump = read(SAMPLES["libvirt-cpudata"]);
    expect(dump).toMatchObject({
      problems: [],
      msrs: [{ index: 0x10a, mask: 0xffff_ffff_ffff_ffffn, value: 0x1_0000_0002n }],
      tables: [{ lines: [2, 3] }],
    });
    expect(dump.kind === "tables" && dump.tables[0]?.table.toJSON().entries).toMatchObject([
      { function: "0x0", index: 0, flags: 0, eax: "0x7", edx: "0x49656e69" },
      { function: "0x7", index: 0, flags: 1, ebx: "0x21" },
    ]);
  });

  test.each([
    ["<cpuid eax='1'/>", "2:1 <cpuid>: there is no attribute eax_in"],
    ["<cpuid eax_in='1' exb='1'/>", '2:1 <cpuid>: unknown attribute "exb"; did you mean "ebx"?'],
    ["<cpuid eax_in='1' ebx='x'/>", '2:1 <cpuid>: ebx "x" is not a number of 32 bits'],
    ["<cpuid eax_in='1' ebx=''/>", '2:1 <cpuid>: ebx "" is not a number of 32 bits'],
    ["<cpuid eax_in='1' ebx='-1'/>", '2:1 <cpuid>: ebx "-1" is not a number of 32 bits'],
    [
      "<cpuid eax_in='0x100000000'/>",
      '2:1 <cpuid>: eax_in "0x100000000" is not a number of 32 bits',
    ],
    ["<cpu/>", "2:1 unknown element <cpu>; known are <cpuid> and <msr>"],
    ["<msr eax='1'/>", "2:1 <msr>: there is no attribute index"],
  ])("refuses %s and reads the other elements", (element, fault) => {
    const dump = read(`<cpudata>\n${element}\n<cpuid eax_in='0x2' eax='5'/></cpudata>`);
    expect(faults(dump)).toEqual([fault]);
    expect(dump).toMatchObject({ msrs: [], tables: [{ lines: [3] }] });
  });

  test.each([
    [
      "ebx='0x756e6547'",
      "ebx='0x756e654'",
      '2:3 <cpuid>: ebx "0x756e654" has 7 digits instead of 8',
    ],
    [
      "eax_in='0x00000007'",
      "eax_in='0x000007'",
      '3:3 <cpuid>: eax_in "0x000007" has 6 digits instead of 8',
    ],
    ["eax='0x00000002'", "eax='0x0000002'", '4:3 <msr>: eax "0x0000002" has 7 digits instead of 8'],
  ])("has a fault if a digit of %s is lost", (whole, part, fault) => {
    expect(faults(read(SAMPLES["libvirt-cpudata"].replace(whole, part)))).toEqual([fault]);
  });

  test("of numbers without leading zeros is read, because no digit of them is lost", () => {
    const dump = read(
      "<cpudata><cpuid eax_in='0x0' eax='0xd' ebx='0x756e6547' ecx='5'/></cpudata>",
    );
    expect(faults(dump)).toEqual([]);
    expect(dump).toMatchObject({ tables: [{ table: { length: 1 } }] });
  });

  test.each([
    ["0x00000007", "0x7"],
    ["0x00000000", "0x0"],
  ])("has a fault at the leaf %s if it occurs again", (eax, leaf) => {
    const element = SAMPLES["libvirt-cpudata"]
      .split("\n")
      .find((e) => e.includes(`eax_in='${eax}'`));
    const dump = read(SAMPLES["libvirt-cpudata"].replace("  <msr", `${element}\n  <msr`));
    const first = leaf === "0x7" ? 3 : 2;
    expect(faults(dump)).toEqual([
      `4:3 <cpuid>: the leaf ${leaf}, sub-leaf 0 occurs again; the first is in line ${first}`,
    ]);
    expect(dump).toMatchObject({ tables: [{ lines: [2, 3] }] });
  });

  test.each([
    ["<a/>", "1:1 there is no <cpudata>"],
    ["<cpudata arch='arm'><cpuid eax_in='0'/></cpudata>", '1:1 the architecture is "arm", not x86'],
    ["<!DOCTYPE a><cpudata/>", "1:1 DOCTYPE is refused: this reader takes no definitions"],
  ])("finds no table in %s", (text, fault) => {
    expect(faults(read(text))[0]).toBe(fault);
    expect(read(text)).toMatchObject({ tables: [] });
  });

  const u32 = fc.integer({ min: 0, max: 0xffffffff });
  const plain = fc.record({
    function: fc.integer({ min: 0, max: 0x1fff_ffff }),
    eax: u32,
    ebx: u32,
    ecx: u32,
    edx: u32,
  });
  // The written table has the flags that the reader adds: only leaves that KVM treats as indexed have sub-leaves.
  const entry = fc
    .tuple(plain, u32)
    .map(([e, index]) => (isIndexed(e.function) ? { ...e, index, flags: 1 } : e));

  const selector = (e: { function: number; index?: number }): string =>
    `${e.function} ${e.index ?? 0}`;

  test("has the same table after it was written and read, if the table has KVM's flags", () => {
    fc.assert(
      fc.property(fc.uniqueArray(entry, { minLength: 1, maxLength: 20, selector }), (entries) => {
        const table = CpuidTable.from(entries);
        const file = { cpu: undefined, table, isComplete: false, lines: [] };
        const dump = libvirtCpudata.parse(libvirtCpudata.format?.([file]) ?? new Uint8Array());
        expect(dump.problems).toEqual([]);
        expect(dump.kind === "tables" && dump.tables[0]?.table.toJSON()).toEqual(table.toJSON());
      }),
    );
  });

  test("refuses to write two tables", () => {
    expect(() => libvirtCpudata.format?.([])).toThrow("<cpudata> is of one table, not of 0");
  });
});

describe("libvirt's <cpu>", () => {
  const read = (text: string): CpuidDump => libvirtCpu.parse(bytes(text));
  const featuresOf = (dump: CpuidDump): CpuidFeatureList => {
    if (dump.kind !== "features") throw new Error(`a ${dump.kind}`);
    return dump.features;
  };

  test("has the model, the vendor, the features and the policies that differ from the default", () => {
    const dump = read(SAMPLES["libvirt-cpu"]);
    expect(dump).toMatchObject({ problems: [], notes: [] });
    expect(featuresOf(dump)).toEqual({
      model: "Skylake-Server",
      vendor: "GenuineIntel",
      on: ["avx2", "pku"],
      off: ["rtm"],
      properties: {
        mode: "custom",
        match: "exact",
        check: "partial",
        fallback: "forbid",
        "topology.sockets": "1",
        "topology.cores": "4",
        "topology.threads": "2",
        "policy.pku": "optional",
      },
    });
  });

  test("of a host's capabilities has features without a policy", () => {
    const text = "<host><cpu><arch>x86_64</arch><model>X</model><feature name='vmx'/></cpu></host>";
    expect(featuresOf(read(text))).toMatchObject({ model: "X", on: ["vmx"] });
  });

  test("in a domain's capabilities is read from the host model", () => {
    const text = `<domainCapabilities><cpu><mode name='host-passthrough' supported='yes'/>
<mode name='host-model' supported='yes'><model fallback='forbid'>X</model><vendor>AMD</vendor>
<feature policy='require' name='ibpb'/></mode></cpu></domainCapabilities>`;
    expect(featuresOf(read(text))).toMatchObject({
      model: "X",
      vendor: "AuthenticAMD",
      on: ["ibpb"],
    });
  });

  test("is read from the first of several <cpu> elements, and a note lists the others", () => {
    const dump = read("<a><cpu><model>X</model></cpu>\n<cpu><model>Y</model></cpu></a>");
    expect(featuresOf(dump).model).toBe("X");
    expect(dump.notes).toEqual(["the <cpu> of line 1 is read; others are in line 2"]);
  });

  test.each([
    ["<feature/>", "1:28 <feature>: there is no name"],
    [
      "<feature name='a' policy='on'/>",
      '1:28 <feature>: unknown policy "on"; known are require, force, optional, disable, forbid',
    ],
    [
      "<feature name='a'/><feature name='a' policy='disable'/>",
      '1:47 <feature>: "a" is there twice',
    ],
  ])("refuses %s", (element, fault) => {
    expect(faults(read(`<cpu><model>Model</model>  ${element}</cpu>`))).toEqual([fault]);
  });

  test("has a note that lists the elements that are not read", () => {
    const dump = read("<cpu><model>X</model>\n<numa/></cpu>");
    expect(dump.notes).toEqual(["<numa> of line 2 is not read"]);
  });

  const word = fc.string({ unit: fc.constantFrom(..."ab-_.<&'\">é9"), minLength: 1, maxLength: 8 });
  const names = fc.uniqueArray(word, { maxLength: 6 });
  const list = fc
    .record({
      model: word,
      vendor: fc.option(fc.constantFrom("GenuineIntel", "HygonGenuine", "Other"), {
        nil: undefined,
      }),
      names,
      count: fc.nat(6),
      properties: fc.dictionary(
        fc.constantFrom("mode", "match", "fallback", "topology.cores", "cache.mode"),
        word,
      ),
      policy: fc.option(fc.constantFrom("optional", "force"), { nil: undefined }),
    })
    .map(({ names: all, count, policy, properties, ...rest }): CpuidFeatureList => {
      const [on, off] = [all.slice(0, count), all.slice(count)];
      const policies = on.flatMap((name) => (policy ? [[`policy.${name}`, policy] as const] : []));
      return { ...rest, on, off, properties: { ...properties, ...Object.fromEntries(policies) } };
    });

  test("has the same features after it was written and read", () => {
    fc.assert(
      fc.property(list, (features) => {
        const dump = libvirtCpu.parse(libvirtCpu.formatFeatures?.(features) ?? new Uint8Array());
        expect(dump.problems).toEqual([]);
        expect(featuresOf(dump)).toEqual(features);
      }),
    );
  });

  test("refuses to write a property that the format cannot express, and characters that XML cannot contain", () => {
    const empty = { model: "X", vendor: undefined, on: [], off: [] };
    expect(() => libvirtCpu.formatFeatures?.({ ...empty, properties: { level: "1" } })).toThrow(
      '<cpu> has no place for the property "level"',
    );
    expect(() => libvirtCpu.formatFeatures?.({ ...empty, on: ["a\0"], properties: {} })).toThrow(
      "has a control character, or a character that XML cannot contain",
    );
  });
});
