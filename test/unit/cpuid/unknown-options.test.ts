/** Tests of misspelled names: each function of lib/cpuid that takes an object rejects them. */
import { expect, test } from "vitest";
import {
  type CpuidEntry2Input,
  type CpuidFieldValuesInput,
  type CpuidSpace,
  CpuidTable,
  checkCpuid,
  diff,
  entry,
  formatChange,
  fromSupported,
  lint,
  printDiff,
  printTable,
} from "../../../lib/cpuid/index.ts";

const table = CpuidTable.from([{ function: 0, eax: 7 }, { function: 1 }]);
const changes = diff(table, table.replace(0, { eax: 6 }));
const typo = (name: string): CpuidEntry2Input => ({ function: 1, [name]: 1 });
const phrase = { before: "was", after: "is", aftr: "is" };
const json = table.toJSON();

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
    "fromJSON() of an entry",
    () => CpuidTable.fromJSON({ entries: [{ function: "0x1", eaxx: "0x1" }] }),
    'cpuid table: entry 0: unknown member "eaxx"; did you mean "eax"?',
  ],
  [
    "fromJSON() of a table",
    () => CpuidTable.fromJSON({ ...json, entires: [] }),
    'cpuid table: unknown member "entires"; did you mean "entries"?',
  ],
] as const)("%s is refused by name", (_, call, message) => {
  expect(call).toThrow(TypeError);
  expect(call).toThrow(message);
});

test.each([null, 5, "raw", []])("%j as options is refused", (options) => {
  expect(() => fromSupported(table, options as object)).toThrow("expected an object");
  expect(() => printTable(table, options as object)).toThrow("expected an object");
  expect(() => checkCpuid(table, options as object)).toThrow("expected an object");
  expect(() => lint(table, options as object)).toThrow("expected an object");
});

test("an undefined option is the same as an omitted one", () => {
  const options = { apicId: undefined } as object;
  expect(fromSupported(table, options).equals(fromSupported(table))).toBe(true);
});
