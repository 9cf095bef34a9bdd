/** Tests of reading back a restored state: the reads, their order, and the report of a lost value. No KVM. */
import { describe, expect, test } from "vitest";
import type { MsrEntry } from "../../../../lib/abi/generated/structs.ts";
import { restoreVcpus } from "../../../../lib/kvm/state/vcpu-state.ts";
import type { VcpuState } from "../../../../lib/state/state.ts";
import { SANE } from "../../state/any-state.ts";
import { FakeVcpu, fakeOrigin } from "../fake-kvm.ts";

const origin = fakeOrigin();
const msr = (index: number, data: bigint): MsrEntry => ({ index, reserved: 0, data });

/** Returns the full state of a vCPU with the given MSRs. */
const withMsrs = (...msrs: readonly MsrEntry[]): VcpuState => ({
  ...(SANE.vcpus[1] as VcpuState),
  msrs,
});

describe("reading back a restored state", () => {
  const state = withMsrs(msr(0x48, 7n), msr(0x174, 1n));

  test("reads every part in the order of saving, after all parts were written", () => {
    const vcpu = new FakeVcpu();
    restoreVcpus([[vcpu, state]], origin);
    const back = vcpu.called.slice(vcpu.called.lastIndexOf("KVM_SET_MSRS"));
    const gets = back.filter((name) => name.startsWith("KVM_GET_"));
    expect([gets[0], gets.at(-1)]).toEqual(["KVM_GET_MP_STATE", "KVM_GET_VCPU_EVENTS"]);
    expect(new Set(gets).size).toBe(12);
  });

  test("names an MSR that KVM accepts but does not store", () => {
    const vcpu = new FakeVcpu(0, { forgets: [0x48] });
    expect(() => restoreVcpus([[vcpu, state]], origin)).toThrow(
      "restoring msrs (vcpu 0): msrs[0x48]: wrote 0x7, reads 0x0",
    );
  });

  test.each([
    ["KVM_GET_REGS", 0, "regs.rax"],
    ["KVM_GET_SREGS2", 0, "sregs2.cs.base"],
    ["KVM_GET_LAPIC", 0x320, "lapic.regs[0x320]"],
    ["KVM_GET_DEBUGREGS", 0, "debugregs.db[0]"],
    ["KVM_GET_XCRS", 16, "xcrs.xcrs[0].value"],
    ["KVM_GET_NESTED_STATE", 0, "nestedState[0x0]"],
  ])("names a value if %s returns another value than was written", (name, at, path) => {
    const loses = { [name]: (bytes: Uint8Array) => bytes.set([(bytes[at] ?? 0) ^ 1], at) };
    expect(() => restoreVcpus([[new FakeVcpu(0, { loses }), state]], origin)).toThrow(path);
  });

  test("issues no KVM_GET_MP_STATE, because this ioctl would process a pending SIPI", () => {
    const vcpu = new FakeVcpu();
    restoreVcpus([[vcpu, { id: 0, mpState: 4 }]], origin);
    expect(vcpu.called).not.toContain("KVM_GET_MP_STATE");
  });

  test("names the lost values of each of several vCPUs", () => {
    const vcpus = [0, 1].map((id) => new FakeVcpu(id, { forgets: [0x48] }));
    expect(() =>
      restoreVcpus(
        vcpus.map((one) => [one, { ...state, id: one.id }]),
        origin,
      ),
    ).toThrow(/vcpu 0: msrs\[0x48\][\s\S]*vcpu 1: msrs\[0x48\]/);
  });
});

test("a TSC frequency that KVM_GET_TSC_KHZ cannot return is not written", () => {
  const vcpu = new FakeVcpu();
  const restore = () => restoreVcpus([[vcpu, { id: 0, tscKhz: 0xffff_fffc }]], origin);
  expect(restore).toThrow(RangeError);
  expect(vcpu.called.filter((name) => name.startsWith("KVM_SET_"))).toEqual([]);
});
