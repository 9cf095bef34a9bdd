/**
 * Tests of signals whose methods and getters throw: the promise still settles, and no exception is uncaught. The tests
 * need no KVM.
 */
import { describe, expect, onTestFinished, test } from "vitest";
import { EventFd } from "../../../../lib/kvm/host-file.ts";
import { Abortable } from "../../../../lib/kvm/run/abortable.ts";
import { fakeHandles } from "../fake-fd.ts";

const INTR = { kind: "intr" };

/** Creates an object that is accepted as a signal; the given methods replace the default methods, which do nothing. */
function signalWith(members: object): AbortSignal {
  const signal = {
    aborted: false,
    addEventListener: () => undefined,
    removeEventListener: () => undefined,
    throwIfAborted: () => undefined,
  };
  return Object.defineProperties(signal, Object.getOwnPropertyDescriptors(members)) as never;
}

const refuses = (name: string) => ({
  [name]: () => {
    throw new Error(name);
  },
});

describe("an AbortSignal whose removeEventListener() throws", () => {
  const signal = signalWith(refuses("removeEventListener"));

  test("does not prevent run() from settling or close() from returning", async () => {
    const { vcpu } = fakeHandles();
    const run = vcpu.run({ signal });
    vcpu.close();
    await expect(run).resolves.toEqual(INTR);
    expect(vcpu.running).toBe(false);
  });

  test("does not prevent a run that waits for resume() from settling, or kick() from returning", async () => {
    const { vm, vcpu } = fakeHandles();
    await vm.pause();
    const run = vcpu.run({ signal });
    vcpu.kick();
    await expect(run).resolves.toEqual(INTR);
    expect(vcpu.running).toBe(false);
  });

  test("does not prevent a step of exits() from settling", async () => {
    const { vcpu } = fakeHandles();
    const exits = vcpu.exits({ signal });
    const next = exits.next();
    vcpu.close();
    await expect(next).resolves.toEqual({ done: true, value: undefined });
  });

  test("does not prevent any wait() from settling", async () => {
    const event = EventFd.create();
    onTestFinished(() => event.close());
    const waits = [event.wait({ signal }), event.wait()];
    event.close();
    const settled = await Promise.allSettled(waits);
    expect(settled).toMatchObject([
      { reason: { code: "ERR_CLOSED" } },
      { reason: { code: "ERR_CLOSED" } },
    ]);
  });

  test("causes a warning of the process", async () => {
    const warned = new Promise((resolve) => process.once("warning", resolve));
    new Abortable({ signal }, () => undefined).drop();
    expect(await warned).toMatchObject({ code: "NODE_KVM_SIGNAL" });
  });
});

test("if the getter of a signal's reason throws, the thrown value is the reason", async () => {
  const listeners: (() => void)[] = [];
  const event = EventFd.create();
  onTestFinished(() => event.close());
  const signal = signalWith({
    addEventListener: (_: string, listener: () => void) => listeners.push(listener),
    get reason(): never {
      throw new Error("no reason");
    },
  });
  const wait = event.wait({ signal });
  for (const listener of listeners) listener();
  await expect(wait).rejects.toThrow("no reason");
});

test("an abort event during addEventListener() aborts the work after it was started", async () => {
  const event = EventFd.create();
  onTestFinished(() => event.close());
  const addEventListener = (_: string, listener: () => void): void => listener();
  const signal = signalWith({ addEventListener, reason: new Error("at once") });
  await expect(event.wait({ signal })).rejects.toThrow("at once");
});

test("an abort event that is late or repeated has no effect", async () => {
  const listeners: (() => void)[] = [];
  const signal = signalWith({
    addEventListener: (_: string, listener: () => void) => listeners.push(listener),
  });
  let aborts = 0;
  const abort = (): void => {
    aborts += 1;
  };
  const ended = new Abortable<number>({ signal }, abort);
  ended.resolve(1);
  new Abortable<number>({ signal }, abort);
  for (const listener of [...listeners, ...listeners]) listener();
  expect(await ended.promise).toBe(1);
  expect(aborts).toBe(1);
});

test("a signal whose `aborted` throws starts no work, and keeps no listener", () => {
  const { vcpu } = fakeHandles();
  const calls: string[] = [];
  let reads = 0;
  const signal = signalWith({
    addEventListener: () => calls.push("add"),
    removeEventListener: () => calls.push("remove"),
    get aborted(): boolean {
      reads += 1;
      if (reads > 2) throw new Error("unknown");
      return false;
    },
  });
  expect(() => vcpu.run({ signal })).toThrow("unknown");
  expect(calls).toEqual(["add", "remove"]);
  expect(vcpu.running).toBe(false);
});
