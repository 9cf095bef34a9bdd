/** Tests of the output and the exit status of failed commands, by the kind of error. */
import { Command } from "commander";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { CommandError, reportFailure, setTroubleStatus } from "../../../lib/cli/failure.ts";
import { AddonError, KvmError } from "../../../lib/errors.ts";
import { NotAnEnd } from "../../../lib/lab/bisect.ts";
import { LabError } from "../../../lib/lab/error.ts";

let stderr = "";
beforeEach(() => {
  stderr = "";
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    stderr += String(text);
    return true;
  });
});
afterEach(() => vi.restoreAllMocks());

test.each<[error: Error, status: number, line: string]>([
  [new CommandError("bad input"), 2, "bad input"],
  [new AddonError("not built"), 2, "not built"],
  [new NotAnEnd("6.1", "good", "skip"), 2, "6.1 was given as good, but is skip"],
  [new LabError("ERR_LAB_TOOL", "no QEMU"), 2, "no QEMU"],
  [new LabError("ERR_LAB_INTERRUPTED", "interrupted"), 130, "interrupted"],
  [
    new KvmError({ call: "open", object: "/dev/kvm", errno: 2, reason: "no device" }),
    2,
    "open (/dev/kvm): ENOENT: no device",
  ],
])(
  "the failure of a command by %s prints one line and ends with status %i",
  (error, status, line) => {
    expect(reportFailure(error, undefined)).toBe(status);
    expect(stderr).toBe(`node-kvm: ${line}\n`);
  },
);

test("an unexpected error prints its stack, and the command's status differs from the status of a failed claim", () => {
  const error = new TypeError("a bug");
  expect(reportFailure(error, undefined)).toBe(2);
  expect(stderr).toBe(`node-kvm: unexpected error, please report it:\n${error.stack}\n`);
});

test("a command may have its own status for failures, but not for interruptions", () => {
  const exec = new Command("exec");
  setTroubleStatus(exec, () => 125);
  expect(reportFailure(new CommandError("bad input"), exec)).toBe(125);
  expect(reportFailure(new LabError("ERR_LAB_INTERRUPTED", "interrupted"), exec)).toBe(130);
});
