/** Tests of the parameters of the kernel's modules: parsing, the order of loading, and parameters without effect. */
import { describe, expect, test } from "vitest";
import { LabError } from "../../../../lib/lab/error.ts";
import {
  loadingLines,
  parseModuleParams,
  refuseIgnoredParams,
} from "../../../../lib/lab/kernels/module-params.ts";

const CHAIN = ["/m/irqbypass.ko", "/m/kvm.ko", "/m/kvm-amd.ko"];

describe("a list of module parameters", () => {
  test("is split into modules and settings, with _ for - in a module's name", () => {
    expect(parseModuleParams("kvm.ignore_msrs=1,kvm-amd.npt=N")).toEqual([
      { module: "kvm", setting: "ignore_msrs=1" },
      { module: "kvm_amd", setting: "npt=N" },
    ]);
  });

  test("may be empty", () => {
    expect(parseModuleParams("")).toEqual([]);
  });

  test.each([
    ["kvm.ignore_msrs", '"kvm.ignore_msrs" is not a module\'s parameter'],
    ["ignore_msrs=1", '"ignore_msrs=1" is not a module\'s parameter'],
    ["kvm.a=1,", '"" is not a module\'s parameter'],
    ["kvm.a=1 b=2", '"kvm.a=1 b=2" is not a module\'s parameter'],
    ["kvm.a=$(reboot)", '"kvm.a=$(reboot)" is not a module\'s parameter'],
    ["../kvm.a=1", '"../kvm.a=1" is not a module\'s parameter'],
    ["kvm-amd.npt=1,kvm_amd.npt=0", "kvm_amd.npt is set twice"],
  ])("is refused if it is %j", (text, message) => {
    expect(() => parseModuleParams(text)).toThrow(LabError);
    expect(() => parseModuleParams(text)).toThrow(message);
  });
});

describe("the lines of the loading order", () => {
  test("have each module's own parameters", () => {
    const params = parseModuleParams("kvm_amd.npt=0,kvm.ignore_msrs=1,kvm_amd.nested=1");
    expect(loadingLines(CHAIN, params)).toEqual([
      "irqbypass.ko",
      "kvm.ko ignore_msrs=1",
      "kvm-amd.ko npt=0 nested=1",
    ]);
  });

  test("cannot have a parameter of a module that is not loaded", () => {
    expect(() => loadingLines(CHAIN, parseModuleParams("kvm_intel.ept=0"))).toThrow(
      "kvm_intel.ept=0 has no effect: this machine loads irqbypass, kvm, kvm_amd",
    );
    expect(() => loadingLines([], parseModuleParams("kvm.a=0"))).toThrow("loads no module");
  });
});

test("a parameter that the kernel has ignored is an error", () => {
  const params = parseModuleParams("kvm.npt=0,kvm_amd.npt=0");
  const log = "[    1.0] kvm: unknown parameter 'npt' ignored\n";
  expect(() =>
    refuseIgnoredParams("[    1.0] kvm_amd: Nested Paging disabled\n", params),
  ).not.toThrow();
  expect(() => refuseIgnoredParams(log, params)).toThrow(
    "this kernel's module kvm has no parameter npt",
  );
});
