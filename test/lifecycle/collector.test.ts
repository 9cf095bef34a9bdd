/**
 * Tests that the garbage collector knows the size of dropped handles, so that a program runs out of neither memory nor
 * descriptors.
 */
import { describe, expect, test } from "vitest";
import { CLEAN, deviceProblem, runNode } from "./run-node.ts";

/** Runs Node with a limit of open descriptors. */
const limited = (descriptors: number): readonly string[] => [
  "sh",
  "-c",
  `ulimit -n ${descriptors} && exec "$0" "$@"`,
  process.execPath,
];

async function printed(script: string, argument: unknown, most: number): Promise<unknown> {
  const { stdout, ...ending } = await runNode(script, JSON.stringify(argument), limited(most));
  expect({ ...ending, stdout: "" }).toEqual(CLEAN);
  return JSON.parse(stdout);
}

interface Most {
  readonly residentMib: number;
  readonly descriptors: number;
}

describe("with garbage collection, a program that closes no handle", () => {
  const mostOf = async (name: string, times: number): Promise<Most> =>
    (await printed("dropped.js", [name, times], 1024)) as Most;

  test("uses less than 400 MiB for 100 populated memories of 32 MiB", async () => {
    expect((await mostOf("populated memory", 100)).residentMib).toBeLessThan(400);
  });

  test("uses fewer than 700 descriptors for 3,000 eventfds", async () => {
    expect((await mostOf("eventfd", 3000)).descriptors).toBeLessThan(700);
  });

  test("creates 1,000 VMs with a limit of 1,024 descriptors", async ({ skip }) => {
    const problem = deviceProblem();
    if (problem !== undefined) skip(problem);
    expect((await mostOf("vm and vcpu", 1000)).descriptors).toBeLessThan(1000);
  });
});

describe("the reason of EMFILE counts node-kvm's descriptors:", () => {
  const reasonOf = (own: number): string =>
    `all 64 descriptors that this process may have (RLIMIT_NOFILE, ulimit -n) are in use, ${own} ` +
    "of them by node-kvm: call close() on handles that are no longer needed; the garbage collector " +
    "closes dropped handles late, and only between turns of the event loop";

  const exhausted = async (name: string): Promise<unknown> => {
    const { own, ...error } = (await printed("exhausted.js", name, 64)) as { own: number };
    expect(own).toBeGreaterThan(20);
    return { ...error, isCounted: (error as { reason?: string }).reason === reasonOf(own) };
  };

  test.each([
    ["eventfd", "eventfd"],
    ["memfd", "memfd_create"],
    ["file", "open"],
  ])("%s", async (name, call) => {
    expect(await exhausted(name)).toMatchObject({ call, code: "EMFILE", isCounted: true });
  });

  test.for([
    ["/dev/kvm", "open"],
    ["vm", "KVM_CREATE_VM"],
  ] as const)("%s", async ([name, call], { skip }) => {
    const problem = deviceProblem();
    if (problem !== undefined) skip(problem);
    expect(await exhausted(name)).toMatchObject({ call, code: "EMFILE", isCounted: true });
  });
});

test("allocating and closing memory in a loop without the event loop fails with ENOMEM, and does not end the process", async () => {
  expect(await runNode("closed-memory.js", "")).toEqual(CLEAN);
});
