/** Tests of saving and restoring: the ioctls, their order, and the report of an error. No KVM. */
import { describe, expect, test } from "vitest";
import type { ClockData, MsrEntry } from "../../../../lib/abi/generated/structs.ts";
import { readPart, writePart } from "../../../../lib/kvm/state/state-part.ts";
import { writeTsc } from "../../../../lib/kvm/state/vcpu-msrs.ts";
import { restoreVcpus, saveVcpus } from "../../../../lib/kvm/state/vcpu-state.ts";
import { checkVmState, restoreVm, saveVm } from "../../../../lib/kvm/state/vm-state.ts";
import { VCPU_PARTS, VM_PARTS } from "../../../../lib/state/parts.ts";
import type { VcpuState, VmState } from "../../../../lib/state/state.ts";
import { SANE as FULL } from "../../state/any-state.ts";
import { FakeHandle, FakeVcpu, fakeOrigin, type Habits } from "../fake-kvm.ts";

const [ENXIO, EINVAL, EIO] = [6, 22, 5];
const origin = fakeOrigin();

const msr = (index: number, data: bigint): MsrEntry => ({ index, reserved: 0, data });
const part = (name: string) => {
  const found = [...VCPU_PARTS, ...VM_PARTS].find((one) => one.name === name);
  if (found === undefined) throw new Error(`no part ${name}`);
  return found;
};

/** Returns the issued ioctls that write. */
const sets = (called: readonly string[]): readonly string[] =>
  called.filter((name) => name.startsWith("KVM_SET_"));

/** Returns the full state of a vCPU with the given MSRs. */
const withMsrs = (...msrs: readonly MsrEntry[]): VcpuState => ({
  ...(FULL.vcpus[1] as VcpuState),
  msrs,
});

describe("restoring a vCPU's state", () => {
  test("writes the parts in the order of the table, with the TSC deadline after the local APIC", () => {
    const vcpu = new FakeVcpu();
    restoreVcpus([[vcpu, withMsrs(msr(0x6e0, 7n), msr(0x174, 1n))]], origin);
    expect(vcpu.called.filter((name) => /KVM_SET_|=|complete/.test(name))).toEqual([
      "completeExit",
      "KVM_SET_CPUID2",
      "KVM_SET_TSC_KHZ",
      "KVM_SET_SREGS2",
      "KVM_SET_REGS",
      "KVM_SET_DEBUGREGS",
      "KVM_SET_XCRS",
      "KVM_SET_XSAVE",
      ...["KVM_SET_MSRS", "0x6e0=0x0"],
      ...["KVM_SET_MSRS", "0x174=0x1"],
      "KVM_SET_LAPIC",
      "KVM_SET_VCPU_EVENTS",
      "KVM_SET_MP_STATE",
      "KVM_SET_NESTED_STATE",
      ...["KVM_SET_MSRS", "0x6e0=0x7"],
    ]);
  });

  test("writes a part to all vCPUs before the next part", () => {
    const called: string[] = [];
    const vcpus = [0, 1].map((id) => new FakeVcpu(id, {}, called));
    restoreVcpus(
      vcpus.map((vcpu, i) => [vcpu, { ...FULL.vcpus[1 - i], id: i, msrs: [] } as VcpuState]),
      origin,
    );
    const order = sets(called).filter((name) => name !== "KVM_SET_MSRS");
    expect(order.filter((_, i) => i % 2 === 0)).toEqual(order.filter((_, i) => i % 2 === 1));
    expect(order).toHaveLength(22);
  });

  test("writes only the parts that the state contains", () => {
    const vcpu = new FakeVcpu();
    restoreVcpus([[vcpu, { id: 0, mpState: 0 }]], origin);
    expect(sets(vcpu.called)).toEqual(["KVM_SET_MP_STATE"]);
  });

  test("does not set a TSC frequency that the vCPU already has", () => {
    const vcpu = new FakeVcpu();
    restoreVcpus([[vcpu, { id: 0, tscKhz: 5 }]], origin);
    restoreVcpus([[vcpu, { id: 0, tscKhz: 5 }]], origin);
    expect(sets(vcpu.called)).toEqual(["KVM_SET_TSC_KHZ"]);
  });

  test("rejects a state with another vCPU id before anything is written", () => {
    const vcpu = new FakeVcpu(1);
    expect(() => restoreVcpus([[vcpu, { id: 0, mpState: 0 }]], origin)).toThrow(
      "restoring vcpus (vm): the state has the vCPU ids 0; the passed vCPUs have the ids 1",
    );
    expect(sets(vcpu.called)).toEqual([]);
  });

  test("explains an error", () => {
    const vcpu = new FakeVcpu(0, { refuses: { KVM_SET_LAPIC: EINVAL } });
    expect(() => restoreVcpus([[vcpu, withMsrs()]], origin)).toThrow(
      "KVM_SET_LAPIC (vcpu 0): EINVAL: the saved lapic needs the local APIC in the kernel: createIrqchip() before the vCPU",
    );
  });
});

describe("an MSR that KVM rejects when a state is restored", () => {
  const fixed = { readOnly: [0x345, 0x3a] } satisfies Habits;

  test("is ignored if it already has the saved value", () => {
    const vcpu = new FakeVcpu(0, fixed);
    restoreVcpus([[vcpu, { id: 0, msrs: [msr(0x345, 0n), msr(0x174, 1n)] }]], origin);
    expect(vcpu.msrs.get(0x174)).toBe(1n);
  });

  test("is ignored if it does not exist and the saved value is 0", () => {
    const vcpu = new FakeVcpu(0, { ...fixed, hidden: [0x3a] });
    restoreVcpus([[vcpu, { id: 0, msrs: [msr(0x3a, 0n), msr(0x174, 1n)] }]], origin);
    expect(vcpu.msrs.get(0x174)).toBe(1n);
  });

  test("is named with both values if the values differ; the error names all such MSRs", () => {
    const vcpu = new FakeVcpu(0, { ...fixed, hidden: [0x3a] });
    const msrs = [msr(0x345, 0x2000n), msr(0x174, 1n), msr(0x3a, 5n)];
    expect(() => restoreVcpus([[vcpu, { id: 0, msrs }]], origin)).toThrow(
      "restoring msrs (vcpu 0): " +
        "\n  msrs[0x345]: KVM refused 0x2000, reads 0x0" +
        "\n  msrs[0x3a]: KVM refused 0x5, reads nothing",
    );
    expect(vcpu.msrs.get(0x174)).toBe(1n);
  });
});

describe("the TSC of a restored vCPU", () => {
  const written = (vcpu: FakeVcpu, data: bigint): bigint => {
    writeTsc(vcpu, msr(0x10, data));
    return (vcpu.msrs.get(0x10) ?? 0n) - data;
  };

  test.each([
    ["ahead of", 500_000_000n],
    ["behind", 10_000_000n],
  ])(
    "is written again if KVM ignores the value because it is only a little %s the expected value",
    (_, data) => {
      const vcpu = new FakeVcpu(0, { expectsTsc: 100_000_000n });
      vcpu.msrs.set(0x10, 100_000_000n);
      expect(written(vcpu, data)).toBe(0n);
    },
  );

  test("is written only once if KVM accepts it at once", () => {
    const vcpu = new FakeVcpu(0, { expectsTsc: 0n });
    written(vcpu, 5_000_000_000n);
    expect(sets(vcpu.called)).toEqual(["KVM_SET_MSRS"]);
  });

  test("is not written again if KVM synchronises it with the TSC of another vCPU", () => {
    const vcpu = new FakeVcpu(1, { expectsTsc: 5_000_000_000n });
    expect(written(vcpu, 5_000_000_500n)).toBeLessThan(1000n);
    expect(sets(vcpu.called)).toEqual(["KVM_SET_MSRS"]);
  });
});

describe("saving a vCPU's state", () => {
  const save = (vcpu: FakeVcpu, has = origin): VcpuState | undefined =>
    saveVcpus([vcpu], has, {})[0];

  test("completes the pending exit, and reads the MP state first, the events second to last and the TSC last", () => {
    const vcpu = new FakeVcpu();
    save(vcpu);
    expect(vcpu.called.slice(0, 2)).toEqual(["completeExit", "KVM_GET_MP_STATE"]);
    expect(vcpu.called.slice(-2)).toEqual(["KVM_GET_VCPU_EVENTS", "KVM_GET_MSRS"]);
  });

  test("reads all parts except for the older struct of the special registers, in the order of the table", () => {
    const names = VCPU_PARTS.map(({ name }) => name).filter((name) => name !== "sregs");
    expect(Object.keys(save(new FakeVcpu()) ?? {})).toEqual(["id", ...names]);
  });

  test("reads the older structs if the kernel has no newer ones", () => {
    const vcpu = new FakeVcpu();
    const state = save(vcpu, fakeOrigin({ KVM_CAP_SREGS2: 0, KVM_CAP_XSAVE2: 0 }));
    expect(state).toHaveProperty("sregs");
    expect(state).not.toHaveProperty("sregs2");
    expect(state?.xsave).toHaveLength(4096);
    expect(vcpu.called).toContain("KVM_GET_XSAVE");
    expect(vcpu.called).not.toContain("KVM_GET_XSAVE2");
  });

  test("omits a part whose capability is missing, and issues no ioctl for it", () => {
    const vcpu = new FakeVcpu();
    expect(save(vcpu, fakeOrigin({ KVM_CAP_NESTED_STATE: 0 }))).not.toHaveProperty("nestedState");
    expect(vcpu.called).not.toContain("KVM_GET_NESTED_STATE");
  });

  test("omits the local APIC if KVM_GET_LAPIC returns EINVAL, but fails if another ioctl returns EINVAL", () => {
    const without = new FakeVcpu(0, { refuses: { KVM_GET_LAPIC: EINVAL } });
    expect(save(without)).not.toHaveProperty("lapic");
    const broken = new FakeVcpu(0, { refuses: { KVM_GET_REGS: EINVAL } });
    expect(() => save(broken)).toThrow("KVM_GET_REGS (vcpu 0): EINVAL");
    const dead = new FakeVcpu(0, { refuses: { KVM_GET_LAPIC: EIO } });
    expect(() => save(dead)).toThrow("KVM_GET_LAPIC (vcpu 0): EIO");
  });

  test("omits MSRs that cannot be read", () => {
    const vcpu = new FakeVcpu(0, { hidden: [0x174, 0x200, 0x2ff] });
    const msrs = save(vcpu)?.msrs?.map(({ index }) => index) ?? [];
    expect(msrs.slice(0, 4)).toEqual([0x10, 0x6e0, 0x201, 0x202]);
    expect(msrs).not.toContain(0x2ff);
  });

  test("reads only the requested MSRs", () => {
    const [state] = saveVcpus([new FakeVcpu()], origin, { msrs: [0x8b, 0x174] });
    expect(state?.msrs?.map(({ index }) => index)).toEqual([0x8b, 0x174]);
  });

  test("reads the TSC at the end, together with the TSCs of the other vCPUs", () => {
    const called: string[] = [];
    const vcpus = [0, 1].map((id) => new FakeVcpu(id, {}, called));
    const states = saveVcpus(vcpus, origin, {});
    expect(called.slice(-2)).toEqual(["KVM_GET_MSRS", "KVM_GET_MSRS"]);
    expect(states.map(({ msrs }) => msrs?.[0])).toEqual(
      vcpus.map((vcpu) => msr(0x10, vcpu.msrs.get(0x10) ?? 0n)),
    );
  });

  test("reads as many bytes of nested state as KVM reports", () => {
    expect(
      save(new FakeVcpu(), fakeOrigin({ KVM_CAP_NESTED_STATE: 4224 }))?.nestedState,
    ).toHaveLength(128);
  });
});

describe("the XSAVE area of a vCPU's state", () => {
  const amx = fakeOrigin({ KVM_CAP_XSAVE2: 11_008 });

  test("is read into a buffer of the size that KVM requires", () => {
    expect(readPart(new FakeVcpu(), part("xsave"), amx)).toHaveLength(11_008);
  });

  test("is padded with zeros if the other vCPU's area is larger", () => {
    const vcpu = new FakeVcpu();
    writePart(vcpu, part("xsave"), new Uint8Array(4096).fill(1), amx);
    const given = vcpu.given.get("KVM_SET_XSAVE") as Uint8Array;
    expect([given.length, given[4095], given[4096]]).toEqual([11_008, 1, 0]);
  });
});

function vcpuOf(vm: FakeHandle, id: number, called: string[] = []): FakeVcpu {
  const vcpu = new FakeVcpu(id, {}, called);
  vcpu.vm = vm;
  return vcpu;
}

describe("the state of a VM", () => {
  const machine = (habits: Habits = {}) => {
    const called: string[] = [];
    const vm = new FakeHandle("vm", habits, called);
    const vcpus = [0, 1].map((id) => vcpuOf(vm, id, called));
    return { called, vm, vcpus };
  };

  test("is saved with the timer first, and with the vCPUs last, after their exits are completed", () => {
    const { called, vm, vcpus } = machine();
    const state = saveVm(vm, vcpus, origin, {});
    expect(called.slice(0, 8)).toEqual([
      "completeExit",
      "completeExit",
      "KVM_GET_PIT2",
      "KVM_GET_CLOCK",
      "KVM_GET_IRQCHIP",
      "KVM_GET_IRQCHIP",
      "KVM_GET_IRQCHIP",
      "completeExit",
    ]);
    const names = VM_PARTS.map(({ name }) => name);
    expect(Object.keys(state)).toEqual(["format", "version", "source", ...names, "vcpus"]);
    expect(state.vcpus.map(({ id }) => id)).toEqual([0, 1]);
  });

  test("is saved without interrupt controllers and timer if the VM has none", () => {
    const { vm } = machine({ refuses: { KVM_GET_IRQCHIP: ENXIO, KVM_GET_PIT2: ENXIO } });
    const keys = Object.keys(saveVm(vm, [], origin, {}));
    expect(keys).toEqual(["format", "version", "source", "clock", "vcpus"]);
  });

  test("is restored after the states of the vCPUs; each vCPU is found by its id", () => {
    const { called, vm, vcpus } = machine();
    restoreVm(vm, FULL, vcpus, origin);
    const vms = /IRQCHIP|CLOCK|PIT2/;
    expect(sets(called).findIndex((name) => vms.test(name))).toBe(sets(called).length - 5);
    expect(sets(called).slice(-5)).toEqual([
      "KVM_SET_IRQCHIP",
      "KVM_SET_IRQCHIP",
      "KVM_SET_IRQCHIP",
      "KVM_SET_CLOCK",
      "KVM_SET_PIT2",
    ]);
    expect(vcpus.map((vcpu) => vcpu.given.has("KVM_SET_REGS"))).toEqual([true, true]);
  });

  test.each([
    ["one too few", [0], "the passed vCPUs have the ids 0"],
    ["one too many", [0, 1, 2], "the passed vCPUs have the ids 0, 1, 2"],
    ["another", [0, 2], "the passed vCPUs have the ids 0, 2"],
    ["none", [], "the passed vCPUs have the ids none"],
  ])("is not restored with %s of its vCPUs", (_, ids, given) => {
    const { called, vm } = machine();
    const vcpus = ids.map((id) => vcpuOf(vm, id, called));
    expect(() => restoreVm(vm, FULL, vcpus, origin)).toThrow(
      `the state has the vCPU ids 1, 0; ${given}`,
    );
    expect(sets(called)).toEqual([]);
  });

  test("cannot be saved if a vCPU is of another VM, is listed twice or is no vCPU; no ioctl is issued", () => {
    const { called, vm, vcpus } = machine();
    const other = vcpuOf(new FakeHandle("vm"), 1);
    const wrong = [
      [[other], "vcpu 1 is of another VM"],
      [[...vcpus, vcpus[0]], "vcpu 0 is listed twice"],
      [[{}], "vcpus[0] is not a vCPU"],
      [[null], "vcpus[0] is not a vCPU"],
    ] as unknown as readonly (readonly [readonly FakeVcpu[], string])[];
    for (const [given, message] of wrong) {
      expect(() => saveVm(vm, given, origin, {})).toThrow(`vm.saveState(): ${message}`);
      expect(() => checkVmState(vm, FULL, given, origin)).toThrow(`vm.checkState(): ${message}`);
      expect(() => restoreVm(vm, FULL, given, origin)).toThrow(`vm.restoreState(): ${message}`);
    }
    expect(called).toEqual([]);
  });

  test("rejects unknown options with an error that names the option", () => {
    const { called, vm, vcpus } = machine();
    const [save, restore] = [{ msr: [] } as object, { readback: false } as object];
    expect(() => saveVm(vm, vcpus, origin, save)).toThrow(
      'unknown option "msr"; did you mean "msrs"',
    );
    expect(() => restoreVm(vm, FULL, vcpus, origin, restore)).toThrow('did you mean "readBack"?');
    expect(called).toEqual([]);
  });

  test("is checked without a write", () => {
    const { called, vm, vcpus } = machine();
    expect(checkVmState(vm, FULL, vcpus, origin).filter(({ prevents }) => prevents)).toEqual([]);
    expect(sets(called)).toEqual([]);
  });

  test("is not written at all if it is incompatible, and all incompatibilities are named", () => {
    const { called, vm, vcpus } = machine({ refuses: { KVM_GET_PIT2: ENXIO } });
    const misfit = { ...FULL, vcpus: FULL.vcpus.map((one) => ({ ...one, mpState: 5 })) };
    expect(() => restoreVm(vm, misfit, vcpus, origin)).toThrow(
      /vcpus\[0\].mpState: [\s\S]*vcpus\[1\].mpState: [\s\S]*pit2: the VM has none/,
    );
    expect(sets(called)).toEqual([]);
  });

  test("is read back, and lost values are named after all parts were written", () => {
    const { called, vm, vcpus } = machine({
      loses: { KVM_GET_PIT2: (bytes) => bytes.fill(0xff, 4, 5) },
    });
    expect(() => restoreVm(vm, FULL, vcpus, origin)).toThrow(
      /^restoring pit2 \(vm\): pit2\.channels\[0\]\./,
    );
    expect(sets(called).at(-1)).toBe("KVM_SET_PIT2");
    expect(called.indexOf("KVM_GET_PIT2")).toBeLessThan(called.lastIndexOf("KVM_GET_MP_STATE"));
  });

  test("is not read back if the option is off", () => {
    const { called, vm, vcpus } = machine();
    restoreVm(vm, FULL, vcpus, origin, { readBack: false });
    expect(called.at(-1)).toBe("KVM_SET_PIT2");
  });

  test("contains the interrupt controllers under their numbers", () => {
    const { vm } = machine();
    writePart(vm, part("ioapic"), FULL.ioapic, origin);
    const given = vm.given.get("KVM_SET_IRQCHIP") as Uint8Array;
    expect([given.length, given[0], given[8], given[8 + 215]]).toEqual([
      520,
      2,
      1,
      (215 * 7 + 1) & 0xff,
    ]);
    readPart(vm, part("picSlave"), origin);
    expect((vm.given.get("KVM_GET_IRQCHIP") as Uint8Array)[0]).toBe(1);
  });

  test("contains the clock as it was saved, without the time that has passed since then", () => {
    const { vm } = machine();
    const clock = { ...(FULL.clock as ClockData), clock: 7n, flags: 12 };
    restoreVm(vm, { ...FULL, clock, vcpus: [] } as VmState, [], origin);
    const given = vm.given.get("KVM_SET_CLOCK") as Uint8Array;
    expect(Array.from(given.subarray(0, 12))).toEqual([7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  });
});
