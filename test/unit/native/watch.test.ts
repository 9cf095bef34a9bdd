/** Tests of the addon's watch of an eventfd: calls of its function, errors, and closing. The tests need no KVM. */
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { type NativeHostFile, native } from "../../../lib/native.ts";
import { call, opened, said } from "./bench.ts";

function eventfd(initval = 0): NativeHostFile {
  const file = opened(native().eventfd(initval, 0));
  onTestFinished(() => file.close());
  return file;
}

/** Waits for a few turns of the event loop, in which the loop polls its descriptors. */
async function turns(): Promise<void> {
  for (let i = 0; i < 4; i += 1) await turn();
}

test("a watch of an eventfd calls its function once in each turn of the event loop while the counter is above zero", async () => {
  const file = eventfd();
  const readable = vi.fn();
  expect(file.watch(readable)).toBe(0);
  await turns();
  expect(readable).not.toHaveBeenCalled();
  file.writeCounter(1n);
  await expect.poll(() => readable.mock.calls.length).toBeGreaterThanOrEqual(2);
  expect(readable.mock.calls[0]).toEqual([]);
  file.readCounter();
  const calls = readable.mock.calls.length;
  await turns();
  expect(readable).toHaveBeenCalledTimes(calls);
});

test("a watch of an eventfd never calls its function before watch() returns", () => {
  const readable = vi.fn();
  eventfd(1).watch(readable);
  expect(readable).not.toHaveBeenCalled();
});

test("a stopped watch of an eventfd calls nothing, and can be started again with another function", async () => {
  const file = eventfd(1);
  const [first, second] = [vi.fn(), vi.fn()];
  file.watch(first);
  file.unwatch();
  await turns();
  expect(file.watch(second)).toBe(0);
  await expect.poll(() => second.mock.calls.length).toBeGreaterThan(0);
  expect(first).not.toHaveBeenCalled();
});

test("closing an eventfd ends its watch", async () => {
  const file = eventfd(1);
  const readable = vi.fn();
  file.watch(readable);
  file.close();
  await turns();
  expect(readable).not.toHaveBeenCalled();
});

test("a watch of an eventfd can be stopped or closed in its own function", async () => {
  const [ended, closed] = [eventfd(1), eventfd(1)];
  const [end, close] = [vi.fn(() => ended.unwatch()), vi.fn(() => closed.close())];
  ended.watch(end);
  closed.watch(close);
  await expect.poll(() => [end.mock.calls.length, close.mock.calls.length]).toEqual([1, 1]);
  await turns();
  expect([end.mock.calls.length, close.mock.calls.length]).toEqual([1, 1]);
});

test("a new eventfd with the descriptor number of a closed eventfd can be watched", async () => {
  for (let i = 0; i < 100; i += 1) {
    const file = opened(native().eventfd(1, 0));
    const called = new Promise((resolve) => expect(file.watch(() => resolve(i))).toBe(0));
    expect(await called).toBe(i);
    file.close();
  }
});

test("stopping an eventfd that is not watched is a no-op", () => {
  const file = eventfd();
  file.unwatch();
  file.watch(vi.fn());
  file.unwatch();
  file.unwatch();
  file.close();
  file.unwatch();
  file.close();
  expect(said(file.readCounter())).toBe("-EBADF");
});

describe("a watch of an eventfd is rejected", () => {
  test("while another watch exists", () => {
    const file = eventfd();
    expect(file.watch(vi.fn())).toBe(0);
    expect(said(file.watch(vi.fn()))).toBe("-EBUSY");
  });

  test("if the eventfd is closed", () => {
    const file = eventfd();
    file.close();
    expect(said(file.watch(vi.fn()))).toBe("-EBADF");
  });

  test("if the file is not an eventfd", () => {
    const file = opened(native().openFile("/dev/null"));
    onTestFinished(() => file.close());
    expect(said(file.watch(vi.fn()))).toBe("-EINVAL");
  });

  test.each([undefined, null, 1, "x", {}])("with %s in place of a function", (readable) => {
    const file = eventfd();
    expect(() => call(file, "watch", readable)).toThrow(
      new TypeError("watch: expected a function"),
    );
  });
});
