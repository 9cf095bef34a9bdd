/**
 * Tests of the gate of a VM's runs: which runs wait, which runs continue, and when a pause resolves. The tests need no
 * device.
 */
import { beforeEach, describe, expect, test } from "vitest";
import { type GatedRun, RunGate } from "../../../../lib/kvm/run/run-gate.ts";

/** A fake run that records the calls that it receives. */
class Told implements GatedRun {
  readonly calls: string[] = [];

  start(): void {
    this.calls.push("start");
  }

  stop(): void {
    this.calls.push("stop");
  }

  end(): void {
    this.calls.push("end");
  }
}

let gate: RunGate;
let first: Told;
let second: Told;
beforeEach(() => {
  gate = new RunGate();
  [first, second] = [new Told(), new Told()];
  gate.enter(first);
  gate.enter(second);
});

/** Returns whether a promise is already settled. */
const isSettled = (promise: Promise<void>): Promise<boolean> =>
  Promise.race([promise.then(() => true), Promise.resolve().then(() => false)]);

/** Does what a run does after a pause has stopped it: leaves the gate and enters it again. */
const comeBack = (run: GatedRun): void => {
  gate.leave(run);
  gate.enter(run);
};

describe("a run gate that is shut", () => {
  test("stops its runs, and shut() resolves when the last run has left", async () => {
    const shut = gate.shut();
    comeBack(first);
    expect(await isSettled(shut)).toBe(false);
    comeBack(second);
    expect(await isSettled(shut)).toBe(true);
    expect([first.calls, second.calls]).toEqual([
      ["start", "stop"],
      ["start", "stop"],
    ]);
  });

  test("starts no run before it is opened", () => {
    void gate.shut();
    const late = new Told();
    gate.enter(late);
    expect(late.calls).toEqual([]);
    gate.open();
    expect(late.calls).toEqual(["start"]);
  });

  test("starts each waiting run only once if it is opened twice", () => {
    void gate.shut();
    comeBack(first);
    gate.open();
    gate.open();
    expect(first.calls).toEqual(["start", "stop", "start"]);
  });

  test("does not start a run that has left the queue", () => {
    void gate.shut();
    comeBack(first);
    gate.leave(first);
    gate.open();
    expect(first.calls).toEqual(["start", "stop"]);
  });

  test("may be opened before the last run has left: then shut() resolves, and all runs are inside again", async () => {
    const shut = gate.shut();
    comeBack(first);
    gate.open();
    expect(await isSettled(shut)).toBe(true);
    comeBack(second);
    expect([first.calls, second.calls]).toEqual([
      ["start", "stop", "start"],
      ["start", "stop", "start"],
    ]);
  });

  test("has no runs, so shut() resolves immediately", async () => {
    gate.leave(first);
    gate.leave(second);
    expect(await isSettled(gate.shut())).toBe(true);
  });
});

describe("a run gate whose VM is closed", () => {
  test("ends its active runs and its waiting runs", () => {
    void gate.shut();
    comeBack(second);
    gate.end();
    expect([first.calls, second.calls]).toEqual([
      ["start", "stop", "end"],
      ["start", "stop", "end"],
    ]);
  });
});
