/**
 * Tests of package.json and the repository's files: the entries exist, and no file names a package registry or a path
 * of its author's machine.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, type TestContext, test } from "vitest";

const PROJECT = join(import.meta.dirname, "..", "..");
const read = (file: string): string => readFileSync(join(PROJECT, file), "utf8");

interface Manifest {
  readonly exports: Readonly<Record<string, string | Readonly<Record<string, string>>>>;
  readonly bin: Readonly<Record<string, string>>;
}

const manifest = JSON.parse(read("package.json")) as Manifest;

/** Maps a built file to its source: `./dist/x.d.ts` and `./dist/x.js` are built from lib/x.ts. */
const sourceOf = (file: string): string =>
  file.replace(/^(\.\/)?dist\//, "lib/").replace(/(\.d\.ts|\.js)$/, ".ts");

const entries = [...Object.values(manifest.exports), ...Object.values(manifest.bin)].flatMap(
  (target) => (typeof target === "string" ? [target] : Object.values(target)),
);

test.each(entries)("the entry %s of package.json has a source file", (file) => {
  expect(existsSync(join(PROJECT, sourceOf(file)))).toBe(true);
});

test("every entry of package.json lists its types first", () => {
  const conditions = Object.values(manifest.exports).filter((target) => typeof target === "object");
  expect(conditions.map((target) => Object.keys(target))).toEqual(
    conditions.map(() => ["types", "default"]),
  );
});

test.each(["package-lock.json", "test/mutation/stryker/package-lock.json"])(
  "%s contains no address of a package registry",
  (file) => {
    const { packages } = JSON.parse(read(file)) as {
      packages: Readonly<
        Record<string, { readonly resolved?: string; readonly integrity?: string }>
      >;
    };
    const names = Object.keys(packages).filter((name) => name !== "");
    expect(names.filter((name) => packages[name]?.resolved !== undefined)).toEqual([]);
    expect(names.filter((name) => packages[name]?.integrity === undefined)).toEqual([]);
  },
);

/** Patterns for the path of a user's folder, and for the address or the token of a registry. */
const MACHINE = [
  /(?<![\w.~])\/(?:home|Users|workspace|workspaces)\/[\w.-]+/,
  /\b[A-Z]:\\Users\\/,
  /_authToken|\/\/[^\s/"'`]*(?:registry|artifactory|nexus|verdaccio)[^\s/"'`]*\//i,
  /^registry\s*=\s*https?:/m,
];
/** Folders that exist on every machine, so files may name them. */
const EVERYWHERE = ["/", "/tmp", "/var/tmp"];
const here = [PROJECT, dirname(PROJECT), homedir()].filter((path) => !EVERYWHERE.includes(path));
const HERE = here.map((path) => new RegExp(`(?<![\\w.~-])${path.replaceAll(".", "\\.")}/`));

function tells(text: string): readonly string[] {
  return [...MACHINE, ...HERE].flatMap((pattern) => pattern.exec(text)?.[0] ?? []);
}

/** Lists the files that are in the repository or that git does not ignore. */
function tracked({ skip }: TestContext): readonly string[] {
  const args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
  const { status, stdout } = spawnSync("git", args, { cwd: PROJECT, encoding: "utf8" });
  skip(status !== 0, "not a git checkout");
  const isThere = (file: string): boolean =>
    file !== "" && existsSync(join(PROJECT, file)) && statSync(join(PROJECT, file)).isFile();
  return stdout.split("\0").filter(isThere);
}

test("no file names a package registry, or a path of its author's machine", (context) => {
  const own = join("test", "house", "manifest.test.ts");
  const files = tracked(context).filter((file) => file !== own);
  const telling = files.map((file) => [file, tells(read(file))] as const);
  expect(files.length).toBeGreaterThan(50);
  expect(telling.filter(([, found]) => found.length > 0)).toEqual([]);
});

describe("the search for registries and machine paths", () => {
  test.each([
    "see /home/someone/project",
    'open("/Users/someone/x")',
    "https://registry.example.org/some-package/-/some-package-1.0.0.tgz",
    "https://npm-registry.example.org:4873/x",
    "registry=https://example.org/",
    "//example.org/:_authToken=0",
    `${PROJECT}/lib/index.ts`,
  ])("finds %s", (text) => {
    expect(tells(text)).not.toEqual([]);
  });

  test.each([
    "/dev/kvm",
    "/sys/module/kvm_amd",
    "./home/page",
    "https://docs.kernel.org/virt/kvm/",
  ])("accepts %s", (text) => {
    expect(tells(text)).toEqual([]);
  });
});
