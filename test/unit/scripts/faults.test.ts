/** Tests of the arguments of scripts/faults.js. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";

const SCRIPT = join(import.meta.dirname, "../../../scripts/faults.js");

function faults(...args: readonly string[]): {
  status: number | null;
  stdout: string;
  stderr: string;
} {
  return spawnSync(process.execPath, [SCRIPT, ...args], { encoding: "utf8" });
}

test("scripts/faults.js --help prints the usage and ends with status 0", () => {
  expect(faults("--help")).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/^usage: node scripts\/faults\.js .*--errors N/s),
    stderr: "",
  });
});

test("scripts/faults.js with an unknown option prints one line and the usage without a stack, and ends with status 2", () => {
  const { status, stdout, stderr } = faults("--nosuch");
  expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
  expect(stderr).toMatch(/^faults\.js: Unknown option '--nosuch'\nusage: /);
  expect(stderr).not.toMatch(/^\s+at /m);
});
