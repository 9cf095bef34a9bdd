/** Names that programs put on Object.prototype: the addon neither calls their setters nor reads them. */
import { createRequire } from "node:module";
import { expect, test } from "vitest";
import { polluted, propertyNames } from "../../helpers/pollution.ts";
import { deviceTest } from "./bench.ts";

const ADDON = process.env["NODE_KVM_ADDON"] ?? "../../../build/Release/node_kvm.node";

test("the names come from the sources: exports, methods, links, refusals and what a vCPU has", () => {
  const some = ["open", "window", "ioctl", "memory", "offset", "links", "call", "errno"];
  const ofRun = ["bytes", "token", "run", "start", "kick", "history", "setFilter"];
  expect(propertyNames()).toEqual(expect.arrayContaining([...some, ...ofRun]));
});

test("a polluted prototype throws, so an inherited property that is used is seen", () => {
  expect(() => polluted(() => Reflect.get({}, "errno"))).toThrow("Object.prototype was used");
  expect(() => polluted(() => Reflect.set({}, "bytes", 1))).toThrow("Object.prototype was used");
  expect("errno" in {}).toBe(false);
});

test("the addon's exports are properties of their own", () => {
  const module = { exports: {} };
  const file = createRequire(import.meta.url).resolve(ADDON);
  polluted(() => process.dlopen(module, file));
  expect(Object.keys(module.exports)).toContain("mapAnonymous");
});

test("a refusal's members are properties of its own", () => {
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
