/** Tests of `claim()` in vitest: its arguments, the kit as a fixture, and the names of faults. */
import {
  claim,
  FAULTS,
  fixtures,
  injectFault,
  Kit,
  matchers,
  registerDeviations,
  tableOf,
  Unmet,
} from "node-kvm/test";
import { test as base, describe, expect, test } from "vitest";
import { problemOf } from "../examples/program.ts";

const problem = problemOf([]);

claim(
  "in-vitest",
  "a claim that runs in a worker of vitest is a test of vitest",
  { number: 1 },
  (kit) => {
    expect(tableOf(kit.fresh())).toEqualTable([]);
  },
);

claim("async-in-vitest", "an asynchronous claim in vitest is awaited", async (kit) => {
  const { vcpu } = kit.configured();
  expect((await vcpu.run()).kind).toBe("io");
});

const withKit = base.extend(fixtures);

describe("the fixture", () => {
  let kits: Kit[] = [];

  withKit("gives each test its own kit", ({ kit }) => {
    kits = [...kits, kit];
    expect(kit.fresh().closed).toBe(false);
  });

  withKit("is closed after its test", ({ kit }) => {
    expect(kits[0]).not.toBe(kit);
    expect(kits[0]?.kvm.closed).toBe(true);
  });

  withKit("skips a test whose requirement is not met", ({ kit }) => {
    kit.require(false, "seen as skipped in the report of this file");
    expect.unreachable();
  });
});

test.skipIf(problem !== undefined)(
  "a kit that the user creates throws Unmet for a missing requirement",
  () => {
    const kit = new Kit();
    try {
      expect(() => kit.requireCpuFlag("no_such_flag")).toThrow(Unmet);
    } finally {
      kit.close();
    }
  },
);

type Loose = (...args: readonly unknown[]) => void;

const WRONG: readonly (readonly [args: readonly unknown[], message: string])[] = [
  [["a b", "KVM", () => undefined], "claim(): id must be a short name"],
  [[7, "KVM", () => undefined], "claim(): id must be a short name"],
  [["a", "", () => undefined], 'claim("a"): sentence must be one line'],
  [["a", "two\nlines", () => undefined], 'claim("a"): sentence must be one line'],
  [
    ["a", "KVM", { numbr: 1 }, () => undefined],
    'claim("a"): unknown option "numbr"; did you mean "number"?',
  ],
  [["a", "KVM", 7, () => undefined], 'claim("a"): expected an object'],
  [["a", "KVM", "check"], 'claim("a"): check must be a function'],
  [["a", "KVM"], 'claim("a"): check must be a function'],
  ...[1.5, -1, "1", {}, NaN].map(
    (number) =>
      [["a", "KVM", { number }, () => undefined], "number must be a whole number"] as const,
  ),
  ...[0, -1, NaN, Infinity, "9"].map(
    (timeout) => [["a", "KVM", { timeout }, () => undefined], "timeout must be"] as const,
  ),
  [["a", "KVM", { deviations: {} }, () => undefined], "expected an array of deviations"],
];

const ROW = { claim: "a", on: "kvm_pvm", shows: "x", reason: "y" };

test.each([
  [null, "[0]: expected an object"],
  [{ ...ROW, claim: "" }, "[0].claim: expected a string that is not empty"],
  [
    { ...ROW, on: "nonsense" },
    '[0].on: expected the name of a trait or a function, got "nonsense"',
  ],
  [{ ...ROW, on: "toString" }, "[0].on: expected the name of a trait or a function"],
  [{ ...ROW, shows: "" }, "[0].shows: expected a string that is not empty"],
  [{ ...ROW, shows: undefined }, "[0].shows: expected a string that is not empty"],
  [{ ...ROW, shows: /x/ }, "[0].shows: expected a string that is not empty"],
  [{ ...ROW, reason: undefined }, "[0].reason: expected a string that is not empty"],
  [{ ...ROW, reason: 5 }, "[0].reason: expected a string that is not empty, got 5"],
  [{ ...ROW, show: "x" }, '[0]: unknown member "show"; did you mean "shows"?'],
])("registerDeviations([%o]) throws a TypeError", (row, message) => {
  const register = registerDeviations as unknown as Loose;
  expect(() => register([row])).toThrow(`registerDeviations(): ${message}`);
});

test("toFailWith() refuses an errno that is no string, with which every accepted call would hold", () => {
  expect(() => matchers.toFailWith(() => undefined, undefined as never)).toThrow(
    "toFailWith(): expected the name of an errno, got undefined",
  );
});

test.each(WRONG)("claim(...%j) throws a TypeError", (args, message) => {
  expect(() => (claim as unknown as Loose)(...args)).toThrow(message);
});

test("the error about an unknown fault names the known faults", () => {
  expect(() => injectFault("accept-all")).toThrow(
    'unknown fault "accept-all"; did you mean "accepts-all"?',
  );
  expect(() => injectFault("constructor")).toThrow('unknown fault "constructor"');
  expect(FAULTS).toContain("misleads-guests");
});

test("the matchers of claims have a message for the assertion and for its negation", () => {
  const accepted = matchers.toBeAccepted(() => undefined);
  expect([accepted.pass, accepted.message()]).toEqual([
    true,
    "expected KVM to refuse, but: it accepted",
  ]);
  const wrong = matchers.toFailWith(() => undefined, "EPERM");
  expect([wrong.pass, wrong.message()]).toEqual([
    false,
    "expected KVM to refuse with EPERM, but: it accepted",
  ]);
  expect(() => matchers.toBeAccepted(() => Promise.resolve())).toThrow(
    "the call returned a promise",
  );
});
