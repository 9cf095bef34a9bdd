/** Tests that docs/cpuid-lint.md describes each lint rule as the code does; `vitest -u` writes the document again. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { CPUID_LINT_RULES, type CpuidLintRule } from "../../lib/cpuid/index.ts";
import { LINT_PROFILES } from "../../lib/cpuid/lint/profiles.ts";

const DOC = join(import.meta.dirname, "..", "..", "docs", "cpuid-lint.md");

const FAMILIES: readonly (readonly [prefix: string, title: string])[] = [
  ["S", "Structure"],
  ["D", "Features that need others"],
  ["L", "Leaves that features need"],
  ["X", "XSAVE"],
  ["F", "Family, brand, addresses"],
  ["T", "Topology and caches"],
  ["A", "AMX and AVX10"],
  ["P", "Performance monitoring"],
  ["K", "KVM"],
  ["H", "Other hypervisors"],
];

const cell = (text: string): string => text.replaceAll("|", "\\|");

/** Returns the text that describes the inputs and the profiles of a rule. */
function conditions({ id, needs = [], needsOneOf = [] }: CpuidLintRule): string {
  const inputs = [...needs, ...(needsOneOf.length > 0 ? [needsOneOf.join(" or ")] : [])];
  const off = Object.entries(LINT_PROFILES).flatMap(([name, { off: rules }]) =>
    id in rules ? [name] : [],
  );
  return [
    ...inputs.map((input) => `needs ${input}`),
    ...(off.length > 0 ? [`not in profile ${off.join(", ")}`] : []),
  ].join("; ");
}

function section([prefix, title]: readonly [string, string]): string {
  const rows = CPUID_LINT_RULES.filter(({ id }) => id.startsWith(prefix)).map((rule) =>
    [rule.id, rule.severity, rule.title, rule.source, rule.remedy, conditions(rule)].map(cell),
  );
  const lines = rows.map((cells) => `| ${cells.join(" | ")} |`);
  const head =
    "| id | severity | rule | source | remedy | judged |\n| --- | --- | --- | --- | --- | --- |";
  return `## ${title}\n\n${head}\n${lines.join("\n")}\n`;
}

const INTRODUCTION = `# Lint rules of CPUID tables

\`lint()\` of \`node-kvm/cpuid\` judges a table by these rules. An id never changes its meaning. A finding may have another
severity than its rule, if only a part of the rule is broken. A rule that lacks an input is not judged, and the result
lists it with the reason. In the column "judged", \`needs several\` means a list with the table of each vCPU as the
first argument, as in \`lint([first, second])\`, and \`needs complete\` means that the option \`isComplete\` is true, which
is the default. Each other input is an option of the same name, as in
\`lint(table, { supported, before, vm: { hasKernelApic: true } })\`. The guide [Building and checking CPUID tables](guides/cpuid-toolkit.md#checking) has an
example. This file is generated: \`npx vitest run --project house test/house/cpuid-lint-doc -u\`.
`;

test("docs/cpuid-lint.md lists every lint rule exactly as the code defines it", async () => {
  const text = [INTRODUCTION, ...FAMILIES.map(section)].join("\n");
  await expect(text).toMatchFileSnapshot(DOC);
});

test("there are 119 lint rules with distinct ids", () => {
  const ids = CPUID_LINT_RULES.map(({ id }) => id);
  expect(ids).toHaveLength(119);
  expect(new Set(ids).size).toBe(119);
});
