/** Tests of vCPUs: a vCPU keeps its state, and each refused call has KVM's error. Needs KVM. */
import { describe, expect } from "vitest";
import * as abi from "../../../lib/abi/generated/constants.ts";
import { refusal, test } from "./on-device.ts";

describe("a vCPU", () => {
  test("keeps its general registers", ({ vcpu }) => {
    const regs = { ...vcpu.getRegs(), rax: 2n ** 64n - 1n, r15: 1n, rip: 0x1234n, rflags: 2n };
    vcpu.setRegs(regs);
    expect(vcpu.getRegs()).toEqual(regs);
  });

  test("keeps the registers that a rejected setRegs() would have changed", ({ vcpu }) => {
    const before = vcpu.getRegs();
    const partial = { rbx: 5n, rflags: 2n } as unknown as typeof before;
    expect(() => vcpu.setRegs(partial)).toThrow("setRegs(): kvm_regs: missing members rax, rcx");
    expect(vcpu.getRegs()).toEqual(before);
  });

  test("keeps the registers that updateRegs() does not name", ({ vcpu }) => {
    vcpu.setRegs({ ...vcpu.getRegs(), rax: 7n, rip: 0x1234n });
    vcpu.updateRegs({ rbx: 5n, rcx: 6 });
    expect(vcpu.getRegs()).toMatchObject({ rax: 7n, rbx: 5n, rcx: 6n, rip: 0x1234n });
  });

  test("keeps the fields of a segment that updateSregs() does not name", ({ vcpu }) => {
    const before = vcpu.getSregs();
    vcpu.updateSregs({ cs: { base: 0x2_0000 }, cr2: 7n });
    const cs = { ...before.cs, base: 0x2_0000n };
    expect(vcpu.getSregs()).toEqual({ ...before, cs, cr2: 7n });
  });

  test("keeps the fields that updateFpu(), updateDebugregs() and updateVcpuEvents() do not name", ({
    vcpu,
  }) => {
    const before = [vcpu.getFpu(), vcpu.getDebugregs()] as const;
    vcpu.updateFpu({ fcw: 0x37e });
    vcpu.updateDebugregs({ dr7: 0x500 });
    vcpu.updateVcpuEvents({ nmi: { masked: 1 } });
    expect(vcpu.getFpu()).toEqual({ ...before[0], fcw: 0x37e });
    expect(vcpu.getDebugregs()).toEqual({ ...before[1], dr7: 0x500n });
    expect(vcpu.getVcpuEvents().nmi.masked).toBe(1);
  });

  test("keeps the fields that updateSregs2() does not name", ({ kvm, vcpu, skip }) => {
    skip(kvm.checkExtension("KVM_CAP_SREGS2") === 0, "this KVM has no KVM_CAP_SREGS2");
    const before = vcpu.getSregs2();
    vcpu.updateSregs2({ cr2: 9 });
    expect(vcpu.getSregs2()).toEqual({ ...before, cr2: 9n });
  });

  test("keeps its special registers", ({ vcpu }) => {
    const sregs = vcpu.getSregs();
    const changed = { ...sregs, cs: { ...sregs.cs, base: 0x1_0000n, selector: 0x1000 }, cr2: 7n };
    vcpu.setSregs(changed);
    expect(vcpu.getSregs()).toEqual(changed);
  });

  test("rejects invalid special registers", ({ vcpu }) => {
    const sregs = { ...vcpu.getSregs(), cr4: 1n << 63n };
    expect(refusal(() => vcpu.setSregs(sregs))).toMatchObject({
      call: "KVM_SET_SREGS",
      code: "EINVAL",
      object: "vcpu 0",
      args: { cr4: 1n << 63n },
    });
  });

  test("reads and writes MSRs up to the first MSR that KVM does not know", ({ vcpu }) => {
    const [sysenterCs, unknown] = [0x174, 0xdead_beef];
    expect(vcpu.setMsrs([{ index: sysenterCs, data: 0x10n }])).toBe(1);
    expect(vcpu.setMsrs([{ index: unknown, data: 1n }])).toBe(0);
    expect(vcpu.getMsrs([sysenterCs, unknown, sysenterCs])).toEqual([
      { index: sysenterCs, reserved: 0, data: 0x10n },
    ]);
  });

  test("keeps XCR0, and rejects an XCR0 without x87", ({ kvm, vcpu, skip }) => {
    skip(kvm.checkExtension("KVM_CAP_XCRS") === 0, "this KVM has no KVM_CAP_XCRS");
    const [xcr] = vcpu.getXcrs().xcrs;
    const withSse = { nrXcrs: 1, flags: 0, xcrs: [{ xcr: 0, value: 3n }] };
    expect(xcr).toMatchObject({ xcr: 0, value: 1n });
    vcpu.setXcrs(withSse);
    expect(vcpu.getXcrs().xcrs[0]).toMatchObject({ xcr: 0, value: 3n });
    expect(
      refusal(() => vcpu.setXcrs({ nrXcrs: 1, flags: 0, xcrs: [{ xcr: 0, value: 2n }] })),
    ).toMatchObject({
      call: "KVM_SET_XCRS",
      code: "EINVAL",
      object: "vcpu 0",
    });
  });

  test("keeps its pending events, and rejects undefined flags", ({ vcpu }) => {
    const events = vcpu.getVcpuEvents();
    vcpu.setVcpuEvents({ ...events, nmi: { ...events.nmi, masked: 1 } });
    expect(vcpu.getVcpuEvents().nmi.masked).toBe(1);
    expect(refusal(() => vcpu.setVcpuEvents({ ...events, flags: 0x8000_0000 }))).toMatchObject({
      call: "KVM_SET_VCPU_EVENTS",
      code: "EINVAL",
      args: { flags: 0x8000_0000 },
    });
  });

  test("returns the multiprocessing state that was set, if KVM emulates the local APIC", ({
    vm,
  }) => {
    vm.createIrqchip();
    using vcpu = vm.createVcpu(0);
    vcpu.setMpState(abi.KVM_MP_STATE_HALTED);
    expect(vcpu.getMpState()).toBe(abi.KVM_MP_STATE_HALTED);
  });

  test(`without a local APIC has only the multiprocessing state "runnable"`, ({ vcpu }) => {
    expect(vcpu.getMpState()).toBe(abi.KVM_MP_STATE_RUNNABLE);
    expect(refusal(() => vcpu.setMpState(abi.KVM_MP_STATE_SIPI_RECEIVED))).toMatchObject({
      call: "KVM_SET_MP_STATE",
      code: "EINVAL",
      args: { mpState: 4 },
    });
  });

  test("enables a capability, and rejects an unknown capability", ({ vcpu }) => {
    vcpu.enableCap({ cap: "KVM_CAP_ENFORCE_PV_FEATURE_CPUID", args: [1n] });
    expect(refusal(() => vcpu.enableCap({ cap: 0x7fff_ffff }))).toMatchObject({
      call: "KVM_ENABLE_CAP",
      code: "EINVAL",
      object: "vcpu 0",
    });
  });

  test("keeps its CPUID table, and rejects an address width with an error that names the width", ({
    vcpu,
  }) => {
    vcpu.setCpuid2([{ function: 0x5000_0000, eax: 1 }]);
    expect(vcpu.getCpuid2()).toMatchObject([{ function: 0x5000_0000, eax: 1 }]);
    const wide = [{ function: 0x8000_0008, eax: 49 << 8 }];
    expect(refusal(() => vcpu.setCpuid2(wide))).toMatchObject({
      call: "KVM_SET_CPUID2",
      code: "EINVAL",
      object: "vcpu 0",
      args: { nent: 1 },
      reason: "0x80000008.0:eax[15:8] virt_addr_bits: 49, and KVM accepts only 0, 48 or 57",
    });
  });

  test("rejects a CPUID table with a wrong count, with an error that names the count", ({
    vcpu,
  }) => {
    const [tooMany, past] = [{ nent: 257 }, { nent: 2 }];
    const one = [{ function: 0 }];
    expect(refusal(() => vcpu.setCpuid2(one, tooMany))).toMatchObject({ code: "E2BIG" });
    expect(refusal(() => vcpu.setCpuid2(one, past))).toMatchObject({
      code: "EFAULT",
      reason: "nent is 2, but only 1 entries were passed",
    });
    expect(refusal(() => vcpu.getCpuid2(0))).toMatchObject({ code: "E2BIG", args: { nent: 0 } });
  });

  test("accepts a CPUID table in the older form, with at most 256 entries", ({ vcpu }) => {
    vcpu.setCpuid([{ function: 0x5000_0000, eax: 1 }]);
    expect(vcpu.getCpuid2()).toMatchObject([{ function: 0x5000_0000, index: 0, eax: 1 }]);
    const many = Array.from({ length: 257 }, (_, i) => ({ function: 0x5000_0000 + i }));
    expect(refusal(() => vcpu.setCpuid(many))).toMatchObject({
      call: "KVM_SET_CPUID",
      code: "E2BIG",
      args: { nent: 257 },
    });
  });

  test("that has run rejects a changed CPUID table, and the error names the changed bit", ({
    box,
  }) => {
    const { vcpu } = box((g) => g.outb(0x80, 1).done());
    vcpu.runSync();
    const stored = vcpu.getCpuid2();
    const changed = stored.map((e, i) => (i === 0 ? { ...e, eax: e.eax - 1 } : e));
    expect(refusal(() => vcpu.setCpuid2(changed)).reason).toMatch(
      /^the table changed after KVM_RUN: 0x0\.0:eax\[31:0\] \w+: ran with \w+, got \w+$/,
    );
  });
});
