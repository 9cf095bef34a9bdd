/**
 * Lists the files of this package and of its dependencies that the guest gets: only files that the package's command
 * and suite load. guest.ts lists the rest of the root.
 */
import {
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
} from "node:fs";
import { basename, dirname, extname, join, relative, resolve, sep } from "node:path";
import { addonPlace, addonPlaces, packageFolder } from "../../package.ts";
import { LabError } from "../error.ts";
import { run } from "../process/command.ts";
import { hostFile, type InitramfsEntry } from "./initramfs.ts";

/**
 * The folder of packages in the guest. A checkout is also copied below node_modules: vite compiles files outside of
 * node_modules, and the emulated CPU needs 10 s to compile the suite's files of dist/.
 */
const MODULES = "/usr/lib/node_modules";

const PACKAGE = packageFolder();

/** The sources of the suite. */
const SUITE = ["test/kvm"];

/** The path of the suite as one program that does not need vitest. */
const PROGRAM = "dist/suite/main.js";

/** The program that judges the user's own claims. */
const RUNNER = "dist/suite/run.js";

/** The program of `node-kvm explore`. */
const EXPLORER = "dist/explore/main.js";

/** The folder of the user's own claims in the guest. */
export const CLAIMS = "/claims";

/**
 * The part of this package in a guest's root. `package`: the whole package with the dependencies of its command and its
 * suite. `suite`: only the suite's program, which needs less memory and boots faster. `claims`: all files that the
 * user's own claims may import.
 */
export type Root = "package" | "suite" | "claims";

/** The packages that the suite's program loads for some messages and assertions. */
const PARTS = ["dist/suite/display.cjs", "dist/suite/vitest-expect.cjs"];

/** The files of the package itself. */
const SHIPPED: Readonly<Record<Root, readonly string[]>> = {
  package: ["package.json", "dist", ...SUITE],
  suite: ["package.json", PROGRAM, ...PARTS],
  claims: ["package.json", "dist"],
};

/** The names of the packages that a root needs. */
const NEEDED: Readonly<Record<Root, (name: string) => boolean>> = {
  package: () => true,
  suite: (name) => name === "iced-x86",
  claims: (name) => name === "iced-x86",
};

/**
 * Dependencies of vitest that the suite never loads: the first two are vite's compilers for style sheets, the others
 * contain types, and node-addon-api is needed only for building. The omitted packages are a third of all files.
 */
const UNUSED = [
  "lightningcss",
  "postcss",
  "@standard-schema/spec",
  "@types/chai",
  "node-addon-api",
];

/** The endings of files that Node can load; other files of a package are not copied. */
const LOADED = [".js", ".mjs", ".cjs", ".json", ".node", ".wasm"];

/**
 * Returns the package's folder in the guest. This folder is the working directory of commands, and `import("node-kvm")`
 * works in it.
 */
export function guestFolder(): string {
  return inGuest(PACKAGE);
}

function inGuest(path: string): string {
  const parts = PACKAGE.split(sep);
  const modules = parts.indexOf("node_modules");
  const [from, to] =
    modules === -1
      ? [PACKAGE, `${MODULES}/node-kvm`]
      : [parts.slice(0, modules + 1).join(sep), MODULES];
  return join(to, relative(from, path));
}

/** Returns the path of the suite's program in the guest. */
export function suiteProgram(): string {
  return inGuest(join(PACKAGE, PROGRAM));
}

/** The path in the guest of the program that judges the user's own claims. */
export function claimsRunner(): string {
  return inGuest(join(PACKAGE, RUNNER));
}

/** The path in the guest of the program that explores its KVM. */
export function explorerProgram(): string {
  return inGuest(join(PACKAGE, EXPLORER));
}

/**
 * Lists the names of the suite's claims, `id: sentence`, by running the suite's program on this host.
 *
 * @throws {@link LabError} `ERR_LAB_TOOL` if the program fails.
 */
export async function suiteClaims(signal?: AbortSignal): Promise<readonly string[]> {
  checkSuiteProgram();
  const { status, stdout, stderr } = await run(
    process.execPath,
    [join(PACKAGE, PROGRAM), "--list"],
    { env: { NODE_OPTIONS: "" }, signal },
  );
  const claims = status === 0 ? parseClaims(String(stdout)) : undefined;
  if (claims === undefined) {
    const why = /^\w*Error: .*/m.exec(stderr)?.[0] ?? `status ${status}`;
    throw new LabError("ERR_LAB_TOOL", `${PROGRAM} does not list its claims: ${why}`);
  }
  return claims;
}

/** Parses a JSON array of names; `undefined` for any other text. */
function parseClaims(text: string): readonly string[] | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const isNames = Array.isArray(value) && value.every((name) => typeof name === "string");
    return isNames ? value : undefined;
  } catch {
    return undefined;
  }
}

function checkSuiteProgram(): void {
  const sources = SUITE.flatMap((name) => treeEntries(join(PACKAGE, name), [".ts"]));
  checkProgram(join(PACKAGE, PROGRAM), sources.flatMap(hostFile));
}

/**
 * Lists the files of the package and its dependencies.
 *
 * @throws {@link LabError} `ERR_LAB_TOOL` if the addon, vitest or the suite's program is missing, or if the program
 *   is older than a claim.
 */
export function installationEntries(root: Root): readonly InitramfsEntry[] {
  if (root === "suite") checkSuiteProgram();
  return [
    ...packageEntries(root),
    ...dependencyEntries(root),
    ...(root === "claims" ? CLAIMS_ENTRIES : []),
  ];
}

/** The folder in the guest of the user's own claims, which can import this package from there. */
const CLAIMS_ENTRIES: readonly InitramfsEntry[] = [
  { kind: "directory", path: CLAIMS },
  { kind: "symlink", path: `${CLAIMS}/node_modules/node-kvm`, target: guestFolder() },
];

/**
 * Checks that the suite's program exists and is not older than the sources of the claims.
 *
 * @throws {@link LabError} `ERR_LAB_TOOL`
 */
export function checkProgram(program: string, sources: readonly string[]): void {
  const made = lstatSync(program, { throwIfNoEntry: false })?.mtimeMs;
  const remedy = "npm run build makes it in a checkout";
  if (made === undefined) throw new LabError("ERR_LAB_TOOL", `${program} is missing; ${remedy}`);
  const newer = sources.find((path) => lstatSync(path).mtimeMs > made);
  if (newer === undefined) return;
  throw new LabError("ERR_LAB_TOOL", `${program} is older than ${newer}; ${remedy}`);
}

function packageEntries(root: Root): readonly InitramfsEntry[] {
  const addon = addonPlace();
  if (addon === undefined) {
    const places = addonPlaces().join(" nor ");
    throw new LabError("ERR_LAB_TOOL", `neither ${places} exists: node-kvm has no addon here`);
  }
  return [...SHIPPED[root], addon].flatMap((name) =>
    treeEntries(join(PACKAGE, name), [...LOADED, ".ts"]),
  );
}

/** Lists the files of a folder that Node can load, without nested packages and gyp's temporary files. */
function treeEntries(path: string, extensions: readonly string[]): readonly InitramfsEntry[] {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return [];
  if (stat.isDirectory()) {
    if (basename(path) === "node_modules") return [];
    return readdirSync(path).flatMap((name) => treeEntries(join(path, name), extensions));
  }
  const wanted = extensions.includes(extname(path)) && !/\.d\.[cm]?ts$/.test(path);
  // The command node-kvm is a script whose name has no ending.
  return wanted
    ? [{ kind: "file", path: inGuest(path), content: { from: path }, mode: 0o755 }]
    : [];
}

/** Lists the packages that the command and the suite need, as the installer has placed them. */
function dependencyEntries(root: Root): readonly InitramfsEntry[] {
  const found = new Map<string, readonly InitramfsEntry[]>();
  const visit = (folder: string): void => {
    for (const name of dependencies(folder).filter(NEEDED[root])) {
      const place = lookUp(name, folder);
      if (place === undefined || found.has(place)) continue;
      const real = realpathSync(place);
      const link: InitramfsEntry = {
        kind: "symlink",
        path: inGuest(place),
        target: readLink(place),
      };
      found.set(place, place === real ? treeEntries(place, LOADED) : [link]);
      if (place !== real && !found.has(real)) found.set(real, treeEntries(real, LOADED));
      visit(real);
    }
  };
  visit(PACKAGE);
  if (root === "package" && lookUp("vitest", PACKAGE) === undefined) {
    throw new LabError("ERR_LAB_TOOL", "the suite runs in vitest: npm install --save-dev vitest@4");
  }
  return Array.from(found.values()).flat();
}

function readLink(path: string): string {
  return lstatSync(path).isSymbolicLink() ? readlinkSync(path) : "";
}

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

function dependencies(folder: string): readonly string[] {
  const parsed: unknown = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const manifest = parsed as Manifest;
  const names = [
    ...Object.keys(manifest.dependencies ?? {}),
    ...Object.keys(manifest.optionalDependencies ?? {}),
    ...(folder === PACKAGE ? ["vitest"] : []),
  ];
  return names.filter((name) => !UNUSED.includes(name));
}

/** Finds a package as Node does: in the node_modules folder of a folder or of one of its parents. */
function lookUp(name: string, folder: string): string | undefined {
  for (let at = resolve(folder); ; at = dirname(at)) {
    const place = join(at, "node_modules", name);
    if (basename(at) !== "node_modules" && existsSync(place)) return place;
    if (at === dirname(at)) return undefined;
  }
}
