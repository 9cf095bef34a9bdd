/**
 * Tests of exits that a VM must enable: MSRs, hypercalls, debugging. The tests need KVM and the capability for each
 * exit.
 */
import { describe, expect } from "vitest";
import * as kvm from "../../../../lib/abi/generated/constants.ts";
import { KVM_SET_GUEST_DEBUG } from "../../../../lib/abi/generated/ioctls.ts";
import { GuestDebug } from "../../../../lib/abi/generated/structs.ts";
import { encode } from "../../../../lib/abi/struct.ts";
import type { Capability } from "../../../../lib/kvm/calls/capability.ts";
import type { RdmsrExit, WrmsrExit } from "../../../../lib/kvm/exits/access.ts";
import type { DebugExit, InternalErrorExit } from "../../../../lib/kvm/exits/event.ts";
import type { HypercallExit } from "../../../../lib/kvm/exits/hypercall.ts";
import type { Kvm } from "../../../../lib/kvm/kvm.ts";
import type { Sandbox } from "../../../../lib/machine/sandbox.ts";
import { type Handles, isPvm, test } from "../on-device.ts";

type Skip = (condition: boolean, note?: string) => void;

/** Skips a test if KVM does not support all these bits of a capability. */
function needs(kvmHandle: Kvm, skip: Skip, capability: Capability, bits = 1): void {
  const has = (kvmHandle.checkExtension(capability) & bits) === bits;
  skip(!has, `this KVM has no ${capability} of ${bits}`);
}

/** No CPU has this MSR and KVM does not know it, so an access causes an exit even without an MSR filter. */
const NO_MSR = 0x1234_5678;
const GP = 13;

/** Enables exits for MSRs that KVM does not know, and for MSR values that KVM rejects. */
function handOverMsrs({ vm }: Sandbox): void {
  const reasons = kvm.KVM_MSR_EXIT_REASON_UNKNOWN | kvm.KVM_MSR_EXIT_REASON_INVAL;
  vm.enableCap({ cap: "KVM_CAP_X86_USER_SPACE_MSR", args: [BigInt(reasons)] });
}

describe("a guest's read of an MSR that KVM does not know", () => {
  test("returns the reply to the guest, or 0 without a reply", ({ kvm: host, box, skip }) => {
    needs(host, skip, "KVM_CAP_X86_USER_SPACE_MSR");
    const sandbox = box((g) =>
      g
        .rdmsr(NO_MSR)
        .rdmsr(NO_MSR + 1)
        .sync()
        .done(),
    );
    handOverMsrs(sandbox);
    const exit = sandbox.vcpu.runSync() as RdmsrExit;
    expect(exit).toMatchObject({ kind: "x86_rdmsr", reason: 2, index: NO_MSR });
    exit.reply(0xfedc_ba98_7654_3210n);
    expect(sandbox.vcpu.runSync()).toMatchObject({ kind: "x86_rdmsr", index: NO_MSR + 1 });
    expect(sandbox.next()).toEqual({ kind: "sync", values: [0xfedc_ba98_7654_3210n, 0n] });
  });

  test("raises #GP in the guest after fail()", ({ kvm: host, box, skip }) => {
    needs(host, skip, "KVM_CAP_X86_USER_SPACE_MSR");
    const sandbox = box((g) => g.rdmsr(NO_MSR).sync().done());
    handOverMsrs(sandbox);
    (sandbox.vcpu.runSync() as RdmsrExit).fail();
    expect(sandbox.next()).toMatchObject({ kind: "fault", vector: GP, errorCode: 0 });
  });
});

describe("a guest's write of an MSR that KVM does not know", () => {
  test.for([
    ["answered", (exit: WrmsrExit) => exit.reply()],
    ["not answered", () => undefined],
  ] as const)("continues if the exit is %s", ([, answer], { kvm: host, box, skip }) => {
    needs(host, skip, "KVM_CAP_X86_USER_SPACE_MSR");
    const sandbox = box((g) => g.wrmsr(NO_MSR, 0xfedc_ba98_7654_3210n).sync().done());
    handOverMsrs(sandbox);
    const exit = sandbox.vcpu.runSync() as WrmsrExit;
    expect(exit).toMatchObject({ index: NO_MSR, reason: 2, data: 0xfedc_ba98_7654_3210n });
    answer(exit);
    expect(sandbox.next()).toEqual({ kind: "sync", values: [] });
  });

  test("raises #GP in the guest after fail()", ({ kvm: host, box, skip }) => {
    needs(host, skip, "KVM_CAP_X86_USER_SPACE_MSR");
    const sandbox = box((g) => g.wrmsr(NO_MSR, 1n).sync().done());
    handOverMsrs(sandbox);
    (sandbox.vcpu.runSync() as WrmsrExit).fail();
    expect(sandbox.next()).toMatchObject({ kind: "fault", vector: GP, errorCode: 0 });
  });
});

test("a guest's write of an invalid value to a known MSR causes an exit with the matching reason", ({
  kvm: host,
  box,
  skip,
}) => {
  needs(host, skip, "KVM_CAP_X86_USER_SPACE_MSR");
  const APIC_BASE = 0x1b;
  const sandbox = box((g) =>
    g
      .wrmsr(APIC_BASE, 2n ** 63n)
      .sync()
      .done(),
  );
  handOverMsrs(sandbox);
  expect(sandbox.vcpu.runSync()).toMatchObject({
    kind: "x86_wrmsr",
    reason: kvm.KVM_MSR_EXIT_REASON_INVAL,
    index: APIC_BASE,
    data: 2n ** 63n,
  });
});

describe("the exit of KVM_HC_MAP_GPA_RANGE", () => {
  const NR = kvm.KVM_HC_MAP_GPA_RANGE;

  /** A guest that calls KVM_HC_MAP_GPA_RANGE for two pages and writes the result to a port. */
  const made = (box: Handles["box"]): Sandbox => {
    const sandbox = box((g) => {
      g.asm((a) => a.mov("rax", NR).mov("rbx", 0x8_0000).mov("rcx", 2).mov("rdx", 0x10).vmmcall());
      return g.record("rax").sync().done();
    });
    sandbox.vm.enableCap({ cap: "KVM_CAP_EXIT_HYPERCALL", args: [BigInt(1 << NR)] });
    return sandbox;
  };

  test("contains the guest's request, and returns the result of the reply to the guest", ({
    kvm: host,
    box,
    skip,
  }) => {
    needs(host, skip, "KVM_CAP_EXIT_HYPERCALL", 1 << NR);
    skip(isPvm, "kvm_pvm does not end a hypercall of ring 0");
    const sandbox = made(box);
    const exit = sandbox.vcpu.runSync() as HypercallExit;
    expect(exit).toMatchObject({ kind: "hypercall", nr: BigInt(NR) });
    expect(exit.args.slice(0, 3)).toEqual([0x8_0000n, 2n, 0x10n]);
    expect(exit.flags & BigInt(kvm.KVM_EXIT_HYPERCALL_LONG_MODE)).toBe(1n);
    exit.reply(-22n);
    expect(sandbox.next()).toEqual({ kind: "sync", values: [2n ** 64n - 22n] });
  });

  test("returns success to the guest without a reply", ({ kvm: host, box, skip }) => {
    needs(host, skip, "KVM_CAP_EXIT_HYPERCALL", 1 << NR);
    skip(isPvm, "kvm_pvm does not end a hypercall of ring 0");
    const sandbox = made(box);
    expect(sandbox.vcpu.runSync().kind).toBe("hypercall");
    expect(sandbox.next()).toEqual({ kind: "sync", values: [0n] });
  });

  test("does not occur under kvm_pvm, although KVM reports the capability for this exit", async ({
    kvm: host,
    box,
    skip,
  }) => {
    skip(!isPvm, "this is not kvm_pvm");
    expect(host.checkExtension("KVM_CAP_EXIT_HYPERCALL")).toBe(1 << NR);
    const { vcpu } = made(box);
    const start = vcpu.getRegs().rip;
    expect(await vcpu.run({ signal: AbortSignal.timeout(100) })).toMatchObject({ kind: "intr" });
    const MOVS = 4n * 7n;
    expect(vcpu.getRegs().rip).toBe(start + MOVS);
  });
});

test("guest debugging causes an exit after a single step", ({ kvm: host, box, skip }) => {
  needs(host, skip, "KVM_CAP_SET_GUEST_DEBUG");
  const { vcpu } = box((g) => g.asm((a) => a.nop().nop()).done());
  const { rip } = vcpu.getRegs();
  const control = kvm.KVM_GUESTDBG_ENABLE | kvm.KVM_GUESTDBG_SINGLESTEP;
  vcpu.ioctl(KVM_SET_GUEST_DEBUG, encode(GuestDebug, { control }));
  const exit = vcpu.runSync() as DebugExit;
  const BS = 0x4000n;
  expect(exit).toMatchObject({ kind: "debug", exception: 1, pc: rip + 1n });
  expect(exit.dr6 & BS).toBe(BS);
});

test("an instruction that KVM cannot emulate causes an exit with its bytes", ({ box, skip }) => {
  const fadd = [0xd8, 0x07]; // the operand is memory at RDI
  const { vcpu } = box((g) => g.asm((a) => a.mov("edi", 0xc000_0000).db(...fadd)).done());
  const exit = vcpu.runSync() as InternalErrorExit;
  expect(exit).toMatchObject({ kind: "internal_error", suberror: 1 });
  skip(exit.data.length === 0, "this kernel provides no data");
  expect(Array.from(exit.emulationFailure?.insnBytes?.subarray(0, 2) ?? [])).toEqual(fadd);
});
