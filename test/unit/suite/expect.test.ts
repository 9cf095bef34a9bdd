/** Tests of the bundled claims' `expect`: it has the same verdicts and messages as vitest's. */
import fc from "fast-check";
import { describe, expect as real, test } from "vitest";
import { isEqual } from "../../../lib/suite/equality.ts";
import { expect as ours } from "../../../lib/suite/expect.ts";

type Assertions = (value: unknown, note?: string) => Readonly<Record<string, unknown>>;

/** Returns the message of a failed assertion, or `undefined` if the assertion holds. */
function messageOf(assertion: () => void): string | undefined {
  try {
    assertion();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Makes the same assertion with both `expect` functions. */
function both(name: string, args: readonly unknown[], note?: string): (string | undefined)[] {
  const [actual, ...expected] = args;
  return [real, ours].map((expect) => {
    const assertions = (expect as unknown as Assertions)(actual, note);
    return messageOf(() => (assertions[name] as (...more: unknown[]) => void)(...expected));
  });
}

const ROWS: [name: string, ...values: unknown[]][] = [
  ["toBe", 1, 2],
  ["toBe", 0, -0],
  ["toBe", 7n, 7],
  ["toBe", "a", "b"],
  ["toBe", undefined, null],
  ["toBe", true, true],
  ["toEqual", [0, 0, 0], [1, 2, 3]],
  ["toEqual", { kind: "sync", values: [255n] }, { kind: "sync", values: [13n] }],
  ["toEqual", { kind: "sync", values: [13n] }, { kind: "sync", values: [13n] }],
  ["toEqual", Array(12).fill(0n), Array(12).fill(1n)],
  ["toEqual", { function: 1, index: 2, flags: 3, eax: 4 }, { function: 1 }],
  ["toEqual", { a: undefined }, {}],
  ["toEqual", new Uint8Array(4), new Uint8Array(5)],
  ["toEqual", new Uint8Array([1, 2]), new Uint8Array([1, 3])],
  ["toEqual", new Uint8Array(2), [0, 0]],
  ["toEqual", [{ a: "x".repeat(50) }], [{ a: "y".repeat(50) }]],
  ["toEqual", new Error("a"), new Error("b")],
  ["toEqual", new Error("a"), new Error("a")],
  ["toHaveLength", [1, 2, 3], 4],
  ["toHaveLength", [1, 2, 3], 3],
  ["toHaveLength", "four", 0],
];

test.each(ROWS)("expect: %s of %o and %o has vitest's verdict and message", (name, ...args) => {
  const [vitest, bundled] = both(name, args);
  real(bundled).toBe(vitest);
});

test("the error of a failed assertion contains the compared values, as vitest's error does", () => {
  const values = [real, ours].map((expect) => {
    try {
      (expect as unknown as typeof real)([1, 2]).toEqual([1, 3]);
    } catch (error) {
      const { actual, expected } = error as Record<string, unknown>;
      return { actual, expected };
    }
    return undefined;
  });
  real(values).toEqual(Array(2).fill({ actual: [1, 2], expected: [1, 3] }));
});

test("the note of an assertion precedes the assertion's message", () => {
  const [vitest, bundled] = both("toBe", [1, 2], "leaf 7");
  real(bundled).toBe(vitest);
  real(bundled).toMatch(/^leaf 7: expected 1 to be 2/);
});

test("a matcher that was added with expect.extend() is used, and the error has the matcher's message", () => {
  const isOdd = (value: unknown) => ({
    pass: Number(value) % 2 === 1,
    message: () => `expected ${value} to be odd`,
  });
  real.extend({ toBeOdd: isOdd });
  ours.extend({ toBeOdd: isOdd });
  real(both("toBeOdd", [3])).toEqual([undefined, undefined]);
  real(both("toBeOdd", [4])).toEqual(["expected 4 to be odd", "expected 4 to be odd"]);
  const [vitest, bundled] = both("toBeOdd", [4], "leaf 7");
  real(bundled).toBe(vitest);
});

describe("vitest's expect does the assertions that this package does not implement:", () => {
  test.each([
    ["toBeCloseTo", 1, 2],
    ["toMatchObject", { a: 1, b: 2 }, { a: 2 }],
    ["toThrow", () => undefined],
    ["toContain", [1, 2], 3],
    ["toEqual", new Map([[1, 2]]), new Map([[1, 3]])],
    ["toEqual", { a: 1 }, { a: real.any(String) }],
    ["toEqual", { a: 1 }, { a: real.any(Number) }],
    ["toStrictEqual", { a: undefined }, {}],
  ])("%s of %o", (name, ...args) => {
    const [vitest, bundled] = both(name, args, "leaf 7");
    real(bundled).toBe(vitest);
  });

  test("`not`, rejects and resolves", async () => {
    const expect = ours as unknown as typeof real;
    expect(1).not.toBe(2);
    real(() => expect(1).not.toBe(1)).toThrow("expected 1 not to be 1");
    await expect(Promise.resolve(3)).resolves.toBe(3);
    await real(expect(Promise.reject(new Error("no"))).rejects.toThrow("yes")).rejects.toThrow();
  });

  test("an added matcher after not", () => {
    ours.extend({ toBeSeven: (value) => ({ pass: value === 7, message: () => "no 7, or one" }) });
    const expect = ours as unknown as (value: unknown) => { not: { toBeSeven: () => void } };
    expect(8).not.toBeSeven();
    real(() => expect(7).not.toBeSeven()).toThrow("no 7, or one");
  });

  test("expect.any and expect.objectContaining", () => {
    const expect = ours as unknown as typeof real;
    expect({ a: 1, b: "x" }).toEqual({ a: expect.any(Number), b: expect.stringMatching(/x/) });
    real(() => expect({ a: 1 }).toEqual({ a: expect.any(String) })).toThrow("deeply equal");
  });
});

describe("the equality of expect()", () => {
  const leaf = fc.oneof(
    fc.constantFrom(undefined, null, true, false, 0, -0, Number.NaN, "", "a"),
    fc.integer({ min: 0, max: 3 }),
    fc.bigInt({ min: 0n, max: 3n }),
    fc.uint8Array({ maxLength: 3, max: 1 }),
  );
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof({ depthSize: "small" }, leaf, tie("list"), tie("record")),
    list: fc.array(tie("value"), { maxLength: 3 }),
    record: fc.dictionary(fc.constantFrom("a", "b", "length"), tie("value"), {
      maxKeys: 2,
      noNullPrototype: true,
    }),
  }));

  test("gives the same result as vitest's for random values", () => {
    fc.assert(
      fc.property(value, value, (a, b) => {
        real(isEqual(a, b)).toBe(messageOf(() => real(a).toEqual(b)) === undefined);
      }),
      { numRuns: 2000 },
    );
  });

  test("gives the same result as vitest's for a random value and its copy", () => {
    fc.assert(
      fc.property(value, (a) => {
        const copy = structuredClone(a);
        real(isEqual(a, copy)).toBe(messageOf(() => real(a).toEqual(copy)) === undefined);
      }),
    );
  });

  test.each([
    ["Map", new Map(), new Map([[1, 2]])],
    ["Date", new Date(0), new Date(1)],
    ["DataView", new DataView(new ArrayBuffer(1)), new DataView(new ArrayBuffer(2))],
  ])(
    "throws an error for a %s, because the properties of such an object do not describe its content",
    (kind, a, b) => {
      real(() => isEqual(a, b)).toThrow(`the suite's runner cannot compare a ${kind}`);
    },
  );
});
