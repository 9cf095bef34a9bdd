/** Tests of handles that are opened, used and closed in unusual orders, each in a process that must end cleanly. */
import { beforeEach, describe, expect, test } from "vitest";
import { CLOSE, live, MADE, type Order, RAN, type Stage } from "./orders.ts";
import { CLEAN, deviceProblem } from "./run-node.ts";

const problem = deviceProblem();
beforeEach(({ skip }) => {
  if (problem !== undefined) skip(problem);
});

function permutations<T>(items: readonly T[]): readonly (readonly T[])[] {
  if (items.length === 0) return [[]];
  return items.flatMap((item, at) =>
    permutations(items.toSpliced(at, 1)).map((rest) => [item, ...rest]),
  );
}

const HANDLES = ["kvm", "vm", "vcpu", "memory"] as const;

describe("closing handles in any order is safe, and the vCPU runs until its own close():", () => {
  test.each(permutations(HANDLES).map((order) => ({ order, name: order.join(", ") })))(
    "$name",
    async ({ order }) => {
      const steps = order.flatMap((handle, at) => [
        `close ${handle}`,
        `use closed ${handle}`,
        order.indexOf("vcpu") <= at ? "run closed" : "run",
      ]);
      expect(await live([...RAN, "view", ...steps, "view is empty", "no descriptors"])).toEqual(
        CLEAN,
      );
    },
  );
});

describe("dropped handles are collected and closed in any order:", () => {
  test.each(permutations(HANDLES).map((order) => ({ order, name: order.join(", ") })))(
    "$name",
    async ({ order }) => {
      const steps = order.flatMap((handle) => [`drop ${handle}`, "gc"]);
      expect(await live([...RAN, ...steps, "no descriptors"])).toEqual(CLEAN);
    },
  );
});

const CLEAN_LIVES: Readonly<Record<string, Order>> = {
  "nothing is closed before the process ends": RAN,
  "only /dev/kvm is opened": ["kvm"],
  "everything is closed twice": [...RAN, ...CLOSE, ...CLOSE],
  "closed before it ran": [...MADE, ...CLOSE, "run closed"],
  "memory is closed before its VM is made": ["memory", "close memory", "kvm", "vm", "close vm"],
  "memory is closed while its slot is live, and the vCPU runs": [
    ...RAN,
    "view",
    "close memory",
    "view is empty",
    "gc",
    "run",
    "run",
  ],
  "memory is dropped while its slot is live, and the vCPU runs": [
    ...RAN,
    "drop memory",
    "gc",
    "run",
  ],
  "memory and VM are gone, and the vCPU runs": [
    ...RAN,
    "close memory",
    "close vm",
    "drop memory",
    "drop vm",
    "close kvm",
    "gc",
    "run",
  ],
  "the slot of closed memory is deleted": [
    ...RAN,
    "close memory",
    "delete slot",
    "gc",
    "run without memory",
  ],
  "memory outlives its slot": [...RAN, "view", "delete slot", "gc", "view is live", "close memory"],
  "a view outlives its dropped memory": [
    ...RAN,
    "view",
    "drop memory",
    "gc",
    ...CLOSE.slice(0, 2),
    "gc",
    "view is live",
  ],
  "two memories follow each other in one slot": [
    ...RAN,
    "delete slot",
    "close memory",
    "memory",
    "slot",
    "run",
    "gc",
    "run",
  ],
  "a slot that is taken refuses other memory, and the vCPU runs": [
    ...RAN,
    "memory",
    "slot refused",
    "gc",
    "run",
  ],
  "memory that was moved can be touched after closing": [
    ...RAN,
    "move",
    "run",
    "close memory",
    "moved can be touched",
    "gc",
    "moved can be touched",
  ],
  "memory that was moved is collected before closing": [
    ...RAN,
    "move",
    "moved can be touched",
    "gc",
    "run",
    ...CLOSE,
    "gc",
    "moved can be touched",
  ],
  "memory is closed under a job that writes into it": [
    ...RAN,
    "job",
    "close memory",
    "drop memory",
    "gc",
    ...CLOSE.slice(0, 2),
    "gc",
    "job ends",
  ],
  "a new program sees none of the descriptors": [...RAN, "exec"],
  "only workers use the addon, one after the other": [
    { workers: [RAN], end: "naturally" },
    { workers: [RAN], end: "naturally" },
    { workers: [[...RAN, ...CLOSE]], end: "naturally" },
    "gc",
    "no descriptors",
  ],
  "four workers each run a VM": [
    { workers: [RAN, RAN, [...RAN, ...CLOSE], RAN], end: "naturally" },
    "no descriptors",
  ],
  "workers end by themselves, and the main thread's vCPU runs": [
    ...RAN,
    { workers: [RAN, RAN], end: "naturally" },
    "gc",
    "run",
    ...CLOSE,
    "no descriptors",
  ],
  "workers are terminated while they work, and the main thread's vCPU runs": [
    ...RAN,
    ...Array<Stage>(8).fill({
      workers: [
        ["kvm", "forever"],
        ["kvm", "forever"],
      ],
      end: "terminated",
    }),
    "gc",
    "run",
    ...CLOSE,
    "no descriptors",
  ],
  "a worker throws, and the main thread's vCPU runs": [
    ...RAN,
    { workers: [[...RAN, "throw"]], end: "throwing" },
    "run",
  ],
  "a worker exits, and the main thread's vCPU runs": [
    ...RAN,
    { workers: [[...RAN, "exit"]], end: "naturally" },
    "run",
  ],
  "memory of a worker that has ended can be touched where it was moved to": [
    { workers: [[...RAN, "post moved"]], end: "naturally" },
    "moved can be touched",
    "gc",
    "moved can be touched",
  ],
  "memory of a worker that has closed it can be touched where it was moved to": [
    { workers: [[...RAN, "post moved", ...CLOSE]], end: "naturally" },
    "gc",
    "moved can be touched",
  ],
};

describe("a process with open handles exits cleanly", () => {
  test.each(Object.entries(CLEAN_LIVES))("%s", async (_, order) => {
    expect(await live(order)).toEqual(CLEAN);
  });
});

const EXITING_LIVES: Readonly<Record<string, Order>> = {
  "with everything open": [...RAN, "exit"],
  "while the process ends": [...RAN, "exit later"],
  "with everything dropped": [...RAN, "drop vm", "drop memory", "drop vcpu", "exit"],
  "with memory closed and its slot live": [...RAN, "close memory", "exit"],
  "with memory moved": [...RAN, "move", "exit"],
  "under a job that writes into closed memory": [...RAN, "job", "close memory", "exit"],
  "while workers work": [
    {
      workers: [
        ["kvm", "forever"],
        ["kvm", "forever"],
      ],
      end: "abandoned",
    },
    ...RAN,
    "exit",
  ],
};

describe("process.exit() ends a process with open handles", () => {
  test.each(Object.entries(EXITING_LIVES))("%s", async (_, order) => {
    expect(await live(order)).toEqual({ ...CLEAN, code: 7 });
  });
});

test("an uncaught error ends a process with a running guest, and prints only the error's message", async () => {
  const { stderr, ...ending } = await live([...RAN, "throw"]);
  expect(ending).toEqual({ code: 1, signal: null, stdout: "" });
  expect(stderr).toMatch(/^Error: thrown on purpose$/m);
  expect(stderr).not.toMatch(/native stack|assert|sanitizer/i);
});
