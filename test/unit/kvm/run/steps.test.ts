/** Tests of generators that can be ended while they wait: exits() and signals(). The tests need no KVM. */
import { expect, test } from "vitest";
import { EventFd } from "../../../../lib/kvm/host-file.ts";
import { Steps } from "../../../../lib/kvm/run/steps.ts";

/** Steps that wait until they are stopped or receive a value. */
class Waiting {
  readonly asked: number[] = [];
  stops = 0;
  #give: (value: string | undefined) => void = () => undefined;
  readonly steps: Steps<string> = new Steps<string>({
    next: () => {
      this.asked.push(this.asked.length);
      return new Promise((resolve) => {
        this.#give = resolve;
      });
    },
    stop: () => {
      this.stops += 1;
      this.give(undefined);
    },
  });

  give(value: string | undefined): void {
    this.#give(value);
  }
}

test("next() of an asynchronous iterator of steps starts its step at once, and returns the step's value", async () => {
  const waiting = new Waiting();
  const next = waiting.steps.next();
  expect(waiting.asked).toEqual([0]);
  waiting.give("a");
  expect(await next).toEqual({ done: false, value: "a" });
});

test("several calls of next() run their steps one after the other", async () => {
  const waiting = new Waiting();
  const [first, second] = [waiting.steps.next(), waiting.steps.next()];
  expect(waiting.asked).toEqual([0]);
  waiting.give("a");
  await first;
  await new Promise(setImmediate);
  expect(waiting.asked).toEqual([0, 1]);
  waiting.give("b");
  expect(await second).toEqual({ done: false, value: "b" });
});

test("return() ends the current step and the pending steps", async () => {
  const waiting = new Waiting();
  const asked = [waiting.steps.next(), waiting.steps.next()];
  const returned = waiting.steps.return(7);
  expect(await Promise.all(asked)).toEqual([
    { done: true, value: undefined },
    { done: true, value: undefined },
  ]);
  expect(await returned).toEqual({ done: true, value: 7 });
  expect([waiting.asked, waiting.stops]).toEqual([[0], 1]);
  expect(await waiting.steps.next()).toEqual({ done: true, value: undefined });
});

test("a value that arrived before return() is returned", async () => {
  const waiting = new Waiting();
  const next = waiting.steps.next();
  waiting.give("a");
  const returned = waiting.steps.return();
  expect(await next).toEqual({ done: false, value: "a" });
  expect(await returned).toEqual({ done: true, value: undefined });
});

test("throw() ends the steps, and is rejected with its error", async () => {
  const waiting = new Waiting();
  const next = waiting.steps.next();
  await expect(waiting.steps.throw(new Error("enough"))).rejects.toThrow("enough");
  expect(await next).toEqual({ done: true, value: undefined });
});

test("return() before the first step cancels nothing", async () => {
  const waiting = new Waiting();
  expect(await waiting.steps.return()).toEqual({ done: true, value: undefined });
  expect([waiting.asked, waiting.stops]).toEqual([[], 0]);
});

test("after a step that fails, there are no further steps", async () => {
  const steps = new Steps<string>({
    next: () => Promise.reject(new Error("refused")),
    stop: () => undefined,
  });
  await expect(steps.next()).rejects.toThrow("refused");
  expect(await steps.next()).toEqual({ done: true, value: undefined });
});

test("signals() that ends during its wait does not change the counter", async () => {
  using event = EventFd.create();
  const signals = event.signals();
  const next = signals.next();
  expect(await signals.return()).toEqual({ done: true, value: undefined });
  expect(await next).toEqual({ done: true, value: undefined });
  event.write(3n);
  expect(event.read()).toBe(3n);
});
