/**
 * Tests of waiting for an eventfd: the order of wake-ups, the returned values, and the end of waits. The tests need no
 * KVM.
 */
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { StateError } from "../../../lib/errors.ts";
import { EventFd } from "../../../lib/kvm/host-file.ts";

const CLOSED = new StateError("ERR_CLOSED", "eventfd");

/** Creates an eventfd that is closed after its test. */
function eventfd(initval?: number): EventFd {
  const event = EventFd.create(initval);
  onTestFinished(() => event.close());
  return event;
}

/** Collects the results of promises in the order in which the promises settle. */
function collect(...promises: readonly Promise<bigint>[]): unknown[] {
  const came: unknown[] = [];
  for (const [i, promise] of promises.entries()) {
    promise.then(
      (count) => came.push([i, count]),
      (error: unknown) => came.push([i, error]),
    );
  }
  return came;
}

/** Lets the event loop poll its descriptors a few times. */
async function turns(): Promise<void> {
  for (let i = 0; i < 4; i += 1) await turn();
}

/** Returns a signal that is aborted with a unique reason. */
function aborting(): { readonly signal: AbortSignal; readonly reason: Error; abort(): void } {
  const controller = new AbortController();
  const reason = new Error("enough");
  return { signal: controller.signal, reason, abort: () => controller.abort(reason) };
}

describe("wait() of an eventfd", () => {
  test("resolves at once if the counter is above zero, and resets the counter", async () => {
    const event = eventfd(3);
    const came = collect(event.wait());
    await Promise.resolve().then(() => undefined);
    expect(came).toEqual([[0, 3n]]);
    expect(event.read()).toBe(0n);
  });

  test("resolves when the counter is written to, and resets the counter", async () => {
    const event = eventfd();
    const came = collect(event.wait());
    await turns();
    expect(came).toEqual([]);
    event.write(5n);
    await expect.poll(() => came).toEqual([[0, 5n]]);
    expect(event.read()).toBe(0n);
  });

  test("returns the sum of all values that were written before the event loop's turn", async () => {
    const event = eventfd();
    const wait = event.wait();
    event.write(1n);
    event.write(2n);
    expect(await wait).toBe(3n);
  });

  test("returns all 64 bits of the counter", async () => {
    const event = eventfd();
    const wait = event.wait();
    event.write(2n ** 64n - 2n);
    expect(await wait).toBe(2n ** 64n - 2n);
  });

  test("continues to wait if another reader has read the counter after the event loop polled it", async () => {
    const [first, event] = [eventfd(), eventfd()];
    const taken = first.wait().then(() => event.read());
    const came = collect(event.wait());
    await turns();
    first.write();
    event.write();
    expect(await taken).toBe(1n);
    await turns();
    expect(came).toEqual([]);
    event.write(2n);
    await expect.poll(() => came).toEqual([[0, 2n]]);
  });

  test("can be called again after it resolved", async () => {
    const event = eventfd();
    for (let i = 1n; i <= 100n; i += 1n) {
      const wait = event.wait();
      event.write(i);
      expect(await wait).toBe(i);
    }
  });

  test("does not read the counter again after it resolved", async () => {
    const event = eventfd();
    const wait = event.wait();
    event.write();
    await wait;
    event.write(7n);
    await turns();
    expect(event.read()).toBe(7n);
  });
});

describe("several calls of wait() of an eventfd", () => {
  test("resolve in the order of the calls, one call for each signal", async () => {
    const event = eventfd();
    const came = collect(event.wait(), event.wait(), event.wait());
    for (let i = 1n; i <= 3n; i += 1n) {
      event.write(i);
      await expect.poll(() => came.length).toBe(Number(i));
    }
    expect(came).toEqual([
      [0, 1n],
      [1, 2n],
      [2, 3n],
    ]);
  });

  test("are not overtaken by a later call while the counter is above zero", async () => {
    const event = eventfd();
    const first = event.wait();
    event.write(4n);
    const came = collect(first, event.wait());
    await expect.poll(() => came).toEqual([[0, 4n]]);
    event.write(5n);
    await expect.poll(() => came.at(1)).toEqual([1, 5n]);
  });

  test("keep their order if a call in the middle is aborted", async () => {
    const event = eventfd();
    const { signal, reason, abort } = aborting();
    const came = collect(event.wait(), event.wait({ signal }), event.wait());
    abort();
    event.write(1n);
    await expect.poll(() => came.length).toBe(2);
    event.write(2n);
    await expect.poll(() => came.length).toBe(3);
    expect(came).toEqual([
      [1, reason],
      [0, 1n],
      [2, 2n],
    ]);
  });

  test("wait in a separate queue for each eventfd", async () => {
    const [a, b] = [eventfd(), eventfd()];
    const came = collect(a.wait(), b.wait());
    b.write(2n);
    await expect.poll(() => came).toEqual([[1, 2n]]);
    a.write(1n);
    await expect.poll(() => came.at(1)).toEqual([0, 1n]);
  });
});

describe("an AbortSignal of wait()", () => {
  test("rejects the wait with the signal's reason", async () => {
    const event = eventfd();
    const { signal, reason, abort } = aborting();
    const wait = event.wait({ signal });
    abort();
    await expect(wait).rejects.toBe(reason);
  });

  test("leaves later signals in the counter", async () => {
    const event = eventfd();
    const { signal, reason, abort } = aborting();
    const wait = event.wait({ signal });
    abort();
    await expect(wait).rejects.toBe(reason);
    event.write(6n);
    await turns();
    expect(event.read()).toBe(6n);
  });

  test("that is aborted before the call rejects the call, although the counter is above zero", async () => {
    const event = eventfd(3);
    const { signal, reason, abort } = aborting();
    abort();
    await expect(event.wait({ signal })).rejects.toBe(reason);
    expect(event.read()).toBe(3n);
  });

  test("that is aborted after the wait has no effect", async () => {
    const event = eventfd();
    const { signal, abort } = aborting();
    const came = collect(event.wait({ signal }), event.wait());
    event.write(1n);
    await expect.poll(() => came).toEqual([[0, 1n]]);
    abort();
    await turns();
    expect(came).toEqual([[0, 1n]]);
  });

  test("has no listener after the wait has resolved or was rejected", async () => {
    const event = eventfd();
    const { signal } = aborting();
    const listeners = new Set<unknown>();
    signal.addEventListener = (_: string, listener: unknown) => listeners.add(listener);
    signal.removeEventListener = (_: string, listener: unknown) => listeners.delete(listener);
    const wait = event.wait({ signal });
    expect(listeners.size).toBe(1);
    event.write();
    await wait;
    expect(listeners.size).toBe(0);
    const closed = event.wait({ signal });
    expect(listeners.size).toBe(1);
    event.close();
    await expect(closed).rejects.toThrow(CLOSED);
    expect(listeners.size).toBe(0);
  });
});

describe("closing an eventfd", () => {
  test("rejects all waits in their order", async () => {
    const event = eventfd();
    const came = collect(event.wait(), event.wait());
    event.close();
    await turns();
    expect(came).toEqual([
      [0, CLOSED],
      [1, CLOSED],
    ]);
  });

  test("rejects a wait whose signal has not been handled yet", async () => {
    const event = eventfd();
    const wait = event.wait();
    event.write();
    event.close();
    await expect(wait).rejects.toThrow(CLOSED);
  });

  test("rejects a later call of wait()", async () => {
    const event = eventfd(1);
    event.close();
    await expect(event.wait()).rejects.toThrow(CLOSED);
  });

  test("twice rejects each wait only once", async () => {
    const event = eventfd();
    const wait = event.wait();
    event.close();
    event.close();
    await expect(wait).rejects.toThrow(CLOSED);
  });

  test("at the end of a using block rejects its waits", async () => {
    let wait: Promise<bigint>;
    {
      using event = EventFd.create();
      wait = event.wait();
    }
    await expect(wait).rejects.toThrow(CLOSED);
  });

  test("in the callback of one wait rejects the later waits", async () => {
    const event = eventfd();
    const first = event.wait().then((count) => {
      event.close();
      return count;
    });
    const came = collect(first, event.wait());
    event.write(9n);
    await expect.poll(() => came.length).toBe(2);
    expect(came).toEqual(
      expect.arrayContaining([
        [0, 9n],
        [1, CLOSED],
      ]),
    );
  });
});

describe("signals() of an eventfd", () => {
  test("returns one counter value after another, beginning with the current value", async () => {
    const event = eventfd(3);
    const counts: bigint[] = [];
    for await (const count of event.signals()) {
      counts.push(count);
      if (counts.length === 4) break;
      event.write(BigInt(counts.length));
    }
    expect(counts).toEqual([3n, 1n, 2n, 3n]);
  });

  test("adds up values that are written while a value is handled", async () => {
    const event = eventfd(1);
    const signals = event.signals();
    expect(await signals.next()).toEqual({ done: false, value: 1n });
    event.write(2n);
    await turns();
    event.write(3n);
    expect(await signals.next()).toEqual({ done: false, value: 5n });
  });

  test("ends when its AbortSignal is aborted", async () => {
    const event = eventfd();
    const { signal, abort } = aborting();
    const next = event.signals({ signal }).next();
    abort();
    expect(await next).toEqual({ done: true, value: undefined });
  });

  test("ends when its AbortSignal is aborted while a value is handled", async () => {
    const event = eventfd(1);
    const { signal, abort } = aborting();
    const counts: bigint[] = [];
    for await (const count of event.signals({ signal })) {
      counts.push(count);
      abort();
    }
    expect(counts).toEqual([1n]);
  });

  test("ends when the eventfd is closed", async () => {
    const event = eventfd();
    const next = event.signals().next();
    event.close();
    expect(await next).toEqual({ done: true, value: undefined });
  });

  test("ends when the eventfd has already been closed, or is closed while a value is handled", async () => {
    const event = eventfd(1);
    const counts: bigint[] = [];
    for await (const count of event.signals()) {
      counts.push(count);
      event.close();
    }
    expect(counts).toEqual([1n]);
    expect(await event.signals().next()).toEqual({ done: true, value: undefined });
  });

  test("shares one queue with wait()", async () => {
    const event = eventfd();
    const signals = event.signals();
    const next = signals.next().then(({ value }) => value ?? -1n);
    await Promise.resolve();
    const came = collect(next, event.wait());
    event.write(1n);
    await expect.poll(() => came).toEqual([[0, 1n]]);
    event.write(2n);
    await expect.poll(() => came.at(1)).toEqual([1, 2n]);
  });

  test("does not read the counter between two steps", async () => {
    const event = eventfd(1);
    const signals = event.signals();
    await signals.next();
    event.write(8n);
    await turns();
    expect(event.read()).toBe(8n);
  });
});
