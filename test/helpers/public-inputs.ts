/** Lists every public method and function that takes an object of named members, from the sources' types. */
import { join } from "node:path";
import ts from "typescript";

const PROJECT = join(import.meta.dirname, "..", "..");

const OPTIONS: ts.CompilerOptions = {
  target: ts.ScriptTarget.ES2023,
  lib: ["lib.es2023.d.ts", "lib.esnext.disposable.d.ts"],
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  allowImportingTsExtensions: true,
  noEmit: true,
  skipLibCheck: true,
  strict: true,
  types: ["node"],
};

const HIDDEN = ts.ModifierFlags.Private | ts.ModifierFlags.Protected;

/** Finds the inputs of the entries, such as `Vm.irqfd(input)` and `Vcpu.setMsrs(entries[])`. */
export class PublicInputs {
  readonly #entries: readonly string[];
  readonly #program: ts.Program;
  readonly #checker: ts.TypeChecker;

  /** Reads the sources of these entries, such as `index`, `guest/index`. */
  constructor(entries: readonly string[]) {
    this.#entries = entries;
    const files = entries.map((name) => join(PROJECT, "lib", `${name}.ts`));
    this.#program = ts.createProgram(files, OPTIONS);
    this.#checker = this.#program.getTypeChecker();
  }

  /** Lists the inputs in sorted order. */
  list(): readonly string[] {
    const found = new Set<string>();
    for (const entry of this.#entries) {
      const source = this.#program.getSourceFile(join(PROJECT, "lib", `${entry}.ts`));
      const module = source && this.#checker.getSymbolAtLocation(source);
      if (module === undefined) throw new Error(`no module ${entry}`);
      for (const symbol of this.#checker.getExportsOfModule(module)) {
        for (const name of this.#inputsOf(this.#resolved(symbol))) found.add(name);
      }
    }
    return Array.from(found).sort((a, b) => (a < b ? -1 : 1));
  }

  #resolved(symbol: ts.Symbol): ts.Symbol {
    const isAlias = (symbol.flags & ts.SymbolFlags.Alias) !== 0;
    return isAlias ? this.#checker.getAliasedSymbol(symbol) : symbol;
  }

  #inputsOf(symbol: ts.Symbol): readonly string[] {
    const type = this.#checker.getTypeOfSymbol(symbol);
    if ((symbol.flags & ts.SymbolFlags.Function) !== 0) {
      return this.#ofSignatures(type.getCallSignatures(), symbol.name);
    }
    if ((symbol.flags & ts.SymbolFlags.Class) !== 0) {
      const made = this.#checker.getDeclaredTypeOfSymbol(symbol);
      return [
        ...this.#ofSignatures(this.#publicConstructors(type), `new ${symbol.name}`),
        ...this.#ofMembers(type, symbol.name),
        ...this.#ofMembers(made, symbol.name),
      ];
    }
    // This branch reads the methods of an interface whose objects this package returns, such as an exit's reply().
    if ((symbol.flags & ts.SymbolFlags.Interface) !== 0 && symbol.name.endsWith("Exit")) {
      return this.#ofMembers(this.#checker.getDeclaredTypeOfSymbol(symbol), symbol.name);
    }
    return [];
  }

  /** Returns the constructors that programs may call, without those that are marked as `@internal`. */
  #publicConstructors(type: ts.Type): readonly ts.Signature[] {
    return type.getConstructSignatures().filter(({ declaration }) => {
      if (declaration === undefined) return false;
      const flags = ts.getCombinedModifierFlags(declaration as ts.Declaration);
      const isInternal = ts
        .getJSDocTags(declaration)
        .some(({ tagName }) => tagName.text === "internal");
      return (flags & HIDDEN) === 0 && !isInternal;
    });
  }

  #ofMembers(type: ts.Type, owner: string): readonly string[] {
    return type.getProperties().flatMap((member) => {
      const declaration = member.declarations?.[0];
      if (
        declaration === undefined ||
        (!ts.isClassElement(declaration) && !ts.isTypeElement(declaration))
      )
        return [];
      const isOurs = declaration.getSourceFile().fileName.startsWith(join(PROJECT, "lib"));
      const isInternal = ts
        .getJSDocTags(declaration)
        .some(({ tagName }) => tagName.text === "internal");
      if (!isOurs || isInternal || (ts.getCombinedModifierFlags(declaration) & HIDDEN) !== 0)
        return [];
      const isNamed = declaration.name !== undefined && ts.isIdentifier(declaration.name);
      if (!isNamed) return [];
      const signatures = this.#checker.getTypeOfSymbol(member).getCallSignatures();
      return this.#ofSignatures(signatures, `${owner}.${member.name}`);
    });
  }

  #ofSignatures(signatures: readonly ts.Signature[], owner: string): readonly string[] {
    return signatures.flatMap((signature) =>
      signature.getParameters().flatMap((parameter) => {
        const type = this.#checker.getTypeOfSymbol(parameter);
        return this.#shapes(type).map((suffix) => `${owner}(${parameter.name}${suffix})`);
      }),
    );
  }

  /** Returns `""` for an object with named members, and `"[]"` for a list of such objects. */
  #shapes(type: ts.Type): readonly string[] {
    const parts = type.isUnion() ? type.types : [type];
    const shapes = parts.flatMap((part) => {
      if (this.#isPlain(part)) return [""];
      const element = this.#elementOf(part);
      return element !== undefined && this.#shapes(element).length > 0 ? ["[]"] : [];
    });
    return Array.from(new Set(shapes));
  }

  #elementOf(type: ts.Type): ts.Type | undefined {
    const isList = /^(readonly )?.*\[\]$|^Iterable</.test(this.#checker.typeToString(type));
    if (!isList && !this.#checker.isArrayType(type)) return undefined;
    return this.#checker.getTypeArguments(type as ts.TypeReference)[0];
  }

  /** Returns whether a type is an object with named members, and not a class, list, function or buffer. */
  #isPlain(type: ts.Type): boolean {
    if (type.isIntersection()) return type.types.some((part) => this.#isPlain(part));
    if ((type.flags & ts.TypeFlags.Object) === 0) return false;
    const symbol = type.getSymbol();
    const isClass = symbol !== undefined && (symbol.flags & ts.SymbolFlags.Class) !== 0;
    if (isClass || type.getCallSignatures().length > 0) return false;
    const members = type.getProperties();
    const isOurs = members.some(({ declarations }) =>
      declarations?.some(
        (one) =>
          one.getSourceFile().fileName.includes("/lib/") &&
          !one.getSourceFile().fileName.includes("node_modules"),
      ),
    );
    const isData = members.every((member) => !member.name.startsWith("__@"));
    return isOurs && isData && members.length > 0;
  }
}
