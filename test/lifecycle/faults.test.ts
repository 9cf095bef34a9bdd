/**
 * Tests that after each failed call of the addon, a program succeeds or gets an error that names the call.
 * faults/calls.js lists the calls that fail.
 */
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "..", "..");
const OBJECTS = join(ROOT, "build/Release/obj.target/node_kvm/native");
const HEADERS = join(dirname(dirname(process.execPath)), "include/node");
const ADDON_API = join(ROOT, "node_modules/node-addon-api");

/** A sanitizer that is preloaded into this process must not be loaded into the compiler. */
const { LD_PRELOAD: _, ...env } = process.env;
const run = (command: string, args: readonly string[]): SpawnSyncReturns<string> =>
  spawnSync(command, args, { cwd: ROOT, env, encoding: "utf8" });
const faults = (...args: readonly string[]): SpawnSyncReturns<string> =>
  run(process.execPath, ["scripts/faults.js", ...args]);

const folder = mkdtempSync(join(tmpdir(), "planted-"));
afterAll(() => rmSync(folder, { recursive: true }));

beforeEach(({ skip }) => {
  if (run("cc", ["--version"]).status !== 0) skip("no C compiler");
});

/**
 * `node scripts/faults.js` tests all calls, in four minutes. On a loaded machine, each call may take five times as
 * long.
 */
test("if each of the first calls of each kind fails in turn, no program hangs, crashes, leaks or has a misleading error", () => {
  const { status, stdout } = faults("--most", "2", "--scale", "5");
  expect({ status, stdout }).toEqual({ status: 0, stdout: expect.stringMatching(/ 0 bad, /) });
});

test("scripts/faults.js fails if a program makes no call", () => {
  expect(faults("--only", "a permission", "--calls", "eventfd").status).toBe(1);
});

/** Builds an addon with one source changed; the other object files are those of the build. */
function plant(source: string, [right, wrong]: readonly [string, string]): string {
  const text = readFileSync(join(ROOT, "native", `${source}.cc`), "utf8");
  expect(text).toContain(right);
  const [changed, addon] = [join(folder, `${source}.cc`), join(folder, `${source}.node`)];
  writeFileSync(changed, text.replace(right, wrong));
  const others = readdirSync(OBJECTS).filter(
    (name) => name !== `${source}.o` && name.endsWith(".o"),
  );
  const made = run("g++", [
    ...["-std=c++20", "-O1", "-shared", "-fPIC", "-fno-exceptions", "-fvisibility=hidden"],
    ...["-DNAPI_VERSION=8", "-DNODE_ADDON_API_DISABLE_DEPRECATED"],
    "-DNAPI_DISABLE_CPP_EXCEPTIONS",
    ...["-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS", "-DBUILDING_NODE_EXTENSION"],
    ...["-I", join(ROOT, "native"), "-I", ADDON_API, "-I", HEADERS, "-o", addon, changed],
    ...others.map((name) => join(OBJECTS, name)),
  ]);
  expect(made.stderr).toBe("");
  return addon;
}

describe("scripts/faults.js fails for a call whose result is not checked:", () => {
  beforeEach(({ skip }) => {
    if (!existsSync(OBJECTS) || !existsSync(HEADERS)) skip("no objects or headers of the build");
  });

  test.each([
    [
      "host_file",
      ["if (fd < 0) return Napi::Number::New(env, -errno);", ""],
      ["an eventfd", "eventfd"],
      "misleading: an eventfd: eventfd number 1: EMFILE: KvmError: read (eventfd): EBADF",
    ],
    [
      "mapping",
      ["if (fd->get() < 0) return Refused", "if (false) return Refused"],
      ["guest memory: shared", "memfd_create"],
      "misleading: guest memory: shared: memfd_create number 1: EMFILE: KvmError: ftruncate",
    ],
  ] as const)("%s.cc", (source, change, [only, calls], line) => {
    const addon = plant(source, change);
    const { status, stdout } = faults("--addon", addon, "--only", only, "--calls", calls);
    expect({ status, stdout }).toEqual({ status: 1, stdout: expect.stringContaining(line) });
  });
});
