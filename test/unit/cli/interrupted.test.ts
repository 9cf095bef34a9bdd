/** Tests of an interrupted `node-kvm test`: it ends in order and reports the judged claims. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
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

/** Waits until a process has ended; its parent may not have noticed this. */
async function ended(pid: number): Promise<void> {
  const path = `/proc/${pid}/stat`;
  const state = (): string | undefined =>
    existsSync(path) ? /\) (.)/.exec(readFileSync(path, "utf8"))?.[1] : undefined;
  await expect.poll(state, { timeout: 30_000 }).toBeOneOf(["Z", undefined]);
}

/** Starts the command in a process group, as a terminal does, because a terminal sends Ctrl-C to all of the group. */
function inGroup(...args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [MAIN, "test", ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
}

/** Sends Ctrl-C to the group of a command as soon as the command has a child process; returns that process. */
async function interruptChild(command: number, order: "any" | "child first"): Promise<number> {
  // Each millisecond counts: the worker is to be interrupted before it is ready.
  while (childrenOf(command).length === 0) await sleep(1);
  const [worker = 0] = childrenOf(command);
  // A stopped process handles its own signal and the end of its child in one turn of the event loop.
  if (order === "child first") process.kill(command, "SIGSTOP");
  process.kill(-command, "SIGINT");
  await ended(worker);
  if (order === "child first") process.kill(command, "SIGCONT");
  return worker;
}

test.each(["any", "child first"] as const)(
  "Ctrl-C while vitest's worker starts ends node-kvm test with status 130, in the order: %s",
  async (order) => {
    const child = inGroup();
    const closed = new Promise((resolve) => child.once("close", resolve));
    const worker = await interruptChild(child.pid ?? 0, order);
    expect(await closed).toBe(130);
    await expect.poll(() => existsSync(`/proc/${worker}`), { timeout: 30_000 }).toBe(false);
  },
  60_000,
);
