/**
 * Tests that a loop over exits with lowLevel().run() allocates no garbage. bench/ measures the time of such a loop.
 * Needs KVM.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect } from "vitest";
import {
  KVM_EXIT_IO,
  KVM_EXIT_MMIO,
  KVM_SYNC_X86_REGS,
} from "../../../../lib/abi/generated/constants.ts";
import { type GuestBuilder, mem } from "../../../../lib/guest/index.ts";
import type { IoInExit } from "../../../../lib/kvm/exits/access.ts";
import { RunPage } from "../../../../lib/kvm/run/run-page.ts";
import type { Sandbox } from "../../../../lib/machine/sandbox.ts";
import { test } from "../on-device.ts";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

const [EINTR, EBADF, EBUSY] = [4, 9, 16];
const [BATCHES, EXITS] = [15, 1000];
/** The size in bytes of V8's smallest object: a number that is not a small integer. */
const OBJECT = 16;

/**
 * Returns the number of bytes per step that remain on the heap after a batch of steps. A batch is too small to cause a
 * garbage collection. V8 sometimes compiles code during a batch, so the function returns the minimum of all batches
 * after the first ones.
 */
function garbage(batch: (steps: number) => number): number {
  const left = Array.from({ length: BATCHES }, () => {
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    const steps = batch(EXITS);
    return (process.memoryUsage().heapUsed - before) / steps;
  });
  return Math.min(...left.slice(BATCHES / 5));
}

/** As a JavaScript number, this value is not a small integer: a careless read allocates an object. */
const WIDE = 0xdead_beef;
const [PORT, HOLE] = [0x80, 0xd000_0000];

const toPort = (g: GuestBuilder): unknown =>
  g.asm((a) => a.mov("eax", WIDE).label("again").out(32, PORT).jmp("again"));
const fromPort = (g: GuestBuilder): unknown =>
  g.asm((a) => a.label("again").in(32, PORT).jmp("again"));
const toHole = (g: GuestBuilder): unknown =>
  g.asm((a) => {
    const hole = mem(32, { base: "rdi" });
    return a.mov("edi", HOLE).mov("eax", WIDE).label("again").mov(hole, "eax").jmp("again");
  });

/** Repeats KVM_RUN and checks each exit; returns whether all exits were as expected. */
function entering(box: Sandbox, reason: number, look: (page: Page) => boolean): Loop {
  const page = box.vcpu.lowLevel();
  let unexpected = 0;
  const batch = (exits: number): number => {
    for (let i = 0; i < exits; i++) {
      const asExpected = page.enter() === 0 && page.exitReason === reason && look(page);
      if (!asExpected) unexpected++;
    }
    return exits;
  };
  return { batch, unexpected: () => unexpected };
}

type Page = ReturnType<Sandbox["vcpu"]["lowLevel"]>;
interface Loop {
  readonly batch: (exits: number) => number;
  readonly unexpected: () => number;
}

describe("no object stays on V8's heap for an exit", () => {
  test("if a guest writes to a port", ({ box }) => {
    const { batch, unexpected } = entering(
      box(toPort),
      KVM_EXIT_IO,
      (page) => page.ioPort === PORT && page.ioSize === 4 && page.ioValue === WIDE,
    );
    expect(garbage(batch)).toBeLessThan(1);
    expect(unexpected()).toBe(0);
  });

  test("if a guest reads from a port and gets a reply", ({ box }) => {
    const { batch, unexpected } = entering(box(fromPort), KVM_EXIT_IO, (page) => {
      page.ioValue = WIDE;
      return page.ioPort === PORT && page.ioCount === 1;
    });
    expect(garbage(batch)).toBeLessThan(1);
    expect(unexpected()).toBe(0);
  });

  test("if a guest writes to MMIO", ({ box }) => {
    const { batch, unexpected } = entering(
      box(toHole),
      KVM_EXIT_MMIO,
      (page) => page.mmioIsWrite && page.mmioPhysAddr === HOLE && page.mmioLow === WIDE,
    );
    expect(garbage(batch)).toBeLessThan(1);
    expect(unexpected()).toBe(0);
  });
});

/** Runs until the ring is full, then drains the ring. */
function draining(box: Sandbox, drain: (take: Take) => number): Loop {
  let unexpected = 0;
  const take: Take = (physAddr, low, high, len, isPio) => {
    if (physAddr !== PORT || low !== WIDE || high !== 0 || len !== 4 || !isPio) unexpected++;
  };
  const page = box.vcpu.lowLevel();
  const batch = (writes: number): number => {
    let taken = 0;
    while (taken < writes) {
      page.enter();
      taken += drain(take);
    }
    return taken;
  };
  return { batch, unexpected: () => unexpected };
}

type Take = (physAddr: number, low: number, high: number, len: number, isPio: boolean) => void;

describe("no object stays on V8's heap for a collected write", () => {
  test("if KVM coalesces the write", ({ box }) => {
    const made = box(toPort);
    made.vm.registerCoalescedMmio({ addr: BigInt(PORT), size: 4, pio: 1 });
    const ring = made.vcpu.coalescedRing();
    const { batch, unexpected } = draining(made, (take) => ring.drain(take));
    expect(garbage(batch)).toBeLessThan(1);
    expect(unexpected()).toBe(0);
  });

  test("if the exit filter collects the write", ({ box }) => {
    const made = box(toPort);
    const ring = made.vcpu.setExitFilter([{ pio: PORT, size: 4, write: "collect" }]);
    const { batch, unexpected } = draining(made, (take) => ring.drain(take));
    expect(garbage(batch)).toBeLessThan(1);
    expect(unexpected()).toBe(0);
  });
});

test("the test for objects on V8's heap detects the exit objects of runSync()", ({ box }) => {
  const { vcpu } = box(toPort);
  const batch = (exits: number): number => {
    for (let i = 0; i < exits; i++) vcpu.runSync();
    return exits;
  };
  expect(garbage(batch)).toBeGreaterThan(OBJECT);
});

test("the registers that KVM synchronises are read and written in kvm_run", ({ box }) => {
  const { vcpu } = box((g) =>
    g.asm((a) => a.mov("ebx", WIDE).label("again").out(8, PORT).add("rbx", 1).jmp("again")),
  );
  const page = vcpu.lowLevel();
  const { rbx, rip } = RunPage.REGS;
  page.kvmValidRegs = KVM_SYNC_X86_REGS;
  expect(page.enter()).toBe(0);
  expect(page.regs[rbx]).toBe(BigInt(WIDE));
  expect(page.regWords[2 * rbx]).toBe(WIDE);
  expect(page.getSyncRegs().regs).toEqual(vcpu.getRegs());
  page.regs[rbx] = 5n;
  page.kvmDirtyRegs = KVM_SYNC_X86_REGS;
  expect(page.enter()).toBe(0);
  expect(page.kvmDirtyRegs).toBe(0);
  expect(page.regs[rbx]).toBe(6n);
  expect(page.regs[rip]).toBe(vcpu.getRegs().rip);
});

test("lowLevel().run() is rejected in the same states as run() and runSync()", async ({ box }) => {
  const { vm, vcpu } = box((g) => g.loopForever());
  const page = vcpu.lowLevel();
  vcpu.immediateExit = true;
  expect(page.enter()).toBe(-EINTR);
  vcpu.immediateExit = false;
  const ended = vcpu.run();
  expect(page.enter()).toBe(-EBUSY);
  vcpu.kick();
  await ended;
  await vm.pause();
  expect(page.enter()).toBe(-EBUSY);
  vm.resume();
  vcpu.close();
  expect(page.enter()).toBe(-EBADF);
  expect([page.exitReason, page.ioValue, page.mmioPhysAddr]).toEqual([0, 0, 0]);
});

test("an exit of runSync() rejects a reply after lowLevel().run()", ({ box }) => {
  const { vcpu } = box(fromPort);
  const exit = vcpu.runSync();
  expect(exit).toMatchObject({ kind: "io", direction: "in", port: PORT });
  vcpu.lowLevel().enter();
  expect(() => (exit as IoInExit).reply([1])).toThrow(
    expect.objectContaining({ code: "ERR_ANSWERED" }),
  );
});
