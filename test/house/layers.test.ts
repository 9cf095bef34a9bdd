/**
 * Tests of the layers: the imports that are allowed between the folders of lib/, and the files that may import a
 * package.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, posix, relative } from "node:path";
import ts from "typescript";
import { describe, expect, test } from "vitest";

const LIB = join(import.meta.dirname, "..", "..", "lib");

/** The files that every folder of lib/ may import. */
const OPEN: readonly string[] = ["errors.ts", "inspect.ts", "options.ts"];

/** Maps each folder to the folders that it may import, besides itself and {@link OPEN}. */
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  "errors.ts": [],
  "inspect.ts": [],
  "options.ts": [],
  "native.ts": ["package.ts"],
  "package.ts": [],
  abi: [],
  cpuid: ["abi"],
  guest: ["abi"],
  oracle: ["cpuid", "abi"],
  explain: ["oracle", "cpuid", "abi"],
  state: ["oracle", "cpuid", "abi"],
  page: ["cpuid", "oracle"],
  report: [],
  trace: ["abi"],
  lab: ["report", "guest", "package.ts"],
  kvm: ["native.ts", "abi", "cpuid", "explain", "state", "trace"],
  machine: ["kvm", "guest", "abi"],
  worker: ["kvm", "abi"],
  suite: [
    "index.ts",
    "package.ts",
    "abi",
    "cpuid",
    "guest",
    "machine",
    "oracle",
    "report",
    "trace",
  ],
  explore: ["index.ts", "package.ts", "abi", "cpuid", "oracle", "suite", "trace"],
  // The public entry and the command are the two top layers.
  "index.ts": ["cpuid", "kvm"],
  cli: [
    ...["package.ts", "abi", "cpuid", "guest", "report", "state", "kvm", "lab", "suite"],
    ...["oracle", "explore"],
  ],
};

/**
 * From each of these folders, lib/suite may import only the public entry, because a user's claims can import nothing
 * else.
 */
const PUBLIC: readonly string[] = ["abi", "cpuid", "guest", "machine", "oracle", "trace"];

/**
 * lib/page has two halves: browser/ runs in the browser's page, and the engine runs in a worker. browser/ may import
 * only protocol.ts and words.ts of the engine's half; the worker's program may also import the engine.
 */
const isBrowser = (file: string): boolean => file.startsWith("page/browser/");
const mayEnterEngine = (file: string, target: string): boolean =>
  target === "page/protocol.ts" ||
  target === "page/words.ts" ||
  (file === "page/browser/worker.ts" && target === "page/engine.ts");

/** The files that may import a package. */
const PACKAGES: Readonly<Record<string, (file: string) => boolean>> = {
  "iced-x86": (file) => file === "guest/iced.ts",
  commander: (file) => file.startsWith("cli/"),
  vitest: (file) => file.startsWith("cli/") || file.startsWith("suite/"),
};

const room = (file: string): string => file.split("/")[0] ?? "";

/** Returns the package of a specifier: `vitest/node` belongs to vitest, `@a/b/c` to @a/b. */
const packageOf = (specifier: string): string =>
  specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");

function judge(file: string, specifier: string): string | undefined {
  if (specifier.startsWith("node:")) return undefined;
  if (!specifier.startsWith(".")) {
    const allowed = PACKAGES[packageOf(specifier)]?.(file) ?? false;
    return allowed ? undefined : `lib/${file} may not import ${specifier}`;
  }
  const target = posix.join(posix.dirname(file), specifier);
  const [from, to] = [room(file), room(target)];
  const isPublic = from !== "suite" || !PUBLIC.includes(to) || target === `${to}/index.ts`;
  if (isBrowser(file) && !isBrowser(target) && !mayEnterEngine(file, target)) {
    return `lib/${file} may not import lib/${target}`;
  }
  const allowed =
    from === to || OPEN.includes(to) || ((LAYERS[from] ?? []).includes(to) && isPublic);
  return allowed ? undefined : `lib/${file} may not import lib/${target}`;
}

/** Lists the imports that a file's layer forbids, including type imports, `import()` and `export from`. */
function violations(file: string, text: string): readonly string[] {
  const { importedFiles } = ts.preProcessFile(text, true, true);
  return importedFiles.flatMap(({ fileName }) => judge(file, fileName) ?? []);
}

const sources = readdirSync(LIB, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
  .map((entry) => relative(LIB, join(entry.parentPath, entry.name)).replaceAll("\\", "/"))
  .sort();

test.each(sources)("lib/%s imports only folders that its layer allows", (file) => {
  expect(Object.keys(LAYERS)).toContain(room(file));
  expect(violations(file, readFileSync(join(LIB, file), "utf8"))).toEqual([]);
});

describe("the check of the layers", () => {
  test.each([
    ["cpuid/planted.ts", 'import { native } from "../native.ts";'],
    ["machine/planted.ts", 'import type { NativeFd } from "../native.ts";'],
    ["abi/planted.ts", 'import { CpuidTable } from "../cpuid/index.ts";'],
    ["page/planted.ts", 'import { Kvm } from "../kvm/kvm.ts";'],
    ["page/browser/planted.ts", 'import { CpuidTable } from "../../cpuid/index.ts";'],
    ["page/browser/planted.ts", 'import { createEngine } from "../engine.ts";'],
    ["page/browser/planted.ts", 'import { quoted } from "../../options.ts";'],
    ["abi/generated/planted.ts", 'export * from "../../kvm/kvm.ts";'],
    ["report/planted.ts", 'const abi = await import("../abi/index.ts");'],
    ["explain/planted.ts", 'import { Kvm } from "../kvm/kvm.ts";'],
    ["oracle/planted.ts", 'import { known } from "../explain/refusal.ts";'],
    ["cpuid/planted.ts", 'import { KVM_OWNED } from "../oracle/index.ts";'],
    ["kvm/planted.ts", 'import { Kvm } from "../index.ts";'],
    ["errors.ts", 'import { explainOpen } from "./explain/open.ts";'],
    ["guest/planted.ts", 'import * as iced from "iced-x86";'],
    ["kvm/planted.ts", 'import { Command } from "commander";'],
    ["guest/iced.ts", 'import something from "@else/else/where";'],
    ["suite/planted.ts", 'import { record } from "../trace/record.ts";'],
    ["kvm/planted.ts", 'import { test } from "vitest";'],
  ])("finds a planted import in lib/%s: %s", (file, text) => {
    expect(violations(file, `/** Planted. */\n${text}\n`)).toHaveLength(1);
  });

  test.each([
    [
      "kvm/fine.ts",
      'import { native } from "../native.ts";\nimport { KvmError } from "../errors.ts";',
    ],
    ["cpuid/fine.ts", 'import { entry } from "./entry.ts";\nimport { join } from "node:path";'],
    ["guest/iced.ts", 'import type { Code } from "iced-x86";'],
    ["page/browser/fine.ts", 'import type { Reply } from "../protocol.ts";'],
    ["page/browser/fine.ts", 'import { counted } from "../words.ts";'],
    ["page/browser/worker.ts", 'import { createEngine } from "../engine.ts";'],
    ["suite/fine.ts", 'import { record } from "../trace/index.ts";'],
  ])("accepts an allowed import in lib/%s: %s", (file, text) => {
    expect(violations(file, text)).toEqual([]);
  });
});

/** Lists the other folders that a folder's files import, without the files that every folder may import. */
function importedRooms(name: string): readonly string[] {
  const rooms = sources
    .filter((file) => room(file) === name)
    .flatMap((file) => {
      const text = readFileSync(join(LIB, file), "utf8");
      return ts
        .preProcessFile(text, true, true)
        .importedFiles.filter(({ fileName }) => fileName.startsWith("."))
        .map(({ fileName }) => room(posix.join(posix.dirname(file), fileName)));
    });
  return Array.from(new Set(rooms)).filter((to) => to !== name && !OPEN.includes(to));
}

test.each(Object.entries(LAYERS))(
  "lib/%s imports every folder that its layer allows",
  (name, allowed) => {
    expect(importedRooms(name).toSorted()).toEqual(allowed.toSorted());
  },
);

test("every folder in the table of layers exists", () => {
  expect(
    Object.keys(LAYERS).filter((name) => !sources.some((file) => room(file) === name)),
  ).toEqual([]);
});
