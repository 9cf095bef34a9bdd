/**
 * Tests of the explorer without KVM: generated lists, their text, edits, and shrinking. Models stand for the kernels.
 */
import { describe, expect, test } from "vitest";
import type { CpuidEntry2 } from "../../../lib/cpuid/index.ts";
import { applyEdits, type TableEdit } from "../../../lib/explore/edits.ts";
import { explore } from "../../../lib/explore/explore.ts";
import { generate, SEQUENCE_LENGTH } from "../../../lib/explore/generate.ts";
import { OLD_KERNELS } from "../../../lib/explore/mutants.ts";
import { formatSequence, type Sequence } from "../../../lib/explore/operation.ts";
import { parseSequence, SequenceError } from "../../../lib/explore/parse.ts";
import { randomFrom, weighted } from "../../../lib/explore/random.ts";
import { shrink } from "../../../lib/explore/shrink.ts";
import { modelSubject } from "../../../lib/explore/subject.ts";
import { toTypeScript } from "../../../lib/explore/typescript.ts";
import { formatAnswers } from "../../../lib/explore/wording.ts";
import { modelOf, SUPPORTED } from "./supported.ts";

const PLAIN = { hltExitsOff: false, mwaitQuirkOff: false, irqchip: false };

/** Explores the kernel 6.17 with the model of 7.2. */
const exploreLazy = (seed: number) =>
  explore({
    subject: modelSubject(modelOf(...OLD_KERNELS["6.17"])),
    model: modelOf("xss-any-table", "xss-any-write"),
    supported: SUPPORTED,
    seed,
    steps: 2000,
  });

describe("generated lists", () => {
  test("a seed gives the same list again, and another seed another list", () => {
    expect(generate(7)).toEqual(generate(7));
    expect(generate(7)).not.toEqual(generate(8));
  });

  test("each list has the wanted length, and begins with the supported table", () => {
    for (let seed = 0; seed < 200; seed += 1) {
      const { operations } = generate(seed);
      expect(operations).toHaveLength(SEQUENCE_LENGTH);
      expect(operations[0]).toEqual({ call: "setCpuid2", vcpu: 0, base: "supported", edits: [] });
    }
  });

  test("eight seeds have the eight kinds of VM", () => {
    const kinds = Array.from({ length: 8 }, (_, seed) => JSON.stringify(generate(seed).vm));
    expect(new Set(kinds).size).toBe(8);
  });

  test("each call and each edit occurs, and often with an update that is pending", () => {
    const { reach } = explore({
      subject: modelSubject(modelOf()),
      model: modelOf(),
      supported: SUPPORTED,
      seed: 1,
      steps: 5000,
    });
    const count = (...words: readonly string[]): number =>
      Object.entries(reach)
        .filter(([key]) => words.every((word) => key.includes(word)))
        .reduce((sum, [, steps]) => sum + steps, 0);
    for (const call of ["setCpuid2", "setCpuid", "getCpuid2", "run", "guestCpuid", "cr4"]) {
      expect(count(`${call} (`)).toBeGreaterThan(50);
    }
    expect(count("setCpuid2", "frozen, pending", "ok")).toBeGreaterThan(50);
    expect(count("setCpuid2", "frozen, pending", "EINVAL")).toBeGreaterThan(50);
    const edits = new Set<string>();
    for (let seed = 0; seed < 400; seed += 1) {
      for (const operation of generate(seed).operations) {
        if ("edits" in operation) for (const [name] of operation.edits) edits.add(name);
      }
    }
    expect(edits.size).toBe(19);
  });

  test("a weight of 0 is never chosen, and only such weights are an error", () => {
    const random = randomFrom(1);
    const names = Array.from({ length: 100 }, () => weighted(random, { a: 1, b: 0 }));
    expect(new Set(names)).toEqual(new Set(["a"]));
    expect(() => weighted(random, { a: 0 })).toThrow(RangeError);
  });
});

describe("the text of a list", () => {
  test("the parser reads each generated list back", () => {
    for (let seed = 0; seed < 100; seed += 1) {
      expect(parseSequence(formatSequence(generate(seed)))).toEqual(generate(seed));
    }
  });

  const list = (operation: unknown, vm: unknown = {}): string =>
    JSON.stringify({ vm, operations: [operation] });

  test.each([
    ["no", "the text is not JSON"],
    ["[]", "expected an object, got an array"],
    ["{}", "operations: expected a list with at least one operation"],
    [list(1), "operation 1: unknown call undefined"],
    [list({ call: "constructor" }), 'unknown call "constructor"'],
    [list({ call: "setCpuid3" }), 'did you mean "setCpuid2"?'],
    [list({ call: "run", vcpu: 2, how: "io" }), "vcpu: expected an integer from 0 to 1, got 2"],
    [list({ call: "run", vcpu: 0, how: "away" }), "how: expected one of io,"],
    [list({ call: "run", vcpu: 0, how: "io", more: 1 }), "unknown member more"],
    [list({ call: "xcr0", vcpu: 0, value: 7 }), 'expected hexadecimal text such as "0x7", got 7'],
    [list({ call: "setCpuid2", vcpu: 0, base: "none", edits: 1 }), "expected a list of edits"],
    [list({ call: "setCpuid2", vcpu: 0, base: "none", edits: [["togle", 1]] }), "unknown edit"],
    [
      list({ call: "setCpuid2", vcpu: 0, base: "none", edits: [["toggle"]] }),
      "the edit toggle has 1 arguments, got 0",
    ],
    [
      list({ call: "setCpuid2", vcpu: 0, base: "none", edits: [["toggle", "nope"]] }),
      "expected the name of a CPUID field",
    ],
    [
      list({ call: "disableHltExits" }, { irqchip: 1 }),
      "vm: irqchip: expected true or false, got 1",
    ],
    [list({ call: "disableHltExits" }, { hlt: true }), "vm: unknown member hlt"],
  ])("%s is rejected with a reason", (text, reason) => {
    expect(() => parseSequence(text)).toThrow(SequenceError);
    expect(() => parseSequence(text)).toThrow(reason);
  });
});

describe("edits of a table", () => {
  const find = (entries: readonly CpuidEntry2[], fn: number): readonly CpuidEntry2[] =>
    entries.filter((e) => e.function === fn);
  const edited = (...edits: readonly TableEdit[]): readonly CpuidEntry2[] =>
    applyEdits(SUPPORTED, edits);

  test("an edit changes the member that its name describes", () => {
    expect(find(edited(["toggle", "osxsave"]), 1)[0]?.ecx).toBe((0x76fab203 ^ (1 << 27)) >>> 0);
    expect(find(edited(["drop", 7, 0]), 7)).toEqual([]);
    expect(edited(["dropAt", 0])).toHaveLength(SUPPORTED.length - 1);
    expect(find(edited(["duplicate", 7, 0, "end"]), 7)).toHaveLength(2);
    expect(edited(["duplicate", 7, 0, "end"]).at(-1)?.function).toBe(7);
    expect(find(edited(["flagIndex", 1, 0, 5]), 1)[0]).toMatchObject({ index: 5, flags: 1 });
    expect(find(edited(["width", 47]), 0x8000_0008)[0]?.eax).toBe(0x2f28);
    expect(find(edited(["physicalBits", 31]), 0x8000_0008)[0]?.eax).toBe(0x391f);
    expect(find(edited(["unhalt", 0]), 0x4000_0001)[0]?.eax).toBe(0x01007a7b);
    expect(find(edited(["moveKvm", 0x4000_0100]), 0x4000_0101)).toHaveLength(1);
    expect(edited(["fill", 257])).toHaveLength(257);
  });

  test("an edit of a missing entry changes nothing", () => {
    for (const edit of [
      ["drop", 99, 0],
      ["index", 99, 0, 1],
      ["swap", 99, 0, 1],
    ] as const) {
      expect(edited(edit)).toEqual(SUPPORTED);
    }
    expect(
      applyEdits(
        [],
        [
          ["flip", 3, "eax", 1],
          ["dropAt", 3],
          ["padding", 1, 1, 1],
        ],
      ),
    ).toEqual([]);
  });

  test("an unindexed leaf is found after an edit of its index", () => {
    const table = edited(["flagIndex", 0x8000_0008, 0, 5], ["width", 47]);
    expect(find(table, 0x8000_0008)[0]?.eax).toBe(0x2f28);
  });
});

describe("the lazy update of 6.15 to 6.18", () => {
  test.each([1, 1000, 7000])(
    "is found within 2,000 steps from seed %i, and shrunk to at most five",
    (seed) => {
      const { finding, steps } = exploreLazy(seed);
      expect(finding?.steps).toBe(steps);
      expect(steps).toBeLessThan(2000);
      expect(finding?.shrunk.operations.length).toBeLessThanOrEqual(5);
    },
  );

  test("is printed as a program that sets the same table twice", () => {
    const { finding } = exploreLazy(1);
    if (finding === undefined) throw new Error("nothing was found");
    const { shrunk, disagreement } = finding;
    const [predicted, observed] = formatAnswers(disagreement.predicted, disagreement.observed);
    const program = toTypeScript(shrunk, modelOf(), SUPPORTED, { predicted, observed });
    expect(program.match(/setCpuid2\(supported\)/g)).toHaveLength(2);
    expect(program).toContain("// the model predicts ok; KVM answered EINVAL");
    expect(program).toContain("kvm.explain = false;");
  });

  test("is the only difference of a kernel with its row", () => {
    const { finding } = explore({
      subject: modelSubject(modelOf(...OLD_KERNELS["6.17"])),
      model: modelOf(...OLD_KERNELS["6.17"]),
      supported: SUPPORTED,
      seed: 1,
      steps: 2000,
    });
    expect(finding).toBeUndefined();
  });
});

describe("shrinking", () => {
  const GET = { call: "getCpuid2", vcpu: 0, room: "all" } as const;
  const RUN = { call: "run", vcpu: 1, how: "internalError" } as const;
  const long: Sequence = {
    vm: { ...PLAIN, irqchip: true },
    operations: [
      ...Array.from({ length: 20 }, () => GET),
      RUN,
      ...Array.from({ length: 9 }, () => GET),
    ],
  };

  test("removes all operations that a failure does not need, and simplifies the rest", () => {
    const hasRun = ({ operations }: Sequence): boolean =>
      operations.some(({ call }) => call === "run");
    const { sequence, tries } = shrink(long, hasRun);
    expect(sequence).toEqual({ vm: PLAIN, operations: [{ call: "run", vcpu: 0, how: "io" }] });
    expect(tries).toBeLessThan(60);
  });

  test("keeps the list if no shorter one fails", () => {
    expect(shrink(long, () => false).sequence).toEqual(long);
  });

  test("begins no replay after its time", () => {
    expect(shrink(long, () => true, 0)).toEqual({ sequence: long, tries: 0 });
  });
});

test("two tables that differ are worded by their differences", () => {
  const [first = SUPPORTED[0], ...rest] = SUPPORTED;
  const a = { kind: "table", nent: 18, entries: SUPPORTED } as const;
  const b = { ...a, entries: [{ ...(first as CpuidEntry2), eax: 1, padding: [0, 0, 9] }, ...rest] };
  expect(formatAnswers(a, b)).toEqual([
    "0x0.0 eax 0xd, padding 0x0 0x0 0x0",
    "0x0.0 eax 0x1, padding 0x0 0x0 0x9",
  ]);
});
