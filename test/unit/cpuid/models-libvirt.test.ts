/**
 * Tests of reading a CPU model from libvirt's cpu_map. The files in this test were written for this test, and are not
 * from libvirt.
 */
import { describe, expect, test } from "vitest";
import { importedModelTable, importLibvirtModel } from "../../../lib/cpuid/index.ts";

const FILES = {
  "x86_features.xml": `<cpus>
    <feature name='avx2'><cpuid eax_in='0x07' ecx_in='0x00' ebx='0x00000020'/></feature>
    <feature name='avx'><cpuid eax_in='0x01' ecx_in='0x00' ecx='0x10000000'/></feature>
    <feature name='xsave'><cpuid eax_in='0x01' ecx_in='0x00' ecx='0x04000000'/></feature>
    <feature name='npt'><cpuid eax_in='0x8000000A' edx='0x00000001'/></feature>
    <feature name='rdctl-no'><msr index='0x10a' edx='0x00000000' eax='0x00000001'/></feature></cpus>`,
  "x86_vendors.xml": "<cpus><vendor name='AMD' string='AuthenticAMD'/></cpus>",
  "x86_Base.xml": `<cpus><model name='Base'><signature family='23' model='1' stepping='2-4'/>
    <vendor name='AMD'/><feature name='xsave'/><feature name='avx'/><feature name='avx2'/></model></cpus>`,
  "x86_Next.xml": `<cpus><model name='Next'><model name='Base'/><feature name='avx2' removed='yes'/>
    <feature name='npt'/><feature name='rdctl-no'/></model></cpus>`,
  "x86_Generic.xml": "<cpus><model name='Generic'><feature name='xsave'/></model></cpus>",
  "x86_NoVendor.xml": `<cpus><model name='NoVendor'><signature family='6' model='1'/>
    <vendor name='ADM'/></model></cpus>`,
  "x86_BadVendor.xml": `<cpus><vendor name='Short' string='Short'/><model name='BadVendor'>
    <vendor name='Short'/></model></cpus>`,
  "x86_NoModel.xml": "<cpus><model name='NoModel'><signature family='6'/></model></cpus>",
  "x86_BadFamily.xml": `<cpus><model name='BadFamily'><signature family='6x' model='1'/>
    </model></cpus>`,
  "x86_BadStepping.xml": `<cpus><model name='BadStepping'>
    <signature family='6' model='1' stepping='16'/></model></cpus>`,
  "x86_Loop.xml": "<cpus><model name='Loop'><model name='Loop'/></model></cpus>",
};

describe("importLibvirtModel()", () => {
  test("reads the features that a model inherits, adds and removes", () => {
    expect(importLibvirtModel("Next", FILES)).toEqual({
      name: "Next",
      vendor: "AuthenticAMD",
      signature: { family: 23, model: 1, stepping: 2 },
      maxLeaf: 0xd,
      maxExtended: 0x8000_000a,
      features: ["xsave", "avx", "npt"],
      unknown: ["rdctl-no"],
      brand: "Next",
      physicalBits: 40,
      assumed: ["physicalBits"],
    });
  });

  test("lists the vendor and the signature as assumed if the model contains neither", () => {
    const { vendor, signature, assumed } = importLibvirtModel("Generic", FILES);
    expect({ vendor, signature, assumed }).toEqual({
      vendor: "GenuineIntel",
      signature: { family: 15, model: 6, stepping: 1 },
      assumed: ["vendor", "signature", "physicalBits"],
    });
  });

  test("gives a table with the features", () => {
    const table = importedModelTable(importLibvirtModel("Base", FILES));
    expect([table.has("avx2"), table.get("xsave_sz_max"), table.get("ext_family")]).toEqual([
      true,
      832,
      8,
    ]);
  });

  test.each([
    [
      "Nexd",
      FILES,
      TypeError,
      'unknown CPU model "Nexd" in the files of libvirt; did you mean "Next"?',
    ],
    [
      "NoVendor",
      FILES,
      SyntaxError,
      'model "NoVendor": no file has the vendor "ADM"; did you mean "AMD"?',
    ],
    [
      "BadVendor",
      FILES,
      SyntaxError,
      'model "BadVendor": the string of the vendor "Short" is not twelve characters',
    ],
    ["NoModel", FILES, SyntaxError, 'model "NoModel": model of its signature is missing'],
    ["BadFamily", FILES, SyntaxError, 'model "BadFamily": family of its signature is "6x"'],
    ["BadStepping", FILES, SyntaxError, 'model "BadStepping": stepping of its signature is "16"'],
    ["Loop", FILES, SyntaxError, 'model "Loop" inherits from more than 16 models'],
    ["Next", { "a.xml": "<cpus>" }, SyntaxError, "a.xml: 1:"],
  ] as const)("refuses the model %s in damaged files", (name, files, kind, message) => {
    expect(() => importLibvirtModel(name, files)).toThrow(kind);
    expect(() => importLibvirtModel(name, files)).toThrow(message);
  });

  test("refuses a name that is not a string, and files that are not an object", () => {
    expect(() => importLibvirtModel(5 as never, FILES)).toThrow("name: expected a string, got 5");
    expect(() => importLibvirtModel("Next", null as never)).toThrow(
      "files: expected an object, got null",
    );
  });
});
