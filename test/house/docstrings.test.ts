/** Tests that every public symbol and every public method of a public class has a doc comment. */
import { join, relative } from "node:path";
import ts from "typescript";
import { describe, expect, test } from "vitest";
import manifest from "../../package.json" with { type: "json" };

const PROJECT = join(import.meta.dirname, "..", "..");
const ENTRIES = Object.values(manifest.exports).flatMap((entry) =>
  typeof entry === "string"
    ? []
    : [join(PROJECT, entry.default.replace("dist", "lib").replace(/\.js$/, ".ts"))],
);

const OPTIONS: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2023,
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  allowImportingTsExtensions: true,
  noEmit: true,
  skipLibCheck: true,
  types: [],
};

const HIDDEN = ts.ModifierFlags.Private | ts.ModifierFlags.Protected;

function isPublicMethod(member: ts.ClassElement): boolean {
  const isMethod = ts.isMethodDeclaration(member) || ts.isAccessor(member);
  const isPrivateName = member.name !== undefined && ts.isPrivateIdentifier(member.name);
  return isMethod && !isPrivateName && (ts.getCombinedModifierFlags(member) & HIDDEN) === 0;
}

class Judge {
  readonly #checker: ts.TypeChecker;
  readonly #program: ts.Program;

  constructor(program: ts.Program) {
    this.#program = program;
    this.#checker = program.getTypeChecker();
  }

  /** Lists the exports of an entry that have no doc comment, as `file: name`. */
  undocumented(entry: string): readonly string[] {
    return this.exports(entry).flatMap((symbol) => [
      ...(this.#isSilent(symbol) ? [this.#place(symbol)] : []),
      ...this.#methods(symbol),
    ]);
  }

  /** Lists the exports of an entry, except generated code. */
  exports(entry: string): readonly ts.Symbol[] {
    const source = this.#program.getSourceFile(entry);
    const module = source && this.#checker.getSymbolAtLocation(source);
    if (module === undefined) throw new Error(`no module ${entry}`);
    return this.#checker
      .getExportsOfModule(module)
      .map((symbol) => this.#resolved(symbol))
      .filter((symbol) => !this.#file(symbol).includes("/generated/"));
  }

  #resolved(symbol: ts.Symbol): ts.Symbol {
    const isAlias = (symbol.flags & ts.SymbolFlags.Alias) !== 0;
    return isAlias ? this.#checker.getAliasedSymbol(symbol) : symbol;
  }

  #isSilent(symbol: ts.Symbol): boolean {
    return symbol.getDocumentationComment(this.#checker).length === 0;
  }

  #file(symbol: ts.Symbol): string {
    return symbol.declarations?.[0]?.getSourceFile().fileName ?? "";
  }

  #place(symbol: ts.Symbol): string {
    return `${relative(PROJECT, this.#file(symbol))}: ${symbol.name}`;
  }

  /** Overloads share one doc comment, and so do the getter and the setter of a property. */
  #methods(symbol: ts.Symbol): readonly string[] {
    const members = (symbol.declarations ?? [])
      .filter(ts.isClassDeclaration)
      .flatMap(({ members }) => members.filter(isPublicMethod));
    const methods = members.flatMap((member) => {
      const method = member.name && this.#checker.getSymbolAtLocation(member.name);
      return method === undefined ? [] : [[method, member.name?.getText() ?? ""] as const];
    });
    return methods
      .filter(([method]) => this.#isSilent(method))
      .map(([, name]) => `${this.#place(symbol)}.${name}`);
  }
}

const judge = new Judge(ts.createProgram(ENTRIES, OPTIONS));

test.each(ENTRIES.map((entry) => [relative(PROJECT, entry), entry] as const))(
  "all exports of %s have docstrings",
  (_, entry) => {
    expect(judge.exports(entry).length).toBeGreaterThan(2);
    expect(Array.from(new Set(judge.undocumented(entry)))).toEqual([]);
  },
);

describe("the check for docstrings finds a planted fault", () => {
  const text = [
    "/** Said. */ export const said = 1;",
    "export const silent = 1;",
    "/** Said. */ export class Said {",
    "  /** Said. */ get said() { return 1; }",
    "  set said(value) {}",
    "  silent() {}",
    "  static silent() {}",
    "  [Symbol.dispose]() {}",
    "  #mine() {}",
    "  private own() {}",
    "}",
  ].join("\n");

  test("in an export and in the export's methods, but not in private members", () => {
    const host = ts.createCompilerHost(OPTIONS);
    const honest = host.getSourceFile.bind(host);
    host.getSourceFile = (name, ...rest) =>
      name === "/planted.ts"
        ? ts.createSourceFile(name, text, ts.ScriptTarget.ES2023, true)
        : honest(name, ...rest);
    const program = ts.createProgram(["/planted.ts"], OPTIONS, host);
    const places = new Judge(program).undocumented("/planted.ts");
    expect(places.map((place) => place.split(": ")[1])).toEqual([
      "silent",
      "Said.silent",
      "Said.silent",
      "Said.[Symbol.dispose]",
    ]);
  });
});
