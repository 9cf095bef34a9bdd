/** Tests of mistakes that users often make with KVM: each error names the cause. Needs KVM. */
import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { defaultDevice } from "../../../lib/kvm/kvm.ts";
import { CAUSES, PROGRAM, type Said, unexplained } from "./wrong-calls.ts";

test("the table of mistakes has more than twenty rows, and the program makes each mistake", () => {
  const made = Array.from(
    readFileSync(PROGRAM, "utf8").matchAll(/^ {2}"([^"]+)": \(\) =>/gm),
    ([, name]) => name,
  );
  expect(made.length).toBeGreaterThan(20);
  expect(made).toEqual(Object.keys(CAUSES));
});

test("the error of each mistake in the table has a reason on this host", async ({ skip }) => {
  skip(!existsSync(defaultDevice()), `there is no ${defaultDevice()}`);
  skip(!existsSync(join(import.meta.dirname, "../../../dist/index.js")), "dist/ is not built");
  const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM]);
  const said = JSON.parse(stdout) as readonly Said[];
  expect(unexplained(said)).toEqual([]);
  expect(said).toHaveLength(Object.keys(CAUSES).length);
});

test("the test of mistakes detects an error that does not name the cause", () => {
  const planted = { name: "overlapping slots", text: "KVM_SET_USER_MEMORY_REGION (vm): EEXIST" };
  expect(unexplained([planted, { name: "unheard of", text: "" }])).toHaveLength(2);
});
