/**
 * Tests of the files that `lab exec` copies out of the guest: they are written only to the paths that the user named.
 */
import {
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { parseOut, writeOut } from "../../../lib/cli/lab-out.ts";
import { temporaryFolder } from "../lab/temporary.ts";

const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text));
const files = (paths: Readonly<Record<string, string>>): ReadonlyMap<string, Uint8Array> =>
  new Map(Object.entries(paths).map(([path, text]) => [path, bytes(text)]));

let root = "";
let target = "";
beforeEach(() => {
  root = temporaryFolder();
  target = join(root, "target");
  mkdirSync(join(root, "mine"));
  writeFileSync(join(root, "mine/x"), "mine");
});

const write = (guest: string, paths: Readonly<Record<string, string>>): readonly string[] =>
  writeOut(files(paths), [parseOut(guest, target)]);
const mine = (): string => readFileSync(join(root, "mine/x"), "utf8");

describe("a path that lab exec copies out of the guest", () => {
  test("may be a folder, which is written with its content", () => {
    expect(write("/o/", { "/o/a": "1", "/o/d/e/b": "2", "/other": "3" })).toEqual([]);
    expect(readFileSync(join(target, "a"), "utf8")).toBe("1");
    expect(readFileSync(join(target, "d/e/b"), "utf8")).toBe("2");
    expect(readdirSync(target).sort()).toEqual(["a", "d"]);
  });

  test("may be a file, even if a part of the user's host path is a symlink", () => {
    symlinkSync(join(root, "mine/x"), target);
    expect(write("/o/a", { "/o/a": "1" })).toEqual([]);
    expect(mine()).toBe("1");
  });

  test("is written below the current folder by default", () => {
    vi.spyOn(process, "cwd").mockReturnValue(root);
    const problems = writeOut(files({ "/none": "" }), [parseOut("/o")]);
    expect(problems).toEqual(["the guest has no /o"]);
    vi.restoreAllMocks();
  });

  test("replaces the files that an earlier run wrote", () => {
    write("/o", { "/o/a": "long and old" });
    expect(write("/o", { "/o/a": "new" })).toEqual([]);
    expect(readFileSync(join(target, "a"), "utf8")).toBe("new");
  });
});

describe("lab exec does not write a file of the guest", () => {
  test("through a symlink to a file", () => {
    mkdirSync(target);
    symlinkSync(join(root, "mine/x"), join(target, "a"));
    expect(write("/o", { "/o/a": "theirs", "/o/b": "2" })).toEqual([
      `${join(target, "a")} cannot be written: the link a is not followed`,
    ]);
    expect(mine()).toBe("mine");
    expect(readFileSync(join(target, "b"), "utf8")).toBe("2");
  });

  test("through a dangling symlink", () => {
    mkdirSync(target);
    symlinkSync(join(root, "mine/new"), join(target, "a"));
    expect(write("/o", { "/o/a": "theirs" })).toHaveLength(1);
    expect(existsSync(join(root, "mine/new"))).toBe(false);
  });

  test("through a symlink to a folder, at any depth", () => {
    mkdirSync(join(target, "d"), { recursive: true });
    symlinkSync(join(root, "mine"), join(target, "l"));
    symlinkSync("../../mine", join(target, "d/l"));
    expect(write("/o", { "/o/l/x": "theirs", "/o/d/l/x": "theirs", "/o/l/n/y": "" })).toEqual([
      `${join(target, "l/x")} cannot be written: the link l is not followed`,
      `${join(target, "d/l/x")} cannot be written: the link l is not followed`,
      `${join(target, "l/n/y")} cannot be written: the link l is not followed`,
    ]);
    expect(mine()).toBe("mine");
    expect(readdirSync(join(root, "mine"))).toEqual(["x"]);
  });

  test("into a file that has another hard link", () => {
    mkdirSync(target);
    linkSync(join(root, "mine/x"), join(target, "a"));
    expect(write("/o", { "/o/a": "theirs" })).toEqual([]);
    expect(mine()).toBe("mine");
    expect(readFileSync(join(target, "a"), "utf8")).toBe("theirs");
  });

  test.each([
    ["in a folder's place", { "/o/d": "" }, "EISDIR: illegal operation on a directory"],
    ["below a file", { "/o/f/x": "" }, "ENOTDIR: not a directory"],
  ])("if the target is %s; the error shows the user's path, not /proc/self/fd", (_, paths, why) => {
    mkdirSync(join(target, "d"), { recursive: true });
    writeFileSync(join(target, "f"), "");
    const [problem, ...more] = write("/o", paths);
    expect(problem).toContain(` cannot be written: ${why}`);
    expect(problem).not.toContain("/proc/");
    expect(more).toEqual([]);
    expect(readdirSync(target).sort()).toEqual(["d", "f"]);
  });
});

test("lab exec reports a requested file that the guest does not have", () => {
  expect(write("/o", {})).toEqual(["the guest has no /o"]);
});

test("lab exec rejects a relative guest path before it boots a machine", () => {
  expect(() => parseOut("out", "x")).toThrow('the guest path "out" is not absolute');
});
