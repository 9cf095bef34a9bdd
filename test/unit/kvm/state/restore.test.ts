/** Tests of restoring on a device: incompatibilities are found before the first write, and lost values are named. */
import { describe, expect } from "vitest";
import { fromSupported } from "../../../../lib/cpuid/index.ts";
import { RestoreError } from "../../../../lib/state/error.ts";
import type { VmState } from "../../../../lib/state/state.ts";
import { test } from "../on-device.ts";

const ASYNC_PF_ACK = 0x4b56_4d07;
const STAR = 0xc000_0081;

/** Returns the error with which a state is rejected. */
function refused(call: () => unknown): RestoreError {
  try {
    call();
  } catch (error) {
    if (error instanceof RestoreError) return error;
    throw error;
  }
  throw new Error("the state was restored");
}

/** Returns a state in which some parts of vCPU 0 are replaced. */
const changed = (state: VmState, parts: object): VmState => ({
  ...state,
  vcpus: state.vcpus.map((vcpu) => ({ ...vcpu, ...parts })),
});

describe("restoring into a new VM", () => {
  test("a saved state has no incompatibility, and loses nothing", ({ vm, vcpu }) => {
    const state = vm.saveState([vcpu]);
    expect(vm.checkState(state, [vcpu]).filter(({ prevents }) => prevents)).toEqual([]);
    expect(() => vm.restoreState(state, [vcpu])).not.toThrow();
  });

  test("a saved state of a VM with devices loses nothing", ({ kvm }) => {
    using vm = kvm.createVm();
    vm.createIrqchip();
    vm.createPit2({});
    using vcpu = vm.createVcpu(0);
    vcpu.setCpuid2(fromSupported(kvm.getSupportedCpuid()));
    const state = vm.saveState([vcpu]);
    expect(() => vm.restoreState(state, [vcpu])).not.toThrow();
  });

  test("the error of an incompatible state names all incompatibilities, and nothing is written", ({
    vm,
    vcpu,
  }) => {
    const state = vm.saveState([vcpu]);
    const misfit = changed(state, {
      regs: { ...state.vcpus[0]?.regs, rip: 0x1234n },
      mpState: 3,
      lapic: { regs: new Uint8Array(1024) },
    });
    const error = refused(() => vm.restoreState(misfit, [vcpu]));
    const preventing = error.findings.filter(({ prevents }) => prevents);
    expect(preventing.map(({ path }) => path)).toEqual(["vcpus[0].lapic", "vcpus[0].mpState"]);
    expect(vcpu.getRegs().rip).toBe(state.vcpus[0]?.regs?.rip);
  });

  test("names an MSR that KVM accepts but does not store, with both values", ({ vm, vcpu }) => {
    const msrs = [
      { index: ASYNC_PF_ACK, reserved: 0, data: 1n },
      { index: STAR, reserved: 0, data: 5n },
    ];
    const error = refused(() => vm.restoreState(changed(vm.saveState([vcpu]), { msrs }), [vcpu]));
    expect(error.differences).toEqual([
      {
        ...{ object: "vcpu 0", part: "msrs", path: "msrs[0x4b564d07]" },
        ...{ wrote: 1n, reads: 0n, isRefused: false },
      },
    ]);
    expect(vcpu.getMsrs([STAR])[0]?.data).toBe(5n);
  });

  test("names no lost MSR if the option readBack is false", ({ vm, vcpu }) => {
    const msrs = [{ index: ASYNC_PF_ACK, reserved: 0, data: 1n }];
    const state = changed(vm.saveState([vcpu]), { msrs });
    expect(() => vm.restoreState(state, [vcpu], { readBack: false })).not.toThrow();
  });
});

test("compareMsrs() names the values of setMsrs() that the vCPU does not have", ({ vcpu }) => {
  const entries = [
    { index: STAR, data: 7n },
    { index: ASYNC_PF_ACK, data: 1n },
  ];
  expect(vcpu.setMsrs(entries)).toBe(2);
  expect(vcpu.compareMsrs(entries).map(({ path, reads }) => [path, reads])).toEqual([
    ["msrs[0x4b564d07]", 0n],
  ]);
});

describe("the vCPUs that saving and restoring a VM require", () => {
  test("must belong to the VM", ({ kvm, vm, vcpu }) => {
    using other = kvm.createVm();
    const state = vm.saveState([vcpu]);
    expect(() => other.saveState([vcpu])).toThrow("vm.saveState(): vcpu 0 is of another VM");
    expect(() => other.checkState(state, [vcpu])).toThrow("vm.checkState(): vcpu 0 is of another");
    expect(() => other.restoreState(state, [vcpu])).toThrow("vm.restoreState(): vcpu 0 is of");
  });

  test("must be distinct", ({ vm, vcpu }) => {
    const state = vm.saveState([vcpu]);
    expect(() => vm.saveState([vcpu, vcpu])).toThrow("vm.saveState(): vcpu 0 is listed twice");
    expect(() => vm.restoreState(state, [vcpu, vcpu])).toThrow("vcpu 0 is listed twice");
  });
});
