/** Tests of C arrays of struct kvm_cpuid_entry2: forms of initialisers, values, and faults. */
import { describe, expect, test } from "vitest";
import { tokensOf } from "../../../../lib/cpuid/formats/c-tokens.ts";
import { CpuidTable, detectFormat, formatCpuid, readCpuid } from "../../../../lib/cpuid/index.ts";
import { readFile, tablesOf } from "./read-table.ts";

const LEAF_7 = "7.1 1 10 2 3 4";
const NAMED =
  "{ .function = 7, .index = 1, .flags = 1, .eax = 0x10, .ebx = 2, .ecx = 3, .edx = 4 }";
const array = (entries: string): string => `struct kvm_cpuid_entry2 t[] = {\n${entries}\n};\n`;

describe("a C array of struct kvm_cpuid_entry2", () => {
  test.each([
    ["an array with the names of members", array(NAMED)],
    ["an array with a comma at the end", array(`${NAMED},`)],
    ["positions", array("{ 7, 1, 1, 0x10, 2, 3, 4 }")],
    ["positions and padding", array("{ 7, 1, 1, 16, 2, 3, 4, { 0, 0, 0 } }")],
    [
      "names in another order",
      array("{ .edx=4,.ecx=3,.ebx=2,.eax=16,.flags=1,.index=1,.function=7 }"),
    ],
    [
      "names in the old form",
      array("{ function: 7, index: 1, flags: 1, eax: 16, ebx: 2, ecx: 3, edx: 4 }"),
    ],
    ["designators", array(`[0] = ${NAMED}`)],
    ["casts", array(`(struct kvm_cpuid_entry2)${NAMED}`)],
    ["suffixes and octal numbers", array("{ 07, 1U, 1ul, 020, 2ULL, 0x3l, 4 }")],
    [
      "a flag by name",
      array(NAMED.replace(".flags = 1", ".flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX")),
    ],
    ["shifts and combinations", array("{ 7, 1, (1 << 0), (1 << 4) | 0, 1<<1, 1|2, 4 }")],
    ["comments", array(`/* leaf { 7 */ ${NAMED} // , { 1 }`)],
    ["a line of the preprocessor above", `#define N 1\n${array(NAMED)}`],
    ["other code around it", `int f(void) { return 1; }\n${array(NAMED)}int n = 2;\n`],
    [
      "struct kvm_cpuid2",
      `struct { struct kvm_cpuid2 h; } x;\nstruct kvm_cpuid2 c = { .nent = 1, .entries = { ${NAMED} } };`,
    ],
    ["a single struct", `const struct kvm_cpuid_entry2 leaf7 = ${NAMED};`],
    ["braces alone", `{ ${NAMED} }`],
  ])("is read with %s", (_, text) => {
    expect(tablesOf(text, "c")).toEqual([[LEAF_7]]);
  });

  test("has the value 0 for members that are not named", () => {
    expect(tablesOf(array("{ .function = 0x1 },"), "c")).toEqual([["1.0 0 0 0 0 0"]]);
  });

  test("has the CPU number from the array's name, and gives one table per array", () => {
    const two = [3, 12].map((cpu) => array(NAMED).replace("t[]", `table_cpu${cpu}[]`));
    expect(readFile(two.join("\n"))).toMatchObject({ cpus: [3, 12], tables: [[LEAF_7], [LEAF_7]] });
  });

  test.each([
    [
      "an unknown member",
      "{ .function = 7, .edi = 1 }",
      'unknown member "edi"; did you mean "edx"?',
    ],
    ["a member that occurs twice", "{ .eax = 7, .eax = 1 }", "the member eax occurs twice"],
    ["a value of 33 bits", "{ 0x100000000 }", "0x100000000 does not fit 32 bits"],
    ["a value that is no integer", "{ 1.5 }", 'expected "," or "}", found "."'],
    ["a name that is no constant", "{ .eax = FOO }", 'expected a number, found "FOO"'],
    ["a shift by 32 bits", "{ .eax = 1 << 32 }", "a shift by more than 31 bits"],
    [
      "more values than members",
      "{ 1, 2, 3, 4, 5, 6, 7, {0}, 9 }",
      "more values than an entry has members",
    ],
    ["padding of four words", "{ .padding = { 1, 2, 3, 4 } }", "the padding has more than 3 words"],
    ["padding without braces", "{ .padding = 1 }", "the padding needs braces"],
    ["an octal number with 9", "{ .eax = 09 }", 'expected a number, found "09"'],
  ])("drops an entry with %s, and keeps the next entry", (_, entry, message) => {
    const read = readFile(array(`${entry},\n${NAMED}`), "c");
    expect(read).toMatchObject({ tables: [[LEAF_7]], problems: [`2: ${message}`] });
  });

  test.each([
    ["a gap", `[1] = ${NAMED}`, "2: element 1 is at position 0; gaps are not read"],
    ["a comment without an end", `${NAMED} /* }`, "2: the comment has no end"],
    ["deeper braces", "{ { { { 7 } } } }", "2: braces nested more than 3 deep"],
  ])("with %s has a fault with a line number", (_, entry, message) => {
    expect(readFile(array(entry), "c").problems).toContain(message);
  });

  test("is cut off at the end of the file: the complete entries are kept, and a fault is reported", () => {
    const text = `struct kvm_cpuid_entry2 t[] = { ${NAMED}, { .function = 8, .eax`;
    const read = readFile(text, "c");
    expect(read.tables).toEqual([[LEAF_7]]);
    expect(read.problems).toEqual([
      expect.stringMatching(/^1: the file ends, and "=" is missing$/),
    ]);
  });

  test("of 2 million comments is read, in a time in proportion to its size", () => {
    const read = readFile(`${"/**/".repeat(2_000_000)}${array(NAMED)}`, "c");
    expect(read.tables).toEqual([[LEAF_7]]);
  });

  test("without a closing brace is read up to the 200,000th token after the fault", () => {
    const read = readFile(`struct kvm_cpuid_entry2 t[] = {\n${":\n".repeat(300_000)}`, "c");
    expect(read.problems[0]).toMatch(/^2: expected /);
    expect(read.notes).toEqual(["the file has long faulty parts, and is read up to line 200002"]);
  });

  test("with a run of characters that C does not have has one fault for the run", () => {
    expect([...tokensOf("\0".repeat(1000))].map(({ kind }) => kind)).toEqual(["fault", "end"]);
  });

  test.each([["wrong entries", "{ x },\n", "102"]])(
    "of 300 %s is read up to the first fault above 100",
    (_, line, last) => {
      const read = readFile(`struct kvm_cpuid_entry2 t[] = {\n${line.repeat(300)}};\n`, "c");
      expect(read.notes).toEqual([`the file has many faults, and is read up to line ${last}`]);
      expect(read.problems).toHaveLength(101);
      expect(read.problems.at(-1)).toBe("0: and at least 1 more fault");
    },
  );

  test("has a fault if `nent` differs from the number of entries", () => {
    const text = `struct kvm_cpuid2 c = { .nent = 2, .entries = { ${NAMED} } };`;
    expect(readFile(text, "c").problems).toEqual(["1: nent is 2, and the array has 1 entries"]);
  });

  test("is detected, and is written with an entry's padding only if the padding is not 0", () => {
    const table = CpuidTable.from([
      { function: 7, eax: 1 },
      { function: 1, padding: [1, 0, 3] },
    ]);
    const written = formatCpuid(table, "c");
    expect(detectFormat(written)?.name).toBe("c");
    expect(new TextDecoder().decode(written)).toBe(
      [
        "static const struct kvm_cpuid_entry2 cpuid_entries[] = {",
        "\t{ .function = 0x00000007, .index = 0, .flags = 0, .eax = 0x00000001, .ebx = 0x00000000, .ecx = 0x00000000, .edx = 0x00000000 },",
        "\t{ .function = 0x00000001, .index = 0, .flags = 0, .eax = 0x00000000, .ebx = 0x00000000, .ecx = 0x00000000, .edx = 0x00000000, .padding = { 1, 0, 3 } },",
        "};",
        "",
      ].join("\n"),
    );
    expect(readCpuid(written)).toMatchObject({ problems: [], tables: [{ isComplete: false }] });
  });
});
