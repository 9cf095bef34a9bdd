/**
 * Tests of waits for eventfds that end in every way, each in a separate process that must end cleanly. The tests need
 * no KVM.
 */
import { expect, test } from "vitest";
import { CLEAN, type Ending, runNode } from "./run-node.ts";

const run = (way: string): Promise<Ending> => runNode("waits.js", JSON.stringify(way));

test.each([
  "a wait prevents the process from exiting",
  "a wait that has ended does not prevent the process from exiting",
  "an aborted wait does not prevent the process from exiting",
  "signals() that was left does not prevent the process from exiting",
  "a closed eventfd does not prevent the process from exiting",
  "an eventfd that is waited for is not collected",
  "eventfds are collected after their waits have ended",
  "the process exits",
  "the process exits when it is signalled",
  "the process waits when it ends",
  "the process exits while workers wait",
  "a worker throws",
  "a worker ends by itself",
  "a worker exits",
  "workers and the main thread each wait for their own",
  "a worker is terminated while it waits",
  "workers are terminated while they are signalled",
  "workers are terminated while they open, wait and close",
])("a process that waits for an eventfd: %s", async (way) => {
  expect(await run(way)).toEqual(CLEAN);
});

test("an exception ends a process that waits for an eventfd", async () => {
  expect(await run("the process throws")).toMatchObject({
    code: 1,
    signal: null,
    stdout: "",
    stderr: expect.stringContaining("Error: thrown on purpose"),
  });
});
