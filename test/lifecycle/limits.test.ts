/** Tests of spinning guests in processes with a resource limit that makes the calls for ending a run fail. */
import { beforeEach, describe, expect, test } from "vitest";
import { CLOSE, live, MADE, type Order } from "./orders.ts";
import { CLEAN, deviceProblem } from "./run-node.ts";

const problem = deviceProblem();
beforeEach(({ skip }) => {
  if (problem !== undefined) skip(problem);
});

/** Returns the command that runs Node under a limit that a shell command sets. */
const under = (limit: string): readonly string[] => [
  ...["sh", "-c", `{ ${limit}; } && exec "$@"`, "sh"],
  process.execPath,
];

/** With this limit, sending a real-time signal fails with EAGAIN. Not every shell supports `ulimit -i`. */
const NO_SIGNALS = under("ulimit -i 0 2>/dev/null || prlimit --sigpending=0:0 --pid $$");
/** Node itself needs about 30 descriptors. */
const FEW_DESCRIPTORS = under("ulimit -n 96");

const SPINS: Order = ["the signal queue has no room", ...MADE, "spin"];

describe("while the signal queue is full, a guest that spins on another thread", () => {
  const orders: Readonly<Record<string, Order>> = {
    "ends with a kick": ["run beside", "turn", "kick", "run has ended"],
    "ends with a kick by its token": ["run beside", "turn", "kick by token", "run has ended"],
    "ends with the abort of its signal": ["run with signal", "turn", "abort", "run has ended"],
    "ends with its vCPU": ["run beside", "turn", "close vcpu", "run has ended"],
    "ends with its VM": ["run beside", "turn", "close vm", "run has ended"],
    "can be paused": [
      ...["run beside", "turn", "pause", "resume", "turn", "pause", "resume"],
      ...["kick", "run has ended"],
    ],
  };
  test.each(Object.entries(orders))("%s", async (_, order) => {
    const life = [...SPINS, ...order, ...CLOSE, "no descriptors"];
    expect(await live(life, NO_SIGNALS)).toEqual(CLEAN);
  });
});

test.each([
  ["on the worker's thread", ["ready", "run"]],
  ["beside the worker's event loop", ["run beside", "ready"]],
] as const)("while the signal queue is full, terminate() ends a run %s", async (_, run) => {
  const worker = { workers: [[...SPINS, ...run]], end: "terminated" } as const;
  expect(await live([worker, "gc", "no descriptors"], NO_SIGNALS)).toEqual(CLEAN);
});

test("a worker's vCPU cannot be created while no descriptor is free to watch the worker's event loop, but can be created later", async () => {
  const order = [
    ...["kvm", "vm", "memory", "slot", "spin"],
    ...["vcpu is refused without an epoll", "another vcpu", "ready", "run"],
  ];
  const worker = { workers: [order], end: "terminated" } as const;
  expect(await live([worker, "gc", "no descriptors"], FEW_DESCRIPTORS)).toEqual(CLEAN);
});

test("closing a VM ends the runs of all vCPUs of the VM, but the vCPUs stay open", async () => {
  const order = [...MADE, "spin", "run beside", "turn", "close vm", "run has ended"];
  expect(await live([...order, "run beside", "kick", "run has ended", ...CLOSE])).toEqual(CLEAN);
});
