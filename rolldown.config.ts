/**
 * How dist/ is made: of lib/, a file for each entry of package.json, and what they share (as a file for each module
 * it took three times as long to load); and dist/suite/, the claims with all that they import as one program, which
 * the lab runs without vitest. Types are made by tsc.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join, relative } from "node:path";
import { build, defineConfig, type Plugin, type RolldownOptions } from "rolldown";
import manifest from "./package.json" with { type: "json" };

const sourceOf = (file: string): string =>
  file.replace(/^(\.\/)?dist\//, "lib/").replace(/\.js$/, ".ts");

const exported = Object.entries(manifest.exports).flatMap(([name, entry]) =>
  typeof entry === "string" ? [] : [[name, sourceOf(entry.default)] as const],
);
/** The program that judges other files of claims than the suite's, in a process of its own. */
const RUNNER = "lib/suite/run.ts";
/** The program of `node-kvm explore` in the lab's guests, and its thread. */
const EXPLORER = ["lib/explore/main.ts", "lib/explore/watchdog.ts"];
const sources = [
  ...exported.map(([, file]) => file),
  ...Object.values(manifest.bin).map(sourceOf),
  RUNNER,
  ...EXPLORER,
];

/** V8 keeps a source with any other character in two bytes a character, and reads it more slowly. */
const ascii: Plugin = {
  name: "ascii",
  renderChunk: (code) => ({
    code: code.replaceAll(
      /[\u0080-\uffff]/g,
      (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
    ),
    // Lines stay, so the map remains valid but for columns after such a character.
    map: null,
  }),
};

/**
 * Removes imports without names that do nothing, since each costs a millisecond: of the file of constants, which has no
 * side effects, and of files that contain only such imports. The line stays empty, so the maps remain valid.
 */
const withoutIdleImports: Plugin = {
  name: "without-idle-imports",
  generateBundle(_, bundle) {
    const chunks = Object.values(bundle).filter((file) => file.type === "chunk");
    const idle = chunks.filter(
      ({ name, code }) =>
        name === "constants" || /^(\s|import "\.[^"]+";|export \{\};)*$/.test(code),
    );
    const names = new Set(idle.map(({ fileName }) => basename(fileName)));
    for (const chunk of chunks) {
      chunk.code = chunk.code.replaceAll(/^import "\.[^"]*?([^/"]+)";$/gm, (line, name: string) =>
        names.has(name) ? "" : line,
      );
    }
    // Nothing imports an empty file now, unless it is an entry.
    for (const { fileName, isEntry, name } of idle) {
      if (!isEntry && name !== "constants") delete bundle[fileName];
    }
  },
};

const BROWSER = "lib/page/browser";

/** Bundles a file for a browser, without line breaks that nobody reads. */
async function forBrowser(file: string): Promise<string> {
  const { output } = await build({
    input: join(BROWSER, file),
    platform: "browser",
    transform: { target: "es2023" },
    tsconfig: join(BROWSER, "tsconfig.json"),
    output: { format: "iife", minify: true, codeSplitting: false },
    write: false,
  });
  // A script element ends at its first end tag, wherever that is.
  return output[0].code.replaceAll("</script", String.raw`<\/script`);
}

const sourceHash = (text: string): string =>
  `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

/** Makes dist/cpuid.html of the page's parts. It may run its own scripts alone, and make no requests. */
const page: Plugin = {
  name: "page",
  async generateBundle() {
    const [engine, script] = await Promise.all([forBrowser("worker.ts"), forBrowser("main.ts")]);
    const style = readFileSync(join(BROWSER, "page.css"), "utf8");
    const policy = [
      "default-src 'none'",
      `style-src ${sourceHash(style)}`,
      // The worker is made of the page's own text.
      `script-src ${sourceHash(script)} blob:`,
      "worker-src blob:",
      "base-uri 'none'",
      "form-action 'none'",
    ].join("; ");
    const parts: Readonly<Record<string, string>> = { policy, style, engine, script };
    const source = readFileSync(join(BROWSER, "page.html"), "utf8").replaceAll(
      /\{\{(\w+)\}\}|\/\*(\w+)\*\//g,
      (_, attribute?: string, text?: string) => parts[attribute ?? text ?? ""] ?? "",
    );
    this.emitFile({ type: "asset", fileName: "cpuid.html", source });
  },
};

/** Adds a module and all that it imports at run time to a set. */
function addNeeded(file: string, found: Set<string>): ReadonlySet<string> {
  if (found.has(file)) return found;
  found.add(file);
  const imports = /^(?:import|export) (?!type )(?:([^;"]*?) from )?"(\.[^"]+)";/gm;
  for (const [, names = "", path = ""] of readFileSync(file, "utf8").matchAll(imports)) {
    const own = names.replaceAll(/[{}\s]+/g, " ").split(",");
    const isOfTypes = names.startsWith("{") && own.every((name) => /^ *(type |$)/.test(name));
    if (!isOfTypes) addNeeded(join(dirname(file), path), found);
  }
  return found;
}

/** The modules that `import "node-kvm"` loads. */
const NEEDED = addNeeded("lib/index.ts", new Set());
const isNeeded = (id: string): boolean => NEEDED.has(relative(import.meta.dirname, id));

const library: RolldownOptions = {
  input: Object.fromEntries(sources.map((file) => [file.replace(/^lib\/|\.ts$/g, ""), file])),
  external: ["commander", "vitest", "vitest/node"],
  platform: "node",
  transform: { target: "es2023" },
  optimization: { inlineConst: true },
  // The groups below move modules between files, and an entry may then export what others need of it.
  preserveEntrySignatures: "allow-extension",
  plugins: [ascii, withoutIdleImports, page],
  output: {
    dir: "dist",
    chunkFileNames: "shared/[name].js",
    // Maps without the sources: lib/ is in the package.
    sourcemap: true,
    sourcemapExcludeSources: true,
    // The declarations have the documentation.
    comments: { legal: true, annotation: true, jsdoc: false },
    // One file for each room that an entry imports alone, and one for the handles with all that they need: each
    // further file takes half a millisecond to load.
    codeSplitting: {
      includeDependenciesRecursively: false,
      groups: [
        // Its numbers are written where they are used; only the entry of the ABI loads this file.
        { name: "constants", test: /lib\/abi\/generated\/constants\.ts/, priority: 6 },
        { name: "abi", test: /lib\/(abi\/|errors\.ts|options\.ts|inspect\.ts)/, priority: 5 },
        // What the handles need of tables; the rest of the toolkit is a file of its own.
        {
          name: "cpuid",
          test: (id) =>
            /lib\/oracle\/(?!lifecycle\/|index\.ts)/.test(id) ||
            (/lib\/cpuid\//.test(id) && isNeeded(id)),
          priority: 5,
        },
        // Only the explorer and the entry of the oracle use the model.
        { name: "lifecycle", test: /lib\/oracle\/lifecycle\//, priority: 6 },
        { name: "cpuid-toolkit", test: /lib\/cpuid\//, priority: 4 },
        { name: "guest", test: /lib\/guest\//, priority: 3 },
        {
          name: "kvm",
          test: (id) =>
            /lib\/(kvm|state|explain|native\.ts|package\.ts)/.test(id) ||
            (/lib\/trace\//.test(id) && isNeeded(id)),
          priority: 3,
        },
        { name: "trace", test: /lib\/trace\//, minShareCount: 2, priority: 2 },
      ],
    },
  },
};

const ENTRY = "\0entry";
const FILE = "\0file:";
const here = (path: string): string => join(import.meta.dirname, path);

/** Loads what is no file: the program's entry, and a mark before each file of claims. */
const claimsOf = (files: readonly string[]): Plugin => ({
  name: "claims",
  resolveId: (id) => (id === ENTRY || id.startsWith(FILE) ? id : undefined),
  load(id) {
    const module = (...lines: readonly string[]) => ({
      code: lines.join("\n"),
      moduleSideEffects: true,
    });
    if (id === ENTRY) {
      const imports = ["test/kvm/setup.ts", ...files.flatMap((file) => [FILE + file, file])];
      return module(
        ...imports.map((path) => `import ${text(path.startsWith(FILE) ? path : here(path))};`),
        `import { runBundle } from ${text(here("lib/suite/main.ts"))};`,
        "process.exitCode = await runBundle(process.argv.slice(2));",
      );
    }
    if (!id.startsWith(FILE)) return undefined;
    const registry = text(here("lib/suite/registry.ts"));
    return module(
      `import { beginFile } from ${registry};`,
      `beginFile(${text(basename(id.slice(FILE.length)))});`,
    );
  },
});

function text(path: string): string {
  return JSON.stringify(path);
}

/** Makes one program of files of claims. */
const suite = (files: readonly string[]): RolldownOptions => ({
  input: ENTRY,
  plugins: [claimsOf(files)],
  platform: "node",
  transform: { target: "es2023" },
  resolve: {
    // The longer names first: an alias is also good for what lies below it.
    alias: Object.fromEntries(
      exported
        .map(([name, file]) => [join(manifest.name, name), here(file)] as const)
        .toSorted(([a], [b]) => b.length - a.length),
    ),
  },
  external: ["node-kvm/package.json", "vitest"],
  output: { file: "dist/suite/main.js", codeSplitting: false },
});

const vitest = createRequire(import.meta.url).resolve("vitest/package.json");
const vitestExpect = createRequire(vitest).resolve("@vitest/expect");
const chai = createRequire(vitestExpect).resolve("chai");

const PART = "\0part";

/** Makes a CommonJS file of vitest's parts, which is loaded without vitest when a claim needs it. */
const part = (file: string, lines: readonly string[]): RolldownOptions => ({
  input: PART,
  plugins: [
    {
      name: file,
      resolveId: (id) => (id === PART ? id : undefined),
      load: (id) => (id === PART ? lines.join("\n") : undefined),
    },
  ],
  platform: "node",
  transform: { target: "es2023" },
  output: { file: `dist/suite/${file}`, format: "cjs", codeSplitting: false },
});

/** Formats a value in a failure's message. */
const display = part("display.cjs", [
  `import { util } from ${text(chai)};`,
  "export const show = util.objDisplay;",
]);

/** Makes vitest's `expect`, without snapshots and polling, which need a running vitest. */
const fullExpect = part("vitest-expect.cjs", [
  `import * as parts from ${text(vitestExpect)};`,
  "const { chai } = parts;",
  "for (const plugin of [parts.JestExtend, parts.JestChaiExpect, parts.JestAsymmetricMatchers]) {",
  "  chai.use(plugin);",
  "}",
  "export function createExpect() {",
  "  const expect = (value, note) => chai.expect(value, note);",
  "  Object.assign(expect, chai.expect, globalThis[parts.ASYMMETRIC_MATCHERS_OBJECT]);",
  "  parts.setState({ assertionCalls: 0 }, expect);",
  "  expect.getState = () => parts.getState(expect);",
  "  expect.setState = (state) => parts.setState(state, expect);",
  "  expect.extend = (matchers) => chai.expect.extend(expect, matchers);",
  "  globalThis[parts.GLOBAL_EXPECT] ??= expect;",
  "  if (parts.customMatchers !== undefined) expect.extend(parts.customMatchers);",
  "  return expect;",
  "}",
]);

const CLAIMS = "test/kvm";
const files = readdirSync(CLAIMS, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".test.ts"))
  .map((file) => join(CLAIMS, file))
  .sort();

const config: RolldownOptions[] = defineConfig([library, suite(files), display, fullExpect]);

export default config;
