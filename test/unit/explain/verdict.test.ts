/**
 * Tests of the common parts of rules: queries of evidence, arguments, verdicts, and the sentence for several causes.
 */
import { describe, expect, test } from "vitest";
import { MpState } from "../../../lib/abi/generated/structs.ts";
import { placesOf } from "../../../lib/explain/findings.ts";
import { known, sentCount, sentInteger, sentStruct } from "../../../lib/explain/refusal.ts";
import {
  claim,
  decide,
  fault,
  only,
  open,
  type Verdict,
  write,
} from "../../../lib/explain/verdict.ts";
import { refusalOf } from "./refused.ts";

const asked = (causes: Readonly<Record<string, Verdict | undefined>>): readonly Verdict[] =>
  decide(
    Object.fromEntries(Object.entries(causes).map(([name, verdict]) => [name, () => verdict])),
    undefined,
  );

describe("if a refused call has several possible causes,", () => {
  test("the first proven cause is the reason, even if earlier causes are undecided", () => {
    const causes = { first: open("a"), none: undefined, second: fault("b"), third: fault("c") };
    expect(asked(causes)).toEqual([{ is: "proven", text: "b" }]);
    expect(write(asked(causes))).toBe("b");
  });

  test("causes after a proven cause are not judged", () => {
    const judged: string[] = [];
    const causes = {
      first: () => fault("a"),
      second: () => {
        judged.push("second");
        return undefined;
      },
    };
    expect(decide(causes, undefined)).toHaveLength(1);
    expect(judged).toEqual([]);
  });

  test('the reason contains all causes that remain possible, and adds "or another cause" to a single cause', () => {
    expect(write(asked({ a: open("a"), b: open("b"), c: open("c") }))).toBe("either a, or b, or c");
    expect(write(asked({ a: open("a") }))).toBe("either a, or another cause");
    expect(write(asked({ a: undefined }))).toBeUndefined();
  });
});

describe("a rule's verdict", () => {
  test.each([
    ["true evidence", claim(true, "a"), { is: "proven", text: "a" }],
    ["no answer", claim(undefined, "a"), { is: "possible", text: "a" }],
    ["false evidence", claim(false, "a"), undefined],
    ["a fault", fault("a"), { is: "proven", text: "a" }],
    ["no fault", fault(undefined), undefined],
    ["a suggestion", open("a"), { is: "possible", text: "a" }],
    ["no suggestion", open(undefined), undefined],
    ["the only place", only("f", "a"), { is: "proven", text: "a", source: "f" }],
    ["the only place, without evidence", only("f", undefined), undefined],
  ])("is as expected for %s", (_, verdict, expected) => {
    expect(verdict).toEqual(expected);
  });
});

describe("an argument of a failed call", () => {
  test.each([
    ["a number", 7, 7n],
    ["a bigint", 1n << 63n, 1n << 63n],
    ["bytes", new Uint8Array(8), undefined],
    ["names", { id: 7 }, undefined],
  ])("is read as an integer if it is %s", (_, sent, integer) => {
    expect(sentInteger(refusalOf("KVM_CREATE_VCPU EINVAL", sent))).toBe(integer);
  });

  test.each([
    ["named", { nent: 7 }, 7],
    ["in the first four bytes", Uint8Array.of(1, 2, 0, 0), 513],
    ["in more bytes, of a larger buffer", Uint8Array.of(9, 1, 2, 0, 0, 9).subarray(1), 513],
    ["in fewer bytes", Uint8Array.of(1, 2, 0), undefined],
    ["nowhere", 7n, undefined],
  ])("has a count that is found if it is %s", (_, sent, count) => {
    expect(sentCount(refusalOf("KVM_SET_CPUID2 EINVAL", sent), "nent")).toBe(count);
  });

  test.each([
    ["named", { mpState: 3 }, 3],
    ["in bytes", Uint8Array.of(3, 0, 0, 0), 3],
    ["in fewer bytes", Uint8Array.of(3, 0, 0), undefined],
    ["with nothing named", {}, undefined],
    ["with a value of another type", { mpState: "halted" }, 0],
    ["with a value that does not fit", { mpState: -1 }, undefined],
  ])("is read as a struct if its members are passed %s", (_, sent, state) => {
    expect(sentStruct(refusalOf("KVM_SET_MP_STATE EINVAL", sent), MpState)?.mpState).toBe(state);
  });
});

test("evidence is unknown if it is undefined, missing, or throws an error", () => {
  const fail = (): never => {
    throw new Error("no answer");
  };
  expect([known(() => 7), known(() => undefined), known(fail), known(undefined)]).toEqual([
    7,
    undefined,
    undefined,
    undefined,
  ]);
});

test("the leaf of a feature is printed with its first sub-leaf", () => {
  expect(placesOf(["la57", "lam"])).toBe("0x7.0:ecx[16] la57, 0x7.1:eax[26] lam");
  expect(placesOf(["cache_type"])).toBe("0x4.0:eax[4:0] cache_type");
});
