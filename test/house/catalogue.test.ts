/** Tests of the suite's claims: unique names in one style, the catalogue's numbers, and deviations. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { describe, expect, test } from "vitest";
import { deviations } from "../kvm/deviations.ts";

const SUITE = join(import.meta.dirname, "..", "kvm");
const KEBAB = /^[a-z0-9]+(-[a-z0-9]+)*$/;

/** The numbers of the catalogue's checks that need a claim. Each range has a first and a last number. */
const REQUIRED: readonly (readonly [number, number])[] = [
  [9, 10],
  [13, 16],
  [19, 25],
  [29, 30],
  [32, 34],
  [38, 38],
  [47, 47],
  [49, 62],
  [64, 65],
  [67, 70],
  [76, 76],
  [82, 82],
  [96, 101],
  [120, 128],
];

/** The last number of the catalogue. */
const LAST_NUMBER = 128;

interface Claim {
  readonly number: number;
  /** In the id, `*` replaces each part that a loop inserts. */
  readonly id: string;
  readonly where: string;
}

/** Returns the id of a claim, with `*` for each part that a loop inserts. */
function idOf(node: ts.Expression | undefined): string {
  if (node === undefined) return "";
  if (ts.isStringLiteralLike(node)) return node.text;
  if (!ts.isTemplateExpression(node)) return "";
  return node.head.text + node.templateSpans.map(({ literal }) => `*${literal.text}`).join("");
}

/** Returns the number in the options of a claim. */
function numberOf(options: ts.Expression | undefined): number {
  return Number(/^\{ number: (\d+)/.exec(options?.getText() ?? "")?.[1]);
}

function claimsOf(name: string, text: string): readonly Claim[] {
  const source = ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true);
  const found: Claim[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && node.expression.getText() === "claim") {
      const [id, , options] = node.arguments;
      const line = source.getLineAndCharacterOfPosition(node.getStart()).line + 1;
      found.push({ number: numberOf(options), id: idOf(id), where: `${name}:${line}` });
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

const files = readdirSync(SUITE).filter((name) => name.endsWith(".test.ts"));
const claims = files.flatMap((name) => claimsOf(name, readFileSync(join(SUITE, name), "utf8")));

const literally = (text: string): string => text.replaceAll(/[^\w-]/g, "\\$&");
const covers = (pattern: string, id: string): boolean =>
  new RegExp(`^${pattern.split("*").map(literally).join("[a-z0-9-]+")}$`).test(id);

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
    ({ number, id }) =>
      !(number >= 1 && number <= LAST_NUMBER) || !KEBAB.test(id.replaceAll("*", "x")),
  );
  expect(wrong).toEqual([]);
});

test("no two claims have the same name", () => {
  expect(repeated(claims)).toEqual([]);
});

test("every required check of the catalogue has a claim", () => {
  const required = REQUIRED.flatMap(([first, last]) =>
    Array.from({ length: last - first + 1 }, (_, i) => first + i),
  );
  const there = new Set(claims.map(({ number }) => number));
  expect(required.filter((number) => !there.has(number))).toEqual([]);
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

describe("the check of the claims' names finds a planted fault", () => {
  const planted = claimsOf(
    "planted.ts",
    ['"a", "A"', '"a", "B"', `\`a-\${x}\`, "C"`, '"a-b", "D"']
      .map((a) => `claim(${a}, { number: 9 }, f);`)
      .join(""),
  );

  test("reports two claims with the same name if a loop creates one of the claims", () => {
    expect(planted.map(({ id }) => id)).toEqual(["a", "a", "a-*", "a-b"]);
    expect(repeated(planted)).toHaveLength(3);
  });

  test.each(["Set-256", "set_256", "-set", "set--256", ""])("reports the invalid name %j", (id) => {
    expect(id).not.toMatch(KEBAB);
  });
});
