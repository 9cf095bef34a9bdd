/**
 * Tests of the addon's classes: JavaScript cannot create objects of these classes, and cannot call the classes' methods
 * on other objects.
 */
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { KVM_GET_API_VERSION } from "../../../lib/abi/generated/ioctls.ts";
import { type Native, native } from "../../../lib/native.ts";
import { borrow, call, DEVICE, deviceTest, opened } from "./bench.ts";

type Class = new (...args: readonly unknown[]) => object;

const ADDON = process.env["NODE_KVM_ADDON"] ?? "../../../build/Release/node_kvm.node";
const classOf = (object: object): Class => object.constructor as Class;
const newMapping = (): object => opened(native().mapAnonymous(4096));

test("new of a native class is rejected", () => {
  const Mapping = classOf(newMapping());
  expect(() => new Mapping()).toThrow(new TypeError("Illegal constructor"));
  expect(() => new Mapping(4096, {}, null)).toThrow(new TypeError("Illegal constructor"));
});

test("a native class that is called without new is rejected", () => {
  expect(() => Reflect.apply(classOf(newMapping()), undefined, [])).toThrow(TypeError);
});

test("a subclass of a native class cannot be instantiated", () => {
  class Sub extends classOf(newMapping()) {}
  expect(() => new Sub()).toThrow(new TypeError("Illegal constructor"));
});

test("Reflect.construct with a native class creates no object, for any new target", () => {
  const Mapping = classOf(newMapping());
  const targets = [Mapping, Object, class {}, new Proxy(Mapping, {})];
  for (const target of targets) {
    expect(() => Reflect.construct(Mapping, [], target)).toThrow(TypeError);
  }
});

test("a failed construction does not change the native class", () => {
  const Mapping = classOf(newMapping());
  expect(() => new Mapping()).toThrow("Illegal constructor");
  expect(newMapping()).toBeInstanceOf(Mapping);
});

test("a native method is rejected on an object that only inherits from the class's prototype", () => {
  const mapping = newMapping();
  const impostors = [
    Object.create(mapping),
    Object.create(classOf(mapping).prototype as object),
    Reflect.construct(Object, [], classOf(mapping)),
    new Proxy(mapping, {}),
    { __proto__: mapping },
  ];
  for (const impostor of impostors) {
    expect(() => borrow(mapping, "window", impostor, 0, 4096)).toThrow("Illegal invocation");
    expect(() => borrow(mapping, "close", impostor)).toThrow("Illegal invocation");
  }
});

test("a native method is rejected on a value that is not an object of its class", () => {
  const mapping = newMapping();
  for (const receiver of [undefined, null, 1, 1n, "x", Symbol(), {}, [], globalThis]) {
    expect(() => borrow(mapping, "window", receiver, 0, 1)).toThrow("Illegal invocation");
  }
});

deviceTest("a method of one class is refused on an object of the other", (bench) => {
  const { kvm } = bench;
  const mapping = bench.map(4096);
  expect(() => borrow(mapping, "window", kvm, 0, 4096)).toThrow("Illegal invocation");
  expect(() => borrow(mapping, "close", kvm)).toThrow("Illegal invocation");
  for (const method of ["ioctl", "setUserMemoryRegion", "mapRun", "read", "close"]) {
    expect(() => borrow(kvm, method, mapping)).toThrow("Illegal invocation");
  }
});

deviceTest("every method of a descriptor is refused on a plain object", ({ kvm }) => {
  for (const method of ["ioctl", "setUserMemoryRegion", "mapRun", "read", "close"]) {
    expect(() => borrow(kvm, method, Object.create(kvm))).toThrow("Illegal invocation");
  }
});

deviceTest("a changed prototype makes no other object of a descriptor", (bench) => {
  const Fd = classOf(bench.kvm);
  const prototype: unknown = Fd.prototype;
  Fd.prototype = {};
  const bare = native().open(DEVICE);
  Fd.prototype = prototype;
  expect(borrow(bench.kvm, "ioctl", bare, KVM_GET_API_VERSION.request)).toBe(12);
  borrow(bench.kvm, "close", bare);
});

deviceTest("run needs no receiver, and takes no other's", (bench) => {
  const { run } = bench.run();
  bench.vcpu.close();
  for (const receiver of [undefined, null, {}, bench.vm]) {
    expect(Reflect.apply(run, receiver, [1, 2, 3])).toBe(-9);
  }
});

deviceTest("an object of another copy of the addon is not one of ours", (bench) => {
  const directory = mkdtempSync(join(tmpdir(), "node-kvm-"));
  const require = createRequire(import.meta.url);
  const copy = join(directory, "copy.node");
  copyFileSync(require.resolve(ADDON), copy);
  const other = require(copy) as Native;
  const foreign = opened(other.mapAnonymous(4096));
  rmSync(directory, { recursive: true });
  expect(() => borrow(bench.map(4096), "window", foreign, 0, 1)).toThrow("Illegal invocation");
  expect(() => call(bench.vm, "setUserMemoryRegion", 0, 0, 0n, 4096n, foreign, 0n)).toThrow(
    new TypeError("memory: expected a GuestMemory"),
  );
});
