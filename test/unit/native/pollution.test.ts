/** Tests with a polluted Object.prototype: the addon neither calls its setters nor reads its members. */
import { createRequire } from "node:module";
import { expect, test } from "vitest";
import { polluted, propertyNames } from "../../helpers/pollution.ts";
import { deviceTest } from "./bench.ts";

const ADDON = process.env["NODE_KVM_ADDON"] ?? "../../../build/Release/node_kvm.node";

test("the test finds the names in the native sources: exports, methods, links, refusals and members of a vCPU", () => {
  const some = ["open", "window", "ioctl", "memory", "offset", "links", "call", "errno"];
  const ofRun = ["bytes", "token", "run", "start", "kick", "history", "setFilter"];
  expect(propertyNames()).toEqual(expect.arrayContaining([...some, ...ofRun]));
});

test("using an inherited property of the polluted prototype throws, so that the test detects the use", () => {
  expect(() => polluted(() => Reflect.get({}, "errno"))).toThrow("Object.prototype was used");
  expect(() => polluted(() => Reflect.set({}, "bytes", 1))).toThrow("Object.prototype was used");
  expect("errno" in {}).toBe(false);
});

test("the exports of the addon are own properties", () => {
  const module = { exports: {} };
  const file = createRequire(import.meta.url).resolve(ADDON);
  polluted(() => process.dlopen(module, file));
  expect(Object.keys(module.exports)).toContain("mapAnonymous");
});

test("the members of a native refusal are own properties", () => {
  const module = { exports: {} as { mapMemfd(length: number): unknown } };
  const file = createRequire(import.meta.url).resolve(ADDON);
  process.dlopen(module, file);
  const refusal = polluted(() => module.exports.mapMemfd(0));
  expect(Object.entries(refusal as object)).toEqual([
    ["call", "mmap"],
    ["errno", 22],
  ]);
});

deviceTest("a vCPU's run has its functions as properties of its own", (bench) => {
  const run = polluted(() => bench.vcpu.mapRun(() => undefined));
  expect(Object.keys(run)).toEqual([
    ...["bytes", "token", "run", "start", "kick", "history", "setFilter"],
  ]);
});
