/**
 * Tests of the packed package: it has no install script, it contains the sources of all source maps, and its addons
 * load on old systems.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import manifest from "../../package.json" with { type: "json" };
import { findingsOf, prebuiltFile } from "../../scripts/elf.js";

const PROJECT = join(import.meta.dirname, "..", "..");

/** Returns the paths that `npm pack` puts into the package. */
function packed(): readonly string[] {
  const args = ["pack", "--dry-run", "--json", "--ignore-scripts"];
  const text = execFileSync("npm", args, { cwd: PROJECT, encoding: "utf8", stdio: "pipe" });
  const [{ files }] = JSON.parse(text) as [{ files: readonly { readonly path: string }[] }];
  return files.map(({ path }) => path);
}

const files = packed();

describe("the published package", () => {
  test("contains all files that the entries of package.json name", () => {
    const entries = Object.values(manifest.exports).flatMap((entry) =>
      typeof entry === "string" ? [entry] : Object.values(entry),
    );
    const missing = [...entries, ...Object.values(manifest.bin)]
      .map((path) => path.replace("./", ""))
      .filter((path) => !files.includes(path));
    expect(missing).toEqual([]);
  });

  test("runs no script when it is installed", () => {
    const hooks = ["preinstall", "install", "postinstall", "prepare"];
    expect(hooks.filter((name) => name in manifest.scripts)).toEqual([]);
    // Without `gypfile: false`, `npm publish` adds `node-gyp rebuild`, because the repository has a binding.gyp.
    expect(manifest.gypfile).toBe(false);
    expect(files.filter((path) => /\.gypi?$|^native\/|^scripts\//.test(path))).toEqual([]);
  });

  test("can be installed on every system", () => {
    const limits = ["os", "cpu", "libc"];
    expect(Object.keys(manifest).filter((name) => limits.includes(name))).toEqual([]);
  });

  test("contains the sources of its source maps", () => {
    const maps = files.filter((path) => path.endsWith(".map"));
    const missing = maps.flatMap((path) => {
      const { sources } = JSON.parse(readFileSync(join(PROJECT, path), "utf8")) as {
        readonly sources: readonly string[];
      };
      return sources
        .map((source) => join(dirname(path), source))
        .filter((source) => !source.includes("\0") && !files.includes(source));
    });
    expect(maps.length).toBeGreaterThan(100);
    expect(missing).toEqual([]);
  });

  test("has a source map for each declaration file and for the code that several entries share", () => {
    // The helpers of rolldown have no sources, and lib.js contains only imports.
    const mapped = files.filter((path) =>
      /^dist\/(.*\.d\.ts|shared\/(?!usingCtx|lib\b|oracle\b)\w+\.js)$/.test(path),
    );
    expect(mapped.length).toBeGreaterThan(100);
    expect(mapped.filter((path) => !files.includes(`${path}.map`))).toEqual([]);
  });
});

const folder = mkdtempSync(join(tmpdir(), "node-kvm-elf-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Links a shared library that exports the functions of an addon, with the given linker options. */
function linked(name: string, source: string, ...options: readonly string[]): string {
  const file = join(folder, name);
  const addon = `
    __attribute__((visibility("default"))) void napi_register_module_v1(void) {}
    __attribute__((visibility("default"))) void node_api_module_get_api_version_v1(void) {}`;
  execFileSync(
    "cc",
    ["-shared", "-fPIC", "-fvisibility=hidden", "-O1", "-x", "c", "-", ...options, "-o", file],
    { input: `${addon}\n${source}\n`, stdio: ["pipe", "ignore", "inherit"] },
  );
  return file;
}

describe("the check of a prebuilt addon's ELF file", () => {
  test("accepts a library that needs only Node-API and an old glibc", () => {
    const file = linked("fine.node", "int napi_wrap(void); int f(void) { return napi_wrap(); }");
    expect(findingsOf(file, "glibc")).toEqual([]);
  });

  test("rejects the addon that was built on this system", () => {
    const found = findingsOf(join(PROJECT, "build/Release/node_kvm.node"), "glibc");
    expect(found).toContain("needs libstdc++.so.6");
    expect(found.join("\n")).toMatch(/^needs GLIBCXX_/m);
    expect(found.join("\n")).toMatch(/^exports _Z/m);
  });

  test.each([
    ["has an executable stack", "", ["-Wl,-z,execstack"]],
    ["has RUNPATH", "", ["-Wl,-rpath,/nowhere", "-Wl,--enable-new-dtags"]],
    ["has RPATH", "", ["-Wl,-rpath,/nowhere", "-Wl,--disable-new-dtags"]],
    ["exports extra", '__attribute__((visibility("default"))) int extra;', []],
    [
      "needs other, which neither Node.js nor glibc defines",
      "int other(void); int (*f)(void) = other;",
      [],
    ],
  ])("reports that a file %s", (finding, source, options) => {
    expect(findingsOf(linked("planted.node", source, ...options), "glibc")).toEqual([finding]);
  });

  test("reports a missing export, and a glibc dependency in a file for musl", () => {
    const file = join(folder, "empty.node");
    execFileSync("cc", ["-shared", "-x", "c", "/dev/null", "-o", file]);
    expect(findingsOf(file, "glibc")).toEqual([
      "does not export napi_register_module_v1",
      "does not export node_api_module_get_api_version_v1",
    ]);
    expect(
      findingsOf(linked("libc.node", "int getpid(void); int (*f)(void) = getpid;"), "musl"),
    ).toContain("needs libc.so.6");
  });

  test.for([
    ["linux-x64", "glibc"],
    ["linuxmusl-x64", "musl"],
  ] as const)("accepts prebuilds/%s", ([target, library], { skip }) => {
    const file = prebuiltFile(PROJECT, target);
    skip(!existsSync(file), "npm run prebuilds has not made it");
    expect(findingsOf(file, library)).toEqual([]);
  });
});

test("the folder prebuilds/ contains only the expected folders", () => {
  const found = existsSync(join(PROJECT, "prebuilds"))
    ? readdirSync(join(PROJECT, "prebuilds"))
    : [];
  expect(found.filter((name) => !["linux-x64", "linuxmusl-x64"].includes(name))).toEqual([]);
});
