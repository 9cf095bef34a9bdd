/**
 * Tests of kicks, pauses and ends of runs in unusual orders, with a vCPU whose thread is scripted. The tests need no
 * KVM.
 */
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { KVM_EXIT_HLT } from "../../../../lib/abi/generated/constants.ts";
import { Run } from "../../../../lib/abi/generated/structs.ts";
import { write } from "../../../../lib/abi/struct.ts";
import { RunGate } from "../../../../lib/kvm/run/run-gate.ts";
import { Vcpu } from "../../../../lib/kvm/vcpu.ts";
import type { Vm } from "../../../../lib/kvm/vm.ts";
import type { NativeFd, NativeRefusal } from "../../../../lib/native.ts";

const MAPPED = 3 * 4096;
const [EINTR, EAGAIN, PAUSED] = [-4, -11, -512];
const INTR = { kind: "intr" };

/** Creates a vCPU, the list of calls that the vCPU's thread received, and a function that ends the run. */
function scripted(start: 0 | NativeRefusal = 0, kicks: readonly number[] = []) {
  const bytes = new Uint8Array(MAPPED);
  write(Run, { exitReason: KVM_EXIT_HLT }, bytes);
  const calls: string[] = [];
  const gate = new RunGate();
  let done: (result: number) => void = () => undefined;
  const fd: Partial<NativeFd> = {
    mapRun: (ended) => {
      done = ended;
      return {
        bytes: bytes.buffer,
        token: 0n,
        run: () => EINTR,
        start: () => {
          calls.push("start");
          return start;
        },
        kick: (isPause) => {
          const kicked = calls.push(isPause === true ? "pause" : "kick");
          return kicks[kicked - 2] ?? 0;
        },
        history: () => 0,
        setFilter: () => 0,
      };
    },
    close: () => void calls.push("close"),
  };
  const vcpu = new Vcpu(fd as NativeFd, 0, { gate } as Vm);
  return { vcpu, gate, calls, end: (result: number) => done(result) };
}

test("after vm.pause(), a kick ends a run whose thread has not yet reported that the run has stopped", async () => {
  const { vcpu, gate, calls, end } = scripted();
  const ended = vcpu.run();
  const paused = gate.shut();
  vcpu.kick();
  end(PAUSED);
  await paused;
  expect(await ended).toEqual(INTR);
  expect(calls).toEqual(["start", "pause", "kick"]);
});

test("a run that has stopped for vm.pause() continues if resume() was called in the meantime", async () => {
  const { vcpu, gate, calls, end } = scripted();
  const ended = vcpu.run();
  const paused = gate.shut();
  gate.open();
  await paused;
  end(PAUSED);
  expect(calls).toEqual(["start", "pause", "start"]);
  end(0);
  expect(await ended).toEqual({ kind: "hlt" });
});

test("an exit during a pause is delivered, and the next run waits for resume()", async () => {
  const { vcpu, gate, calls, end } = scripted();
  const first = vcpu.run();
  const paused = gate.shut();
  end(0);
  await paused;
  expect(await first).toEqual({ kind: "hlt" });
  const second = vcpu.run();
  expect(calls).toEqual(["start", "pause"]);
  gate.open();
  end(0);
  expect(await second).toEqual({ kind: "hlt" });
});

describe("a run that is stopped by vm.pause()", () => {
  test("is rejected when its vCPU is closed, and not started again", async () => {
    const { vcpu, gate, calls, end } = scripted();
    const ended = vcpu.run();
    void gate.shut();
    end(PAUSED);
    vcpu.close();
    expect(await ended).toEqual(INTR);
    gate.open();
    expect(calls).toEqual(["start", "pause", "close"]);
  });

  test("is rejected when its signal is aborted, and not started again", async () => {
    const { vcpu, gate, calls, end } = scripted();
    const controller = new AbortController();
    const ended = vcpu.run({ signal: controller.signal });
    void gate.shut();
    end(PAUSED);
    controller.abort();
    expect(await ended).toEqual(INTR);
    gate.open();
    expect(calls).toEqual(["start", "pause"]);
  });
});

test("closing a vCPU while its thread stops for vm.pause() ends the run", async () => {
  const { vcpu, gate, end } = scripted();
  const ended = vcpu.run();
  const paused = gate.shut();
  vcpu.close();
  end(PAUSED);
  await paused;
  expect(await ended).toEqual(INTR);
});

test("vm.pause() of several vCPUs resolves when the last run has stopped", async () => {
  const { vcpu, gate, end } = scripted();
  const other = { start: () => undefined, stop: () => undefined, end: () => undefined };
  gate.enter(other);
  const ended = vcpu.run();
  let isPaused = false;
  const paused = gate.shut().then(() => {
    isPaused = true;
  });
  end(PAUSED);
  await Promise.resolve();
  expect(isPaused).toBe(false);
  gate.leave(other);
  await paused;
  vcpu.close();
  await ended;
});

test("if a thread cannot be created, the run is rejected and the vCPU can run later", async () => {
  const { vcpu } = scripted({ call: "pthread_create", errno: -EAGAIN });
  await expect(vcpu.run()).rejects.toMatchObject({ call: "pthread_create", code: "EAGAIN" });
  expect(vcpu.running).toBe(false);
  expect(vcpu.runSync()).toEqual(INTR);
});

test.each([
  ["kick", (vcpu: Vcpu) => vcpu.kick()],
  ["pause", (_: Vcpu, gate: RunGate) => void gate.shut()],
] as const)(
  "a %s is sent again if the signal queue has no space for its signal",
  async (way, request) => {
    const { vcpu, gate, calls, end } = scripted(0, [EAGAIN, EAGAIN]);
    const ended = vcpu.run();
    request(vcpu, gate);
    await vi.waitFor(() => expect(calls).toEqual(["start", way, way, way]));
    vcpu.kick();
    end(EINTR);
    expect(await ended).toEqual(INTR);
  },
);

test("a kick that waits to be sent again is not sent to the next run", async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const { vcpu, calls, end } = scripted(0, [EAGAIN]);
  const first = vcpu.run();
  vcpu.kick();
  end(0);
  await first;
  const second = vcpu.run();
  vi.runAllTimers();
  expect(calls).toEqual(["start", "kick", "start"]);
  end(0);
  expect(await second).toEqual({ kind: "hlt" });
});

test("an abort signal of a finished run does not interrupt the next run", async () => {
  const { vcpu, calls, end } = scripted();
  const controller = new AbortController();
  const first = vcpu.run({ signal: controller.signal });
  end(0);
  await first;
  const second = vcpu.run();
  controller.abort();
  expect(calls).toEqual(["start", "start"]);
  end(0);
  expect(await second).toEqual({ kind: "hlt" });
});
