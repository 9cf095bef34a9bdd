/**
 * Bundles the tests of one folder and all their imports into one script, which is compiled once and evaluated for each
 * mutant.
 */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { Script } from "node:vm";
import { rolldown } from "rolldown";

const ENTRY = "\0entry";
const FILE = "\0file:";
const VITEST = "\0vitest";

/**
 * Loads the modules that are not files: the entry, vitest, and a module for each test file. This module starts the test
 * file in the session.
 */
const virtual = (files, names) => ({
  name: "virtual",
  resolveId(id) {
    if (id === "vitest") return VITEST;
    return id.startsWith("\0") ? id : undefined;
  },
  load(id) {
    const module = (code) => ({ code, moduleSideEffects: true });
    if (id === ENTRY) {
      const imports = files.flatMap((file) => [FILE + file, join(process.cwd(), file)]);
      return module(imports.map((name) => `import ${JSON.stringify(name)};`).join("\n"));
    }
    if (id === VITEST) return module(`export const { ${names} } = globalThis.nodeKvmSession.api;`);
    if (!id.startsWith(FILE)) return undefined;
    return module(`globalThis.nodeKvmSession.file(${JSON.stringify(id.slice(FILE.length))});`);
  },
  // Each module gets a separate import.meta, because a bundle has only one import.meta.
  transform: (code, id) =>
    code
      .replaceAll("import.meta.filename", JSON.stringify(id))
      .replaceAll("import.meta.dirname", JSON.stringify(dirname(id)))
      .replaceAll("import.meta.url", JSON.stringify(pathToFileURL(id).href)),
});

/**
 * Bundles test files, given as paths relative to the working directory.
 *
 * @param names - the names that the replacement of vitest exports.
 * @returns two functions that evaluate all modules anew, without state from an earlier evaluation. One function counts
 * the mutants that are reached; this takes longer than most tests. The other function counts nothing.
 */
export async function bundle(files, names) {
  const build = await rolldown({
    input: ENTRY,
    platform: "node",
    external: (id) => !/^[./\0]/.test(id) && id !== "vitest",
    plugins: [virtual(files, names)],
    transform: { target: "es2023" },
    // The removal of unused code would also remove mutants.
    treeshake: false,
  });
  const { output } = await build.generate({ format: "cjs" });
  await build.close();
  if (output.length !== 1) throw new Error(`the bundle has ${output.length} parts, not 1`);
  const filename = join(process.cwd(), "bundle.cjs");
  const require = createRequire(filename);
  const evaluator = (code) => {
    const script = new Script(`(function (require, exports) {${code}\n})`, { filename });
    return () => script.runInThisContext()(require, {});
  };
  const [{ code }] = output;
  const uncounted = code.replaceAll(/function stryCov_[\w$]+\(\) \{/g, "$& return;");
  return { counted: evaluator(code), uncounted: evaluator(uncounted) };
}
