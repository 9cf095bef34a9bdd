/** Tests of running the system's programs: how they end, and processes that they leave. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { run, runOk } from "../../../../lib/lab/process/command.ts";
import { FakeApt } from "../archive/fake-apt.ts";

afterEach(() => vi.unstubAllEnvs());

test("the lab returns the output, the messages and the exit status of a program, for any status", async () => {
  const output = await run("sh", ["-c", "echo out; echo err >&2; exit 3"]);
  expect(output).toEqual({
    program: "sh",
    status: 3,
    stdout: Buffer.from("out\n"),
    stderr: "err\n",
  });
});

test("if a program must succeed but fails, the lab's error has the program's last lines", async () => {
  await expect(runOk("sh", ["-c", "echo why >&2; exit 3"])).rejects.toMatchObject({
    code: "ERR_LAB_TOOL",
    message: "sh failed with status 3: why",
  });
});

test("the lab passes on a program's progress in complete lines", async () => {
  const lines: string[] = [];
  const onStatus = (line: string): void => {
    lines.push(line);
  };
  await run("sh", ["-c", "printf 'a\\nb' >&3; printf 'c\\n' >&3"], { onStatus });
  expect(lines).toEqual(["a", "bc"]);
});

test("the lab kills a program that repeats its progress forever", async () => {
  const script = "while :; do echo same >&3; sleep 0.01; done";
  await expect(run("sh", ["-c", script], { stallMs: 300 })).rejects.toMatchObject({
    code: "ERR_LAB_TOOL",
    message: expect.stringContaining("sh made no progress and was killed"),
  });
});

test("the lab's error about a missing program names the program", async () => {
  await expect(run("no-such-program", [])).rejects.toMatchObject({
    code: "ERR_LAB_TOOL",
    message: "no-such-program is not on this machine; install it",
  });
});

test("the lab does not start a program after its signal was aborted", async () => {
  const signal = AbortSignal.abort();
  await expect(run("no-such-program", [], { signal })).rejects.toMatchObject({
    code: "ERR_LAB_INTERRUPTED",
  });
});

test("apt-get ends when the lab command that started it ends, even if this command is killed", async () => {
  const main = join(import.meta.dirname, "../../../../dist/cli/main.js");
  const apt = new FakeApt();
  apt.addKernel(RELEASE, "6.12.1-1", "trixie");
  apt.answer("fault", 'echo $$ > "$FAKE/pid"; exec sleep 1000');
  const env = { ...process.env, NODE_KVM_CACHE: apt.cache.root };
  const args = [main, "lab", "kernels", "--fetch", RELEASE];
  const command = spawn(process.execPath, args, { env, stdio: "ignore" });
  await expect.poll(() => apt.read("pid"), { timeout: 30_000 }).toMatch(/^\d+\n$/);
  const pid = Number(apt.read("pid"));
  expect(isThere(pid)).toBe(true);
  command.kill("SIGKILL");
  await expect.poll(() => isThere(pid), { timeout: 30_000 }).toBe(false);
}, 60_000);

const RELEASE = "6.12.1+deb13-cloud-amd64";

function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false; // ESRCH
  }
}
