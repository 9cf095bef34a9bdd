/** Claims about completeExit() on a guest: its registers are those after the instruction, and no further. Needs KVM. */
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

/** The registers that these guests change. */
function registers(vcpu: Vcpu): Readonly<Record<"rax" | "rcx" | "rip", bigint>> {
  const { rax, rcx, rip } = vcpu.getRegs();
  return { rax, rcx, rip };
}

describe("completeExit", () => {
  test("gives RAX what an in was answered, and leaves the next instruction", ({ box }) => {
    const sandbox = box((g) => g.asm((a) => a.in(8, 0x60).in(8, 0x61).hlt()));
    const { vcpu } = sandbox;
    const { rip } = vcpu.getRegs();
    (vcpu.runSync() as IoInExit).reply([0x5a]);
    vcpu.completeExit();
    const after = registers(vcpu);
    expect([after.rax & 0xffn, after.rip]).toEqual([0x5an, rip + 2n]);
    expect(vcpu.runSync()).toMatchObject({ kind: "io", port: 0x61 });
  });

  test("gives RAX zeros for an in that was not answered", ({ box }) => {
    const { vcpu } = box((g) => g.asm((a) => a.mov("eax", 0xff).in(8, 0x60)).done());
    expect(vcpu.runSync().kind).toBe("io");
    vcpu.completeExit();
    expect(registers(vcpu).rax & 0xffn).toBe(0n);
  });

  test("puts RIP behind an out", ({ box }) => {
    const { vcpu } = box((g) => g.asm((a) => a.out(8, 0x60).nop()).done());
    const { rip } = vcpu.getRegs();
    expect(vcpu.runSync().kind).toBe("io");
    vcpu.completeExit();
    expect(registers(vcpu).rip).toBe(rip + 2n);
  });

  test("gives RAX what a read where no memory is was answered", ({ box }) => {
    const { vcpu } = box((g) => g.read(NOWHERE, 32).done());
    (vcpu.runSync() as MmioReadExit).reply(Uint8Array.of(1, 2, 3, 4));
    vcpu.completeExit();
    expect(registers(vcpu).rax).toBe(0x0403_0201n);
  });

  test("gives RAX what a read of an MSR was answered", ({ kvm: host, box, skip }) => {
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

  test("changes nothing when nothing is pending", ({ box }) => {
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

  test("leaves immediateExit as it was, and the guest to run on", ({ box }) => {
    const { vcpu } = box((g) => g.inb(0x60).hlt());
    expect(vcpu.runSync().kind).toBe("io");
    vcpu.completeExit();
    expect([vcpu.immediateExit, vcpu.runSync().kind]).toEqual([false, "hlt"]);
  });

  test("ends the time in which the exit can be answered", ({ box }) => {
    const { vcpu } = box((g) => g.inb(0x60).done());
    const exit = vcpu.runSync() as IoInExit;
    vcpu.completeExit();
    expect(() => exit.reply([1])).toThrow(new StateError("ERR_ANSWERED", "vcpu 0"));
  });
});

describe("an instruction that exits several times", () => {
  test("that reads, then writes, has both answered", ({ box }) => {
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

  test("throws ERR_UNANSWERED without a function for the remaining exits", ({ box }) => {
    const { vcpu } = box((g) =>
      g.asm((a) => a.mov("edi", NOWHERE).add(mem(8, { base: "rdi" }), 2)).hlt(),
    );
    expect(vcpu.runSync()).toMatchObject({ kind: "mmio", isWrite: false });
    expect(() => vcpu.completeExit()).toThrow(new StateError("ERR_UNANSWERED", "vcpu 0: mmio"));
  });

  test("such as rep movsb from where no memory is, is answered to its end", ({ box }) => {
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

  test("such as rep insb, ends at a whole element and with the rest in RCX", ({ box }) => {
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

  test("such as rep outsb, gives no further element", ({ box }) => {
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

  test("such as a single step, gives its debug exit too", ({ kvm: host, box, skip }) => {
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
