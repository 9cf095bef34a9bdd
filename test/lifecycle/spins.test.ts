/** Tests of spinning guests with every way in which the run, its thread or its process can end. */
import { beforeEach, describe, expect, test } from "vitest";
import { CLOSE, type End, live, MADE, type Order, type Stage } from "./orders.ts";
import { CLEAN, deviceProblem, type Ending } from "./run-node.ts";

type Orders = Readonly<Record<string, Order>>;

const problem = deviceProblem();
beforeEach(({ skip }) => {
  if (problem !== undefined) skip(problem);
});

const GUESTS = {
  "in real mode": [...MADE, "spin"],
  "in ring 3": ["user program", "kvm", "vm", "user memory", "slot", "user vcpu"],
} as const satisfies Orders;

const DROP = ["drop vcpu", "drop vm", "drop memory", "drop kvm", "gc"] as const;

/** The ways in which a run ends while the event loop continues. */
const RUN_ENDS: Orders = {
  "is kicked": ["run beside", "kick", "run has ended"],
  "is kicked later": ["run beside", "turn", "kick", "run has ended"],
  "is kicked three times": [
    ...["run beside", "kick", "kick", "turn", "kick", "run has ended"],
    ...["run beside", "turn", "kick", "run has ended"],
  ],
  "is aborted": ["run with signal", "abort", "run has ended"],
  "is aborted later": ["run with signal", "turn", "abort", "run has ended"],
  "exits by itself": ["view", "run beside", "release", "run has exited"],
  "is kicked as it exits": ["view", "run beside", "release", "turn", "kick", "turn"],
  "is closed": ["run beside", "close vcpu", "run has ended", "run closed"],
  "is closed with everything, later": ["run beside", "turn", ...CLOSE, "run has ended"],
  "is kicked and closed": ["run beside", "kick", ...CLOSE, "run has ended"],
  "loses all handles but its own": [
    ...["run beside", "close memory", "close vm", "close kvm", "gc", "kick", "run has ended"],
  ],
  "is dropped, and aborted": ["run with signal", ...DROP, "abort", "run has ended"],
  "is dropped, and exits by itself": ["view", "run beside", ...DROP, "release", "run has exited"],
  "is kicked after an exec": ["run beside", "exec", "kick", "run has ended"],
  "is kicked after a fork": ["run beside", "fork", "kick", "run has ended"],
};

const worker = (order: Order, end: End): Stage => ({ workers: [order], end });
const cases = (orders: Orders): readonly { readonly name: string; readonly order: Order }[] =>
  Object.entries(orders).map(([name, order]) => ({ name, order }));
const LEFT: Order = ["drop vcpu", "drop vm", "drop memory", "drop kvm", "gc", "no descriptors"];

describe.each(Object.entries(GUESTS))(
  "a guest that spins %s in run() on another thread",
  (_, guest) => {
    test.each(cases(RUN_ENDS))("$name", async ({ order }) => {
      expect(await live([...guest, ...order, ...LEFT])).toEqual(CLEAN);
    });
  },
);

const REAL = GUESTS["in real mode"];

describe("a guest that spins in run() on a thread beside its worker's event loop", () => {
  test.each(cases(RUN_ENDS))("$name", async ({ order }) => {
    const ending = await live([worker([...REAL, ...order], "naturally"), "gc", "no descriptors"]);
    expect(ending).toEqual(CLEAN);
  });
});

/** The ways in which a worker with a spinning guest ends. */
const WORKER_ENDS: Readonly<Record<string, readonly [order: Order, end: End]>> = {
  "is terminated beside its guest": [["run beside", "ready"], "terminated"],
  "is terminated in KVM_RUN": [["ready", "run"], "terminated"],
  "is terminated in KVM_RUN through ioctl()": [["ready", "run through ioctl"], "terminated"],
  "is terminated while it runs and kicks": [["kicked forever"], "terminated"],
  "exits beside its guest": [["run beside", "exit"], "naturally"],
  "exits as its guest does": [["view", "run beside", "release", "turn", "exit"], "naturally"],
  "throws beside its guest": [["run beside", "throw"], "throwing"],
  "has dropped its guest, and is terminated": [["run beside", ...DROP, "ready"], "terminated"],
};

describe("a guest that spins in a worker is stopped when the worker", () => {
  test.each(Object.entries(WORKER_ENDS))("%s", async (_, [order, end]) => {
    const workers = Array<Stage>(3).fill(worker([...REAL, ...order], end));
    expect(await live([...workers, "gc", "no descriptors"])).toEqual(CLEAN);
  });
});

/** The threads and calls in which the guest spins when its process ends. */
const PLACES: Orders = {
  "beside its event loop": [...REAL, "run beside"],
  "in ring 3 beside its event loop": [...GUESTS["in ring 3"], "run beside", "turn"],
  "beside a worker's event loop": [worker([...REAL, "run beside", "ready"], "abandoned")],
  "in a worker": [worker([...REAL, "ready", "run"], "abandoned")],
  "in a worker, through ioctl()": [worker([...REAL, "ready", "run through ioctl"], "abandoned")],
  "in a worker that runs and kicks": [worker([...REAL, "kicked forever"], "abandoned")],
};

const EXITED: Ending = { ...CLEAN, code: 7 };
const killed = (signal: NodeJS.Signals): Ending => ({ ...CLEAN, code: null, signal });

/** The ways in which the process ends. */
const PROCESS_ENDS: Readonly<Record<string, readonly [order: Order, ending: object]>> = {
  "process.exit()": [["exit"], EXITED],
  SIGINT: [["SIGINT"], killed("SIGINT")],
  SIGTERM: [["SIGTERM"], killed("SIGTERM")],
  "process.exit() on SIGINT": [["SIGINT exits", "SIGINT"], EXITED],
  "process.exit() on SIGTERM": [["SIGTERM exits", "SIGTERM"], EXITED],
  "an uncaught error": [
    ["throw"],
    { code: 1, stdout: "", stderr: expect.stringMatching(/^Error: thrown on purpose$/m) },
  ],
};

describe.each(Object.entries(PLACES))(
  "while a guest spins %s, its process can be ended by",
  (_, spins) => {
    test.each(Object.entries(PROCESS_ENDS))("%s", async (__, [order, ending]) => {
      expect(await live([...spins, ...order])).toMatchObject(ending);
    });
  },
);
