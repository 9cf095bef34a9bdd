/**
 * Bundles one file of claims and the modules that it imports into one module, which imports only `node:*` and
 * `node-kvm/*`. Vite, on which vitest depends, makes the bundle, so this package needs no separate bundler.
 */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { stripVTControlCharacters } from "node:util";
import { suggestion } from "../options.ts";
import { packageFolder } from "../package.ts";
import { CommandError, reasonOf } from "./failure.ts";

/** A bundled file of claims. */
export interface ClaimBundle {
  /** The path of the file of claims, as the user wrote it. */
  readonly name: string;
  readonly code: string;
  /** A comment with the source map, which makes errors name the lines of the user's own file. */
  readonly sourceMap: string;
}

/** The part of vite's API that this file uses; it is the same in vite 6, 7 and 8. */
interface Vite {
  /** The member `rolldownVersion` exists only in versions of vite that contain rolldown. */
  readonly rolldownVersion?: string;
  build(config: object): Promise<Output | readonly Output[]>;
}

interface Output {
  readonly output: readonly {
    readonly code?: string;
    readonly map?: { readonly sources: readonly string[] } | null;
  }[];
}

async function loadVite(): Promise<Vite> {
  try {
    const vitest = createRequire(import.meta.url).resolve("vitest/package.json");
    const vite = createRequire(vitest).resolve("vite");
    return (await import(pathToFileURL(vite).href)) as Vite;
  } catch (cause) {
    const remedy = "npm install --save-dev vitest installs vite";
    throw new CommandError(
      `a file of claims is bundled by vite, but vite cannot be loaded; ${remedy} (${reasonOf(cause)})`,
      { cause },
    );
  }
}

/**
 * Bundles a file.
 *
 * @throws {@link CommandError} with the place, if the file has a syntax error, or imports something that does not exist
 *   or that the lab's guests do not have.
 */
export async function bundleClaims(name: string): Promise<ClaimBundle> {
  const vite = await loadVite();
  const file = resolve(name);
  const root = dirname(file);
  const bundler =
    vite.rolldownVersion === undefined
      ? { rollupOptions: { input: file, output: { inlineDynamicImports: true } } }
      : { rolldownOptions: { input: file, output: { codeSplitting: false } } };
  try {
    const built = await vite.build({
      root,
      configFile: false,
      logLevel: "silent",
      publicDir: false,
      plugins: [imports],
      ssr: { noExternal: true },
      build: {
        ssr: true,
        write: false,
        minify: false,
        target: "es2022",
        sourcemap: "hidden",
        ...bundler,
      },
    });
    const [{ output } = { output: [] }] = [built].flat();
    const [{ code = "", map } = {}] = output;
    return { name, code, sourceMap: sourceMapOf(map, join(root, "dist")) };
  } catch (error) {
    if (error instanceof CommandError) throw error;
    throw new CommandError(describeFailure(name, error), { cause: error });
  }
}

function sourceMapOf(map: Output["output"][number]["map"], folder: string): string {
  if (map === undefined || map === null) return "";
  const sources = map.sources.map((path) => pathToFileURL(resolve(folder, path)).href);
  const text = Buffer.from(JSON.stringify({ ...map, sources })).toString("base64");
  return `\n//# sourceMappingURL=data:application/json;base64,${text}\n`;
}

const VITEST = "\0vitest";

/** Decides which modules a file of claims may import. */
const imports = {
  name: "node-kvm-claims",
  enforce: "pre",
  resolveId(id: string, importer: string | undefined): object | string | undefined {
    if (importer === undefined || /^[./\0]/.test(id)) return undefined;
    if (id.startsWith("node:")) return { id, external: true };
    if (id === "vitest") return VITEST;
    const isOwn = importer === VITEST || packageEntries().includes(id);
    if (isOwn) return { id, external: true };
    throw new Refused(importer, id);
  },
  load: (id: string): string | undefined =>
    id === VITEST ? 'export { expect } from "node-kvm/test";' : undefined,
} as const;

/** The entries of this package: `node-kvm`, `node-kvm/cpuid`. */
function packageEntries(): readonly string[] {
  const manifest: unknown = JSON.parse(readFileSync(join(packageFolder(), "package.json"), "utf8"));
  const { exports } = manifest as { readonly exports: Readonly<Record<string, unknown>> };
  return Object.keys(exports).map((name) => join("node-kvm", name));
}

const ALLOWED = 'relative files, node:*, node-kvm and expect of "vitest"';

/**
 * An import that is not allowed. The bundler passes on only the message of this error, and appends a stack to the
 * message.
 */
class Refused extends CommandError {
  constructor(importer: string, id: string) {
    const lines = readFileSync(importer, "utf8").split("\n");
    const at = lines.findIndex((line) => line.includes(`"${id}"`) || line.includes(`'${id}'`)) + 1;
    const reason = id.startsWith("node-kvm/")
      ? `this package has no such entry${suggestion(id, packageEntries())}`
      : `claims may import ${ALLOWED}, because the lab's guests have no other packages`;
    super(`${shown(importer)}:${at}: cannot import "${id}": ${reason}`);
  }
}

/** The members of the errors of rolldown, rollup and esbuild that contain the file and line. */
interface BundlerError {
  readonly message?: string;
  readonly text?: string;
  readonly plugin?: string;
  readonly id?: string;
  readonly loc?: { readonly file?: string; readonly line?: number };
  readonly location?: { readonly file?: string; readonly line?: number } | null;
  readonly errors?: readonly BundlerError[];
}

/** Formats a bundler's error as one line with the file and line. */
function describeFailure(name: string, error: unknown): string {
  const whole = error as BundlerError;
  const first = whole.errors?.[0] ?? whole;
  const lines = stripVTControlCharacters(first.text ?? first.message ?? String(error)).split("\n");
  const text = lines.find((line) => line.trim() !== "") ?? "";
  const own = /(?:Error: )?(\S+:\d+: cannot import .*)/.exec(text)?.[1];
  if (own !== undefined) return own;
  const { file, line } = first.loc ?? first.location ?? {};
  const drawn = /\[ (.*):(\d+):\d+ \]/.exec(lines.join("\n"));
  const place = file ?? first.id ?? name;
  const sentence = text
    .replace(/^\[[^\]]*\] /, "")
    .replace(/\.$/, "")
    .replace(
      /^"(.*)" is not exported by .*\0?vitest.*$/,
      `cannot import $1 of "vitest": claims may import ${ALLOWED}`,
    );
  return `${shown(place)}:${line ?? drawn?.[2] ?? 1}: ${sentence}`;
}

/** Makes a path below the current folder relative to the current folder. */
function shown(path: string): string {
  const short = relative(process.cwd(), path);
  return short === "" || short.startsWith("..") ? path : short;
}
