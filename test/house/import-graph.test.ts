/**
 * Tests of the import graph of lib/: the imports between its folders, the longest chain of imports in lib/kvm, and the
 * base classes of Vcpu and Vm.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, posix, relative } from "node:path";
import ts from "typescript";
import { describe, expect, test } from "vitest";
import { Handle, Kvm, Vcpu, Vm } from "../../lib/index.ts";

const LIB = join(import.meta.dirname, "..", "..", "lib");

/** The imports of a file that are in lib/, as paths relative to lib/. */
interface Imports {
  /** All imports, including type imports. */
  readonly all: readonly string[];
  /** The imports that exist at run time. */
  readonly values: readonly string[];
}

type Graph = ReadonlyMap<string, readonly string[]>;

/** Reads the import and export declarations of a file. */
function importsOf(file: string, text: string): Imports {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ESNext, true);
  const found = source.statements.flatMap((statement) => {
    const isImport = ts.isImportDeclaration(statement);
    if (!isImport && !ts.isExportDeclaration(statement)) return [];
    const { moduleSpecifier } = statement;
    if (moduleSpecifier === undefined || !ts.isStringLiteral(moduleSpecifier)) return [];
    if (!moduleSpecifier.text.startsWith(".")) return [];
    const target = posix.join(posix.dirname(file), moduleSpecifier.text);
    const isType = isImport
      ? statement.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword
      : statement.isTypeOnly;
    return [{ target, isType }];
  });
  return {
    all: found.map(({ target }) => target),
    values: found.filter(({ isType }) => !isType).map(({ target }) => target),
  };
}

const files = readdirSync(LIB, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
  .map((entry) => relative(LIB, join(entry.parentPath, entry.name)))
  .toSorted((a, b) => (a < b ? -1 : 1));
const imports = files.map(
  (file) => [file, importsOf(file, readFileSync(join(LIB, file), "utf8"))] as const,
);
const all: Graph = new Map(imports.map(([file, found]) => [file, found.all]));
const values: Graph = new Map(imports.map(([file, found]) => [file, found.values]));

const room = (file: string): string => file.split("/")[0] ?? "";

/** Returns the longest path that starts at a file; the graph must have no cycle. */
function longestFrom(graph: Graph, start: string, known = new Map<string, readonly string[]>()) {
  const found = known.get(start);
  if (found !== undefined) return found;
  let longest: readonly string[] = [];
  for (const target of graph.get(start) ?? []) {
    const path = longestFrom(graph, target, known);
    if (path.length > longest.length) longest = path;
  }
  const path: readonly string[] = [start, ...longest];
  known.set(start, path);
  return path;
}

/** Returns the files that a file imports, directly or through other files. */
function reached(graph: Graph, start: string): ReadonlySet<string> {
  const seen = new Set<string>();
  const next = [...(graph.get(start) ?? [])];
  for (let file = next.pop(); file !== undefined; file = next.pop()) {
    if (seen.has(file)) continue;
    seen.add(file);
    next.push(...(graph.get(file) ?? []));
  }
  return seen;
}

/** Returns the files that import themselves through other files: the nodes of all cycles. */
function inCircles(graph: Graph): readonly string[] {
  return Array.from(graph.keys()).filter((file) => reached(graph, file).has(file));
}

/** Returns the part of a graph inside one folder of lib/. */
function within(graph: Graph, name: string): Graph {
  const inside = Array.from(graph).filter(([file]) => room(file) === name);
  return new Map(
    inside.map(([file, targets]) => [file, targets.filter((target) => room(target) === name)]),
  );
}

function longestPath(graph: Graph): readonly string[] {
  const known = new Map<string, readonly string[]>();
  const paths = Array.from(graph.keys(), (file) => longestFrom(graph, file, known));
  return paths.reduce((best, path) => (path.length > best.length ? path : best), []);
}

/** Returns the names of the base classes of a class. */
function classesAbove(made: { readonly prototype: object }): readonly string[] {
  const above: string[] = [];
  let at: unknown = Object.getPrototypeOf(made);
  while (typeof at === "function" && at !== Function.prototype) {
    above.push(at.name);
    at = Object.getPrototypeOf(at);
  }
  return above;
}

test("the import graph between the folders of lib/, and the longest import chain in lib/kvm, are as expected", () => {
  const rooms = Array.from(new Set(files.map(room)));
  const lines = rooms.map((name) => {
    const targets = files
      .filter((file) => room(file) === name)
      .flatMap((file) => (all.get(file) ?? []).map(room))
      .filter((target) => target !== name);
    return `${name} -> ${Array.from(new Set(targets)).join(" ")}`;
  });
  const chain = longestPath(within(values, "kvm"));
  console.info([...lines, `${chain.length} files: ${chain.join(" > ")}`].join("\n"));
  expect(rooms).toContain("kvm");
  expect(chain.at(0)).toBe("kvm/kvm.ts");
});

test("no file imports itself through other files, except for types of the parent handle", () => {
  expect(inCircles(values)).toEqual([]);
  // A vCPU has a property of type Vm, and a VM has a property of type Kvm.
  expect(inCircles(within(all, "kvm"))).toEqual(["kvm/kvm.ts", "kvm/vcpu.ts", "kvm/vm.ts"]);
});

test("the handles do not load the model of the oracle, which only the explorer uses", () => {
  const needed = Array.from(reached(values, "index.ts"));
  expect(needed).toContain("oracle/set-cpuid2.ts");
  expect(
    needed.filter((file) => /^(oracle\/lifecycle|explore|suite|lab|guest)\//.test(file)),
  ).toEqual([]);
});

describe("a class of handles has exactly two base classes", () => {
  test.each([
    [Vcpu, "VcpuIoctls"],
    [Vm, "VmIoctls"],
    [Kvm, "KvmIoctls"],
  ])("%o: the generated base class and Handle", (made, base) => {
    expect(classesAbove(made)).toEqual([base, Handle.name]);
  });
});

describe("the test of the import graph", () => {
  test("finds a planted cycle of two files, one of which has only a type import", () => {
    const text = 'import type { B } from "./b.ts";\n';
    const graph = new Map([
      ["kvm/a.ts", importsOf("kvm/a.ts", text).all],
      ["kvm/b.ts", importsOf("kvm/b.ts", 'export { A } from "./a.ts";').values],
      ["kvm/c.ts", ["kvm/a.ts"]],
    ]);
    expect(inCircles(graph)).toEqual(["kvm/a.ts", "kvm/b.ts"]);
    expect(importsOf("kvm/a.ts", text).values).toEqual([]);
  });

  test("finds a planted class between the generated base class and a handle", () => {
    class Between extends Vcpu {}
    class Below extends Between {}
    expect(classesAbove(Below)).toEqual(["Between", "Vcpu", "VcpuIoctls", "Handle"]);
  });
});
