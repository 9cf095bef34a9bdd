/** Tests of lib/options.ts: unknown and missing members of an object are rejected by name. */
import { expect, test } from "vitest";
import {
  nearestName,
  refuseMisfit,
  refuseUnknown,
  describe as say,
  toList,
} from "../../lib/options.ts";

const KNOWN = ["machineType", "id", "supported"];

test("options with known members are accepted, even if their values are undefined", () => {
  expect(refuseUnknown("f()", { id: 1, supported: undefined }, KNOWN)).toBeUndefined();
  expect(refuseUnknown("f()", {}, KNOWN)).toBeUndefined();
});

test.each<[options: unknown, message: string]>([
  [{ machinType: 0 }, 'f(): unknown option "machinType"; did you mean "machineType"?'],
  [{ ID: 0 }, 'f(): unknown option "ID"; did you mean "id"?'],
  [{ di: 0 }, 'f(): unknown option "di"; did you mean "id"?'],
  [{ zebra: undefined }, 'f(): unknown option "zebra"; known are machineType, id, supported'],
  [null, "f(): expected an object with the options machineType, id, supported, got null"],
  [5, "f(): expected an object with the options machineType, id, supported, got 5"],
  [
    new AbortController().signal,
    "f(): expected an object with the options machineType, id, supported, got an object of the class AbortSignal",
  ],
  [[], "f(): expected an object with the options machineType, id, supported, got an array"],
  [{ constructor: 1 }, 'f(): unknown option "constructor"; known are machineType, id, supported'],
])("an unknown option %j is rejected by name", (options, message) => {
  expect(() => refuseUnknown("f()", options, KNOWN)).toThrow(new TypeError(message));
});

test("the message about an unknown option with a name of a million letters is short", () => {
  const message = /^f\(\): unknown option "x{64}…"; known are id$/;
  expect(() => refuseUnknown("f()", { ["x".repeat(1_000_000)]: 1 }, ["id"])).toThrow(message);
});

test("the error about missing options names all missing options", () => {
  expect(() => refuseMisfit("f()", { c: 1 }, ["a", "b"], ["c"])).toThrow(
    new TypeError("f(): missing members a, b"),
  );
  expect(() => refuseMisfit("f()", { a: 1, b: undefined }, ["a", "b"])).toThrow(
    new TypeError("f(): missing member b"),
  );
  expect(refuseMisfit("f()", { a: 1, b: 0 }, ["a", "b"])).toBeUndefined();
});

test.each<[elements: unknown, got: string]>([
  [5, "5"],
  [{ index: 1 }, "an object"],
  ["rip", '"rip"'],
  [null, "null"],
])("toList() rejects %j, which is not iterable", (elements, got) => {
  expect(() => toList("f()", elements as number[])).toThrow(
    new TypeError(`f(): expected an array or another iterable, got ${got}`),
  );
});

test("toList() accepts any iterable", () => {
  expect(toList("f()", new Set([1, 2]))).toEqual([1, 2]);
});

test("the suggestion for an unknown option ignores a prefix that all options have in common", () => {
  expect(nearestName("KVM_CAP_NO_SUCH", ["KVM_CAP_IOMMU"])).toBeUndefined();
  expect(nearestName("KVM_CAP_IRQCHIPS", ["KVM_CAP_IRQCHIP"])).toBe("KVM_CAP_IRQCHIP");
});

test("an option with a dissimilar name is not suggested for an unknown option", () => {
  expect(nearestName("guestPhysAdr", ["guestPhysAddr", "slot"])).toBe("guestPhysAddr");
  expect(nearestName("userspaceAddr", ["slot", "flags"])).toBeUndefined();
});

test.each<[value: unknown, text: string]>([
  [undefined, "undefined"],
  [5n, "5n"],
  ["rip", '"rip"'],
  [() => 0, "a function"],
  [Symbol("x"), "a symbol"],
  [{}, "an object"],
])("an error message describes the rejected value %s", (value, text) => {
  expect(say(value)).toBe(text);
});
