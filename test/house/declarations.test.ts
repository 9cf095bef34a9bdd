/** Tests that the built declarations compile in a project with default settings and have no `@internal` members. */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import ts from "typescript";
import { describe, expect, test } from "vitest";
import manifest from "../../package.json" with { type: "json" };

const PROJECT = join(import.meta.dirname, "..", "..");
const DIST = join(PROJECT, "dist");
const ENTRY = join(PROJECT, "importer.ts");
const ENTRIES = Object.entries(manifest.exports).flatMap(([name, entry]) =>
  typeof entry === "string" ? [] : [join(manifest.name, name)],
);

/** Lists the compiler's errors for a program that imports every entry, and for all declaration files. */
function findings(
  settings: ts.CompilerOptions,
  entries: readonly string[] = ENTRIES,
): readonly string[] {
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ESNext,
    strict: true,
    noEmit: true,
    skipLibCheck: false,
    types: [],
    ...settings,
  };
  const host = ts.createCompilerHost(options);
  const text = entries
    .map((name, i) => `export * as e${i} from ${JSON.stringify(name)};`)
    .join("\n");
  const [readSource, exists] = [host.getSourceFile.bind(host), host.fileExists.bind(host)];
  host.fileExists = (name) => name === ENTRY || exists(name);
  host.getSourceFile = (name, ...rest) =>
    name === ENTRY
      ? ts.createSourceFile(ENTRY, text, ts.ScriptTarget.ESNext)
      : readSource(name, ...rest);
  const program = ts.createProgram([ENTRY], options, host);
  return ts
    .getPreEmitDiagnostics(program)
    .filter(({ file }) => file === undefined || !file.fileName.includes("/node_modules/"))
    .map(({ file, messageText }) => {
      const where = file === undefined ? "" : `${relative(PROJECT, file.fileName)}: `;
      return where + ts.flattenDiagnosticMessageText(messageText, "\n");
    });
}

describe("with types: [] and skipLibCheck: false, every entry of the package compiles", () => {
  test("with module resolution nodenext", () => {
    expect(findings({ module: ts.ModuleKind.NodeNext })).toEqual([]);
  });

  test("with module resolution bundler", () => {
    expect(
      findings({
        module: ts.ModuleKind.ESNext,
        moduleResolution: ts.ModuleResolutionKind.Bundler,
      }),
    ).toEqual([]);
  });

  test("but an import of a missing entry is an error", () => {
    const found = findings({ module: ts.ModuleKind.NodeNext }, ["node-kvm/none"]);
    expect(found.join()).toContain("node-kvm/none");
  });
});

test("no built declaration file has an @internal member", () => {
  const files = readdirSync(DIST, { recursive: true, encoding: "utf8" }).filter((file) =>
    file.endsWith(".d.ts"),
  );
  expect(files.length).toBeGreaterThan(100);
  const told = files.filter((file) => readFileSync(join(DIST, file), "utf8").includes("@internal"));
  expect(told).toEqual([]);
});
