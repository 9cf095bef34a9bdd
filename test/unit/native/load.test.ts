/** Tests of an addon that cannot be loaded: the message names the cause. */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { loadFailure } from "../../../lib/native.ts";

const folder = mkdtempSync(join(tmpdir(), "node-kvm-load-"));
afterAll(() => rmSync(folder, { recursive: true }));

const ADDON = createRequire(import.meta.url).resolve("../../../build/Release/node_kvm.node");

/** Returns the message and the cause's code, from a process that loads this file as the addon. */
function failure(file: string): string {
  const native = pathToFileURL(join(import.meta.dirname, "../../../dist/index.js"));
  const program = `
    import { GuestMemory } from ${JSON.stringify(native.href)};
    try { GuestMemory.allocate(4096); console.log("loaded"); } catch (error) { console.log(error.message); }`;
  return execFileSync(process.execPath, ["--input-type=module", "-e", program], {
    env: { ...process.env, NODE_KVM_ADDON: file },
    encoding: "utf8",
  });
}

function written(name: string, bytes: Uint8Array | string): string {
  const file = join(folder, name);
  writeFileSync(file, bytes);
  return file;
}

describe("an addon that", () => {
  test("does not exist was not built", () => {
    const message = failure(join(folder, "missing.node"));
    expect(message).toMatch(
      /missing\.node\): it was not built, because no such file exists; it is built by/,
    );
  });

  test.each([
    ["is empty", ""],
    ["is text", "this is no library\n".repeat(100)],
    ["was cut short", readFileSync(ADDON).subarray(0, 200)],
  ])("%s is not an addon for this machine", (name, bytes) => {
    const message = failure(written(`${name.replaceAll(" ", "-")}.node`, bytes));
    expect(message).toMatch(/the file is no addon for this machine, or was cut short/);
    expect(message).not.toContain("not built");
  });

  test("is another module is not this addon", () => {
    expect(failure(written("other.cjs", "module.exports = {};"))).toContain(
      "the file is a module, but not this addon",
    );
  });

  test("is there is loaded, under another name too", () => {
    const copy = join(folder, "copy.node");
    copyFileSync(ADDON, copy);
    expect(failure(copy)).toBe("loaded\n");
  });
});

test.each<[words: string, meaning: string]>([
  [
    "The module 'x' was compiled against a different Node.js version using NODE_MODULE_VERSION 115.",
    "it was built for another version of Node or another ABI",
  ],
  ["Module did not self-register: 'x'.", "it was built for another version of Node or another ABI"],
  ["x: undefined symbol: node_api_set_prototype", "this version of Node lacks a Node-API function"],
  [
    "x: undefined symbol: _ZSt4cout",
    "a symbol is missing, so it was built against other libraries",
  ],
  [
    "/lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by x)",
    "it was built against a newer C or C++ library than this system has",
  ],
  ["x: cannot open shared object file: Permission denied", "no permission to read the file"],
  [
    "libfoo.so: cannot open shared object file: No such file or directory",
    "a shared library that it needs is missing",
  ],
  [
    "x: failed to map segment from shared object",
    "the system does not let the file be mapped as code",
  ],
  ["x: wrong ELF class: ELFCLASS32", "the file is no addon for this machine"],
])("the loader's message %j is explained and quoted", (words, meaning) => {
  const text = loadFailure(
    Object.assign(new Error(`${words}\nmore`), { code: "ERR_DLOPEN_FAILED" }),
  );
  expect(text.startsWith(meaning)).toBe(true);
  expect(text.endsWith(`(${words})`)).toBe(true);
});

test("other messages of the loader are passed on unchanged", () => {
  expect(loadFailure(new Error("out of luck"))).toBe("out of luck");
});
