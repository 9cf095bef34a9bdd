/** Runs beside the event loop: their end, their kick, what is refused meanwhile. On a device. */
import { expect } from "vitest";
import { test } from "./on-device.ts";

const INTR = { kind: "intr" };

test("an abort ends a guest that spins, and the next run is its own", async ({ box }) => {
  const { vcpu } = box((g) => g.loopForever());
  for (let i = 0; i < 20; i += 1) {
    const ended = vcpu.run({ signal: AbortSignal.timeout(i) });
    expect(vcpu.running).toBe(true);
    expect(await ended).toEqual(INTR);
    expect(vcpu.running).toBe(false);
  }
});

test("while a vCPU runs, other calls on it are refused", async ({ box }) => {
  const { vcpu } = box((g) => g.loopForever());
  const ended = vcpu.run();
  const running = expect.objectContaining({ code: "ERR_RUNNING" });
  expect(() => vcpu.getRegs()).toThrow(running);
  expect(() => vcpu.runSync()).toThrow(running);
  expect(() => vcpu.run()).toThrow(running);
  vcpu.kick();
  expect(await ended).toEqual(INTR);
  expect(vcpu.getRegs().rip).toBeGreaterThan(0n);
});

test("closing ends the run", async ({ box }) => {
  const { vcpu } = box((g) => g.loopForever());
  const ended = vcpu.run();
  vcpu.close();
  expect(await ended).toEqual(INTR);
  expect(() => vcpu.run()).toThrow(expect.objectContaining({ code: "ERR_CLOSED" }));
});

test("an exit comes as from runSync", async ({ box }) => {
  const { vcpu } = box((g) => g.done());
  expect(await vcpu.run()).toMatchObject({ kind: "io", direction: "out" });
});
