/**
 * Tests of `new` with wrong arguments: each public class throws a TypeError that names the function to call instead.
 * The tests need no KVM.
 */
import { describe, expect, test } from "vitest";
import * as cpuid from "../../../lib/cpuid/index.ts";
import * as guest from "../../../lib/guest/index.ts";
import * as main from "../../../lib/index.ts";
import * as machine from "../../../lib/machine/index.ts";
import * as state from "../../../lib/state/index.ts";
import * as trace from "../../../lib/trace/index.ts";
import * as worker from "../../../lib/worker/index.ts";
import { fakeHandles } from "./fake-fd.ts";

type Class = new (...args: readonly unknown[]) => object;

const isClass = (value: unknown): value is Class =>
  typeof value === "function" && /^class\b/.test(Function.prototype.toString.call(value));

const classes = new Map(
  [main, guest, machine, state, worker, cpuid, trace].flatMap((entry) =>
    Object.entries(entry).flatMap(([name, value]) =>
      isClass(value) ? [[name, value] as const] : [],
    ),
  ),
);

/** Classes that programs construct with `new`; any arguments of the right type are valid. */
const FREE: readonly string[] = [
  "AddonError", // the argument is the error message, as for any Error
  "RestoreError", // the argument is the error message, as for any Error
  "StateDocumentError",
];

const { kvm, vm } = fakeHandles();
const wrong: readonly (readonly [string, readonly unknown[]])[] = [
  ["nothing", []],
  ["null", [null]],
  ["undefined twice", [undefined, undefined]],
  ["an empty object", [{}]],
  ["a number", [5]],
  ["a string", ["x"]],
  ["an empty object and null", [{}, null]],
  ["a Kvm", [kvm]],
  ["a Vm and a number", [vm, 0, vm]],
];

const cases = [...classes]
  .filter(([name]) => !FREE.includes(name))
  .flatMap(([name, made]) => wrong.map(([what, args]) => [name, what, made, args] as const));

test("this test covers every exported class of a handle", () => {
  expect(classes.size).toBeGreaterThan(20);
  expect(FREE.filter((name) => !classes.has(name))).toEqual([]);
});

describe("a handle's class cannot be constructed with new, and the message names the method to use", () => {
  test.each(cases)("%s: %s", (name, _, made, args) => {
    expect(() => new made(...args)).toThrow(TypeError);
    expect(() => new made(...args)).toThrow(new RegExp(`^new ${name}\\(\\): `));
  });
});
