/**
 * Tests of completeExit() on a guest: the instruction is completed, and the next instruction is not executed. Needs
 * KVM.
 */
import { describe, expect } from "vitest";
import * as kvm from "../../../../lib/abi/generated/constants.ts";
import { KVM_SET_GUEST_DEBUG } from "../../../../lib/abi/generated/ioctls.ts";
import { GuestDebug } from "../../../../lib/abi/generated/structs.ts";
import { encode } from "../../../../lib/abi/struct.ts";
import { StateError } from "../../../../lib/errors.ts";
import { mem } from "../../../../lib/guest/index.ts";
import type { IoInExit, MmioReadExit, RdmsrExit } from "../../../../lib/kvm/exits/access.ts";
import type { Exit } from "../../../../lib/kvm/exits/exit.ts";
import type { Vcpu } from "../../../../lib/kvm/vcpu.ts";
import { test } from "../on-device.ts";

const NOWHERE = 0xc000_0000;
const BUFFER = 0x9_0000;

/** The registers that the guests of these tests change. */
function registers(vcpu: Vcpu): Readonly<Record<"rax" | "rcx" | "rip", bigint>> {
  const { rax, rcx, rip } = vcpu.getRegs();
  return { rax, rcx, rip };
}

describe("completeExit() with a guest", () => {
  test("writes the reply to an IN instruction to RAX, and does not run the next instruction", ({
    box,
  }) => {
    const sandbox = box((g) => g.asm((a) => a.in(8, 0x60).in(8, 0x61).hlt()));
    const { vcpu } = sandbox;
    const { rip } = vcpu.getRegs();
    (vcpu.runSync() as IoInExit).reply([0x5a]);
    vcpu.completeExit();
    const after = registers(vcpu);
    expect([after.rax & 0xffn, after.rip]).toEqual([0x5an, rip + 2n]);
    expect(vcpu.runSync()).toMatchObject({ kind: "io", port: 0x61 });
  });

  test("writes zeros to RAX for an IN instruction without a reply", ({ box }) => {
    const { vcpu } = box((g) => g.asm((a) => a.mov("eax", 0xff).in(8, 0x60)).done());
    expect(vcpu.runSync().kind).toBe("io");
    vcpu.completeExit();
    expect(registers(vcpu).rax & 0xffn).toBe(0n);
  });

  test("moves RIP past an OUT instruction", ({ box }) => {
    const { vcpu } = box((g) => g.asm((a) => a.out(8, 0x60).nop()).done());
    const { rip } = vcpu.getRegs();
    expect(vcpu.runSync().kind).toBe("io");
    vcpu.completeExit();
    expect(registers(vcpu).rip).toBe(rip + 2n);
  });

  test("writes the reply to an MMIO read to RAX", ({ box }) => {
    const { vcpu } = box((g) => g.read(NOWHERE, 32).done());
    (vcpu.runSync() as MmioReadExit).reply(Uint8Array.of(1, 2, 3, 4));
    vcpu.completeExit();
    expect(registers(vcpu).rax).toBe(0x0403_0201n);
  });

  test("writes the reply to a read of an MSR to RAX", ({ kvm: host, box, skip }) => {
    const has = host.checkExtension("KVM_CAP_X86_USER_SPACE_MSR") !== 0;
    skip(!has, "this KVM has no KVM_CAP_X86_USER_SPACE_MSR");
    const { vm, vcpu } = box((g) => g.rdmsr(0x1234_5678).done());
    const args = [BigInt(kvm.KVM_MSR_EXIT_REASON_UNKNOWN)];
    vm.enableCap({ cap: "KVM_CAP_X86_USER_SPACE_MSR", args });
    (vcpu.runSync() as RdmsrExit).reply(0x1_0000_0007n);
    vcpu.completeExit();
    const { rax, rdx } = vcpu.getRegs();
    expect([rax, rdx]).toEqual([7n, 1n]);
  });

  test("changes nothing if no exit is pending", ({ box }) => {
    const { vcpu } = box((g) => g.inb(0x60).done());
    const before = vcpu.getRegs();
    vcpu.completeExit();
    expect(vcpu.getRegs()).toEqual(before);
    expect(vcpu.runSync().kind).toBe("io");
    vcpu.completeExit();
    const completed = vcpu.getRegs();
    vcpu.completeExit();
    expect(vcpu.getRegs()).toEqual(completed);
  });

  test("restores immediateExit, and the guest can run again", ({ box }) => {
    const { vcpu } = box((g) => g.inb(0x60).hlt());
    expect(vcpu.runSync().kind).toBe("io");
    vcpu.completeExit();
    expect([vcpu.immediateExit, vcpu.runSync().kind]).toEqual([false, "hlt"]);
  });

  test("makes later replies to the exit fail", ({ box }) => {
    const { vcpu } = box((g) => g.inb(0x60).done());
    const exit = vcpu.runSync() as IoInExit;
    vcpu.completeExit();
    expect(() => exit.reply([1])).toThrow(new StateError("ERR_ANSWERED", "vcpu 0"));
  });
});

describe("completeExit() of an instruction that exits several times", () => {
  test("returns the exit of the write if the instruction reads and then writes", ({ box }) => {
    const { vcpu } = box((g) =>
      g.asm((a) => a.mov("edi", NOWHERE).add(mem(8, { base: "rdi" }), 2)).hlt(),
    );
    (vcpu.runSync() as MmioReadExit).reply(Uint8Array.of(40));
    const exits: Exit[] = [];
    vcpu.completeExit((exit) => exits.push(exit));
    const physAddr = BigInt(NOWHERE);
    const write = { kind: "mmio", isWrite: true, physAddr, data: Uint8Array.of(42) };
    expect(exits).toEqual([write]);
    expect(vcpu.runSync().kind).toBe("hlt");
  });

  test("throws ERR_UNANSWERED if no function replies to the remaining exits", ({ box }) => {
    const { vcpu } = box((g) =>
      g.asm((a) => a.mov("edi", NOWHERE).add(mem(8, { base: "rdi" }), 2)).hlt(),
    );
    expect(vcpu.runSync()).toMatchObject({ kind: "mmio", isWrite: false });
    expect(() => vcpu.completeExit()).toThrow(new StateError("ERR_UNANSWERED", "vcpu 0: mmio"));
  });

  test("passes all replies of a REP MOVSB from MMIO", ({ box }) => {
    const { vcpu, memory } = box((g) =>
      g.asm((a) => a.mov("esi", NOWHERE).mov("edi", BUFFER).mov("ecx", 5).db(0xf3, 0xa4)).hlt(),
    );
    let next = 1;
    const answer = (exit: Exit): void => (exit as MmioReadExit).reply(Uint8Array.of(next++));
    answer(vcpu.runSync());
    vcpu.completeExit(answer);
    expect(registers(vcpu).rcx).toBe(0n);
    expect(memory.bytes.slice(BUFFER, BUFFER + 6)).toEqual(Uint8Array.of(1, 2, 3, 4, 5, 0));
  });

  test("stops a REP INSB after a whole element, with the remaining count in RCX", ({ box }) => {
    const { vcpu, memory } = box((g) =>
      g.asm((a) => a.mov("dx", 0x60).mov("edi", BUFFER).mov("ecx", 5).repIns(8)).hlt(),
    );
    const exit = vcpu.runSync() as IoInExit;
    exit.reply(Array.from({ length: exit.count }, (_, i) => i + 1));
    vcpu.completeExit();
    expect(registers(vcpu).rcx).toBe(5n - BigInt(exit.count));
    expect(memory.bytes.slice(BUFFER, BUFFER + exit.count)).toEqual(
      Uint8Array.from({ length: exit.count }, (_, i) => i + 1),
    );
  });

  test("causes no further exit of a REP OUTSB", ({ box }) => {
    const { vcpu, memory } = box((g) =>
      g.asm((a) => a.mov("dx", 0x60).mov("esi", BUFFER).mov("ecx", 3).repOuts(8)).hlt(),
    );
    memory.write(BUFFER, Uint8Array.of(7, 8, 9));
    const seen: number[] = [];
    for (let exit = vcpu.runSync(); exit.kind === "io"; exit = vcpu.runSync()) {
      seen.push(...(exit as Extract<Exit, { direction: "out" }>).values);
      vcpu.completeExit();
      expect(registers(vcpu).rcx).toBe(3n - BigInt(seen.length));
    }
    expect(seen).toEqual([7, 8, 9]);
  });

  test("also returns the debug exit of a single step", ({ kvm: host, box, skip }) => {
    const has = host.checkExtension("KVM_CAP_SET_GUEST_DEBUG") !== 0;
    skip(!has, "this KVM has no KVM_CAP_SET_GUEST_DEBUG");
    const { vcpu } = box((g) => g.asm((a) => a.in(8, 0x60).nop().nop()).done());
    const control = kvm.KVM_GUESTDBG_ENABLE | kvm.KVM_GUESTDBG_SINGLESTEP;
    vcpu.ioctl(KVM_SET_GUEST_DEBUG, encode(GuestDebug, { control }));
    (vcpu.runSync() as IoInExit).reply([0x5a]);
    const exits: string[] = [];
    vcpu.completeExit(({ kind }) => exits.push(kind));
    expect(exits).toEqual(["debug"]);
    expect(registers(vcpu).rax & 0xffn).toBe(0x5an);
  });
});
