/** Claims about `node-kvm test` that is interrupted: it ends in order and reports what it judged. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { beforeEach, expect, test } from "vitest";
import { MAIN } from "./command.ts";

const DEVICE = process.env["NODE_KVM_DEVICE"] ?? "/dev/kvm";

/** Waits until so many claims were judged. */
function judged(child: ChildProcess, claims: number): Promise<void> {
  let lines = 0;
  return new Promise((resolve) => {
    child.stderr?.on("data", (bytes: Buffer) => {
      lines += bytes.toString().split("\n").length - 1;
      if (lines >= claims) resolve();
    });
  });
}

beforeEach(({ skip }) => {
  skip(!existsSync(DEVICE), `there is no ${DEVICE}`);
});

test.each(["SIGINT", "SIGTERM"] as const)(
  "%s ends the suite with status 130 and the report of the claims that were judged",
  async (signal) => {
    const args = [MAIN, "test", "--reporter", "json", "--progress"];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    let stdout = "";
    child.stdout.on("data", (bytes: Buffer) => {
      stdout += bytes.toString();
    });
    const closed = new Promise((resolve) => child.once("close", resolve));
    await judged(child, 5);
    child.kill(signal);
    expect(await closed).toBe(130);
    const { results } = JSON.parse(stdout) as { results: readonly unknown[] };
    expect(results.length).toBeGreaterThanOrEqual(5);
  },
  60_000,
);
