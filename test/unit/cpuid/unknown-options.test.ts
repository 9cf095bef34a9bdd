/**
 * Tests of misspelled and inherited names: each function of lib/cpuid that accepts a name or an object rejects them.
 */
import { describe, expect, test } from "vitest";
import {
  applyMask,
  type CpuidEntry2Input,
  type CpuidFieldValuesInput,
  type CpuidSpace,
  CpuidTable,
  checkCpuid,
  compare,
  cpuid,
  diff,
  entry,
  findField,
  findModel,
  formatChange,
  formatCpuid,
  formatDifference,
  formatLint,
  formatLintAnnotations,
  formatLintSarif,
  fromSupported,
  importQemuModel,
  lint,
  needs,
  portable,
  printDiff,
  printTable,
  query,
  readCpuid,
  resolveFeatures,
  withCaches,
  withHypervisors,
  withTopology,
  withXsave,
} from "../../../lib/cpuid/index.ts";

const table = CpuidTable.from([{ function: 0, eax: 7 }, { function: 1 }]);
const changes = diff(table, table.replace(0, { eax: 6 }));
const typo = (name: string): CpuidEntry2Input => ({ function: 1, [name]: 1 });
const phrase = { before: "was", after: "is", aftr: "is" };
const json = table.toJSON();
const mask = { mask: [], unlisted: "keep", capabilities: [] } as const;
const decoder = { decode: () => [] };
const cache = { level: 1, type: "data", size: 32768, ways: 8 } as const;

test.each([
  [
    "fromSupported({ id })",
    () => fromSupported(table, { id: 1 } as object),
    'fromSupported(): unknown option "id"; known are apicId',
  ],
  [
    "fromSupported({ apicID })",
    () => fromSupported(table, { apicID: 1 } as object),
    'fromSupported(): unknown option "apicID"; did you mean "apicId"?',
  ],
  [
    "checkCpuid({ idd })",
    () => checkCpuid(table, { idd: 1 } as object),
    'checkCpuid(): unknown option "idd"; did you mean "id"?',
  ],
  [
    "lint({ profil })",
    () => lint(table, { profil: "cpu" } as object),
    'lint(): unknown option "profil"; did you mean "profile"?',
  ],
  [
    "lint({ profile: 'gest' })",
    () => lint(table, { profile: "gest" as "guest" }),
    'lint(): unknown profile "gest"; did you mean "guest"?',
  ],
  [
    "lint({ vm: { hasKernelApci } })",
    () => lint(table, { vm: { hasKernelApci: true } as object }),
    'lint(): vm: unknown fact "hasKernelApci"; did you mean "hasKernelApic"?',
  ],
  [
    "lint({ vm: { disabledExits: ['halt'] } })",
    () => lint(table, { vm: { disabledExits: ["halt" as "hlt"] } }),
    'lint(): vm.disabledExits: unknown exit "halt"; did you mean "hlt"?',
  ],
  [
    "lint({ ignore: ['S99'] })",
    () => lint(table, { ignore: ["S99"] }),
    'lint(): ignore: unknown rule "S99"',
  ],
  [
    "printTable({ fromat })",
    () => printTable(table, { fromat: "fields" } as object),
    'printTable(): unknown option "fromat"; did you mean "format"?',
  ],
  [
    "printTable({ format: 'feilds' })",
    () => printTable(table, { format: "feilds" as "fields" }),
    'printTable(): format is "raw" or "fields", not "feilds"',
  ],
  [
    "formatChange({ aftr })",
    () => changes.map((change) => formatChange(change, phrase)),
    'formatChange(): unknown member "aftr"; did you mean "after"?',
  ],
  [
    "printDiff({ aftr })",
    () => printDiff([], phrase),
    'printDiff(): unknown member "aftr"; did you mean "after"?',
  ],
  [
    "formatChange({ before })",
    () => changes.map((change) => formatChange(change, { before: "was" } as typeof phrase)),
    "formatChange(): missing member after",
  ],
  [
    "entry({ eex })",
    () => entry(typo("eex")),
    'cpuid entry: unknown member "eex"; did you mean "eax"?',
  ],
  ["CpuidTable.from()", () => CpuidTable.from([typo("leaf")]), 'unknown member "leaf"'],
  ["append()", () => table.append(typo("idnex")), 'did you mean "index"?'],
  ["withEntry()", () => table.withEntry(typo("flag")), 'did you mean "flags"?'],
  ["replace()", () => table.replace(0, { exc: 1 } as object), 'unknown member "exc"'],
  ["map()", () => table.map((e) => ({ ...e, ...typo("ebxx") })), 'did you mean "ebx"?'],
  [
    "with()",
    () => table.with({ max_std_laef: 1 } as CpuidFieldValuesInput),
    'unknown CPUID field "max_std_laef"; did you mean max_std_leaf?',
  ],
  [
    "base()",
    () => table.base("kmv" as CpuidSpace),
    'unknown CPUID space "kmv"; did you mean "kvm"?',
  ],
  ["base('constructor')", () => table.base("constructor" as CpuidSpace), "unknown CPUID space"],
  [
    "diff({ ignroe })",
    () => diff(table, table, { ignroe: [] } as object),
    'diff(): unknown option "ignroe"; did you mean "ignore"?',
  ],
  [
    "query({ cr3 })",
    () => query(table, 0, 0, { cr3: 0n } as object),
    'query(): unknown option "cr3"; did you mean "cr4"?',
  ],
  [
    "query({ xenTsc: { khzz } })",
    () => query(table, 0, 0, { xenTsc: { multiplier: 1, shift: 1, khzz: 1 } as never }),
    'query(): xenTsc: unknown member "khzz"; did you mean "khz"?',
  ],
  [
    "portable({ tcs })",
    () => portable(table, table, { tcs: "scaled" } as object),
    'portable(): unknown option "tcs"; did you mean "tsc"?',
  ],
  [
    "readCpuid({ fromat })",
    () => readCpuid("", { fromat: "json" } as object),
    'readCpuid(): unknown option "fromat"; did you mean "format"?',
  ],
  [
    "formatLint({ flie })",
    () => formatLint(lint(table), { flie: "a" } as object),
    'formatLint(): unknown option "flie"; did you mean "file"?',
  ],
  [
    "formatLintAnnotations({ flie })",
    () => formatLintAnnotations(lint(table), { flie: "a" } as object),
    'formatLintAnnotations(): unknown option "flie"; did you mean "file"?',
  ],
  [
    "formatLintSarif({ flie })",
    () => formatLintSarif(lint(table), { flie: "a" } as object),
    'formatLintSarif(): unknown option "flie"; did you mean "file"?',
  ],
  [
    "needs({ bitnes })",
    () => needs(new Uint8Array(0), table, { decoder, bitnes: 64 } as never),
    'needs(): unknown option "bitnes"; did you mean "bitness"?',
  ],
  [
    "applyMask({ hots })",
    () => applyMask(table, mask, { hots: table } as object),
    'applyMask(): unknown option "hots"; did you mean "host"?',
  ],
  [
    "withXsave({ vender })",
    () => withXsave(table, { vender: "amd" } as object),
    'withXsave(): unknown option "vender"; did you mean "vendor"?',
  ],
  [
    "withTopology({ sockets })",
    () => withTopology(table, { sockets: 2 } as object),
    'withTopology(): unknown member "sockets"',
  ],
  [
    "withCaches({ way })",
    () => withCaches(table, [{ ...cache, way: 1 } as never]),
    'withCaches(): [0]: unknown member "way"; did you mean "ways"?',
  ],
  [
    "CpuidBuilder.features({ dependency })",
    () => cpuid.from(table).features({ dependency: "refuse" } as object),
    'features(): unknown option "dependency"; did you mean "dependencies"?',
  ],
  [
    "CpuidBuilder.signature({ famliy })",
    () => cpuid.from(table).signature({ famliy: 6 } as object),
    'signature(): unknown member "famliy"; did you mean "family"?',
  ],
  [
    "CpuidBuilder.xsave({ vender })",
    () => cpuid.from(table).xsave({ vender: "amd" } as object),
    'unknown option "vender"; did you mean "vendor"?',
  ],
  [
    "fromJSON() of an entry",
    () => CpuidTable.fromJSON({ entries: [{ function: "0x1", eaxx: "0x1" }] }),
    'cpuid table: entry 0: unknown member "eaxx"; did you mean "eax"?',
  ],
  [
    "fromJSON() of a table",
    () => CpuidTable.fromJSON({ ...json, entires: [] }),
    'cpuid table: unknown member "entires"; did you mean "entries"?',
  ],
] as const)("an unknown name is refused in %s", (_, call, message) => {
  expect(call).toThrow(TypeError);
  expect(call).toThrow(message);
});

test.each([null, 5, "raw", []])("%j as the options argument is refused", (options) => {
  expect(() => fromSupported(table, options as object)).toThrow("expected an object");
  expect(() => printTable(table, options as object)).toThrow("expected an object");
  expect(() => checkCpuid(table, options as object)).toThrow("expected an object");
  expect(() => lint(table, options as object)).toThrow("expected an object");
  expect(() => diff(table, table, options as object)).toThrow("expected an object");
  expect(() => query(table, 0, 0, options as object)).toThrow("expected an object");
  expect(() => portable(table, table, options as object)).toThrow("expected an object");
  expect(() => readCpuid("", options as object)).toThrow("expected an object");
  expect(() => applyMask(table, mask, options as object)).toThrow("expected an object");
  expect(() => withXsave(table, options as object)).toThrow("expected an object");
});

describe.each(["__proto__", "constructor", "toString"])("the inherited name %s", (name) => {
  test.each<readonly [string, () => unknown, string]>([
    ["edit", () => cpuid.from(table).features(name as never), 'does not begin with "+" or "-"'],
    ["feature", () => cpuid.from(table).features(`+${name}` as never), "unknown feature"],
    ["field", () => table.get(name as never), "unknown CPUID field"],
    ["field to set", () => table.with(JSON.parse(`{"${name}": 1}`)), "unknown CPUID field"],
    ["field to build", () => cpuid.from(table).set(JSON.parse(`{"${name}": 1}`)), "unknown CPUID"],
    ["option", () => query(table, 0, 0, JSON.parse(`{"${name}": 1}`)), "unknown option"],
    ["profile", () => lint(table, { profile: name as never }), "unknown profile"],
    ["ignored rule", () => lint(table, { ignore: [name as never] }), "unknown rule"],
    ["ignored difference", () => diff(table, table, { ignore: [name as never] }), `"${name}"`],
    ["format to read", () => readCpuid("", { format: name as never }), "unknown format"],
    ["format to write", () => formatCpuid(table, name as never), "unknown format"],
    ["model", () => findModel(name), "unknown CPU model"],
    ["hypervisor", () => withHypervisors(table, [name as never]), "unknown hypervisor"],
    ["cache type", () => withCaches(table, [{ ...cache, type: name as never }]), "expected one of"],
    ["source of names", () => findField("avx2", name as never), "unknown"],
    [
      "sharing",
      () => withCaches(table, [{ ...cache, sharedBy: name as never }]),
      "sharedBy: expected",
    ],
    [
      "register of a mask",
      () =>
        applyMask(table, {
          ...mask,
          mask: [{ function: 0, register: name as never, mask: 1, value: 1 } as never],
        }),
      "register",
    ],
    [
      "word of a difference",
      () =>
        compare(table, table.replace(0, { eax: 6 })).reasons.map((difference) =>
          formatDifference({ ...difference, more: name as never }),
        ),
      "more: unknown word",
    ],
  ])("is refused as %s", (_, call, message) => {
    expect(call).toThrow(message);
  });

  test("in a list of features is an unknown name", () => {
    const { on, unknown } = resolveFeatures({ on: [name], off: [] });
    expect({ on, unknown: unknown.map((one) => one.name) }).toEqual({ on: [], unknown: [name] });
  });

  test("in the instruction sets of a decoder is unknown to needs()", () => {
    const instruction = { ip: 0n, mnemonic: name, features: [name] };
    const result = needs(new Uint8Array(1), table, { decoder: { decode: () => [instruction] } });
    expect(result).toMatchObject({ needs: [], unknown: [name] });
  });

  test.each([
    ["json", `{"entries": [{"function": "0x1", "${name}": "0x1"}]}`],
    ["libcpuid", `basic_cpuid[0]=0000000d 756e6547 6c65746e 49656e69\n${name}[0]=0 0 0 0\n`],
  ] as const)(
    "as a member in a file of the format %s causes a fault that contains the name",
    (format, text) => {
      const { problems } = readCpuid(text, { format });
      expect(problems.map(({ message }) => message)).toEqual([expect.stringContaining(name)]);
    },
  );

  test("as a property in QEMU's response has no effect", () => {
    const text = `{"return": {"model": {"name": "base", "props": {"${name}": true}}}}`;
    expect(() => importQemuModel(text)).toThrow(SyntaxError);
  });

  test("as the vendor of a table is a vendor without special rules", () => {
    const words = new Uint32Array(new TextEncoder().encode(name.padEnd(12, "\0")).buffer);
    const [ebx = 0, edx = 0, ecx = 0] = words;
    const { judged } = lint(table.replace(0, { ebx, ecx, edx }));
    expect(judged).toEqual(lint(table.replace(0, { ebx: 1 })).judged);
  });
});

test("an undefined option has the same effect as an omitted option", () => {
  const options = { apicId: undefined } as object;
  expect(fromSupported(table, options).equals(fromSupported(table))).toBe(true);
});
