/** Runs beside the event loop: their end, their kick, what is refused meanwhile. On a device. */
import { guest } from "node-kvm/guest";
import { beforeEach, expect, test } from "vitest";
import { Kvm } from "../../../lib/kvm/kvm.ts";
import { Sandbox } from "../../../lib/vmm/sandbox.ts";
import { deviceProblem } from "../../lifecycle/run-node.ts";

const problem = deviceProblem();
beforeEach(({ skip }) => {
  if (problem !== undefined) skip(problem);
});

function spinning(use: (box: Sandbox) => Promise<void>): Promise<void> {
  const kvm = Kvm.open();
  const program = guest("long", (g) => g.loopForever());
  const box = new Sandbox(kvm, { program, cpuid: kvm.getSupportedCpuid() });
  return use(box).finally(() => {
    box.close();
    kvm.close();
  });
}

test("an abort ends a guest that spins, and the next run is its own", () =>
  spinning(async ({ vcpu }) => {
    for (let i = 0; i < 20; i += 1) {
      const ended = vcpu.run({ signal: AbortSignal.timeout(i) });
      expect(vcpu.running).toBe(true);
      expect(await ended).toEqual({ kind: "intr" });
      expect(vcpu.running).toBe(false);
    }
  }));

test("while a vCPU runs, other calls on it are refused", () =>
  spinning(async ({ vcpu }) => {
    const ended = vcpu.run();
    const running = expect.objectContaining({ code: "ERR_RUNNING" });
    expect(() => vcpu.getRegs()).toThrow(running);
    expect(() => vcpu.runSync()).toThrow(running);
    expect(() => vcpu.run()).toThrow(running);
    vcpu.kick();
    expect(await ended).toEqual({ kind: "intr" });
    expect(vcpu.getRegs().rip).toBeGreaterThan(0n);
  }));

test("closing ends the run", () =>
  spinning(async ({ vcpu }) => {
    const ended = vcpu.run();
    vcpu.close();
    expect(await ended).toEqual({ kind: "intr" });
    expect(() => vcpu.run()).toThrow(expect.objectContaining({ code: "ERR_CLOSED" }));
  }));

test("an exit comes as from runSync", async () => {
  const kvm = Kvm.open();
  const program = guest("long", (g) => g.done());
  const box = new Sandbox(kvm, { program, cpuid: kvm.getSupportedCpuid() });
  const exit = await box.vcpu.run();
  box.close();
  kvm.close();
  expect(exit).toMatchObject({ kind: "io", direction: "out" });
});
