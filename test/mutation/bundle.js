/** The tests of one folder and all that they import as one script, which is compiled once and evaluated per mutant. */
import { createRequire } from "node:module";
import { join } from "node:path";
import { Script } from "node:vm";
import { rolldown } from "rolldown";

const ENTRY = "\0entry";
const FILE = "\0file:";
const VITEST = "\0vitest";

/** Loads the modules that are no files: the entry, a mark before each test file, and vitest. */
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
});

/**
 * Bundles test files, which are relative to the working directory.
 *
 * @param names - what the stand-in for vitest exports.
 * @returns a function that evaluates all modules anew: nothing of an earlier evaluation is kept.
 */
export async function bundle(files, names) {
  const build = await rolldown({
    input: ENTRY,
    platform: "node",
    external: (id) => !/^[./\0]/.test(id) && id !== "vitest",
    plugins: [virtual(files, names)],
    transform: { target: "es2023" },
    // A mutant is unused code to a bundler that looks closely.
    treeshake: false,
  });
  const { output } = await build.generate({ format: "cjs" });
  await build.close();
  if (output.length !== 1) throw new Error(`the bundle has ${output.length} parts, not 1`);
  const filename = join(process.cwd(), "bundle.cjs");
  const text = `(function (require, exports, __filename) {${output[0].code}\n})`;
  const script = new Script(text, { filename });
  const require = createRequire(filename);
  return () => script.runInThisContext()(require, {}, filename);
}
