/** Tests that docs/catalogue.md lists each rule and its claims as the suite does; `vitest -u` writes the document again. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { type CatalogueArea, type CatalogueRule, catalogue } from "../kvm/catalogue.ts";
import { claims } from "./claims.ts";

const DOC = join(import.meta.dirname, "..", "..", "docs", "catalogue.md");

const INTRODUCTION = `# The catalogue of rules

The suite checks these rules of KVM's CPUID life cycle, and further rules that the kernel's selftests check. A rule
describes the newest kernel. The number before a claim in a report is the number of its rule, and several claims may check
one rule. In the id of a claim, \`*\` stands for several names. A kernel that breaks a rule for a known reason is a row of
\`test/kvm/deviations.ts\`. [selftests.md](selftests.md) maps the assertions of the kernel's selftests to the claims. This
file is generated: \`npx vitest run --project house test/house/catalogue-doc -u\`.
`;

const cell = (text: string): string => text.replaceAll("|", "\\|");

const idsOf = (number: number): readonly string[] =>
  claims.filter((claim) => claim.number === number).map(({ id }) => `\`${id}\``);

function line(number: number, { rule, source, needs = "", unjudged }: CatalogueRule): string {
  const ids = unjudged === undefined ? idsOf(number).join(", ") : `none: ${unjudged}`;
  return `| ${[String(number), rule, source, needs, ids].map(cell).join(" | ")} |`;
}

function section({ title, rules }: CatalogueArea): string {
  const rows = Object.entries(rules).map(([number, rule]) => line(Number(number), rule));
  const head = "| number | rule | source | needs | claims |\n| --- | --- | --- | --- | --- |";
  return `## ${title}\n\n${head}\n${rows.join("\n")}\n`;
}

test("docs/catalogue.md lists every rule with its claims", async () => {
  await expect([INTRODUCTION, ...catalogue.map(section)].join("\n")).toMatchFileSnapshot(DOC);
});

const numbers = catalogue.flatMap(({ rules }) => Object.keys(rules).map(Number));

test("the catalogue has a rule for each number of a claim", () => {
  const missing = claims.filter(({ number }) => !numbers.includes(number));
  expect(missing).toEqual([]);
});

test("each rule has a claim, or the reason why it cannot have one", () => {
  const rules = catalogue.flatMap((area) => Object.entries(area.rules));
  const bare = rules.filter(([number]) => idsOf(Number(number)).length === 0);
  const unjudged = rules.filter(([, rule]) => rule.unjudged !== undefined);
  expect(bare.map(([number]) => number)).toEqual(unjudged.map(([number]) => number));
});

test("the numbers are distinct, and 1 to 115 are complete", () => {
  expect(new Set(numbers).size).toBe(numbers.length);
  const first = Array.from({ length: 115 }, (_, i) => i + 1);
  expect(first.filter((number) => !numbers.includes(number))).toEqual([]);
});
