/** Tests of QEMU's -cpu option and of its model expansion. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { CpuidDump, CpuidFeatureList } from "../../../../lib/cpuid/formats/dump.ts";
import { qemuCpu, qemuQmp } from "../../../../lib/cpuid/formats/qemu.ts";
import { SAMPLES } from "./samples.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const faults = (dump: CpuidDump): readonly string[] =>
  dump.problems.map((p) => `${p.line}:${p.column} ${p.message}`);
const featuresOf = (dump: CpuidDump): CpuidFeatureList => {
  if (dump.kind !== "features") throw new Error(`a ${dump.kind}`);
  return dump.features;
};

describe("a -cpu option", () => {
  const read = (text: string): CpuidDump => qemuCpu.parse(bytes(text));

  test("in a command line has the model, the features and other properties", () => {
    const dump = read(SAMPLES["qemu-cpu"]);
    expect(dump.problems).toEqual([]);
    expect(featuresOf(dump)).toEqual({
      model: "Skylake-Server-v4",
      vendor: undefined,
      on: ["avx2"],
      off: ["rtm"],
      properties: { level: "0xd" },
    });
  });

  test.each([
    ["host", { model: "host" }],
    ["EPYC,avx2", { model: "EPYC", on: ["avx2"] }],
    ["EPYC,avx2=on,sse4.1=off,x2apic=yes", { on: ["avx2", "x2apic"], off: ["sse4.1"] }],
    // QEMU applies + and - after all =, and applies - last.
    ["EPYC,+avx2,avx2=off", { on: ["avx2"], off: [] }],
    ["EPYC,-avx2,+avx2", { on: [], off: ["avx2"] }],
    ["EPYC,avx512_bf16=on,avx512-bf16=off", { on: [], off: ["avx512_bf16"] }],
    ["EPYC,,+avx2,", { on: ["avx2"] }],
    [
      "EPYC,check,enforce=off,migratable=no,x-a=on",
      { on: [], properties: { check: "on", enforce: "off", migratable: "no", "x-a": "on" } },
    ],
    [
      "EPYC,vendor=GenuineIntel,model-id=a=b",
      { vendor: "GenuineIntel", properties: { "model-id": "a=b" } },
    ],
    ["qemu -cpu 'EPYC,+avx2' -m 5", { model: "EPYC", on: ["avx2"] }],
    ["-cpu \\\n EPYC,+avx2 \\\n", { model: "EPYC", on: ["avx2"] }],
    ['["-cpu", "EPYC,+avx2", "-m"]', { model: "EPYC", on: ["avx2"] }],
    ["EPYC,\\\n+avx2", { model: "EPYC", on: ["avx2"] }],
    ['qemu -cpu EPYC,model-id="a\\"b\\c"', { properties: { "model-id": 'a"b\\c' } }],
    ['["-cpu", "EPYC,model-id=\\"a\\""]', { properties: { "model-id": '"a"' } }],
    [
      "EPYC,__proto__=1,constructor=on",
      { on: ["constructor"], properties: JSON.parse('{"__proto__":"1"}') },
    ],
  ])("is read from %j", (text, features) => {
    const dump = read(text);
    expect(dump.problems).toEqual([]);
    expect(featuresOf(dump)).toMatchObject(features);
  });

  // The quotes of a shell may be in the middle of a word, and a backslash joins lines.
  test.each([
    "EPYC-Milan,model-id='My CPU',+invtsc,-avx2",
    'qemu -cpu EPYC-Milan,model-id="My CPU",+invtsc,-avx2 -smp 4',
    'qemu -cpu "EPYC-Milan",model-id=My\\ CPU,+invtsc,-avx2;',
    "qemu -cpu 'EPYC-Milan,model-id=My'\" CPU\",+invtsc,-avx2",
    "qemu -cpu EPYC-Milan,\\\nmodel-id='My CPU',+invtsc,\\\r\n-avx2 \\\n -smp 4",
    "sh -c \"qemu -cpu EPYC-Milan,model-id='My CPU',+invtsc,-avx2\"",
    '["-cpu","EPYC-Milan,model-id=My CPU,+invtsc,-avx2","-m"]',
  ])("with quotes is read as a shell reads it: %j", (text) => {
    const dump = read(text);
    expect(dump.problems).toEqual([]);
    expect(featuresOf(dump)).toEqual({
      model: "EPYC-Milan",
      vendor: undefined,
      on: ["invtsc"],
      off: ["avx2"],
      properties: { "model-id": "My CPU" },
    });
  });

  test.each([
    ["qemu -cpu EPYC,+,-m", '1:16 "+" is not a feature: write +name, -name or name=value'],
    ["EPYC,+avx2=on", '1:6 "+avx2=on" is not a feature: write +name, -name or name=value'],
    ["qemu\n -cpu EPYC,=on", '2:12 "=on" is not a feature: write +name, -name or name=value'],
    ["qemu -m 512", "0:1 there is no -cpu option"],
    ["qemu -cpu EPYC,model-id='a b\n+avx2", "1:25 the quote is not closed in its line"],
    [
      "don't: qemu -cpu EPYC,model-id='a b'",
      "1:32 the quote ends the command, so the text behind it is not read",
    ],
    [
      "qemu -cpu EPYC,a='b c',\\\n+x=y",
      '2:1 "+x=y" is not a feature: write +name, -name or name=value',
    ],
  ])("refuses %j", (text, fault) => {
    expect(faults(read(text))).toEqual([fault]);
  });

  test("is read from the first of several -cpu options, and a note counts the others", () => {
    const dump = read("qemu -cpu A\nqemu -cpu B\n");
    expect(featuresOf(dump).model).toBe("A");
    expect(dump.notes).toEqual(["the -cpu option of line 1 is read; there are 1 others"]);
  });

  test("that ends with a comma has a note, because a shell ends the word there", () => {
    expect(read("qemu -cpu EPYC,\\\n  -avx2").notes).toEqual([
      "the value of -cpu ends with a comma; a word behind it is another argument of the command",
    ]);
  });

  test("with quotes and joined lines is detected", () => {
    for (const text of ["EPYC,model-id='My CPU',+invtsc", "EPYC,\\\n-avx2"]) {
      expect(qemuCpu.likelihood(bytes(text))).toBeGreaterThan(0.5);
    }
  });

  const name = fc
    .stringMatching(/^[a-z][a-z0-9.]{0,8}$/)
    .filter((n) => !/^(?:x-|vendor|kvm|check)/.test(n));
  const list = fc
    .record({
      model: fc.stringMatching(/^[A-Z][A-Za-z0-9-]{0,8}$/),
      vendor: fc.option(fc.constantFrom("GenuineIntel", "AuthenticAMD"), { nil: undefined }),
      names: fc.uniqueArray(name, { maxLength: 8 }),
      count: fc.nat(8),
      properties: fc.dictionary(
        fc.stringMatching(/^p[0-9]{1,3}$/),
        fc.stringMatching(/^[0-9a-fx=:/]{1,6}$/),
      ),
    })
    .map(({ names, count, ...rest }): CpuidFeatureList => {
      return { ...rest, on: names.slice(0, count), off: names.slice(count) };
    })
    .filter(({ on, off, properties }) => ![...on, ...off].some((n) => n in properties));

  test("has the same features after it was written and read", () => {
    fc.assert(
      fc.property(list, (features) => {
        const dump = qemuCpu.parse(qemuCpu.formatFeatures?.(features) ?? new Uint8Array());
        expect(dump.problems).toEqual([]);
        expect(featuresOf(dump)).toEqual(features);
      }),
    );
  });

  test.each([
    [{ model: undefined }, "it has a model, and the features have none"],
    [{ on: ["a,b"] }, '"a,b" is not a name'],
    [{ properties: { level: "1,+a" } }, 'level: "1,+a" has a comma or a space'],
  ])("refuses to write %j", (patch, fault) => {
    const features = { model: "A", vendor: undefined, on: [], off: [], properties: {}, ...patch };
    expect(() => qemuCpu.formatFeatures?.(features)).toThrow(fault);
  });
});

describe("a model expansion of QMP", () => {
  const read = (text: string): CpuidDump => qemuQmp.parse(bytes(text));

  test("has the features and the other properties", () => {
    const dump = read(SAMPLES["qemu-qmp"]);
    expect(dump.problems).toEqual([]);
    expect(featuresOf(dump)).toEqual({
      model: "base",
      vendor: "GenuineIntel",
      on: ["avx2"],
      off: ["rtm"],
      properties: { level: "13", check: "on" },
    });
  });

  test("is found in a log of QMP commands and responses", () => {
    const log = `{"QMP": {"version": {}}}
-> {"execute": "query-cpu-model-expansion", "arguments": {"type": "full", "model": {"name": "X"}}}
<- {"return": {"model": {"name": "X", "props": {"avx2": true, "a": []}}}}
`;
    const dump = read(log);
    expect(featuresOf(dump)).toMatchObject({ model: "X", on: ["avx2"] });
    expect(faults(dump)).toEqual(["3:68 model.props.a: an array is not a value"]);
    expect(dump.notes).toEqual(["one of 2 messages with a model is read"]);
  });

  test.each([
    ['{"return": {}}', "1:1 there is no model with a name and props"],
    ['{"return": {"model": {"name": 5}}}', "1:31 model.name: expected text, got 5"],
    ['{"return": {"model": {"props": 5}}}', "1:32 model.props: expected an object, got 5"],
    ['{"return": {"model": {"props": {"a": null}}}}', "1:38 model.props.a: null is not a value"],
  ])("refuses %s", (text, fault) => {
    expect(faults(read(text))).toEqual([fault]);
  });
});
