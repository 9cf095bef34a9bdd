/** Tests of the page of `npm run bench -- --page FILE`: its drawings, and that it loads no other file. */
import { join } from "node:path";
import { expect, test } from "vitest";

const file = join(import.meta.dirname, "../../../bench/harness/page.js");
const { page } = (await import(file)) as { page(document: object): string };

const figures = { min: 900, median: 1000, p99: 2000, samples: 3 };
const c = { what: "C: KVM_RUN", side: "C", operations: 1, ...figures, against: "C: KVM_RUN" };
const javascript = {
  what: 'run() <of "a & b">',
  side: "JavaScript",
  operations: 1,
  ...figures,
  median: 1500,
  against: "C: KVM_RUN",
  ratio: 1.5,
  over: 500,
  limit: { kind: "ratio", most: 1.4 },
  verdict: "NOT reached",
};
const document = {
  host: { release: "6.18", vendor: "kvm_intel", node: "v20.20.2", emulated: false },
  rounds: 3,
  questions: [
    {
      name: "run",
      asks: "What does a run cost?",
      note: "On one CPU.",
      tables: [
        {
          ring: "ring 0",
          rows: [
            { ...c, each: [900, 1000, 2000] },
            { ...javascript, each: [1400, 1500, 9000] },
            { what: "broken", side: "JavaScript", operations: 1, failed: "ENXIO" },
          ],
        },
      ],
    },
    { name: "life", asks: "What stays?", tables: [{ values: [{ what: "memory", C: "6 kB" }] }] },
  ],
};
const html = page(document);

/**
 * Returns the horizontal positions of the lines in each SVG path of a class. The scale ends at 1.02 times the largest
 * 99th percentile.
 */
const placesOf = (name: string): readonly (readonly number[])[] =>
  Array.from(html.matchAll(new RegExp(`<path class="${name}[^"]*" d="([^"]*)"`, "g")), ([, d]) =>
    Array.from((d ?? "").matchAll(/M([\d.]+) 0V24/g), ([, x]) => Number(x)),
  );

test("the benchmark page draws a line for each round, and draws a round beyond the scale at the end of the scale", () => {
  expect(placesOf("rounds")).toEqual([
    [441.2, 490.2, 980.4],
    [686.3, 735.3, 1000],
  ]);
});

test("the benchmark page draws each row's median, with the median in C beside the median in JavaScript", () => {
  expect(placesOf("median")).toEqual([[490.2], [735.3]]);
  expect(placesOf("base")).toEqual([[490.2]]);
});

test("the benchmark page names a missed limit and a failed row", () => {
  expect(html).toContain('limit &lt;= 1.40 x, <span class="missed">NOT reached</span>');
  expect(html).toContain("FAILED: ENXIO");
});

test("the benchmark page shows the values of a benchmark that has no rows", () => {
  expect(html).toContain("<th>memory</th><td>C 6 kB</td>");
});

test("the benchmark page escapes HTML in a benchmark's text", () => {
  expect(html).toContain("run() &lt;of &quot;a &amp; b&quot;&gt;");
  expect(html).not.toContain("<of");
});

test("the benchmark page has no script and loads no other file", () => {
  expect(html).not.toMatch(/<script|<link|<img|src=|href=|url\(|@import|https?:/i);
});

test("the benchmark page adapts to narrow screens and to a dark color scheme", () => {
  expect(html).toContain('name="viewport" content="width=device-width');
  expect(html).toContain("color-scheme: light dark");
});
