/** Tests of the suite's claims: unique names in one style, the catalogue's numbers, and deviations. */
import { describe, expect, test } from "vitest";
import { deviations } from "../kvm/deviations.ts";
import { type Claim, claims, claimsOf, covers } from "./claims.ts";

const KEBAB = /^[a-z0-9]+(-[a-z0-9]+)*$/;

/** Lists pairs of claims with the same id, including ids that a loop could create. */
function repeated(all: readonly Claim[]): readonly string[] {
  return all.flatMap((a, i) =>
    all
      .filter((b, j) => j !== i && covers(a.id, b.id))
      .map((b) => `${b.id} (${a.where}, ${b.where})`),
  );
}

test("the suite's catalogue has claims", () => {
  expect(claims.length).toBeGreaterThan(50);
});

test("every claim has a number in the catalogue and a name in kebab case", () => {
  const wrong = claims.filter(
    ({ number, id }) => !(number >= 1 && number <= 150) || !KEBAB.test(id.replaceAll("*", "x")),
  );
  expect(wrong).toEqual([]);
});

test("no two claims have the same name", () => {
  expect(repeated(claims)).toEqual([]);
});

test.each(deviations.map((deviation) => [deviation.claim, deviation] as const))(
  "the deviation of %s belongs to an existing claim and has a message and a reason",
  (claim, { shows, reason }) => {
    expect(claims.filter(({ id }) => covers(id, claim))).toHaveLength(1);
    expect([shows.length > 0, reason.length > 0]).toEqual([true, true]);
  },
);

test("no deviation is listed twice", () => {
  const told = deviations.map(({ claim, on }) => `${claim} ${on}`);
  expect(told.filter((one, i) => told.indexOf(one) !== i)).toEqual([]);
});

describe("the check of the claims' names", () => {
  const planted = claimsOf(
    "planted.ts",
    ['"a", "A"', '"a", "B"', `\`a-\${x}\`, "C"`, '"a-b", "D"']
      .map((a) => `claim(${a}, { number: 9 }, f);`)
      .join(""),
  );

  test("reports a name that two claims have, and a name that a template in a loop can also create", () => {
    expect(planted.map(({ id }) => id)).toEqual(["a", "a", "a-*", "a-b"]);
    expect(repeated(planted)).toHaveLength(3);
  });

  test.each(["Set-256", "set_256", "-set", "set--256", ""])("reports the invalid name %j", (id) => {
    expect(id).not.toMatch(KEBAB);
  });
});
