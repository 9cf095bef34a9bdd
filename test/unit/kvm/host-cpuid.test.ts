/** Tests of hostCpuid(): the table of this computer's CPU, read with the CPUID instruction. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { hostCpuid } from "../../../lib/index.ts";
import { native } from "../../../lib/native.ts";

describe("hostCpuid()", () => {
  test("has the vendor and the model of /proc/cpuinfo", () => {
    const [, vendor = ""] =
      /^vendor_id\s*: (\S+)$/m.exec(readFileSync("/proc/cpuinfo", "utf8")) ?? [];
    const entry = hostCpuid().find(0);
    const words = [entry?.ebx ?? 0, entry?.edx ?? 0, entry?.ecx ?? 0];
    expect(Buffer.from(Uint32Array.from(words).buffer).toString("latin1")).toBe(vendor);
  });

  test("has the leaves up to the limits that the CPU reports", () => {
    const table = hostCpuid();
    const functions = [...table].map((e) => e.function);
    expect(functions).toContain(table.find(0)?.eax);
    expect(functions).toContain(table.find(0x80000000)?.eax);
    expect(Math.max(...functions.filter((fn) => fn < 0x40000000))).toBe(table.find(0)?.eax);
  });

  test("returns the same table in each call on one CPU, except for the ids of the CPU", () => {
    const plain = () =>
      [...hostCpuid()]
        .filter((e) => ![1, 0xb, 0x1f, 0x8000001e, 0x80000026].includes(e.function))
        .map((e) => [e.function, e.index, e.eax, e.ebx, e.ecx]);
    expect(plain()).toEqual(plain());
  });
});

describe("the addon's hostCpuid()", () => {
  test.each([
    [[-1, 0, new Uint8Array(16)]],
    [[0, 2 ** 32, new Uint8Array(16)]],
    [[0, 0, new Uint8Array(15)]],
    [[0, 0, new Uint8Array(new SharedArrayBuffer(16))]],
    [[0, 0, [0, 0, 0, 0]]],
    [[]],
  ])("refuses the arguments %j", (args) => {
    expect(() => Reflect.apply(native().hostCpuid, undefined, args)).toThrow(
      "hostCpuid: expected two 32-bit numbers and 16 bytes",
    );
  });
});
