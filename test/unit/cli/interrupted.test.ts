/** Tests of an interrupted `node-kvm test`: it ends in order and reports the judged claims. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { beforeEach, expect, test } from "vitest";
import { MAIN } from "./command.ts";

const DEVICE = process.env["NODE_KVM_DEVICE"] ?? "/dev/kvm";

/** Waits until the command has judged this many claims. */
function judged(child: ChildProcess, claims: number): Promise<void> {
  let lines = 0;
  return new Promise((resolve) => {
    child.stderr?.on("data", (bytes: Buffer) => {
      lines += bytes.toString().split("\n").length - 1;
      if (lines >= claims) resolve();
    });
  });
}

/** Returns the ids of a process's child processes. */
function childrenOf(pid: number): readonly number[] {
  const path = `/proc/${pid}/task/${pid}/children`;
  return existsSync(path) ? readFileSync(path, "utf8").split(" ").filter(Boolean).map(Number) : [];
}

beforeEach(({ skip }) => {
  skip(!existsSync(DEVICE), `there is no ${DEVICE}`);
});

test.each(["SIGINT", "SIGTERM"] as const)(
  "the signal %s ends node-kvm test with status 130 and the report of the claims that were judged",
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

test("Ctrl-C while vitest's worker starts ends node-kvm test with status 130", async () => {
  const child = spawn(process.execPath, [MAIN, "test"], {
    stdio: ["ignore", "pipe", "pipe"],
    // The command has a separate process group, because a terminal sends Ctrl-C to all processes of the group.
    detached: true,
  });
  const { pid = 0 } = child;
  const closed = new Promise((resolve) => child.once("close", resolve));
  await expect.poll(() => childrenOf(pid).length, { timeout: 30_000, interval: 1 }).toBe(1);
  const [worker = 0] = childrenOf(pid);
  process.kill(-pid, "SIGINT");
  expect(await closed).toBe(130);
  expect(existsSync(`/proc/${worker}`)).toBe(false);
}, 60_000);
