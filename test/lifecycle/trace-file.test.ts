/**
 * Tests of traces that cannot be written: the traced process continues and ends as it does without a trace. The tests
 * need no KVM.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";

const SCRIPT = fileURLToPath(new URL("trace-file.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "trace-file-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs the script with its trace written to a path. */
function traced(path: string) {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, [SCRIPT], {
    encoding: "utf8",
    env: { ...process.env, NODE_KVM_TRACE: path },
    timeout: 20_000,
    killSignal: "SIGKILL",
  });
  return { status, signal, stdout, stderr };
}

function fifo(name: string): string {
  const path = join(folder, name);
  execFileSync("mkfifo", [path]);
  return path;
}

test.for<[string, string, string]>([
  ["a full disk", "/dev/full", "ENOSPC"],
  ["a folder", folder, "EISDIR"],
  ["a folder that is not there", join(folder, "none", "a.ndjson"), "ENOENT"],
])(
  "a trace whose output file is %s ends with one warning, and the program continues",
  ([, path, code]) => {
    const { stderr, ...ending } = traced(path);
    expect(ending).toEqual({ status: 0, signal: null, stdout: "done" });
    expect(stderr.match(/NODE_KVM_TRACE/g)).toHaveLength(1);
    expect(stderr).toContain(code);
  },
);

test("a trace whose output is a pipe without a reader ends with one warning", () => {
  const { stderr, ...ending } = traced(fifo("unread"));
  expect(ending).toEqual({ status: 0, signal: null, stdout: "done" });
  expect(stderr).toMatch(/NODE_KVM_TRACE.*ENXIO/);
});

test("a trace whose output is a pipe with a reader that stops ends with one warning", async () => {
  const path = fifo("stalled");
  // The reader opens the pipe but reads nothing.
  const reader = spawn("sh", ["-c", 'exec 3<"$0"; echo open; exec sleep 60', path], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const holder = spawn("sh", ["-c", 'exec 3>"$0"; exec sleep 60', path], { stdio: "ignore" });
  try {
    await new Promise((resolve) => reader.stdout.once("data", resolve));
    const { stderr, ...ending } = traced(path);
    expect(ending).toEqual({ status: 0, signal: null, stdout: "done" });
    expect(stderr).toMatch(/NODE_KVM_TRACE.*EAGAIN/);
  } finally {
    reader.kill("SIGKILL");
    holder.kill("SIGKILL");
  }
});

test("a trace's output file has a line for each step", () => {
  const path = join(folder, "a.ndjson");
  expect(traced(path)).toEqual({ status: 0, signal: null, stdout: "done", stderr: "" });
  const lines = readFileSync(path, "utf8").trimEnd().split("\n");
  expect(lines.map((line) => (JSON.parse(line) as { kind: string }).kind)).toEqual(
    new Array(2000).fill("open"),
  );
});
