/** Reads the public entries of package.json and the names that each entry exports, for surface.test.ts. */
import { join, relative } from "node:path";
import ts from "typescript";
import manifest from "../../package.json" with { type: "json" };

const PROJECT = join(import.meta.dirname, "..", "..");

/** Maps each entry (`./abi`) to its declaration file in dist/. */
export const ENTRIES: ReadonlyMap<string, string> = new Map(
  Object.entries(manifest.exports).flatMap(([entry, target]) =>
    typeof target === "string" ? [] : [[entry, join(PROJECT, target.types)] as const],
  ),
);

/** An exported name: its entry, its declaration, and whether it exists as a type only. */
export interface Exported {
  readonly entry: string;
  readonly name: string;
  readonly symbol: ts.Symbol;
  readonly isType: boolean;
}

/** Reads the exported names of declaration files, and the types that exported signatures name. */
export class Surface {
  readonly exported: readonly Exported[];
  readonly #checker: ts.TypeChecker;

  constructor(entries: ReadonlyMap<string, string>, host?: ts.CompilerHost) {
    const options = { module: ts.ModuleKind.NodeNext, types: [], strict: true };
    const program = ts.createProgram(Array.from(entries.values()), options, host);
    this.#checker = program.getTypeChecker();
    this.exported = Array.from(entries).flatMap(([entry, file]) => {
      const source = program.getSourceFile(file);
      const module = source && this.#checker.getSymbolAtLocation(source);
      if (module === undefined)
        throw new Error(`${entry}: ${file} is not built, or has no exports`);
      return this.#checker.getExportsOfModule(module).map((alias) => {
        const symbol = this.#resolved(alias);
        const isType = (symbol.flags & ts.SymbolFlags.Value) === 0;
        return { entry, name: alias.name, symbol, isType };
      });
    });
  }

  /** Lists the names of an entry, in alphabetical order. */
  names(entry: string, kind: "types" | "values"): readonly string[] {
    return this.exported
      .filter((one) => one.entry === entry && one.isType === (kind === "types"))
      .map(({ name }) => name)
      .toSorted();
  }

  /** Lists the names that two entries export with different declarations, for example `Step: ./lab ./trace`. */
  ambiguous(): readonly string[] {
    const names = Array.from(new Set(this.exported.map(({ name }) => name)));
    return names.flatMap((name) => {
      const all = this.exported.filter((one) => one.name === name);
      const isOne = new Set(all.map(({ symbol }) => symbol)).size === 1;
      return isOne ? [] : [`${name}: ${all.map(({ entry }) => entry).join(" ")}`];
    });
  }

  /**
   * Lists the types that a public signature names but no entry exports, for example `FilteredWrite in
   * kvm/run/exit-filter.d.ts`.
   */
  unreachable(): readonly string[] {
    const known = new Set(this.exported.map(({ symbol }) => symbol));
    const found = new Set<string>();
    const seen = new Set<ts.Node>();
    const visit = (node: ts.Node): void => {
      if (seen.has(node)) return;
      seen.add(node);
      if (ts.isHeritageClause(node)) {
        // The members of a base class are public, but the name of the base class need not be exported.
        for (const { expression } of node.types) {
          const base = this.#checker.getSymbolAtLocation(expression);
          for (const declaration of base === undefined ? [] : ours(this.#resolved(base))) {
            visit(declaration);
          }
        }
        return;
      }
      // Programs cannot call a protected constructor, so the types of its parameters need not be exported.
      if (ts.isConstructorDeclaration(node) && node.modifiers !== undefined) return;
      const name = ts.isTypeReferenceNode(node) ? node.typeName : undefined;
      const symbol = name && this.#checker.getSymbolAtLocation(name);
      if (symbol !== undefined) {
        const target = this.#resolved(symbol);
        const isParameter = (target.flags & ts.SymbolFlags.TypeParameter) !== 0;
        const [declaration] = ours(target);
        if (!isParameter && declaration !== undefined && !known.has(target)) {
          const file = declaration.getSourceFile().fileName;
          found.add(`${target.name} in ${relative(join(PROJECT, "dist"), file)}`);
        }
      }
      ts.forEachChild(node, visit);
    };
    for (const { symbol } of this.exported) for (const node of ours(symbol)) visit(node);
    return Array.from(found).sort((a, b) => (a < b ? -1 : 1));
  }

  #resolved(symbol: ts.Symbol): ts.Symbol {
    const isAlias = (symbol.flags & ts.SymbolFlags.Alias) !== 0;
    return isAlias ? this.#checker.getAliasedSymbol(symbol) : symbol;
  }
}

/** Returns the declarations of a symbol that are in this package. */
function ours(symbol: ts.Symbol): readonly ts.Declaration[] {
  return (symbol.declarations ?? []).filter(
    (one) => !one.getSourceFile().fileName.includes("/node_modules/"),
  );
}
