/**
 * Tests of the rules of an exit filter: their encoding as bytes, and rules that are refused.
 * exit-filter-on-device.test.ts tests the effect of rules on exits.
 */
import { describe, expect, test } from "vitest";
import { type ExitRuleInput, encodeRules } from "../../../../lib/kvm/run/exit-filter.ts";

/** Decodes a rule's bytes to numbers: first, last, value, space, write, answers, size. */
function fields(rule: ExitRuleInput): readonly (bigint | number)[] {
  const view = new DataView(encodeRules([rule]).buffer);
  const [u64, u32] = [
    (at: number) => view.getBigUint64(at, true),
    (at: number) => view.getUint32(at, true),
  ];
  return [u64(0), u64(8), u64(16), u32(24), u32(28), u32(32), u32(36)];
}

describe("a rule of the exit filter covers", () => {
  test.each<[string, ExitRuleInput, readonly (bigint | number)[]]>([
    ["one port", { pio: 0x80, write: "collect" }, [0x80n, 0x80n, 0n, 0, 2, 0, 0]],
    ["ports", { pio: 0x3f8, length: 8, read: 0x60 }, [0x3f8n, 0x3ffn, 0x60n, 0, 0, 1, 0]],
    ["an access that is as wide", { pio: 0x80, size: 4, read: 0 }, [0x80n, 0x83n, 0n, 0, 0, 1, 4]],
    [
      "the last address",
      { mmio: 2n ** 64n - 8n, size: 8, write: "ignore" },
      [2n ** 64n - 8n, 2n ** 64n - 1n, 0n, 1, 1, 0, 8],
    ],
    ["MSRs", { msr: 0x10, length: 2, read: 5n }, [0x10n, 0x11n, 5n, 2, 0, 1, 0]],
  ])("%s", (_, rule, expected) => {
    expect(fields(rule)).toEqual(expected);
  });
});

describe("the error about a wrong rule of the exit filter has the rule's index and the fault:", () => {
  const good: ExitRuleInput = { pio: 0x80, write: "ignore" };
  test.each<[string, unknown]>([
    ["size: 9 is not 1 to 8", { pio: 1, size: 9 }],
    ["size: 1.5 is not 1 to 8", { pio: 1, length: 2, size: 1.5 }],
    ["length: 0 is less than 1", { mmio: 1n, length: 0n }],
    ["mmio: -1 does not fit u64", { mmio: -1n }],
    ["18446744073709551615 and 2 more: not in 64 bits", { mmio: 2n ** 64n - 1n, length: 2n }],
    ["read: 18446744073709551616 does not fit u64", { msr: 1, read: 2n ** 64n }],
    ["writes of MSRs are not collected", { msr: 1, write: "collect" }],
    ["pio: ports end at 65535", { pio: 0x1_0000, read: 0 }],
    ["size: 3 is not 1, 2 or 4", { pio: 1, size: 3, read: 0 }],
    ["read: 256 does not fit 8 bits", { pio: 1, size: 1, read: 0x100 }],
    ['write: "drop" is neither "ignore" nor "collect"', { pio: 1, write: "drop" }],
    ['write: "constructor" is neither "ignore" nor "collect"', { pio: 1, write: "constructor" }],
    ['write: "toString" is neither "ignore" nor "collect"', { mmio: 1, write: "toString" }],
    ['write: null is neither "ignore" nor "collect"', { pio: 1, write: null }],
  ])("%s", (message, rule) => {
    expect(() => encodeRules([good, rule as ExitRuleInput])).toThrow(
      new RangeError(`setExitFilter(): rule 1: ${message}`),
    );
  });

  test.each<[string, unknown]>([
    ["it has none of pio, mmio and msr", { pio: undefined }],
    ["it has none of pio, mmio and msr", {}],
    ['unknown member "port"; known are pio, length, size, read, write, mmio, msr', { port: 1 }],
    ['unknown member "lenght"; did you mean "length"?', { pio: 1, lenght: 2 }],
    ['unknown member "size"; known are msr, length, read, write', { msr: 1, size: 8 }],
    ['unknown member "mmio"; known are pio, length, size, read, write', { pio: 1, mmio: 1n }],
    ["expected an object, got null", null],
    ['mmio: expected a bigint or an integer, got "0x80"', { mmio: "0x80" }],
  ])("%s", (message, rule) => {
    expect(() => encodeRules([good, rule as ExitRuleInput])).toThrow(
      new TypeError(`setExitFilter(): rule 1: ${message}`),
    );
  });

  test("the rules are not an array", () => {
    expect(() => encodeRules(good as unknown as ExitRuleInput[])).toThrow(
      new TypeError("setExitFilter(): expected an array of rules, got an object"),
    );
  });
});

test("the exit filter accepts the same value as a bigint or as a number", () => {
  const wide = fields({ pio: 0x80n, length: 2n, read: 5n });
  expect(wide).toEqual(fields({ pio: 0x80, length: 2, read: 5 }));
  expect(fields({ mmio: 0x80, length: 2, read: 5 })).toEqual(
    fields({ mmio: 0x80n, length: 2n, read: 5n }),
  );
  expect(fields({ msr: 1n, read: 5 })).toEqual(fields({ msr: 1, read: 5n }));
});
