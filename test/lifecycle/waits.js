/**
 * Waits for eventfds and ends each wait in one way: `node waits.js '"a worker is terminated"'`, in a separate process.
 * This file defines the ways in which a wait ends; waits.test.ts defines how each process must end. The program needs
 * no KVM.
 */
import assert from "node:assert/strict";
import { readdirSync, readlinkSync } from "node:fs";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { EventFd } from "node-kvm";

const CLOSED = { name: "StateError", code: "ERR_CLOSED" };

/**
 * Collects garbage repeatedly: a finalizer runs in a later turn, and the next collection frees the objects that the
 * finalizer releases.
 */
async function collect() {
  for (let i = 0; i < 4; i += 1) {
    globalThis.gc();
    await turn();
  }
}

/** Returns the number of the process's eventfds, which include eventfds of libuv. */
const eventfds = () =>
  readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === "anon_inode:[eventfd]";
    } catch {
      return false; // the descriptor of the directory listing is closed by now
    }
  }).length;

/** Waits for an eventfd that is never signalled; the rejection by close() is expected. */
const waitInVain = (event) => {
  event.wait().catch((error) => assert.equal(error.code, CLOSED.code));
};

/** Returns an eventfd whose single wait has ended: the event loop has a stopped watch for it. */
async function used() {
  const event = EventFd.create();
  const wait = event.wait();
  event.write(3n);
  assert.equal(await wait, 3n);
  return event;
}

/** Signals an eventfd `times` times while a wait is pending, and consumes each signal. */
async function signalItself(times) {
  const event = EventFd.create();
  for (let i = 0; i < times; i += 1) {
    const wait = event.wait();
    event.write(7n);
    assert.equal(await wait, 7n);
  }
  event.close();
}

/** Functions that run in a worker thread. */
const works = {
  "waits forever": () => {
    for (let i = 0; i < 10; i += 1) waitInVain(EventFd.create());
    parentPort.postMessage("ready");
  },
  "leaves a used one open": used,
  "leaves a used one to the collector": async () => {
    await used();
    await collect();
  },
  "closes while it waits": () => {
    const event = EventFd.create();
    waitInVain(event);
    event.close();
  },
  "closes while it waits, and exits": () => {
    works["closes while it waits"]();
    process.exit(0);
  },
  "exits while it waits": () => {
    waitInVain(EventFd.create());
    process.exit(0);
  },
  "exits when it is signalled": async () => {
    const event = await used();
    const wait = event.wait();
    waitInVain(event);
    event.write();
    await wait;
    process.exit(0);
  },
  "throws while it waits": () => {
    waitInVain(EventFd.create());
    throw new Error("thrown on purpose");
  },
  "waits when it ends": () => {
    process.once("exit", () => waitInVain(EventFd.create()));
  },
  "signals itself": () => signalItself(1000),
  "signals itself forever": async () => {
    parentPort.postMessage("ready");
    await signalItself(Number.POSITIVE_INFINITY);
  },
  "opens, waits and closes forever": async () => {
    parentPort.postMessage("ready");
    for (;;) {
      const events = Array.from({ length: 8 }, () => EventFd.create());
      for (const event of events) waitInVain(event);
      for (const event of events.slice(4)) event.write();
      await turn();
      for (const event of events.slice(2)) event.close();
    }
  },
};

/** Starts a worker that runs one of these functions. */
function start(work) {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: work });
  const ready = new Promise((resolve) => worker.once("message", resolve));
  const ended = new Promise((resolve, reject) => {
    worker.once("error", reject);
    worker.once("exit", resolve);
  });
  return { worker, ready, ended };
}

async function endsBySelf(name) {
  const before = eventfds();
  await start(name).ended;
  assert.equal(eventfds(), before);
}

async function terminated(name, afterMs) {
  const before = eventfds();
  const { worker, ready, ended } = start(name);
  await ready;
  await sleep(afterMs);
  await worker.terminate();
  await ended;
  assert.equal(eventfds(), before);
}

const ways = {
  "a wait prevents the process from exiting": async () => {
    const event = EventFd.create();
    setTimeout(() => event.write(5n), 20).unref();
    assert.equal(await event.wait(), 5n);
  },
  "a wait that has ended does not prevent the process from exiting": used,
  "an aborted wait does not prevent the process from exiting": async () => {
    const controller = new AbortController();
    const wait = EventFd.create().wait({ signal: controller.signal });
    controller.abort();
    await assert.rejects(wait, { name: "AbortError" });
  },
  "signals() that was left does not prevent the process from exiting": async () => {
    const event = EventFd.create();
    const signals = event.signals();
    const next = signals.next();
    event.write();
    assert.deepEqual(await next, { done: false, value: 1n });
    await signals.return();
  },
  "a closed eventfd does not prevent the process from exiting": () =>
    works["closes while it waits"](),
  "an eventfd that is waited for is not collected": async () => {
    const before = eventfds();
    const controller = new AbortController();
    waitForAbort(controller.signal);
    await collect();
    assert.equal(eventfds(), before + 1);
    controller.abort();
    await collect();
    assert.equal(eventfds(), before);
  },
  "eventfds are collected after their waits have ended": async () => {
    const before = eventfds();
    for (let i = 0; i < 100; i += 1) await used();
    await collect();
    assert.equal(eventfds(), before);
  },
  "the process exits": () => works["exits while it waits"](),
  "the process exits when it is signalled": () => works["exits when it is signalled"](),
  "the process waits when it ends": () => works["waits when it ends"](),
  "the process exits while workers wait": async () => {
    await Promise.all([1, 2, 3].map(() => start("waits forever").ready));
    process.exit(0);
  },
  "the process throws": () => works["throws while it waits"](),
  "a worker throws": () =>
    assert.rejects(start("throws while it waits").ended, { message: "thrown on purpose" }),
  "a worker ends by itself": async () => {
    const names = ["leaves a used one open", "leaves a used one to the collector"];
    for (const name of [...names, "closes while it waits", "waits when it ends"]) {
      await endsBySelf(name);
    }
  },
  "a worker exits": async () => {
    await endsBySelf("exits while it waits");
    await endsBySelf("exits when it is signalled");
    await endsBySelf("closes while it waits, and exits");
  },
  "workers and the main thread each wait for their own": async () => {
    const before = eventfds();
    const workers = [1, 2, 3, 4].map(() => start("signals itself").ended);
    await Promise.all([...workers, signalItself(1000)]);
    assert.equal(eventfds(), before);
  },
  "a worker is terminated while it waits": () => terminated("waits forever", 0),
  "workers are terminated while they are signalled": async () => {
    for (let ms = 0; ms < 12; ms += 1) await terminated("signals itself forever", ms);
  },
  "workers are terminated while they open, wait and close": async () => {
    for (let ms = 0; ms < 12; ms += 1) await terminated("opens, waits and closes forever", ms);
  },
};

/** After this function returns, only the pending wait keeps the eventfd reachable. */
function waitForAbort(signal) {
  EventFd.create()
    .wait({ signal })
    .catch(() => undefined);
}

await (isMainThread ? ways[JSON.parse(process.argv[2])]() : works[workerData]());
