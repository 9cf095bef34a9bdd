/**
 * Tests of inspectable(): it shows the kernel's plain values in hexadecimal, and respects the options of util.inspect.
 */
import { inspect } from "node:util";
import { runInNewContext } from "node:vm";
import { describe, expect, test } from "vitest";
import { Regs, Sregs } from "../../lib/abi/generated/structs.ts";
import { encode, read, sizeOf } from "../../lib/abi/struct.ts";
import { inspectable } from "../../lib/inspect.ts";
import { decode } from "./kvm/kvm-run.ts";

const shown = (value: unknown, options: object = {}): string =>
  inspect(inspectable(value), options);

describe("inspectable() prints", () => {
  const lines: readonly (readonly [name: string, value: unknown, text: string])[] = [
    ["a bigint in hexadecimal", { gpa: 0xfee0_0000n }, "{ gpa: 0xfee00000 }"],
    ["a negative bigint with its sign", { value: -16n }, "{ value: -0x10 }"],
    ["a number from 10 on in hexadecimal", { port: 0x3f8 }, "{ port: 0x3f8 }"],
    ["a number below 10 as it is", { size: 4, type: 9 }, "{ size: 4, type: 9 }"],
    [
      "a count in decimal",
      { count: 100, errno: 22, len: 16 },
      "{ count: 100, errno: 22, len: 16 }",
    ],
    ["a fraction as it is", { share: 20.5 }, "{ share: 20.5 }"],
    [
      "an MSR",
      [{ index: 0x1b, reserved: 0, data: 0xfee0_0900n }],
      "[ { index: 0x1b, data: 0xfee00900 } ]",
    ],
    [
      "padding that is not 0",
      { base: 0n, padding: [0, 1, 0] },
      "{ base: 0x0, padding: [ 0, 1, 0 ] }",
    ],
    ["bytes as pairs", { data: Uint8Array.of(1, 0xab) }, "{ data: <01 ab> }"],
    [
      "bytes of another realm",
      runInNewContext("({ data: Uint8Array.of(1, 0xab) })"),
      "{ data: <01 ab> }",
    ],
    [
      "the first 16 bytes of more",
      new Uint8Array(20),
      "<00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 ... 4 more>",
    ],
    [
      "a CPUID entry as a line",
      [{ function: 7, index: 1, flags: 1, eax: 0x10, ebx: 0, ecx: 0, edx: 0, padding: [0, 0, 0] }],
      "[\n  0x7.1: eax=0x00000010 ebx=0x00000000 ecx=0x00000000 edx=0x00000000 flags=1\n]",
    ],
    [
      "a CPUID entry that leaves members out",
      { function: 0x8000_0008, eax: 0x3030 },
      "0x80000008.0: eax=0x00003030 ebx=0x00000000 ecx=0x00000000 edx=0x00000000",
    ],
    ["a function by its name", { reply: function reply() {} }, "{ reply: [Function: reply] }"],
    ["null and undefined", { a: null, b: undefined }, "{ a: null, b: undefined }"],
    ["text in quotes", { path: "a\nb" }, "{ path: 'a\\nb' }"],
    [
      "no entries of a Map, which may count",
      new Map([["exits", [20n]]]),
      "Map(1) { 'exits' => [ 20n ] }",
    ],
  ];

  test.each(lines)("%s", (_, value, text) => {
    expect(shown(value)).toBe(text);
  });

  test("all registers", () => {
    const regs = read(Regs, encode(Regs, { rip: 0xfff0n, rflags: 2n }));
    expect(shown(regs, { breakLength: Number.POSITIVE_INFINITY, compact: 20 })).toBe(
      "{ rax: 0x0, rbx: 0x0, rcx: 0x0, rdx: 0x0, rsi: 0x0, rdi: 0x0, rsp: 0x0, rbp: 0x0, r8: 0x0, r9: 0x0, " +
        "r10: 0x0, r11: 0x0, r12: 0x0, r13: 0x0, r14: 0x0, r15: 0x0, rip: 0xfff0, rflags: 0x2 }",
    );
  });

  test("a segment as one line, and descriptor tables without padding", () => {
    const cs = { base: 0xffff_0000n, selector: 0xf000, limit: 0xffff, type: 11, s: 1, present: 1 };
    const text = shown(read(Sregs, encode(Sregs, { cs, gdt: { base: 0x1000n, limit: 0x27 } })));
    expect(text.split("\n").slice(0, 2)).toEqual([
      "{",
      "  cs: selector=0xf000 base=0xffff0000 limit=0xffff type=0xb dpl=0 s present,",
    ]);
    expect(text).toContain("\n  gdt: { base: 0x1000, limit: 0x27 },\n");
  });

  test("an exit", () => {
    const exit = decode({ exitReason: 6, mmio: { physAddr: 0xd000_0000n, len: 4, isWrite: 1 } });
    expect(shown(exit)).toBe(
      "{\n  kind: 'mmio',\n  isWrite: true,\n  physAddr: 0xd0000000,\n  data: <00 00 00 00>\n}",
    );
  });
});

describe("the value of inspectable() respects the util.inspect option", () => {
  const nested = { a: { b: { c: { d: 16n } } }, list: [[[[1]]]] };

  test("depth", () => {
    expect(shown(nested, { depth: 0 })).toBe("{ a: [Object], list: [Array] }");
    expect(shown(nested)).toBe("{ a: { b: { c: [Object] } }, list: [ [ [Array] ] ] }");
    expect(shown({ a: nested.a }, { depth: null })).toBe("{ a: { b: { c: { d: 0x10 } } } }");
  });

  test("the remaining depth of a nested value", () => {
    const value = { outer: inspectable({ a: { b: 16n } }) };
    expect(inspect(value, { depth: 1 })).toBe("{ outer: { a: [Object] } }");
  });

  test("colors", () => {
    expect(shown({ a: 16n, b: 0x20 }, { colors: true })).toBe(
      inspect({ a: 8n, b: 77 }, { colors: true }).replace("77", "0x20").replace("8n", "0x10"),
    );
  });

  test("compact", () => {
    expect(shown({ a: 16n, b: 32n }, { compact: false })).toBe("{\n  a: 0x10,\n  b: 0x20\n}");
  });

  test("maxArrayLength", () => {
    expect(shown([16n, 17n, 18n], { maxArrayLength: 1 })).toBe("[ 0x10, ... 2 more items ]");
  });
});

describe("inspectable() does not throw for", () => {
  test("a circular reference", () => {
    const value: Record<string, unknown> = { n: 16n };
    value["self"] = value;
    expect(shown(value, { depth: null })).toBe("{ n: 0x10, self: [Circular] }");
  });

  test("an accessor, and does not call it", () => {
    const value = {
      get secret(): never {
        throw new Error("called");
      },
    };
    expect(shown(value)).toBe("{ secret: [Getter] }");
  });

  test("a proxy whose traps throw", () => {
    const refuse = (): never => {
      throw new Error("trapped");
    };
    const proxy = new Proxy({}, { get: refuse, ownKeys: refuse, getPrototypeOf: refuse });
    expect(shown(proxy)).toBe("[Object]");
    expect(shown({ a: proxy })).toBe("[Object]");
  });

  test("a setter of Object.prototype for the member's name", () => {
    Object.defineProperty(Object.prototype, "rax", {
      set() {
        throw new Error("set");
      },
      configurable: true,
    });
    try {
      expect(shown(JSON.parse('{ "rax": 16 }'))).toBe("{ rax: 0x10 }");
    } finally {
      Reflect.deleteProperty(Object.prototype, "rax");
    }
  });
});

test("inspectable() does not change the value", () => {
  const regs = read(Regs, new Uint8Array(sizeOf(Regs)));
  const before = structuredClone(regs);
  shown(regs);
  expect(regs).toStrictEqual(before);
  expect(Reflect.ownKeys(regs)).toEqual(Object.keys(before));
});
