/** Tests of asynchronous runs: their end, kicks, and the calls that are rejected during a run. On a device. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";
import { promisify } from "node:util";
import { describe, expect, vi } from "vitest";
import type { GuestBuilder } from "../../../../lib/guest/index.ts";
import type { Exit } from "../../../../lib/kvm/exits/exit.ts";
import { kickVcpu } from "../../../../lib/kvm/run/kick.ts";
import { test } from "../on-device.ts";

const INTR = { kind: "intr" };
const PORT = 0x80;

function answer(exit: Exit, value: number): void {
  if (exit.kind !== "io" || exit.direction !== "in") throw new Error(`exit: ${exit.kind}`);
  exit.reply([value]);
}

test("an aborted run() of a spinning guest ends, and does not affect the next run", async ({
  box,
}) => {
  const { vcpu } = box((g) => g.loopForever());
  for (let i = 0; i < 20; i += 1) {
    const ended = vcpu.run({ signal: AbortSignal.timeout(i) });
    expect(vcpu.running).toBe(true);
    expect(await ended).toEqual(INTR);
    expect(vcpu.running).toBe(false);
  }
});

test("while run() is pending, other calls on the vCPU are rejected", async ({ box }) => {
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

test("closing a vCPU ends its pending run()", async ({ box }) => {
  const { vcpu } = box((g) => g.loopForever());
  const ended = vcpu.run();
  vcpu.close();
  expect(await ended).toEqual(INTR);
  expect(() => vcpu.run()).toThrow(expect.objectContaining({ code: "ERR_CLOSED" }));
});

test("run() returns the same exit as runSync()", async ({ box }) => {
  const { vcpu } = box((g) => g.done());
  expect(await vcpu.run()).toMatchObject({ kind: "io", direction: "out" });
});

test("while four guests spin, timers, file operations and child processes continue", async ({
  box,
}) => {
  const vcpus = Array.from({ length: 4 }, () => box((g) => g.loopForever()).vcpu);
  const runs = vcpus.map((vcpu) => vcpu.run());
  for (let i = 0; i < 2; i += 1) {
    await setTimeout(1);
    expect(await readFile(import.meta.filename, "utf8")).toContain("four guests spin");
    expect(await promisify(execFile)("echo", ["hello"])).toMatchObject({ stdout: "hello\n" });
  }
  expect(vcpus.map(({ running }) => running)).toEqual([true, true, true, true]);
  for (const vcpu of vcpus) vcpu.kick();
  expect(await Promise.all(runs)).toEqual([INTR, INTR, INTR, INTR]);
});

describe("exits() of a vCPU", () => {
  test("runs the guest only when the next exit is requested", async ({ box }) => {
    const { vcpu } = box((g) => g.asm((a) => a.label("again").in(8, PORT).jmp("again")));
    const sent: number[] = [];
    for await (const exit of vcpu.exits()) {
      expect(vcpu.running).toBe(false);
      sent.push(Number(vcpu.getRegs().rax & 0xffn));
      if (sent.length === 4) break;
      answer(exit, sent.length);
    }
    // The register has the reply only after the guest has run again.
    expect(sent.slice(1)).toEqual([1, 2, 3]);
  });

  test("ends when its signal is aborted, even before the first run", async ({ box }) => {
    const { vcpu } = box((g) => g.loopForever());
    const controller = new AbortController();
    const exits = vcpu.exits({ signal: controller.signal });
    const next = exits.next();
    controller.abort();
    expect(await next).toEqual({ done: true, value: undefined });
    const late = vcpu.exits({ signal: controller.signal });
    expect(await late.next()).toEqual({ done: true, value: undefined });
  });

  test("ends when the vCPU is closed, but not after a kick", async ({ box }) => {
    const { vcpu } = box((g) => g.loopForever());
    const exits = vcpu.exits();
    const kicked = exits.next();
    vcpu.kick();
    expect(await kicked).toEqual({ done: false, value: INTR });
    const closed = exits.next();
    vcpu.close();
    expect(await closed).toEqual({ done: true, value: undefined });
    expect(await vcpu.exits().next()).toEqual({ done: true, value: undefined });
  });
});

/** A guest that increments RBX in an endless loop. */
const counter = (g: GuestBuilder): unknown =>
  g.asm((a) => a.mov("ebx", 0).label("again").add("rbx", 1).jmp("again"));

describe("a VM that vm.pause() has stopped", () => {
  test("can be read, and continues after resume()", async ({ box }) => {
    const { vm, vcpu } = box(counter);
    const ended = vcpu.run();
    // On a busy host, the guest's thread may not run between a resume and the next pause.
    for (let count = 0, last = -1n; count < 10; ) {
      await vm.pause();
      const { rbx } = vcpu.getRegs();
      expect(vcpu.running).toBe(true);
      await setTimeout(5);
      expect(vcpu.getRegs().rbx).toBe(rbx);
      count += rbx > last ? 1 : 0;
      last = rbx;
      vm.resume();
      await setTimeout(5);
    }
    vcpu.kick();
    expect(await ended).toEqual(INTR);
  });

  test("starts a pending run only after resume()", async ({ box }) => {
    const { vm, vcpu } = box((g) => g.done());
    await vm.pause();
    const ended = vcpu.run();
    expect(vcpu.running).toBe(true);
    expect(() => vcpu.runSync()).toThrow(expect.objectContaining({ code: "ERR_RUNNING" }));
    expect(vcpu.getRegs().rax).toBe(0n);
    vm.resume();
    expect(await ended).toMatchObject({ kind: "io", direction: "out" });
  });

  test("lets a kick or close() end a run", async ({ box }) => {
    const { vm, vcpu } = box((g) => g.loopForever());
    const kicked = vcpu.run();
    await vm.pause();
    vcpu.kick();
    expect(await kicked).toEqual(INTR);
    expect(() => vcpu.runSync()).toThrow(expect.objectContaining({ code: "ERR_PAUSED" }));
    const closed = vcpu.run();
    vcpu.close();
    expect(await closed).toEqual(INTR);
  });

  test("continues its runs if resume() is called before the runs have stopped", async ({ box }) => {
    const { vm, vcpu } = box((g) => g.loopForever());
    const ended = vcpu.run();
    for (let i = 0; i < 20; i += 1) {
      const paused = vm.pause();
      await setTimeout(i % 2);
      vm.resume();
      await paused;
      await setTimeout(i % 3);
    }
    expect(vcpu.running).toBe(true);
    vcpu.kick();
    expect(await ended).toEqual(INTR);
  });

  test("can be saved and continued in another VM", async ({ box }) => {
    const [first, second] = [box(counter), box(counter)];
    const ended = first.vcpu.run();
    await first.vm.pause();
    const { rbx } = first.vcpu.getRegs();
    second.vm.restoreState(first.vm.saveState([first.vcpu]), [second.vcpu]);
    expect(second.vcpu.getRegs().rbx).toBe(rbx);
    first.vcpu.close();
    expect(await ended).toEqual(INTR);
  });
});

describe("kickVcpu()", () => {
  test("ends a run of another thread", async ({ box }) => {
    const { vcpu } = box((g) => g.loopForever());
    const ended = vcpu.run();
    expect(kickVcpu(vcpu.kickToken)).toBe(true);
    expect(await ended).toEqual(INTR);
  });

  test("ends the next run if no run is active, but no run after that", ({ box }) => {
    const { vcpu } = box((g) => g.asm((a) => a.label("again").out(8, PORT).jmp("again")));
    kickVcpu(vcpu.kickToken);
    expect(vcpu.runSync()).toEqual(INTR);
    expect(vcpu.runSync()).toMatchObject({ kind: "io" });
  });

  test("returns false for an unknown token, and for the token of a closed vCPU", ({ box }) => {
    const { vcpu } = box((g) => g.loopForever());
    const { kickToken } = vcpu;
    expect(kickVcpu(kickToken ^ 1n)).toBe(false);
    vcpu.close();
    expect(kickVcpu(kickToken)).toBe(false);
  });
});

test("a program is warned once if it runs a vCPU on two threads in turn", async ({ box }) => {
  const { vcpu } = box((g) => g.asm((a) => a.label("again").out(8, PORT).jmp("again")));
  const warned = vi.spyOn(process, "emitWarning").mockImplementation(() => undefined);
  for (let i = 0; i < 40; i += 1) {
    vcpu.runSync();
    await vcpu.run();
  }
  expect(warned).toHaveBeenCalledExactlyOnceWith(
    expect.stringMatching(/^vcpu 0 is run by run\(\) and by runSync\(\) in turn/),
    { type: "PerformanceWarning", code: "NODE_KVM_THREADS" },
  );
  warned.mockRestore();
});

describe("exits() that is ended while the guest runs", () => {
  test("by return(): the run is kicked, and the promises of next() and return() resolve", async ({
    box,
  }) => {
    const { vcpu } = box((g) => g.loopForever());
    const exits = vcpu.exits();
    const next = exits.next();
    expect(await exits.return()).toEqual({ done: true, value: undefined });
    expect(await next).toEqual({ done: true, value: undefined });
    expect(vcpu.running).toBe(false);
  });

  test("by throw(): the run is kicked, and the step is rejected", async ({ box }) => {
    const { vcpu } = box((g) => g.loopForever());
    const exits = vcpu.exits();
    const next = exits.next();
    await expect(exits.throw(new Error("enough"))).rejects.toThrow("enough");
    expect(await next).toEqual({ done: true, value: undefined });
  });

  test("by return() during a pause", async ({ box }) => {
    const { vcpu, vm } = box((g) => g.loopForever());
    await vm.pause();
    const exits = vcpu.exits();
    const next = exits.next();
    expect(await exits.return()).toEqual({ done: true, value: undefined });
    expect(await next).toEqual({ done: true, value: undefined });
    vm.resume();
  });
});
