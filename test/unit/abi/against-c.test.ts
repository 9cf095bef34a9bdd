/**
 * Compares every field of every struct with C. A program that is compiled with the kernel's headers reads bytes that
 * this package wrote; this package reads bytes that the program wrote. c-program.ts generates the program;
 * roundtrip.test.ts contains the tests without C.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import {
  afterAll,
  afterEach,
  beforeAll,
  describe,
  expect,
  type TestContext,
  test,
  vi,
} from "vitest";
import * as structs from "../../../lib/abi/generated/structs.ts";
import { scalars } from "../../../lib/abi/layout.ts";
import { encode, type Field, type Layout, read, write } from "../../../lib/abi/struct.ts";
import { CProgram, missing } from "./c-program.ts";
import { cStructs, inC, pathsOf, structFacts } from "./c-structs.ts";
import { MADE_BITS_IN_C, MadeBits, madeBitsInC } from "./made-bits.ts";
import { bytesOf, covering, type Members, only, structValue } from "./values.ts";

/** The values depend only on the seed, so that a failure can be reproduced. */
const SEED = 20_261_123;
const RANDOM = 5;

const layouts: readonly Layout[] = [...Object.values<Layout>(structs), MadeBits];
const byName = layouts.map((layout) => [layout.name, layout] as const);
const known = new Map([...cStructs(structFacts()), ...madeBitsInC]);

/** A value's fields as C or this package reads them, under the C names. */
interface View {
  /** The bytes of the struct after the value was written. */
  readonly written: string;
  /** The fields that the value contains: the given values, and the values that C reads from this package's bytes. */
  readonly given: unknown;
  /** All fields that this package's bytes contain; for a union, the fields of every member. */
  readonly read: unknown;
}
interface Views {
  readonly ours: View;
  readonly c: View;
}

let program: CProgram | undefined;
let views: ReadonlyMap<string, readonly Views[]> = new Map();

/** Returns values that together contain every field of the C struct, and additional random values. */
const valuesOf = (layout: Layout): readonly Members[] => [
  ...covering(layout, pathsOf(known, layout.name), SEED),
  ...fc.sample(structValue(layout), { seed: SEED, numRuns: RANDOM }),
];

/** The bytes before a value is written: zeros, or arbitrary bytes. */
function starts(length: number): readonly Uint8Array[] {
  return [new Uint8Array(length), ...fc.sample(bytesOf(length), { seed: SEED, numRuns: 1 })];
}

/** Reads all fields under their C names; returns an error as a view, so that the other structs are still compared. */
function readAll(layout: Layout, bytes: Uint8Array): unknown {
  try {
    return inC(known, layout.name, read(layout as Layout<Members>, bytes));
  } catch (error) {
    return error;
  }
}

/** Reads and writes values of the given structs with C, in one run of the program. */
function compare(compiled: CProgram, some: readonly Layout[]): ReadonlyMap<string, Views[]> {
  const questions = some.flatMap((layout) =>
    valuesOf(layout).flatMap((value) =>
      starts(encode(layout, value).length).map((before) => {
        const after = before.slice();
        write(layout, value, after);
        return { name: layout.name, value, before, after, all: readAll(layout, after) };
      }),
    ),
  );
  const answers = compiled.ask(questions);
  const found = new Map<string, Views[]>(some.map(({ name }) => [name, []]));
  for (const [i, { name, value, after, all }] of questions.entries()) {
    const given = inC(known, name, value);
    const { fields, bytes } = answers[i] ?? { fields: {}, bytes: "" };
    found.get(name)?.push({
      ours: { written: Buffer.from(after).toString("hex"), given, read: all },
      c: { written: bytes, given: only(fields, given), read: fields },
    });
  }
  return found;
}

/** Lists the integers in a view, each with its path. */
function leaves(value: unknown, path: string): readonly (readonly [string, string])[] {
  if (typeof value !== "object" || value === null || value instanceof Error) {
    return [[path, String(value)]];
  }
  return Object.entries(value).flatMap(([name, inner]) =>
    leaves(inner, Array.isArray(value) ? `${path}[${name}]` : `${path}.${name}`),
  );
}

/** Lists the differences of the first value that has a difference, one line per integer. */
function differences(pairs: readonly Views[]): readonly string[] {
  const first = pairs.filter(({ ours, c }) => !isDeepStrictEqual(ours, c)).slice(0, 1);
  return first.flatMap(({ ours, c }) => {
    const [our, their] = [new Map(leaves(ours, "")), new Map(leaves(c, ""))];
    return [...new Set([...our.keys(), ...their.keys()])]
      .filter((path) => our.get(path) !== their.get(path))
      .map((path) => `${path.slice(1)}: ${our.get(path)}, in C ${their.get(path)}`);
  });
}

/** Returns the program, or skips a test if the program cannot be compiled on this machine. */
function requireC({ skip }: TestContext): CProgram {
  skip(missing.length > 0, `missing here: ${missing.join(", ")}`);
  if (!program) throw new Error("the program has not been compiled");
  return program;
}

describe(`a C program and this package exchange random values (seed ${SEED})`, () => {
  const directory = mkdtempSync(join(tmpdir(), "against-c-"));
  beforeAll(() => {
    if (missing.length > 0) return;
    program = new CProgram(directory, known, MADE_BITS_IN_C);
    views = compare(program, layouts);
  }, 120_000);
  afterAll(() => rmSync(directory, { recursive: true }));

  test.for(byName)("C or this package reads a written value of %s unchanged", ([name], context) => {
    requireC(context);
    const pairs = views.get(name) ?? [];
    expect(pairs.length).toBeGreaterThan(RANDOM);
    expect(differences(pairs)).toEqual([]);
  });

  describe("a planted fault", () => {
    afterEach(() => vi.restoreAllMocks());

    /** Copies a layout and changes some of its fields. */
    const changed = (
      layout: Layout,
      changes: Readonly<Record<string, Partial<Field>>>,
    ): Layout => ({
      ...layout,
      fields: layout.fields.map((field) => ({ ...field, ...changes[field.name] })),
    });
    const { Cpuid2, IoapicStateRedirtblFields, IrqLevel, Segment, Sregs, Xcr, Xcrs } = structs;

    /** Returns the fields in which a layout differs from C. */
    const judge = (layout: Layout, compiled: CProgram): string =>
      differences(compare(compiled, [layout]).get(layout.name) ?? []).join("\n");

    test.for<readonly [string, Layout, RegExp]>([
      [
        "offsets",
        changed(Sregs, { cr3: { offset: 248 }, cr4: { offset: 240 } }),
        /^written: .*\ngiven\.cr3: .*\ngiven\.cr4: .*\nread\.cr3: .*\nread\.cr4: .*$/,
      ],
      [
        "shifts",
        changed(IoapicStateRedirtblFields, {
          polarity: { bits: [6, 1] },
          remoteIrr: { bits: [5, 1] },
        }),
        /^written: .*\ngiven\.polarity: .*\ngiven\.remote_irr: .*\nread\.polarity: .*\nread\.remote_irr: .*$/,
      ],
      [
        "width",
        changed(Segment, { limit: { type: "u16" } }),
        /^written: .*\ngiven\.limit: .*\nread\.limit: .*$/,
      ],
      ["sign", changed(IrqLevel, { status: { type: "u32" } }), /^read\.status: \d+, in C -\d+$/],
      [
        "length",
        changed(Xcrs, { xcrs: { type: { of: Xcr, count: 15 } } }),
        /\nread\.xcrs\[15\]\.xcr: undefined, in C \d+\n/,
      ],
      [
        "tail",
        { ...Cpuid2, tail: { ...Cpuid2.tail, offset: 12 } } as Layout,
        /^written: .*\ngiven\.entries\[0\]\.function: /,
      ],
    ])("a wrong %s is detected", ([, layout, where], context) => {
      const compiled = requireC(context);
      expect(judge(layout, compiled)).toMatch(where);
    });

    test("the other byte order is detected", (context) => {
      const compiled = requireC(context);
      const { u32 } = scalars;
      vi.spyOn(u32, "get").mockImplementation((view, at) => view.getUint32(at));
      vi.spyOn(u32, "set").mockImplementation((view, at, value) => view.setUint32(at, value));
      // The test changes a copy, because the generated code uses Segment itself.
      expect(judge({ ...Segment }, compiled)).toMatch(
        /^written: .*\ngiven\.limit: .*\nread\.limit: .*$/,
      );
    });
  });
});
