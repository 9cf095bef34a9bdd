/** Tests of runtimes in which the addon cannot work: the error occurs before the addon is loaded. */
import { expect, test } from "vitest";
import { isRefusal, runtimeProblem } from "../../../lib/native.ts";

test("the Node version that runs this test can load the addon", () => {
  expect(runtimeProblem(process.versions)).toBeUndefined();
});

test("Bun cannot load the addon, because Bun has no libuv for addons", () => {
  const versions = { ...process.versions, bun: "1.3.1" };
  expect(runtimeProblem(versions)).toBe(
    "node-kvm needs Node.js: Bun 1.3.1 has no libuv for addons",
  );
});

test("a runtime with an older Node-API cannot load the addon", () => {
  expect(runtimeProblem({ napi: "7" })).toBe("node-kvm needs Node-API 8; this runtime has 7");
});

test("a runtime that does not state its Node-API version may load the addon", () => {
  expect(runtimeProblem({ deno: "2.5.0" })).toBeUndefined();
});

test("a native refusal is recognised by its own property errno, but not by an inherited property", () => {
  expect(isRefusal({ call: "mmap", errno: 22 })).toBe(true);
  expect(isRefusal(Object.create({ errno: 22 }))).toBe(false);
  for (const other of [null, undefined, 0, -22, "errno", {}]) expect(isRefusal(other)).toBe(false);
});
