/**
 * Claims about the Hyper-V interface of a CPUID table: the leaf with "Hv#1" gives a guest Hyper-V's MSRs, a rejected
 * table does not change this, and the features of a replaced table do not remain. hyperv-features.test.ts has the MSRs
 * and hypercalls of the single features.
 */
import { existsSync, readFileSync } from "node:fs";
import type { Kvm, Vcpu } from "node-kvm";
import { Cpuid2, KVM_GET_SUPPORTED_HV_CPUID, sizeOf } from "node-kvm/abi";
import { CpuidTable } from "node-kvm/cpuid";
import { guest, NO_FAULT, type Program } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";
import { claim, expect, type Kit, tableOf } from "node-kvm/test";
import { GP, requireFeature, tableWith, valuesOf, withHyperv, withoutHyperv } from "./hyperv.ts";

const VP_INDEX = 0x4000_0002;
const VP_RUNTIME = 0x4000_0010;
const TSC_INVARIANT_CONTROL = 0x4000_0118;

const INTERFACE_LEAF = 0x4000_0001;
const FEATURES_LEAF = 0x4000_0003;
const NESTED_LEAF = 0x4000_000a;
const POWER_LEAF = 0x8000_0007;

/** Reads VP_INDEX, and sends its value and the vector of the exception, twice. */
const readIndex = (mode: "long" | "protected"): Program =>
  guest(mode, (g) =>
    g
      .attempt((inner) => inner.rdmsr(VP_INDEX))
      .sync()
      .attempt((inner) => inner.rdmsr(VP_INDEX))
      .sync()
      .done(),
  );

const READ_INDEX = readIndex("long");
const READABLE = [0n, NO_FAULT];
const DENIED = [0n, GP];

/** Returns a table that KVM_SET_CPUID2 rejects, because no CPU has 49 bits of virtual addresses. */
const wrong = (table: CpuidTable): CpuidTable => table.with({ virt_addr_bits: 49 });

claim(
  "hv-vp-index",
  "a guest with the Hyper-V interface reads the index of its vCPU, which is not the vCPU's id",
  { number: 96 },
  (kit) => {
    const table = withHyperv(kit);
    const { box } = kit.configured({ table, program: READ_INDEX });
    const second = kit.keep(box.vm.createVcpu(5));
    second.setCpuid2(table);
    second.setSregs(box.program.sregs(second.getSregs()));
    second.setRegs(box.program.regs);
    const exit = second.runSync({ throughSignals: true });
    expect(box.ucall(exit)).toEqual({ kind: "sync", values: [1n, NO_FAULT] });
    expect(valuesOf(box)).toEqual(READABLE);
  },
);

claim(
  "hv-interface-missing",
  'a guest gets #GP from a Hyper-V MSR if leaf 0x40000001 does not contain "Hv#1"',
  { number: 96 },
  (kit) => {
    const table = withHyperv(kit).map((entry) =>
      entry.function === INTERFACE_LEAF ? { ...entry, eax: entry.eax ^ 1 } : entry,
    );
    const { box } = kit.configured({ table, program: READ_INDEX });
    expect(valuesOf(box)).toEqual(DENIED);
  },
);

claim(
  "hv-unenforced",
  "without KVM_CAP_HYPERV_ENFORCE_CPUID, a guest with the Hyper-V interface reads the MSR of a feature that it lacks",
  { number: 96 },
  (kit) => {
    const program = guest("long", (g) =>
      g
        .attempt((inner) => inner.asm((a) => a.mov("ecx", VP_RUNTIME).rdmsr()))
        .sync()
        .done(),
    );
    const { box } = kit.configured({ table: tableWith(kit, { only: [] }), program });
    expect(valuesOf(box)).toEqual([NO_FAULT]);
  },
);

claim(
  "hv-first-set-fails",
  "a guest without a CPUID table gets #GP from a Hyper-V MSR after a table with Hyper-V was rejected",
  { number: 97 },
  (kit) => {
    // A vCPU without a table cannot run in long mode (kvm_is_valid_sregs).
    const box = kit.keep(new Sandbox(kit.kvm, { program: readIndex("protected") }));
    expect(() => box.vcpu.setCpuid2(wrong(withHyperv(kit)))).toFailWith("EINVAL");
    expect(valuesOf(box)).toEqual(DENIED);
  },
);

claim(
  "hv-rejected-interface",
  "a guest without Hyper-V gets #GP from a Hyper-V MSR after a table with Hyper-V was rejected",
  { number: 97 },
  (kit) => {
    const { box } = kit.configured({ table: withoutHyperv(kit), program: READ_INDEX });
    expect(() => box.vcpu.setCpuid2(wrong(withHyperv(kit)))).toFailWith("EINVAL");
    expect(valuesOf(box)).toEqual(DENIED);
  },
);

claim(
  "hv-rejected-removal",
  "a guest with Hyper-V reads a Hyper-V MSR after a table without Hyper-V was rejected",
  { number: 97 },
  (kit) => {
    const { box } = kit.configured({ table: withHyperv(kit), program: READ_INDEX });
    expect(() => box.vcpu.setCpuid2(wrong(withoutHyperv(kit)))).toFailWith("EINVAL");
    expect(valuesOf(box)).toEqual(READABLE);
  },
);

claim(
  "hv-replaced",
  "a guest gets #GP from a Hyper-V MSR if a table without Hyper-V replaced a table with Hyper-V before the first run",
  { number: 98 },
  (kit) => {
    const { box } = kit.configured({ table: withHyperv(kit), program: READ_INDEX });
    box.vcpu.setCpuid2(withoutHyperv(kit));
    expect(valuesOf(box)).toEqual(DENIED);
  },
);

claim(
  "hv-frozen",
  "after KVM_RUN, a table without Hyper-V is rejected, and the guest still reads a Hyper-V MSR",
  { number: 99 },
  (kit) => {
    const { box, vcpu } = kit.ran({ table: withHyperv(kit), program: READ_INDEX });
    expect(() => vcpu.setCpuid2(withoutHyperv(kit))).toFailWith("EINVAL");
    expect(valuesOf(box)).toEqual(READABLE);
  },
);

claim(
  "hv-frozen-resend",
  "after KVM_RUN, the same table with Hyper-V is accepted, and the guest still reads a Hyper-V MSR",
  { number: 99 },
  (kit) => {
    const { box, vcpu, stored } = kit.ran({ table: withHyperv(kit), program: READ_INDEX });
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
    expect(valuesOf(box)).toEqual(READABLE);
  },
);

/** The ways in which a second table takes the Hyper-V features of the first one away. */
const REMOVALS = [
  {
    name: "cleared",
    how: "clears the bits of leaf 0x40000003",
    remove: (table: CpuidTable) =>
      table.map((entry) =>
        entry.function === FEATURES_LEAF ? { ...entry, eax: 0, ebx: 0, edx: 0 } : entry,
      ),
  },
  {
    name: "removed",
    how: "has no leaf 0x40000003",
    remove: (table: CpuidTable) => table.without(FEATURES_LEAF),
  },
] as const;

for (const { name, how, remove } of REMOVALS) {
  claim(
    `hv-enforce-stale-${name}`,
    `with KVM_CAP_HYPERV_ENFORCE_CPUID, a guest gets #GP from a Hyper-V MSR if a second table before the first run ${how}`,
    { number: 100 },
    (kit) => {
      kit.requireCapability("KVM_CAP_HYPERV_ENFORCE_CPUID");
      const { box, sent } = kit.configured({ table: withHyperv(kit), program: READ_INDEX });
      box.vcpu.enableCap({ cap: "KVM_CAP_HYPERV_ENFORCE_CPUID", enable: 1 });
      box.vcpu.setCpuid2(remove(sent));
      expect(valuesOf(box)).toEqual(DENIED);
    },
  );
}

/** Bit 8 of leaf 0x80000007's EDX: the TSC is invariant. */
const INVTSC = 1 << 8;

/** Sends leaf 0x80000007's EDX before and after the guest writes 1 to TSC_INVARIANT_CONTROL, and WRMSR's vector. */
const READ_INVTSC: Program = guest("long", (g) =>
  g
    .asm((a) => a.mov("eax", POWER_LEAF).cpuid())
    .record("edx")
    .attempt((inner) => inner.wrmsr(TSC_INVARIANT_CONTROL, 1))
    .asm((a) => a.mov("eax", POWER_LEAF).cpuid())
    .record("edx")
    .sync()
    .done(),
);

/** Returns a table with Hyper-V whose leaf 0x80000007 only has the bit of an invariant TSC. */
const invtscTable = (kit: Kit): CpuidTable =>
  withHyperv(kit).withEntry({ function: POWER_LEAF, index: 0, edx: INVTSC });

claim(
  "hv-invtsc-hidden",
  "a guest with the Hyper-V feature hv_tsc_invariant has no CPUID bit of an invariant TSC until it writes 1 to MSR 0x40000118",
  { number: 101 },
  (kit) => {
    requireFeature(kit, "hv_tsc_invariant");
    const { box } = kit.configured({ table: invtscTable(kit), program: READ_INVTSC });
    expect(valuesOf(box)).toEqual([0n, NO_FAULT, BigInt(INVTSC)]);
  },
);

claim(
  "hv-invtsc-stored",
  "KVM_GET_CPUID2 returns the CPUID bit of an invariant TSC that KVM hides from the guest",
  { number: 101 },
  (kit) => {
    requireFeature(kit, "hv_tsc_invariant");
    const { vcpu, stored } = kit.ran({ table: invtscTable(kit), program: READ_INVTSC });
    const expected = stored.withEntry({ function: POWER_LEAF, index: 0, edx: INVTSC });
    expect(tableOf(vcpu)).toEqualTable(expected);
  },
);

claim(
  "hv-invtsc-plain",
  "a guest without the Hyper-V feature hv_tsc_invariant has the CPUID bit of an invariant TSC that its table has",
  { number: 101 },
  (kit) => {
    requireFeature(kit, "hv_tsc_invariant");
    const table = invtscTable(kit).with({ hv_tsc_invariant: 0 });
    const { box } = kit.configured({ table, program: READ_INVTSC });
    expect(valuesOf(box)[0]).toBe(BigInt(INVTSC));
  },
);

/** The handles on which KVM_GET_SUPPORTED_HV_CPUID works. */
const SOURCES = [
  {
    name: "system",
    title: "on /dev/kvm",
    capability: "KVM_CAP_SYS_HYPERV_CPUID",
    handleOf: (kit: Kit) => kit.kvm,
  },
  {
    name: "vcpu",
    title: "on a vCPU",
    capability: "KVM_CAP_HYPERV_CPUID",
    handleOf: (kit: Kit) => kit.fresh(),
  },
] as const;

const supportedBy = (handle: Kvm | Vcpu): CpuidTable =>
  CpuidTable.from(handle.getSupportedHvCpuid());

/** The kernel's file about SMT: cpu_smt_possible() is false for two of its values. */
const SMT_CONTROL = "/sys/devices/system/cpu/smt/control";
const SMT_IMPOSSIBLE = ["forceoff", "notsupported"];

for (const { name, title, capability, handleOf } of SOURCES) {
  claim(
    `hv-cpuid-max-leaf-${name}`,
    `KVM_GET_SUPPORTED_HV_CPUID ${title} returns the highest leaf 0x40000082, which belongs to the debugger`,
    { number: 128 },
    (kit) => {
      kit.requireCapability(capability);
      expect(supportedBy(handleOf(kit)).get("hv_max_leaf")).toBe(0x4000_0082);
    },
  );

  claim(
    `hv-cpuid-msr-bitmap-${name}`,
    `KVM_GET_SUPPORTED_HV_CPUID ${title} returns the feature hv_nested_msr_bitmap`,
    { number: 128 },
    (kit) => {
      kit.requireCapability(capability);
      expect(supportedBy(handleOf(kit)).get("hv_nested_msr_bitmap")).toBe(1);
    },
  );

  claim(
    `hv-cpuid-core-sharing-${name}`,
    `KVM_GET_SUPPORTED_HV_CPUID ${title} returns the feature hv_no_nonarch_coreshare if and only if SMT is impossible`,
    { number: 128 },
    (kit) => {
      kit.requireCapability(capability);
      kit.require(existsSync(SMT_CONTROL), `no ${SMT_CONTROL} here`);
      const isImpossible = SMT_IMPOSSIBLE.includes(readFileSync(SMT_CONTROL, "utf8").trim());
      expect(supportedBy(handleOf(kit)).get("hv_no_nonarch_coreshare")).toBe(Number(isImpossible));
    },
  );

  claim(
    `hv-cpuid-no-room-${name}`,
    `KVM_GET_SUPPORTED_HV_CPUID ${title} without room for entries returns E2BIG`,
    { number: 128 },
    (kit) => {
      kit.requireCapability(capability);
      const handle = handleOf(kit);
      const header = new Uint8Array(sizeOf(Cpuid2));
      expect(() => handle.ioctl(KVM_GET_SUPPORTED_HV_CPUID, header)).toFailWith("E2BIG");
    },
  );
}

claim(
  "hv-cpuid-evmcs",
  "KVM_GET_SUPPORTED_HV_CPUID on a vCPU returns the versions 1 to 1 of the enlightened VMCS after it was enabled",
  { number: 128 },
  (kit) => {
    kit.requireCapability("KVM_CAP_HYPERV_CPUID");
    kit.requireCapability("KVM_CAP_HYPERV_ENLIGHTENED_VMCS");
    kit.requireVcpuHas("vmx");
    const { vcpu } = kit.configured();
    const version = vcpu.enableCap({ cap: "KVM_CAP_HYPERV_ENLIGHTENED_VMCS" });
    const nested = vcpu.getSupportedHvCpuid().find((entry) => entry.function === NESTED_LEAF);
    expect([version, (nested?.eax ?? 0) & 0xffff]).toEqual([0x0101, 0x0101]);
  },
);
