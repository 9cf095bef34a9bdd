/**
 * Tests that an unavailable mapped page (SIGBUS) reads as zeros; each access happens in a separate process, which must
 * survive. The tests also show that any other SIGBUS ends the process, as it does without this package.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { CLEAN, deviceProblem, type Ending, runNode } from "./run-node.ts";

// A sanitizer would report a SIGBUS outside of guest memory, and end the process in a different way.
process.env["ASAN_OPTIONS"] = `${process.env["ASAN_OPTIONS"] ?? ""}:handle_sigbus=0`;

function run(way: string): Promise<Ending> {
  const directory = mkdtempSync(join(tmpdir(), "node-kvm-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  return runNode("lost.js", JSON.stringify([way, directory]));
}

describe("guest memory whose file was truncated can be accessed without SIGBUS", () => {
  test.each([
    "by index",
    "by read and write",
    "by what Buffer does natively",
    "by a job on another thread",
    "by a system call, which returns EFAULT",
    "in more places than the kernel has mappings for",
    "and other written pages keep their content",
    "and closes",
    "where it was moved to",
    "of hundreds of mappings at once",
    "of huge pages that ran out",
    "in workers, all at once",
    "while a listener for SIGBUS comes and goes",
    "with two copies of the addon",
  ])("%s", async (way) => {
    expect(await run(way)).toEqual(CLEAN);
  });

  test("while a VM has the memory; the guest continues only after the host has accessed the memory", async ({
    skip,
  }) => {
    const problem = deviceProblem();
    if (problem !== undefined) skip(problem);
    expect(await run("while a VM has it")).toEqual(CLEAN);
  });
});

describe("a SIGBUS outside of guest memory ends the process", () => {
  test.each([
    "sent by kill",
    "sent by kill, after a page was lost",
    "sent by kill, when its worker's addon was unloaded",
    "sent by kill, with two copies of the addon",
    "from memory that is not ours",
    "from memory that is not ours, with two copies of the addon",
  ])("%s", async (way) => {
    expect(await run(way)).toEqual({ code: null, signal: "SIGBUS", stdout: "", stderr: "" });
  });

  test("but a SIGBUS from kill() calls the process's listener", async () => {
    expect(await run("to a listener")).toEqual(CLEAN);
  });
});
