/** Tests of the explanations of real exits: triple faults, fetches without memory, failed entries. On a device. */
import { describe, expect } from "vitest";
import { explainExit } from "../../../../lib/kvm/exits/explain.ts";
import { vendorModule } from "../../../../lib/kvm/host.ts";
import { isPvm, test } from "../on-device.ts";

const vendor = vendorModule();
const THROUGH = { throughSignals: true } as const;

test("the explanation of an exit names the address if a guest executes an address without memory", ({
  box,
  skip,
}) => {
  skip(isPvm, "kvm_pvm has other page tables");
  const { vcpu } = box((g) => g.done());
  vcpu.setRegs({ ...vcpu.getRegs(), rip: 0xc000_0000n });
  const exit = vcpu.runSync(THROUGH);
  expect(exit.kind).toBe("internal_error");
  expect(explainExit(exit, vcpu)).toMatch(
    /^KVM_INTERNAL_ERROR_EMULATION: the guest fetched its instruction from 0xc0000000, which is in no slot/,
  );
});

test("the error of Sandbox contains the same text as the explanation of the exit", ({
  box,
  skip,
}) => {
  skip(isPvm, "kvm_pvm has other page tables");
  const sandbox = box((g) => g.done());
  sandbox.vcpu.setRegs({ ...sandbox.vcpu.getRegs(), rip: 0xc000_0000n });
  expect(() => sandbox.next()).toThrow(/from 0xc0000000, which is in no slot/);
  expect(sandbox.vm.trace().join("\n")).toContain("internal.suberror=KVM_INTERNAL_ERROR_EMULATION");
});

test("the explanation of an exit contains the bytes of an instruction that KVM does not emulate", ({
  box,
  skip,
}) => {
  const { vcpu } = box((g) => g.asm((a) => a.mov("edi", 0xc000_0000).db(0xd8, 0x07)).done());
  const exit = vcpu.runSync(THROUGH);
  expect(exit.kind).toBe("internal_error");
  const text = explainExit(exit, vcpu);
  expect(text).toMatch(/KVM could not emulate (?:the instruction d8 07|an instruction)/);
  skip(vendor !== "kvm_amd", "not kvm_amd");
  expect(text).toMatch(/the exit was 0x400 NPF/);
});

describe("the explanation of a triple fault", () => {
  test("uses the registers that the vCPU has after the fault", ({ box, skip }) => {
    skip(isPvm, "kvm_pvm has no IDT of the guest's");
    const { vcpu } = box((g) => g.asm((a) => a.db(0x0f, 0x0b)).done());
    vcpu.setSregs({ ...vcpu.getSregs(), idt: { base: 0n, limit: 0 } });
    const exit = vcpu.runSync(THROUGH);
    expect(exit.kind).toBe("shutdown");
    const texts = {
      kvm_amd: /^a triple fault; the registers are those of a reset/,
      kvm_intel: /^a triple fault.*the IDT is at 0x0 with limit 0x0, which has no entry/,
      kvm_pvm: /^a triple fault/,
    };
    expect(explainExit(exit, vcpu)).toMatch(texts[vendor ?? "kvm_pvm"]);
  });
});

test("the explanation of a refused VM entry names the check that the guest's state fails", ({
  box,
  skip,
}) => {
  skip(vendor !== "kvm_amd", "kvm_intel emulates, or refuses, such a state in its own way");
  const { vcpu } = box((g) => g.done());
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, l: 1, db: 1 } });
  const exit = vcpu.runSync(THROUGH);
  expect(exit.kind).toBe("fail_entry");
  expect(explainExit(exit, vcpu)).toMatch(
    /VMEXIT_INVALID; the guest's state fails a check: CS\.L and CS\.D are both 1 in long mode/,
  );
});

test("the explanation of an MMIO exit names an address outside of all slots, and a read-only slot", ({
  box,
}) => {
  const { vcpu, vm } = box((g) => g.write(0xc000_0000, 0x5a, 8).write(0xd000_0000, 0x5a, 8).done());
  expect(explainExit(vcpu.runSync(THROUGH), vcpu)).toBe(
    "the guest wrote to 0xc0000000, which is in no slot",
  );
  expect(vm.memory.slots()).toHaveLength(1);
});

test("explain() returns undefined for an exit without details, and for a closed vCPU", ({
  box,
}) => {
  const { vcpu } = box((g) => g.hlt());
  expect(explainExit(vcpu.runSync(THROUGH), vcpu)).toBeUndefined();
  vcpu.close();
  expect(explainExit({ kind: "shutdown" }, vcpu)).toBe("a triple fault");
});
