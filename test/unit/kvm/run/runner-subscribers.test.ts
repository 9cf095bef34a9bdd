/** Tests of runs with trace subscribers, and of runs that a signal other than a kick ends. The tests need no KVM. */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { afterEach, describe, expect, test } from "vitest";
import * as kvm from "../../../../lib/abi/generated/constants.ts";
import { KVM_GET_REGS, KVM_RUN } from "../../../../lib/abi/generated/ioctls.ts";
import type { Vcpu } from "../../../../lib/kvm/vcpu.ts";
import type { Step } from "../../../../lib/trace/index.ts";
import { TRACE_CHANNEL } from "../../../../lib/trace/index.ts";
import { scriptedVcpu } from "../scripted-vcpu.ts";

const HLT = { exitReason: kvm.KVM_EXIT_HLT };
const MMIO = {
  exitReason: kvm.KVM_EXIT_MMIO,
  mmio: { physAddr: 0xc000_0000n, data: Uint8Array.of(0x5a), len: 1, isWrite: 1 },
};
const MMIO_EXIT = {
  kind: "mmio",
  isWrite: true,
  physAddr: 0xc000_0000n,
  data: Uint8Array.of(0x5a),
};

const listeners: ((step: unknown) => void)[] = [];
afterEach(() => {
  for (const listener of listeners.splice(0)) unsubscribe(TRACE_CHANNEL, listener);
});

function listen(listener: (step: Step) => void): void {
  const called = (step: unknown): void => listener(step as Step);
  listeners.push(called);
  subscribe(TRACE_CHANNEL, called);
}

const WAYS: readonly [string, (vcpu: Vcpu) => unknown][] = [
  ["runSync()", (vcpu) => vcpu.runSync()],
  ["run()", (vcpu) => vcpu.run()],
  ["exits()", async (vcpu) => (await vcpu.exits().next()).value],
];

describe.each(WAYS)("%s returns its exit if a subscriber of the trace channel", (_, run) => {
  test("closes the vCPU", async () => {
    const vcpu = scriptedVcpu([MMIO]);
    listen(({ kind }) => kind === "run" && vcpu.close());
    expect(await run(vcpu)).toEqual(MMIO_EXIT);
    expect(vcpu.closed).toBe(true);
  });

  test("reads registers, and these reads are not published", async () => {
    const vcpu = scriptedVcpu([MMIO]);
    const heard: string[] = [];
    listen(({ kind }) => {
      heard.push(kind);
      vcpu.ioctl(KVM_GET_REGS, new Uint8Array(144));
    });
    expect(await run(vcpu)).toEqual(MMIO_EXIT);
    expect(heard).toEqual(["run"]);
    expect(vcpu.trace().at(-1)).toMatch(/^KVM_GET_REGS/);
  });

  test("runs the vCPU again", async () => {
    const vcpu = scriptedVcpu([MMIO, HLT]);
    const inner: unknown[] = [];
    listen(({ kind }) => {
      if (kind === "run" && inner.length === 0) inner.push(vcpu.runSync());
    });
    expect(await run(vcpu)).toEqual(MMIO_EXIT);
    expect(inner).toEqual([{ kind: "hlt" }]);
  });
});

test("an exception of a subscriber of the trace channel is reported to the process, not to the caller of the run", () => {
  const vcpu = scriptedVcpu([MMIO]);
  const told: unknown[] = [];
  const tick = process.nextTick;
  process.nextTick = ((call: () => void) => told.push(call)) as typeof process.nextTick;
  try {
    listen(() => {
      throw new Error("a subscriber's");
    });
    expect(vcpu.runSync()).toEqual(MMIO_EXIT);
  } finally {
    process.nextTick = tick;
  }
  expect(told).toHaveLength(1);
});

test("KVM_RUN through ioctl() returns its result if a subscriber closes the vCPU", () => {
  const vcpu = scriptedVcpu([MMIO]);
  listen(({ kind }) => kind === "run" && vcpu.close());
  expect(vcpu.ioctl(KVM_RUN)).toBe(0);
});

test("lowLevel().run() returns its result if a subscriber closes the vCPU", () => {
  const vcpu = scriptedVcpu([MMIO]);
  const page = vcpu.lowLevel();
  listen(({ kind }) => kind === "run" && vcpu.close());
  expect([page.enter(), page.exitReason]).toEqual([0, 0]);
});

describe("a signal of the process that is not a kick", () => {
  test("ends runSync(), so that the signal's listener is called", () => {
    expect(scriptedVcpu(["stray", HLT]).runSync()).toEqual({ kind: "intr" });
  });

  test("does not end a run within throughSignals()", () => {
    const vcpu = scriptedVcpu(["stray", "stray", HLT, -4]);
    expect(vcpu.runSync({ throughSignals: true })).toEqual({ kind: "hlt" });
    // The last KVM_RUN returns -EINTR without a signal, as it does after a kick or with immediate_exit.
    expect(vcpu.runSync({ throughSignals: true })).toEqual({ kind: "intr" });
  });
});
