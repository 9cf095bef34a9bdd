/** Tests that docs/errors.md agrees with the code about every StateError code and every errno in a docstring. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { STATE_ERRORS } from "../../lib/errors.ts";
import { everyRule } from "../../lib/explain/index.ts";
import { LAB_ERRORS } from "../../lib/lab/error.ts";

const PROJECT = join(import.meta.dirname, "..", "..");
const KVM = join(PROJECT, "lib", "kvm");
const doc = readFileSync(join(PROJECT, "docs", "errors.md"), "utf8");

const unique = (all: Iterable<string>): readonly string[] => Array.from(new Set(all));

/** Returns the cells of every row of the tables in the document. */
const rows = doc
  .split("\n")
  .filter((line) => line.startsWith("| `"))
  .map((line) => line.split("|").map((cell) => cell.trim()));

const errnosIn = (text: string): readonly string[] =>
  Array.from(text.matchAll(/`(E[A-Z0-9]+)`/g), ([, name = ""]) => name);

/** Returns `KVM_X EINVAL` for each errno of each ioctl in the docstrings. */
function promised(source: string): readonly string[] {
  return source.split("/**").flatMap((chunk) => {
    const [card = ""] = chunk.split("*/");
    const ioctl = /@ioctl (KVM_\w+)/.exec(card)?.[1];
    const throws = card.split("@throws {@link KvmError}").slice(1).join(" ");
    return ioctl === undefined ? [] : errnosIn(throws).map((errno) => `${ioctl} ${errno}`);
  });
}

const sources = readdirSync(KVM, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => readFileSync(join(entry.parentPath, entry.name), "utf8"));
const listed = rows.flatMap(([, call = "", errnos = ""]) =>
  errnosIn(errnos).map((errno) => `${call.replaceAll("`", "")} ${errno}`),
);

/** All error codes of this package, with their meanings. */
const OWN_ERRORS: Readonly<Record<string, string>> = { ...STATE_ERRORS, ...LAB_ERRORS };

describe("docs/errors.md", () => {
  test("lists every code of StateError and LabError, and no other code", () => {
    const inTable = rows
      .map(([, code = ""]) => code.replaceAll("`", ""))
      .filter((code) => /^ERR_/.test(code));
    expect(new Set(inTable)).toEqual(new Set(Object.keys(OWN_ERRORS)));
    expect(inTable).toHaveLength(Object.keys(OWN_ERRORS).length);
    const named = Array.from(doc.matchAll(/\bERR_[A-Z_]+\b/g), ([code]) => code);
    expect(new Set(named)).toEqual(new Set(Object.keys(OWN_ERRORS)));
  });

  test("gives each code the same meaning as the source", () => {
    const meanings = Object.values(OWN_ERRORS).map((meaning) => meaning.replace("the handle ", ""));
    expect(meanings.filter((meaning) => !doc.includes(meaning))).toEqual([]);
  });

  test("gives a remedy for each code", () => {
    const codes = rows.filter(([, code = ""]) => code.startsWith("`ERR_"));
    expect(codes.filter(([, , , remedy = ""]) => remedy.length < 10)).toEqual([]);
  });

  test("lists every errno in the docstring of an ioctl's method", () => {
    const all = unique(sources.flatMap(promised));
    expect(all.length).toBeGreaterThan(10);
    expect(all.filter((one) => !listed.includes(one))).toEqual([]);
  });

  test("lists every errno that has a rule in lib/explain", () => {
    const ruled = everyRule()
      .filter(([call]) => call !== "any call")
      .map(([call, errno]) => `${call} ${errno}`);
    expect(unique(ruled).filter((one) => !listed.includes(one))).toEqual([]);
  });

  test("names only ioctls that the handles have as methods", () => {
    const wrapped = new Set(
      sources.flatMap((text) => Array.from(text.matchAll(/@ioctl (KVM_\w+)/g), ([, name]) => name)),
    );
    const named = unique(rows.flatMap(([, call = ""]) => /^`(KVM_\w+)`$/.exec(call)?.[1] ?? []));
    expect(named.filter((name) => !wrapped.has(name))).toEqual([]);
  });
});

test("the parser of docstrings finds the errnos of a planted docstring", () => {
  const card =
    "/**\n * Does.\n *\n * @ioctl KVM_X (vm)\n * @throws {@link KvmError} `EPERM` or `E2BIG`.\n */";
  expect(promised(card)).toEqual(["KVM_X EPERM", "KVM_X E2BIG"]);
});
