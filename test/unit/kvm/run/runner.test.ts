/**
 * Tests of running a guest: exits contain the values that the guest writes, and the guest reads the replies. Needs KVM.
 */
import { describe, expect } from "vitest";
import { KVM_RUN } from "../../../../lib/abi/generated/ioctls.ts";
import { StateError } from "../../../../lib/errors.ts";
import type { IoInExit, IoOutExit, MmioReadExit } from "../../../../lib/kvm/exits/access.ts";
import { kickVcpu } from "../../../../lib/kvm/run/kick.ts";
import type { Vcpu } from "../../../../lib/kvm/vcpu.ts";
import { refusal, test } from "../on-device.ts";

/**
 * Returns the values that a guest writes to ports until it halts: KVM may return a string in one exit or in several.
 */
function written(vcpu: Vcpu): readonly number[] {
  const values: number[] = [];
  for (let exit = vcpu.runSync(); exit.kind === "io"; exit = vcpu.runSync()) {
    values.push(...(exit as IoOutExit).values);
  }
  return values;
}

/** Runs until the guest's next read of a port, and replies to it. */
function answer(vcpu: Vcpu, values: readonly number[]): void {
  (vcpu.runSync() as IoInExit).reply(values);
}

describe("a run of a vCPU", () => {
  test("ends before the first instruction if immediate_exit is set", ({ box }) => {
    const { vcpu } = box((g) => g.done());
    const { rip } = vcpu.getRegs();
    vcpu.immediateExit = true;
    expect([vcpu.immediateExit, vcpu.runSync(), vcpu.getRegs().rip]).toEqual([
      true,
      { kind: "intr" },
      rip,
    ]);
    vcpu.immediateExit = false;
    expect(vcpu.runSync().kind).toBe("io");
  });

  test.for([
    [1, 0x5a],
    [2, 0xabcd],
    [4, 0xdead_beef],
  ] as const)("returns the value of an OUT instruction of %i bytes", ([size, value], { box }) => {
    const wide = { 1: "outb", 2: "outw", 4: "outl" } as const;
    const { vcpu } = box((g) => g[wide[size]](0x80, value).done());
    expect(vcpu.runSync()).toMatchObject({
      kind: "io",
      port: 0x80,
      size,
      count: 1,
      values: [value],
    });
  });

  test("returns every element of REP OUTSB in order", ({ box }) => {
    const { vcpu, memory } = box((g) =>
      g.asm((a) => a.mov("dx", 0x80).mov("rsi", 0x9_0000).mov("rcx", 5).repOuts(8)).hlt(),
    );
    memory.write(0x9_0000, Uint8Array.of(1, 2, 3, 254, 255));
    expect(written(vcpu)).toEqual([1, 2, 3, 254, 255]);
  });

  test("returns every element of REP OUTSD in order", ({ box }) => {
    const { vcpu, memory } = box((g) =>
      g.asm((a) => a.mov("dx", 0x80).mov("rsi", 0x9_0000).mov("rcx", 2).repOuts(32)).hlt(),
    );
    memory.write(0x9_0000, Uint8Array.of(0xef, 0xbe, 0xad, 0xde, 1, 0, 0, 0));
    expect(written(vcpu)).toEqual([0xdead_beef, 1]);
  });

  test("passes the reply to an IN instruction, or zeros without a reply", ({ box }) => {
    const sandbox = box((g) => g.inb(0x60).inw(0x62).inl(0x64).inl(0x68).sync().done());
    const { vcpu } = sandbox;
    answer(vcpu, [0x5a]);
    answer(vcpu, [0xabcd]);
    answer(vcpu, [0xdead_beef]);
    expect(vcpu.runSync()).toMatchObject({ kind: "io", direction: "in", port: 0x68 });
    expect(sandbox.next()).toEqual({
      kind: "sync",
      values: [0x5an, 0xabcdn, 0xdead_beefn, 0n],
    });
  });

  test("passes the reply to an MMIO read", ({ box }) => {
    const sandbox = box((g) => g.read(0xc000_0000, 32).read(0xc000_0010, 8).sync().done());
    const exit = sandbox.vcpu.runSync() as MmioReadExit;
    expect(exit).toMatchObject({ kind: "mmio", isWrite: false, physAddr: 0xc000_0000n, len: 4 });
    exit.reply(Uint8Array.of(1, 2, 3, 4));
    expect(sandbox.vcpu.runSync()).toMatchObject({ kind: "mmio", len: 1 });
    expect(sandbox.next()).toEqual({ kind: "sync", values: [0x0403_0201n, 0n] });
  });

  test("returns the value that was written to an address without memory", ({ box }) => {
    const { vcpu } = box((g) => g.write(0xc000_0008, 0x1234, 16).done());
    expect(vcpu.runSync()).toEqual({
      kind: "mmio",
      isWrite: true,
      physAddr: 0xc000_0008n,
      data: Uint8Array.of(0x34, 0x12),
    });
  });

  test("returns an exit that rejects replies after the vCPU has run again or was closed", ({
    box,
  }) => {
    const { vcpu } = box((g) => g.inb(0x60).inb(0x61).done());
    const [first, second] = [vcpu.runSync(), vcpu.runSync()] as readonly IoInExit[];
    const late = new StateError("ERR_ANSWERED", "vcpu 0");
    expect(() => first?.reply([1])).toThrow(late);
    vcpu.close();
    expect(() => second?.reply([1])).toThrow(late);
  });

  test("ends with the exit hlt", ({ box }) => {
    expect(box((g) => g.hlt()).vcpu.runSync()).toEqual({ kind: "hlt" });
  });

  test("ends with the exit shutdown after a triple fault", ({ box }) => {
    const { vcpu } = box((g) => g.ud2());
    vcpu.setSregs({ ...vcpu.getSregs(), idt: { base: 0n, limit: 0 } });
    expect(vcpu.runSync()).toEqual({ kind: "shutdown" });
  });

  test("ends with an internal error if RIP is outside of all memory", ({ box }) => {
    const { vcpu } = box((g) => g.done());
    vcpu.setRegs({ ...vcpu.getRegs(), rip: 0xc000_0000n });
    expect(vcpu.runSync().kind).toBe("internal_error");
  });
});

describe("KVM_RUN through ioctl()", () => {
  test("is traced and counted like run(), and a reply to an earlier exit is then refused", ({
    box,
  }) => {
    const { vcpu } = box((g) => g.inb(0x60).outb(0x77, 1).done());
    const read = vcpu.runSync() as IoInExit;
    expect(vcpu.ioctl(KVM_RUN)).toBe(0);
    expect(vcpu.lowLevel().ioPort).toBe(0x77);
    expect(() => read.reply([1])).toThrow(new StateError("ERR_ANSWERED", "vcpu 0"));
    expect(vcpu.trace().at(-1)).toMatch(/KVM_RUN.*KVM_EXIT_IO/);
  });

  test("counts as a run in the reasons of later failures", ({ box }) => {
    const { vcpu } = box((g) => g.done());
    vcpu.ioctl(KVM_RUN);
    const shorter = vcpu.getCpuid2().slice(1);
    expect(refusal(() => vcpu.setCpuid2(shorter)).message).toContain("changed after KVM_RUN");
  });

  test("is ended by an earlier kick", ({ box }) => {
    const { vcpu } = box((g) => g.done());
    kickVcpu(vcpu.kickToken);
    expect(refusal(() => vcpu.ioctl(KVM_RUN))).toMatchObject({ code: "EINTR" });
    expect(vcpu.ioctl(KVM_RUN)).toBe(0);
  });

  test("is rejected while the VM is paused", async ({ box }) => {
    const { vm, vcpu } = box((g) => g.done());
    await vm.pause();
    expect(() => vcpu.ioctl(KVM_RUN)).toThrow(new StateError("ERR_PAUSED", "vcpu 0"));
  });

  test("with an argument is passed to KVM, which refuses the argument", ({ box }) => {
    const { vcpu } = box((g) => g.done());
    expect(refusal(() => vcpu.ioctl(KVM_RUN, 1))).toMatchObject({ code: "EINVAL" });
  });
});
