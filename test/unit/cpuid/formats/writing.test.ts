/** Tests of functions that write masks and features in a given format. */
import { describe, expect, test } from "vitest";
import {
  type CpuidFeatureList,
  type CpuidFormatName,
  type CpuidMask,
  formatCpuidFeatures,
  formatCpuidMask,
  readCpuid,
} from "../../../../lib/cpuid/index.ts";

const mask: CpuidMask = {
  mask: [
    {
      function: 7,
      indexes: { first: 0, last: 0 },
      register: "ebx",
      mask: 0x30,
      value: 0x20,
      flags: 1,
      line: 0,
    },
  ],
  unlisted: "keep",
  capabilities: [],
};
const features: CpuidFeatureList = {
  model: "EPYC",
  vendor: undefined,
  on: ["avx2"],
  off: [],
  properties: {},
};

describe("formatCpuidMask", () => {
  test("writes a mask that readCpuid reads", () => {
    const msrs = [{ index: 0x10a, mask: 3n, value: 1n }];
    const read = readCpuid(formatCpuidMask(mask, "firecracker-template", msrs));
    expect(read).toMatchObject({ kind: "mask", problems: [], msrs });
    expect(read).toMatchObject({ mask: [{ function: 7, mask: 0x30, value: 0x20 }] });
  });

  test.each([
    ["json", mask, [], 'formatCpuidMask(): the format "json" has no masks'],
    ["firecracker", mask, [], 'formatCpuidMask(): unknown format "firecracker"'],
    ["xen-cpuid", {} as CpuidMask, [], "missing members mask, unlisted, capabilities"],
    ["xen-cpuid", mask, [{ index: 1, mask: 1n, value: 1n }], 'the format "xen-cpuid" has no MSRs'],
    [
      "firecracker-template",
      mask,
      [{ index: 1, mask: 1n, value: 2n }],
      "msrs[0]: value has bits outside of mask",
    ],
    [
      "firecracker-template",
      mask,
      [{ index: -1, mask: 1n, value: 1n }],
      "msrs[0]: index: -1 does not fit u32",
    ],
  ])("refuses a wrong argument for the format %s", (format, contents, msrs, message) => {
    expect(() => formatCpuidMask(contents, format as CpuidFormatName, msrs)).toThrow(message);
  });
});

describe("formatCpuidFeatures", () => {
  test("writes features that readCpuid reads", () => {
    const read = readCpuid(formatCpuidFeatures(features, "qemu-cpu"));
    expect(read).toMatchObject({ kind: "features", problems: [], features });
  });

  test.each([
    ["cpuinfo", features, 'the format "cpuinfo" is only read'],
    ["json", features, 'the format "json" has no features that can be written'],
    [
      "qemu-cpu",
      readCpuid("EPYC,+avx2"),
      "formatCpuidFeatures(): this is the result of readCpuid(); pass its member features",
    ],
    ["qemu-cpu", readCpuid("[]"), 'its kind is not "features"'],
    ["qemu-cpu", { ...features, no: [] }, 'unknown member "no"; did you mean "on"?'],
    ["qemu-cpu", { ...features, on: "avx2" }, "on: expected an array or another iterable"],
    ["qemu-cpu", { ...features, off: [1] }, "expected a string, got 1"],
    ["qemu-cpu", { ...features, properties: { a: 1 } }, "expected a string, got 1"],
    ["qemu-cpu", { ...features, properties: null }, "properties"],
  ])("refuses a wrong argument for the format %s", (format, contents, message) => {
    const given = contents as CpuidFeatureList;
    expect(() => formatCpuidFeatures(given, format as CpuidFormatName)).toThrow(message);
  });

  test.each([
    ["mode", "custom"],
    ["match", "exact"],
    ["fallback", "allow"],
    ["check", "partial"],
    ["topology.sockets", "2"],
    ["policy.avx2", "force"],
  ])("refuses to write libvirt's property %s for QEMU", (name, value) => {
    const given = { ...features, properties: { [name]: value } };
    expect(() => formatCpuidFeatures(given, "qemu-cpu")).toThrow(
      `a -cpu option: it has no place for the property "${name}"`,
    );
  });
});
