/** Tests of the packed package in empty folders, with the npm, Node.js, vitest and TypeScript that a user has. */
import { execFileSync, spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import manifest from "../../package.json" with { type: "json" };
import { blocksOfMarkdown } from "../house/code-blocks.ts";
import { deviceProblem } from "./run-node.ts";

const PROJECT = join(import.meta.dirname, "..", "..");
const PREBUILT = "prebuilds/linux-x64/node_kvm.node";
const folder = mkdtempSync(join(tmpdir(), "node-kvm-package-"));
afterAll(() => rmSync(folder, { recursive: true }));

interface Ran {
  readonly status: number | null;
  readonly output: string;
}

/**
 * Runs a program and returns the output of both streams; the default environment is a user's, without npm's variables.
 */
function run(cwd: string, path: string, command: string, ...args: readonly string[]): Ran {
  // The certificates of a network belong to the system; npm cannot fetch a package without them.
  const own = Object.entries(process.env).filter(
    ([name]) => name === "NODE_EXTRA_CA_CERTS" || !/^(npm_|NODE_|VITEST)/i.test(name),
  );
  const env = { ...Object.fromEntries(own), PATH: path };
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, env, encoding: "utf8" });
  return { status, output: `${stdout}${stderr}` };
}

const usual = process.env["PATH"] ?? "";

/**
 * Packs the project. If `npm run prebuilds` was not run, the addon that was built on this system replaces the prebuilt
 * file.
 */
function packed(): string {
  const pack = ["pack", "--ignore-scripts", "--pack-destination", folder];
  const name = `node-kvm-${manifest.version}.tgz`;
  execFileSync("npm", pack, { cwd: PROJECT, stdio: "ignore" });
  if (existsSync(join(PROJECT, PREBUILT))) return join(folder, name);
  execFileSync("tar", ["xf", name], { cwd: folder });
  const unpacked = join(folder, "package");
  mkdirSync(dirname(join(unpacked, PREBUILT)), { recursive: true });
  copyFileSync(join(PROJECT, "build/Release/node_kvm.node"), join(unpacked, PREBUILT));
  execFileSync("npm", pack, { cwd: unpacked, stdio: "ignore" });
  return join(folder, name);
}

let tarball = "";
beforeAll(() => {
  tarball = packed();
});

function emptyFolder(name: string): string {
  const place = join(folder, name);
  mkdirSync(place, { recursive: true });
  writeFileSync(join(place, "package.json"), '{ "private": true, "type": "module" }\n');
  return place;
}

/** Installs packages; returns npm's error if a package cannot be fetched. */
function install(place: string, path: string, ...names: readonly string[]): string | undefined {
  const args = ["install", "--prefer-offline", "--no-audit", "--no-fund", ...names];
  const { status, output } = run(place, path, "npm", ...args);
  if (status === 0) return undefined;
  return `npm install ${names.join(" ")}: ${/npm error .*/.exec(output)?.[0] ?? output}`;
}

/** Matches npm's errors when a package cannot be fetched, but not its errors for an incompatible package. */
const UNREACHABLE =
  /E404|ENOTFOUND|ETIMEDOUT|ECONNREFUSED|EAI_AGAIN|ENETUNREACH|ETARGET|ENOTCACHED/;

const readme = readFileSync(join(PROJECT, "README.md"), "utf8");
const programs = blocksOfMarkdown("README.md", readme).filter(({ marks }) => /^run\b/.test(marks));

const listed = (process.env["NODE_KVM_NODES"] ?? "").split(":").filter((path) => path !== "");
const majorOf = (node: string): number =>
  Number(/v(\d+)/.exec(execFileSync(node, ["--version"], { encoding: "utf8" }))?.[1]);
const nodes = [process.execPath, ...listed].map((node) => [majorOf(node), node] as const);

/** Returns the folder of npm's programs: the npm of this system, or another version that the test installs. */
function npmFolder(version: string | undefined): string {
  if (version === undefined) {
    const found = usual.split(":").find((path) => existsSync(join(path, "npm"))) ?? "";
    return dirname(execFileSync("realpath", [join(found, "npm")], { encoding: "utf8" }).trim());
  }
  const place = emptyFolder(`npm-${version}`);
  const problem = install(place, usual, `npm@${version}`, "--force");
  return problem ?? join(place, "node_modules/npm/bin");
}

/** Makes a folder of programs without a compiler: Node.js, npm, and the programs that npm's scripts start. */
function programFolder(name: string, node: string, npm: string): string {
  const place = join(folder, name);
  mkdirSync(place);
  symlinkSync(node, join(place, "node"));
  for (const program of ["sh", "env"]) symlinkSync(`/usr/bin/${program}`, join(place, program));
  for (const program of ["npm", "npx"]) {
    const script = `#!/bin/sh\nexec node ${join(npm, `${program}-cli.js`)} "$@"\n`;
    writeFileSync(join(place, program), script, { mode: 0o755 });
  }
  return place;
}

const noDevice = deviceProblem();

describe.each(nodes)("in Node %i without a compiler, npm", (major, node) => {
  // npm 12 and vitest 5 need Node 22.
  const isOld = major < 22;
  const vitest = isOld ? "vitest@4" : "vitest@5";
  const place = emptyFolder(`node-${major}`);
  let programPath = "";
  let problem: string | undefined;
  beforeAll(() => {
    const npm = npmFolder(isOld ? undefined : "12");
    programPath = existsSync(npm) ? programFolder(`bin-${major}`, node, npm) : "";
    problem = programPath === "" ? npm : install(place, programPath, tarball);
  });

  test("installs the package, which loads its prebuilt addon", ({ skip }) => {
    if (problem !== undefined && UNREACHABLE.test(problem)) skip(problem);
    expect(problem).toBeUndefined();
    expect(existsSync(join(place, "node_modules/node-kvm/build"))).toBe(false);
    const program = 'import { GuestMemory } from "node-kvm"; GuestMemory.allocate(4096).close();';
    writeFileSync(join(place, "memory.js"), program);
    expect(run(place, programPath, "node", "memory.js")).toEqual({ status: 0, output: "" });
    const { output } = run(place, programPath, "npx", "node-kvm", "info");
    expect(output).toMatch(/^kernel /m);
    expect(output).not.toContain("addon");
  });

  test("installs the package, which runs the README's first program", ({ skip }) => {
    if (problem !== undefined && UNREACHABLE.test(problem)) skip(problem);
    if (noDevice !== undefined) skip(noDevice);
    writeFileSync(join(place, "first.js"), programs[0]?.code ?? "");
    const { status, output } = run(place, programPath, "node", "first.js");
    expect(output).toMatch(/^\{ kind: 'hlt' \}\nKVM_SET_CPUID2/);
    expect(status).toBe(0);
  });

  test(`installs the package and ${vitest}, which run the suite together`, ({ skip }) => {
    if (noDevice !== undefined) skip(noDevice);
    const refused = problem ?? install(place, programPath, "--save-dev", vitest);
    if (refused !== undefined && UNREACHABLE.test(refused)) skip(refused);
    expect(refused).toBeUndefined();
    const { status, output } = run(place, programPath, "npx", "node-kvm", "test");
    expect(output).toMatch(/^\d+ claims judged on .*, 0 fail, /m);
    expect(status).toBe(0);
  });
});

/** Writes the README's programs, and a program that imports each of the given entries. */
function writePrograms(place: string, entries: readonly string[]): void {
  for (const [i, { language, code }] of programs.entries()) {
    writeFileSync(join(place, `program-${i}.${language}`), code);
  }
  const imports = entries.map((name, i) => `export * as e${i} from "${join("node-kvm", name)}";\n`);
  writeFileSync(join(place, "entries.ts"), imports.join(""));
}

/** The entries whose declarations use types of @types/node. */
const withNode = ["./lab", "./worker"];
/** `./test` extends the declarations of vitest, which is not installed here. */
const NOT_HERE = ["./package.json", "./test"];
const entries = Object.keys(manifest.exports).filter((name) => !NOT_HERE.includes(name));

const MODULES = [
  ["--module", "nodenext"],
  ["--module", "esnext", "--moduleResolution", "bundler"],
];
/** A caught value has the type `unknown`, and JavaScript has no syntax to declare another type. */
const IN_JAVASCRIPT = ["--allowJs", "--checkJs", "--useUnknownInCatchVariables", "false"];

describe.each(["typescript@6", "typescript@7"])("a fresh project with %s", (typescript) => {
  test.for<[name: string, types: readonly string[], imported: readonly string[]]>([
    ["without @types/node", [], entries.filter((name) => !withNode.includes(name))],
    ["with @types/node", ["@types/node"], entries],
  ])("%s compiles the README's programs and its entries", ([name, types, imported], { skip }) => {
    const place = emptyFolder(`${typescript}-${name.replace(/\W+/g, "-")}`);
    const problem = install(place, usual, tarball, typescript, ...types);
    if (problem !== undefined && UNREACHABLE.test(problem)) skip(problem);
    expect(problem).toBeUndefined();
    const tsc = (...args: readonly string[]) => run(place, usual, "npx", "tsc", ...args);
    expect(tsc("--init").status).toBe(0);
    writePrograms(place, imported);
    for (const module of MODULES) {
      const args = [...module, ...IN_JAVASCRIPT, "--noEmit", "--skipLibCheck", "false"];
      expect(tsc(...args)).toEqual({ status: 0, output: "" });
    }
  });

  test("reports a compiler error that names the types of node-kvm/worker if @types/node is missing", ({
    skip,
  }) => {
    const place = join(folder, `${typescript}-without-types-node`);
    skip(!existsSync(join(place, "tsconfig.json")), `${typescript} cannot be fetched`);
    writePrograms(place, ["./worker"]);
    const { status, output } = run(
      place,
      usual,
      "npx",
      "tsc",
      "--noEmit",
      "--skipLibCheck",
      "false",
    );
    expect(output).toContain("Cannot find type definition file for 'node'");
    expect(status).not.toBe(0);
  });
});
