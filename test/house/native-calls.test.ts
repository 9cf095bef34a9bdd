/**
 * Tests that native/ uses the result of every system call, libuv call and Node-API call, and that the table of injected
 * faults lists every call.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FAILING, UNFAILING } from "../lifecycle/faults/calls.js";

const PROJECT = join(import.meta.dirname, "..", "..");
const NATIVE = join(PROJECT, "native");
const ADDON = join(PROJECT, "build", "Release", "node_kvm.node");

const CANNOT_FAIL = /^it (cannot fail|ends the process)$/;
/** Matches calls whose result must be used, by their names in the sources. */
const judged = [
  ...Object.keys(FAILING),
  ...Object.entries(UNFAILING).flatMap(([call, { reason }]) =>
    CANNOT_FAIL.test(reason) ? [] : [call],
  ),
  // Functions whose name in the source differs from the name of the imported symbol.
  ...["dup", "mlock", "mremap", "pipe2", "prctl", "pthread_join", "pwrite", "sched_setaffinity"],
  ...["sem_timedwait", "sem_trywait", "sigprocmask"],
].map((call) => call.replace(/64$/, "").replace("raw mmap", "mmap"));

/** Matches calls of node-addon-api wrappers that report a failure as a pending exception and an empty value. */
const UNCHECKED_WRAPPERS =
  /\.(?:Set|Get|Has|Delete)\("|\.(?:TypeTag|CheckTypeTag|ToBoolean|ToNumber|ToString|ToObject|HasOwnProperty)\(/;

/** Replaces comments and strings by blanks of the same length, so that offsets stay valid. */
const withoutComments = (source: string): string =>
  source.replaceAll(/\/\/[^\n]*|"(?:[^"\\\n]|\\.)*"/g, (found) => " ".repeat(found.length));

/** Returns the comment that directly precedes an offset, or that follows it on the same line. */
function hasReason(source: string, offset: number): boolean {
  const lineStart = source.lastIndexOf("\n", offset) + 1;
  const lineEnd = source.indexOf("\n", offset);
  const before = source.slice(0, lineStart).trimEnd().split("\n").slice(-3);
  return [...before, source.slice(lineStart, lineEnd)].some((line) =>
    /\/\/ *(?!NOLINT)\S/.test(line),
  );
}

/** Lists calls whose result is unused, and casts to void without a stated reason. */
function ignored(source: string): readonly string[] {
  const code = withoutComments(source);
  const found: string[] = [];
  for (const match of code.matchAll(new RegExp(`(?<![\\w.>])(${judged.join("|")})\\s*\\(`, "g"))) {
    const before = code.slice(0, match.index).trimEnd().replace(/::$/, "").trimEnd();
    const isStatement = /[;{}]$|\b(?:else|do)$/.test(before) || endsCondition(before);
    const isVoid = /static_cast<void>\($/.test(before);
    if (isStatement || (isVoid && !hasReason(source, match.index))) found.push(match[1] ?? "");
  }
  return found;
}

/** Returns whether a statement starts at this offset because `if (…)`, `while (…)` or `for (…)` ends before it. */
function endsCondition(before: string): boolean {
  if (!before.endsWith(")")) return false;
  let depth = 0;
  for (let at = before.length - 1; at >= 0; at -= 1) {
    if (before[at] === ")") depth += 1;
    if (before[at] === "(") depth -= 1;
    if (depth === 0) return /\b(?:if|while|for|switch)\s*$/.test(before.slice(0, at));
  }
  return false;
}

const sources = readdirSync(NATIVE)
  .filter((file) => /\.(cc|h)$/.test(file))
  .map((file) => [file, readFileSync(join(NATIVE, file), "utf8")] as const);

test.each(sources)(
  "in %s, the result of each system call is used, or a reason is stated",
  (_, source) => {
    expect(ignored(source)).toEqual([]);
  },
);

test.each(sources)(
  "%s calls only wrappers of node-addon-api whose failures can be detected",
  (_, source) => {
    const lines = source.split("\n").filter((line) => UNCHECKED_WRAPPERS.test(line));
    expect(lines).toEqual([]);
  },
);

describe("the search for unused results in native code", () => {
  test.each([
    ["void F() { close(fd); }", ["close"]],
    ["void F() { if (fd >= 0) close(std::exchange(fd, -1)); }", ["close"]],
    ["void F() { if (a) b(); else munmap(p, n); }", ["munmap"]],
    ["void F() {\n  ::ioctl(fd, 1);\n}", ["ioctl"]],
    ["void F() {\n  a();\n  napi_get_cb_info(env, info);\n}", ["napi_get_cb_info"]],
    ["void F() {\n  static_cast<void>(sem_post(&s));\n}", ["sem_post"]],
  ])("finds %j", (source, calls) => {
    expect(ignored(source)).toEqual(calls);
  });

  test.each([
    "int F() { return close(fd); }",
    "bool F() { return close(fd) == 0 && munmap(p, n) == 0; }",
    "void F() { if (close(fd) != 0) return; }",
    "void F() { const int e = ioctl(fd, 1); }",
    "void F() { Check(madvise(p, n, 1)); }",
    "void F() {\n  // It cannot pass the highest value.\n  static_cast<void>(sem_post(&s));\n}",
    "void F() {\n  static_cast<void>(sem_post(&s));  // it wakes a thread that may be awake\n}",
    "void F() { handle.close(); handle->close(); }",
    "// close(fd);",
  ])("accepts %j", (source) => {
    expect(ignored(source)).toEqual([]);
  });

  test("finds a wrapper call whose failure cannot be detected", () => {
    const wrong = [
      'object.Set("a", 1)',
      'object.Get("a")',
      "object.TypeTag(&tag)",
      "v.ToBoolean()",
    ];
    expect(wrong.filter((line) => UNCHECKED_WRAPPERS.test(line))).toEqual(wrong);
  });
});

const nm = spawnSync("nm", ["--version"]);
const isJudgeable = nm.status === 0 && existsSync(ADDON);

/** Lists the addon's imports, except those of the C++ runtime and the compiler. */
function imported(): readonly string[] {
  const output = execFileSync("nm", ["--dynamic", "--undefined-only", ADDON], { encoding: "utf8" });
  return output
    .split("\n")
    .map((line) => line.trim().split(/\s+/).at(-1)?.replace(/@.*/, "") ?? "")
    .filter((name) => name !== "" && !name.startsWith("_"));
}

test.skipIf(!isJudgeable)(
  "each function that the addon imports is in the table of injected faults",
  () => {
    const imports = imported();
    const known = { ...FAILING, ...UNFAILING };
    expect(imports.length).toBeGreaterThan(50);
    expect(imports.filter((name) => !(name in known))).toEqual([]);
  },
);

/** The addon makes these calls through syscall(), and imports no functions with these names. */
const BY_NUMBER = ["arch_prctl", "gettid", "raw mmap", "tgkill"];

test.skipIf(!isJudgeable)(
  "the table of injected faults has only functions that the addon imports",
  () => {
    const imports = imported();
    const known = Object.keys({ ...FAILING, ...UNFAILING }).filter(
      (name) => !BY_NUMBER.includes(name),
    );
    expect(known.filter((name) => !imports.includes(name))).toEqual([]);
  },
);

test("no function is both in the table of injected faults and in the list of functions that never fail", () => {
  expect(Object.keys(FAILING).filter((name) => name in UNFAILING)).toEqual([]);
});
