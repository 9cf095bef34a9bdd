/** Tests of a command's output file: the old content remains until the new content is complete. */
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { OutputFile, saveReport } from "../../../lib/cli/output-file.ts";

let folder = "";
let path = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "output-"));
  path = join(folder, "report");
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

const read = (): string => readFileSync(path, "utf8");

test("an output file keeps its old content and permissions until commit()", () => {
  writeFileSync(path, "before");
  chmodSync(path, 0o640);
  const file = OutputFile.open("--output", path);
  file.write("after ");
  file.write("all");
  expect(read()).toBe("before");
  file.commit();
  expect(read()).toBe("after all");
  expect(statSync(path).mode & 0o777).toBe(0o640);
  expect(readdirSync(folder)).toEqual(["report"]);
});

test("discard() keeps the old content of an output file, and leaves no other file", () => {
  writeFileSync(path, "before");
  const file = OutputFile.open("--output", path);
  file.write("half");
  file.discard();
  expect(read()).toBe("before");
  expect(readdirSync(folder)).toEqual(["report"]);
});

test("an unfinished output file is removed when the process ends", () => {
  const before = process.listeners("exit");
  const file = OutputFile.open("--output", path);
  file.write("half");
  const [added] = process.listeners("exit").filter((listener) => !before.includes(listener));
  added?.(0);
  expect(readdirSync(folder)).toEqual([]);
  expect(process.listeners("exit")).toEqual(before);
});

test("an output file behind a symlink is replaced, and the symlink remains", () => {
  writeFileSync(join(folder, "real"), "before");
  symlinkSync("real", path);
  const file = OutputFile.open("--output", path);
  file.write("after");
  file.commit();
  expect(lstatSync(path).isSymbolicLink()).toBe(true);
  expect(readFileSync(join(folder, "real"), "utf8")).toBe("after");
});

test("an output path that is a device is written in place", () => {
  const file = OutputFile.open("--output", "/dev/null");
  file.write("text");
  file.commit();
  expect(statSync("/dev/null").isCharacterDevice()).toBe(true);
});

test.each([
  ["missing/report", "ENOENT: no such file or directory"],
  ["file/report", "ENOTDIR: not a directory"],
  ["folder", "EISDIR: illegal operation on a directory"],
])("the output path %s is rejected when it is opened: %s", (name, reason) => {
  writeFileSync(join(folder, "file"), "");
  mkdirSync(join(folder, "folder"));
  const place = join(folder, name);
  expect(() => OutputFile.open("--output", place)).toThrow(
    `--output: ${place} cannot be written: ${reason}`,
  );
});

test("a report whose output file cannot be written is printed on standard output", () => {
  const written: string[] = [];
  const spy = (text: string | Uint8Array): boolean => written.push(String(text)) > 0;
  vi.spyOn(process.stdout, "write").mockImplementation(spy);
  vi.spyOn(process.stderr, "write").mockImplementation(spy);
  const full = OutputFile.open("--output", "/dev/full");
  expect(saveReport("the report\n", full)).toBe(false);
  expect(written).toEqual([
    "node-kvm: --output: /dev/full cannot be written: ENOSPC: no space left on device; the report goes to standard output\n",
    "the report\n",
  ]);
});

test("a report that was saved to a file is not printed", () => {
  const spy = vi.spyOn(process.stdout, "write");
  expect(saveReport("the report\n", OutputFile.open("--output", path))).toBe(true);
  expect(read()).toBe("the report\n");
  expect(spy).not.toHaveBeenCalled();
});
