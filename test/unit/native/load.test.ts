/** Tests of finding and loading the addon's file: each cause of an error has a separate sentence. */
import { execFileSync, spawnSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { loadFailure } from "../../../lib/native.ts";

const folder = mkdtempSync(join(tmpdir(), "node-kvm-load-"));
afterAll(() => rmSync(folder, { recursive: true }));

const ADDON = createRequire(import.meta.url).resolve("../../../build/Release/node_kvm.node");

const DIST = join(import.meta.dirname, "../../../dist");

/**
 * Prints the path of the addon's file that was loaded, or the message of the error. The code in `before` runs before
 * the import.
 */
function printed(dist: string, env: Readonly<Record<string, string>>, before = ""): string {
  const index = pathToFileURL(join(dist, "index.js"));
  const program = `
    import { readFileSync } from "node:fs";
    ${before};
    const { GuestMemory } = await import(${JSON.stringify(index.href)});
    try {
      GuestMemory.allocate(4096);
      console.log(/\\/\\S*\\.node$/m.exec(readFileSync("/proc/self/maps", "latin1"))[0]);
    } catch (error) { console.log(error.message); }`;
  const { NODE_KVM_ADDON: _, ...rest } = process.env;
  return execFileSync(process.execPath, ["--input-type=module", "-e", program], {
    env: { ...rest, ...env },
    encoding: "utf8",
    timeout: 20_000,
  }).trimEnd();
}

const failure = (file: string): string => printed(DIST, { NODE_KVM_ADDON: file });

function written(name: string, bytes: Uint8Array | string): string {
  const file = join(folder, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, bytes);
  return file;
}

const addon = readFileSync(ADDON);

describe("an addon file that", () => {
  test("does not exist is reported with the variable that contains its path", () => {
    const file = join(folder, "missing.node");
    expect(failure(file)).toBe(
      `node-kvm's addon could not be loaded (${file}): NODE_KVM_ADDON names this file, which does not exist`,
    );
  });

  test.each([
    ["is empty", ""],
    ["is text", "this is no library\n".repeat(100)],
    ["was cut short", addon.subarray(0, 200)],
    ["was cut in its header", addon.subarray(0, 19)],
    ["was cut in the middle", addon.subarray(0, 30_000)],
    ["lacks its last byte", addon.subarray(0, -1)],
  ])("%s is reported as damaged", (name, bytes) => {
    const message = failure(written(`${name.replaceAll(" ", "-")}.node`, bytes));
    expect(message).toMatch(/the file is damaged/);
    expect(message).not.toContain("not exist");
  });

  test.each([
    ["aarch64", 18, 183],
    ["i386", 18, 3],
  ])("was built for %s is reported as a file for another architecture", (name, offset, machine) => {
    const bytes = Buffer.from(addon);
    bytes.writeUInt16LE(machine, offset);
    expect(failure(written(`${name}.node`, bytes))).toContain(
      `the addon was built for another architecture (ELF machine ${machine}); this is x86-64 (62)`,
    );
  });

  test("was built for musl is reported as a file for another C library", ({ skip }) => {
    skip(spawnSync("cc", ["--version"]).status !== 0, "there is no cc");
    const [libc, file] = [join(folder, "libc.so"), join(folder, "musl.node")];
    const shared = ["-shared", "-nostdlib", "-x", "c", "/dev/null", "-x", "none"];
    execFileSync("cc", [...shared, "-Wl,-soname,libc.so", "-o", libc]);
    execFileSync("cc", [...shared, "-Wl,--no-as-needed", libc, "-o", file]);
    expect(failure(file)).toContain("the addon was built for musl, but this Node uses glibc");
  });

  test.each([
    ["other", "module.exports = {};"],
    ["older", "module.exports = { mapAnonymous() {} };"],
  ])("is %s is reported as a file that is not this addon", (name, text) => {
    expect(failure(written(`${name}.cjs`, text))).toContain(
      "the file is a module, but not this addon",
    );
  });

  test.each(["a FIFO", "a folder"])("is %s is rejected before it is read", (kind) => {
    const file = join(folder, `${kind}.node`);
    if (kind === "a folder") mkdirSync(file);
    else execFileSync("mkfifo", [file]);
    expect(failure(file)).toContain(
      `(${file}): NODE_KVM_ADDON names this file, which is no regular`,
    );
  });

  test("exists is loaded, even under another name", () => {
    const copy = join(folder, "copy.node");
    copyFileSync(ADDON, copy);
    expect(failure(copy)).toBe(copy);
  });
});

describe("the package, once installed,", () => {
  const BUILT = "build/Release/node_kvm.node";
  const PREBUILT = "prebuilds/linux-x64/node_kvm.node";
  const MUSL = "prebuilds/linuxmusl-x64/node_kvm.node";

  /** Installs this package with these files, and returns its folder. */
  function installed(name: string, files: Readonly<Record<string, Uint8Array | string>>): string {
    const place = join(folder, name, "node_modules/node-kvm");
    cpSync(DIST, join(place, "dist"), { recursive: true });
    copyFileSync(join(DIST, "../package.json"), join(place, "package.json"));
    for (const [file, bytes] of Object.entries(files))
      written(relative(folder, join(place, file)), bytes);
    return place;
  }

  test("loads the prebuilt addon for glibc, and not that for musl", () => {
    const place = installed("prebuilt", { [PREBUILT]: addon, [MUSL]: "" });
    expect(printed(join(place, "dist"), {})).toBe(join(place, PREBUILT));
  });

  test("loads the addon in build/ and not the prebuilt addon", () => {
    const place = installed("built", { [BUILT]: addon, [PREBUILT]: "" });
    expect(printed(join(place, "dist"), {})).toBe(join(place, BUILT));
  });

  test("reports a damaged addon in build/, and does not load another addon instead", () => {
    const place = installed("damaged", { [BUILT]: "", [PREBUILT]: addon });
    expect(printed(join(place, "dist"), {})).toContain(
      `(${join(place, BUILT)}): the file is damaged`,
    );
  });

  test("loads the addon that NODE_KVM_ADDON names, although build/ and the package also contain an addon", () => {
    const place = installed("named", { [BUILT]: "", [PREBUILT]: "" });
    expect(printed(join(place, "dist"), { NODE_KVM_ADDON: ADDON })).toBe(ADDON);
  });

  test("reports the searched paths if it has no addon", () => {
    const place = installed("without", { [MUSL]: addon });
    expect(printed(join(place, "dist"), {})).toBe(
      `node-kvm's addon could not be loaded (${place}): neither ${BUILT} nor ${PREBUILT} exists ` +
        "(linux, x64, glibc); install node-kvm again or, in a clone, run `npm run build:native`",
    );
  });

  test.each([
    ["darwin", "arm64"],
    ["win32", "x64"],
    ["linux", "arm64"],
  ])("loads no addon on %s %s, and reports the required system", (platform, arch) => {
    const fake = `
      Object.defineProperty(process, "platform", { value: ${JSON.stringify(platform)} });
      Object.defineProperty(process, "arch", { value: ${JSON.stringify(arch)} });
      process.dlopen = () => { throw new Error("a native file was loaded"); }`;
    expect(printed(DIST, { NODE_KVM_ADDON: ADDON }, fake)).toBe(
      `node-kvm's addon needs Linux on x86-64; this is ${platform} on ${arch}`,
    );
  });
});

test("the message of musl's loader about an addon for glibc is explained", () => {
  const words =
    "Error loading shared library ld-linux-x86-64.so.2: No such file or directory (needed by x)";
  expect(loadFailure(new Error(words))).toBe(
    `the addon was built for glibc, but this Node uses musl (${words})`,
  );
});

test.each<[words: string, meaning: string]>([
  [
    "The module 'x' was compiled against a different Node.js version using NODE_MODULE_VERSION 115.",
    "the addon was built for another version of Node or another ABI",
  ],
  [
    "Module did not self-register: 'x'.",
    "the addon was built for another version of Node or another ABI",
  ],
  ["x: undefined symbol: node_api_set_prototype", "this version of Node lacks a Node-API function"],
  [
    "x: undefined symbol: _ZSt4cout",
    "a symbol is missing, so the addon was built against other libraries",
  ],
  [
    "/lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by x)",
    "the addon was built against a newer C or C++ library than this system has",
  ],
  ["x: cannot open shared object file: Permission denied", "no permission to read the file"],
  [
    "libfoo.so: cannot open shared object file: No such file or directory",
    "a shared library that the addon needs is missing",
  ],
  [
    "x: failed to map segment from shared object",
    "the system does not allow mapping the file as code",
  ],
  ["x: file too short", "the file is damaged"],
  [
    "Error relocating x: napi_wrap: symbol not found",
    "this version of Node lacks a Node-API function",
  ],
])("the loader's message %j about an addon is explained and quoted", (words, meaning) => {
  const text = loadFailure(
    Object.assign(new Error(`${words}\nmore`), { code: "ERR_DLOPEN_FAILED" }),
  );
  expect(text.startsWith(meaning)).toBe(true);
  expect(text.endsWith(`(${words})`)).toBe(true);
});

test("other messages of the loader about an addon are passed on unchanged", () => {
  expect(loadFailure(new Error("out of luck"))).toBe("out of luck");
});
