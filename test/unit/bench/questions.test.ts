/**
 * Tests of the benchmarks' definitions and arithmetic. These tests measure no time; `npm run bench` measures the time.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";

const BENCH = join(import.meta.dirname, "../../../bench");

interface Row {
  readonly what: string;
  readonly command?: string;
  readonly against?: string;
  readonly start?: unknown;
}

interface Question {
  readonly name: string;
  readonly asks: string;
  readonly rows?: readonly Row[];
  readonly values?: unknown;
}

interface Figure {
  readonly median: number;
}

interface Limits {
  ratio(most: number): object;
  over(most: number): object;
  total(most: number): object;
  verdict(limit: object, figure: Figure, base: Figure | undefined, emulated: boolean): string;
}

const load = async (file: string): Promise<unknown> => import(join(BENCH, file));
const { summary } = (await load("harness/rounds.js")) as {
  summary(samples: readonly number[]): object;
};
const { ratio, over, total, verdict } = (await load("harness/limits.js")) as Limits;

const files = readdirSync(BENCH).filter((name) => name.endsWith(".js") && name !== "main.js");
const questions = await Promise.all(
  files.map(async (file) => {
    const { question } = (await load(file)) as { question: Question };
    return [file, question, question.rows ?? []] as const;
  }),
);

test.each(questions)(
  "the benchmark file %s exports one benchmark, whose name is the file's name",
  (file, { name, asks, values }, rows) => {
    expect([`${name}.js`, asks.endsWith("?")]).toEqual([file, true]);
    expect(rows.length > 0).not.toBe(values !== undefined);
  },
);

test.each(questions)(
  "the rows of the benchmark %s have different names, and each row's baseline is a row of the same benchmark",
  (_, __, rows) => {
    const names = rows.map(({ what }) => what);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toEqual(expect.arrayContaining(rows.flatMap(({ against }) => against ?? [])));
  },
);

test.each(questions)(
  "each row of the benchmark %s is measured in C or in JavaScript",
  (_, __, rows) => {
    const silent = rows.filter(({ command, start }) => (command ?? start) === undefined);
    expect(silent).toEqual([]);
  },
);

const yardstick = readFileSync(join(BENCH, "yardstick.c"), "utf8");
const known = Array.from(yardstick.matchAll(/\{"([a-z0-9-]+)", NULL, do_/g), ([, name]) => name);

test("bench/yardstick.c implements every operation that a benchmark uses", () => {
  const asked = questions.flatMap(([, , rows]) => rows.flatMap(({ command }) => command ?? []));
  expect(asked.length).toBeGreaterThan(10);
  expect(asked.filter((command) => !known.includes(command))).toEqual([]);
});

const folder = mkdtempSync(join(tmpdir(), "yardstick-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("bench/yardstick.c compiles without a warning", ({ skip }) => {
  skip(spawnSync("cc", ["--version"]).status !== 0, "there is no cc");
  const flags = ["-O2", "-static", "-pthread", "-Wall", "-Wextra", "-Werror"];
  const args = [...flags, "-o", join(folder, "yardstick"), join(BENCH, "yardstick.c")];
  expect(spawnSync("cc", args, { encoding: "utf8" }).stderr).toBe("");
});

test.each([
  [[3, 1, 2], { min: 1, median: 2, p99: 3, samples: 3 }],
  [[4, 1, 3, 2], { min: 1, median: 2.5, p99: 4, samples: 4 }],
  [Array.from({ length: 200 }, (_, i) => i), { min: 0, median: 99.5, p99: 198, samples: 200 }],
])(
  "the summary of the samples %j has their median, minimum and 99th percentile",
  (samples, figures) => {
    expect(summary(samples)).toEqual(figures);
  },
);

test.each([
  [ratio(1.05), 105, "reached"],
  [ratio(1.05), 106, "NOT reached"],
  [over(8), 108, "reached"],
  [over(8), 109, "NOT reached"],
  [total(200), 200, "reached"],
  [total(200), 201, "NOT reached"],
])("with a limit of %j, the time %d is %s if the baseline is 100", (limit, median, said) => {
  expect(verdict(limit, { median }, { median: 100 }, false)).toBe(said);
});

test("on an emulated CPU, limits of ratios are judged, but limits in nanoseconds are not judged", () => {
  const judged = [over(8), total(200), ratio(1.05)].map((limit) =>
    verdict(limit, { median: 300 }, { median: 100 }, true),
  );
  expect(judged).toEqual(["not judged: emulated", "not judged: emulated", "NOT reached"]);
});

test("a benchmark row without a baseline has no verdict", () => {
  expect(verdict(ratio(1), { median: 1 }, undefined, false)).toMatch(/^not judged/);
});
