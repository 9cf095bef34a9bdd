/** Tests of exits that the exit filter handles, and of exits that it returns. On a device. */
import { describe, expect } from "vitest";
import {
  KVM_MSR_EXIT_REASON_FILTER,
  KVM_MSR_FILTER_READ,
  KVM_MSR_FILTER_WRITE,
} from "../../../../lib/abi/generated/constants.ts";
import { type GuestBuilder, mem } from "../../../../lib/guest/index.ts";
import type { Sandbox } from "../../../../lib/machine/sandbox.ts";
import { test } from "../on-device.ts";

const [PORT, LAST, HOLE, MSR] = [0x80, 0x99, 0xd000_0000, 0x4000_0200];

/** Runs the guest until its last exit, which is for the port LAST, and returns RAX. */
function rax(box: Sandbox): bigint {
  expect(box.vcpu.runSync()).toMatchObject({ kind: "io", port: LAST });
  return box.vcpu.getRegs().rax;
}

const reads = (g: GuestBuilder): unknown => g.asm((a) => a.mov("eax", 0).in(32, PORT).out(8, LAST));

describe("the exit filter: a guest's read", () => {
  test("of a port gets the value of the port's rule", ({ box }) => {
    const made = box(reads);
    made.vcpu.setExitFilter([{ pio: PORT, length: 4, read: 0xdead_beef }]);
    expect(rax(made)).toBe(0xdead_beefn);
  });

  test("of a port causes an exit if the rule covers only a part of the access", ({ box }) => {
    const { vcpu } = box(reads);
    vcpu.setExitFilter([{ pio: PORT, length: 3, read: 1 }]);
    expect(vcpu.runSync()).toMatchObject({ kind: "io", direction: "in", port: PORT });
  });

  test("of a port causes an exit if the size of the access differs from the size in the rule", ({
    box,
  }) => {
    const { vcpu } = box(reads);
    vcpu.setExitFilter([{ pio: PORT, length: 4, size: 1, read: 1 }]);
    expect(vcpu.runSync()).toMatchObject({ kind: "io", direction: "in", port: PORT });
  });

  test("causes an exit if the rule has no value for reads", ({ box }) => {
    const { vcpu } = box(reads);
    vcpu.setExitFilter([{ pio: PORT, length: 4, write: "ignore" }]);
    expect(vcpu.runSync()).toMatchObject({ kind: "io", direction: "in", port: PORT });
  });

  test("gets the value of the first rule that covers the access", ({ box }) => {
    const made = box(reads);
    const rule = { pio: PORT, length: 4 };
    made.vcpu.setExitFilter([
      { pio: PORT, read: 1 },
      { ...rule, read: 2 },
      { ...rule, read: 3 },
    ]);
    expect(rax(made)).toBe(2n);
  });

  test("of MMIO gets the value of the rule separately for each element", ({ box }) => {
    const made = box((g) =>
      g.asm((a) =>
        a
          .mov("edi", HOLE)
          .mov("rax", mem(64, { base: "rdi" }))
          .out(8, LAST),
      ),
    );
    made.vcpu.setExitFilter([{ mmio: BigInt(HOLE), size: 8, read: 0x0123_4567_89ab_cdefn }]);
    expect(rax(made)).toBe(0x0123_4567_89ab_cdefn);
  });
});

const writes = (g: GuestBuilder): unknown =>
  g.asm((a) => {
    a.mov("edi", HOLE).mov("rax", 0x1122_3344_5566_7788n);
    for (let i = 0; i < 3; i += 1) a.out(16, PORT).add("rax", 1);
    return a.mov(mem(64, { base: "rdi" }), "rax").out(8, LAST);
  });

describe("the exit filter: a guest's write", () => {
  test("is collected in order and with the width of the access", ({ box }) => {
    const made = box(writes);
    const ring = made.vcpu.setExitFilter([
      { pio: PORT, size: 2, write: "collect" },
      { mmio: BigInt(HOLE), size: 8, write: "collect" },
    ]);
    expect(rax(made)).toBe(0x1122_3344_5566_778bn);
    const port = (low: number) => ({
      physAddr: BigInt(PORT),
      isPio: true,
      data: Uint8Array.of(low, 0x77),
    });
    expect([...ring]).toEqual([
      port(0x88),
      port(0x89),
      port(0x8a),
      {
        physAddr: BigInt(HOLE),
        isPio: false,
        data: Uint8Array.of(0x8b, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11),
      },
    ]);
  });

  test("is ignored if the member `write` of the rule is `ignore`", ({ box }) => {
    const made = box(writes);
    const ring = made.vcpu.setExitFilter([
      { pio: PORT, size: 2, write: "ignore" },
      { mmio: BigInt(HOLE), size: 8, write: "ignore" },
    ]);
    expect(rax(made)).toBe(0x1122_3344_5566_778bn);
    expect([...ring]).toEqual([]);
  });

  test("causes an exit if the ring is full, and the earlier writes are in the ring", ({ box }) => {
    const { vcpu } = box((g) =>
      g.asm((a) => a.mov("eax", 0).label("again").out(32, PORT).add("eax", 1).jmp("again")),
    );
    const ring = vcpu.setExitFilter([{ pio: PORT, size: 4, write: "collect" }]);
    expect(vcpu.runSync()).toMatchObject({ kind: "io", direction: "out", port: PORT });
    const numbers: number[] = [];
    ring.drain((_, low) => numbers.push(low));
    expect(numbers).toEqual(Array.from({ length: ring.capacity - 1 }, (_, i) => i));
  });

  test("of a string instruction is collected separately for each element", ({ box }) => {
    const made = box((g) =>
      g.asm((a) => a.mov("ecx", 3).mov("esi", 0x1000).mov("edx", PORT).repOuts(8).out(8, LAST)),
    );
    made.memory.write(0x1000, Uint8Array.of(7, 8, 9));
    const ring = made.vcpu.setExitFilter([{ pio: PORT, write: "collect" }]);
    rax(made);
    expect([...ring].map(({ data }) => data[0])).toEqual([7, 8, 9]);
  });
});

test("the exit filter returns values for reads of MSRs that KVM passes to user space, and ignores writes", ({
  box,
}) => {
  const made = box((g) => g.asm((a) => a.mov("ecx", MSR).wrmsr().rdmsr().out(8, LAST)));
  made.vm.enableCap({
    cap: "KVM_CAP_X86_USER_SPACE_MSR",
    args: [BigInt(KVM_MSR_EXIT_REASON_FILTER)],
  });
  made.vm.x86SetMsrFilter({
    ranges: [
      { flags: KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, base: MSR, bitmap: Uint8Array.of(0) },
    ],
  });
  made.vcpu.setExitFilter([{ msr: MSR, read: 0x77n, write: "ignore" }]);
  expect(rax(made)).toBe(0x77n);
});

describe("an exit filter", () => {
  test("applies to run() as well as to runSync(), and can be removed", async ({ box }) => {
    const { vcpu } = box((g) =>
      g.asm((a) => a.label("again").out(8, PORT).out(8, LAST).jmp("again")),
    );
    vcpu.setExitFilter([{ pio: PORT, write: "ignore" }]);
    expect(await vcpu.run()).toMatchObject({ port: LAST });
    expect(vcpu.lowLevel().enter()).toBe(0);
    expect(vcpu.lowLevel().ioPort).toBe(LAST);
    vcpu.setExitFilter([]);
    expect(await vcpu.run()).toMatchObject({ port: PORT });
  });

  test("does not prevent a kick while it handles the guest's exits", async ({ box }) => {
    const { vcpu } = box((g) => g.asm((a) => a.label("again").out(8, PORT).jmp("again")));
    vcpu.setExitFilter([{ pio: PORT, write: "ignore" }]);
    const ended = vcpu.run();
    expect(() => vcpu.setExitFilter([])).toThrow(expect.objectContaining({ code: "ERR_RUNNING" }));
    vcpu.kick();
    expect(await ended).toEqual({ kind: "intr" });
  });

  test("leaves an empty ring when its vCPU is closed", ({ box }) => {
    const { vcpu } = box(writes);
    const ring = vcpu.setExitFilter([{ pio: PORT, size: 2, write: "collect" }]);
    vcpu.runSync();
    vcpu.close();
    expect([...ring]).toEqual([]);
  });
});
