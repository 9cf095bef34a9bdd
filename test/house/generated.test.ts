/**
 * Tests that the generated ABI is up to date with its facts, and that these facts agree with a compiler and the
 * kernel's headers.
 */

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, type TestContext, test } from "vitest";
import { IOCTLS } from "../../lib/abi/generated/ioctls.ts";
import * as structs from "../../lib/abi/generated/structs.ts";
import { type Layout, offsetOf } from "../../lib/abi/struct.ts";

interface CField {
  readonly name: string;
  readonly dims?: readonly number[];
  readonly bits?: readonly number[];
  readonly fields?: readonly CField[];
}
interface Facts {
  readonly constants: Readonly<Record<string, string>>;
  readonly structs: Readonly<Record<string, { readonly fields: readonly CField[] }>>;
}

const project = join(import.meta.dirname, "..", "..");
const factsFile = "gen/facts/kvm-abi.json";
const generatedFiles = [
  "lib/abi/generated/constants.ts",
  "lib/abi/generated/names.ts",
  "lib/abi/generated/frequent.ts",
  "lib/abi/generated/ioctls.ts",
  "lib/abi/generated/structs.ts",
  "native/generated/ioctl_shapes.h",
];
const committed = (file: string): string => readFileSync(join(project, file), "utf8");
const facts = JSON.parse(committed(factsFile)) as Facts;

/**
 * Maps the kernel's names of hardware exits to their numbers; test/unit/explain/exit-names.test.ts compares the numbers
 * of this package with the kernel's numbers.
 */
interface ExitFacts {
  readonly codes: Readonly<Record<"svm" | "vmx", Readonly<Record<string, number>>>>;
}

const { NODE_KVM_UAPI } = process.env;
const headers = NODE_KVM_UAPI ?? join(project, "../shared/data/uapi-7.2");
const has = (program: string): boolean => spawnSync(program, ["--version"]).status === 0;
const missing = [
  ...(existsSync(headers) ? [] : ["Linux 7.2 UAPI headers (NODE_KVM_UAPI names them)"]),
  ...["gcc", "gdb"].filter((program) => !has(program)),
];

/** Skips a test on a machine without a compiler. */
function requireHeaders({ skip }: TestContext): void {
  skip(missing.length > 0, `missing here: ${missing.join(", ")}`);
}

/**
 * For every field with an offset, pairs the field's path in C with its path in this package. C defines no offset for a
 * bit field.
 */
function paths(
  fields: readonly CField[],
  c = "",
  ours = "",
): readonly (readonly [string, string])[] {
  return fields
    .filter(({ bits }) => bits === undefined)
    .flatMap(({ name, dims = [], fields: inner = [] }) => {
      const camel = name.replace(/_+([a-z0-9])/g, (_, next: string) => next.toUpperCase());
      const first = dims.map(() => "[0]").join("");
      const isFlexible = dims[0] === 0;
      const deeper = isFlexible
        ? []
        : paths(inner, `${c}${name}${first}.`, `${ours}${camel}${first}.`);
      return [[c + name, ours + camel] as const, ...deeper];
    });
}

/**
 * The bytes after the header of kvm_nested_state are one tail in this package's layout, and a union of two flexible
 * arrays in C.
 */
const isOnlyInC = (path: string): boolean => /^data\.(vmx|svm)$/.test(path);

function structAssertions(layout: Layout): readonly string[] {
  const name = `struct ${layout.name}`;
  const fields = paths(facts.structs[layout.name]?.fields ?? []).filter(([c]) => !isOnlyInC(c));
  return [
    `_Static_assert(sizeof(${name}) == ${layout.size}, "");`,
    ...fields.map(
      ([c, ours]) =>
        `_Static_assert(__builtin_offsetof(${name}, ${c}) == ${offsetOf(layout, ours)}, "");`,
    ),
  ];
}

function assertions(): readonly string[] {
  const layouts: readonly Layout[] = Object.values(structs);
  const whole = layouts.filter(({ name }) => name in facts.structs);
  return [
    ...whole.flatMap(structAssertions),
    ...IOCTLS.map(({ name, request }) => `_Static_assert(${name} == ${request}u, "");`),
    ...Object.entries(facts.constants).map(
      ([name, value]) =>
        `_Static_assert((${name}) == ${value}${Number(value) < 0 ? "" : "u"}, "");`,
    ),
  ];
}

function compile(lines: readonly string[]): {
  readonly status: number | null;
  readonly errors: string;
} {
  const includes = ["#include <linux/kvm.h>", "#include <linux/kvm_para.h>"];
  const args = ["-x", "c", "-std=gnu11", "-nostdinc", "-I", headers, "-fsyntax-only", "-"];
  const { status, stderr } = spawnSync("gcc", args, {
    input: [...includes, ...lines, ""].join("\n"),
    encoding: "utf8",
  });
  return { status, errors: stderr };
}

describe("the generated files of the kernel's ABI", () => {
  const out = mkdtempSync(join(tmpdir(), "generated-"));
  beforeAll(() => {
    execFileSync(process.execPath, [join(project, "gen/abi.js"), "--out", out]);
  });
  afterAll(() => rmSync(out, { recursive: true }));

  test.each(generatedFiles)("are up to date with the facts: %s", (file) => {
    expect(readFileSync(join(out, file), "utf8")).toBe(committed(file));
  });
});

describe("the facts about the kernel's headers", () => {
  test("agree with a compiler about every size, offset, request number and constant", (context) => {
    requireHeaders(context);
    expect(compile(assertions())).toEqual({ status: 0, errors: "" });
  });

  test.for([
    '_Static_assert(__builtin_offsetof(struct kvm_sregs, apic_base) == 280, "");',
    '_Static_assert(sizeof(struct kvm_cpuid2) == 12, "");',
    '_Static_assert(KVM_GET_SUPPORTED_CPUID == 0xc00cae05, "");',
  ])("do not compile if they contain %s", (planted, context) => {
    requireHeaders(context);
    const { status, errors } = compile([...assertions(), planted]);
    expect(status).toBe(1);
    expect(errors.match(/static assertion failed/g)).toHaveLength(1);
  });

  test.for([
    ["svm", "asm/svm.h", /^#define\s+SVM_EXIT_(\w+)\s+(0x[0-9a-f]+|\d+)$/gm],
    ["vmx", "asm/vmx.h", /^#define\s+EXIT_REASON_(\w+)\s+(0x[0-9a-f]+|\d+)$/gm],
  ] as const)("have the same exits for %s as for %s", ([key, header, pattern], context) => {
    requireHeaders(context);
    const { codes } = JSON.parse(committed("gen/facts/exit-codes.json")) as ExitFacts;
    const defined = readFileSync(join(headers, header), "utf8").matchAll(pattern);
    const found = Array.from(defined, ([, name, code]) => [name, Number(code)] as const);
    expect(Object.entries(codes[key])).toEqual(found);
  });

  test("are the same after the generator extracts them again", (context) => {
    requireHeaders(context);
    const out = mkdtempSync(join(tmpdir(), "extracted-"));
    context.onTestFinished(() => rmSync(out, { recursive: true }));
    execFileSync(process.execPath, [
      join(project, "gen/abi.js"),
      "--headers",
      headers,
      "--out",
      out,
    ]);
    expect(readFileSync(join(out, factsFile), "utf8")).toBe(committed(factsFile));
  });
});
