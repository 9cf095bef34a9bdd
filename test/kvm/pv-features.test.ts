/**
 * Claims about KVM_CAP_ENFORCE_PV_FEATURE_CPUID: a guest can use only the MSRs and the hypercalls of the KVM features
 * in its CPUID table.
 */
import { type Vcpu, type Vm, vendorModule } from "node-kvm";
import {
  KVM_HC_KICK_CPU,
  KVM_HC_SCHED_YIELD,
  KVM_HC_SEND_IPI,
  KVM_X86_DISABLE_EXITS_HLT,
  MSR_KVM_ASYNC_PF_ACK,
  MSR_KVM_ASYNC_PF_EN,
  MSR_KVM_ASYNC_PF_INT,
  MSR_KVM_POLL_CONTROL,
  MSR_KVM_PV_EOI_EN,
  MSR_KVM_STEAL_TIME,
  MSR_KVM_SYSTEM_TIME,
  MSR_KVM_SYSTEM_TIME_NEW,
  MSR_KVM_WALL_CLOCK,
  MSR_KVM_WALL_CLOCK_NEW,
} from "node-kvm/abi";
import { type CpuidFieldName, CpuidTable } from "node-kvm/cpuid";
import { guest, NO_FAULT, type Program } from "node-kvm/guest";
import { type Configured, claim, expect, type Kit, type Setup } from "node-kvm/test";

const GP = 13n;
const SIGNATURE_LEAF = 0x4000_0000;
const FEATURE_LEAF = 0x4000_0001;

/** KVM's MSRs, and the feature that each of them requires. */
const PV_MSRS: readonly (readonly [number, CpuidFieldName])[] = [
  [MSR_KVM_SYSTEM_TIME, "kvm_clocksource"],
  [MSR_KVM_SYSTEM_TIME_NEW, "kvm_clocksource2"],
  [MSR_KVM_WALL_CLOCK, "kvm_clocksource"],
  [MSR_KVM_WALL_CLOCK_NEW, "kvm_clocksource2"],
  [MSR_KVM_ASYNC_PF_EN, "kvm_async_pf"],
  [MSR_KVM_STEAL_TIME, "kvm_steal_time"],
  [MSR_KVM_PV_EOI_EN, "kvm_pv_eoi"],
  [MSR_KVM_POLL_CONTROL, "kvm_poll_control"],
  [MSR_KVM_ASYNC_PF_INT, "kvm_async_pf_int"],
  [MSR_KVM_ASYNC_PF_ACK, "kvm_async_pf_int"],
];

const withIrqchip = (vm: Vm): void => vm.createIrqchip();

/** Makes KVM compare the guest's use of KVM features with the vCPU's table. */
function enforce(vcpu: Vcpu): void {
  vcpu.enableCap({ cap: "KVM_CAP_ENFORCE_PV_FEATURE_CPUID", enable: 1 });
}

/** Configures a vCPU that enforces its KVM features. The VM has an irqchip, because some of KVM's MSRs require it. */
function enforcing(kit: Kit, setup: Setup): Configured {
  kit.requireCapability("KVM_CAP_ENFORCE_PV_FEATURE_CPUID");
  const configured = kit.configured({ prepare: withIrqchip, ...setup });
  enforce(configured.vcpu);
  return configured;
}

const withoutFeatures = (table: CpuidTable): CpuidTable =>
  table.withEntry({ function: FEATURE_LEAF });

/** A guest that reads each MSR, writes 0 to it, and sends the two exceptions. */
const EACH_MSR: Program = guest("long", (g) => {
  for (const [msr] of PV_MSRS) g.attempt((t) => t.asm((a) => a.mov("ecx", msr).rdmsr()));
  for (const [msr] of PV_MSRS) g.attempt((t) => t.wrmsr(msr, 0));
  return g.sync().done();
});

claim(
  "pv-msrs-hidden",
  "a guest without KVM features gets #GP for each read and write of KVM's MSRs if KVM enforces the features",
  { number: 93 },
  (kit) => {
    kit.requireStrictMsrs();
    const table = withoutFeatures(kit.supported);
    const { box } = enforcing(kit, { table, program: EACH_MSR });
    expect(box.next()).toEqual({ kind: "sync", values: PV_MSRS.flatMap(() => [GP, GP]) });
  },
);

claim(
  "pv-msrs-shown",
  "a guest with all KVM features reads and writes KVM's MSRs if KVM enforces the features",
  { number: 93 },
  (kit) => {
    kit.requireVcpuHas(...PV_MSRS.map(([, feature]) => feature));
    const { box } = enforcing(kit, { program: EACH_MSR });
    const values = PV_MSRS.flatMap(() => [NO_FAULT, NO_FAULT]);
    expect(box.next()).toEqual({ kind: "sync", values });
  },
);

claim(
  "pv-msrs-free",
  "a guest without KVM features reads and writes KVM's MSRs if KVM does not enforce the features",
  { number: 93 },
  (kit) => {
    kit.requireVcpuHas(...PV_MSRS.map(([, feature]) => feature));
    const table = withoutFeatures(kit.supported);
    const { box } = kit.configured({ table, program: EACH_MSR, prepare: withIrqchip });
    const values = PV_MSRS.flatMap(() => [NO_FAULT, NO_FAULT]);
    expect(box.next()).toEqual({ kind: "sync", values });
  },
);

/** -KVM_ENOSYS, which KVM returns in RAX for an unknown hypercall. */
const ENOSYS = BigInt.asUintN(64, -1000n);
const INTEL = 0x756e_6547;

/** Builds a guest that makes hypercalls with all arguments 0, and sends the results. */
function hypercalls(kit: Kit, numbers: readonly number[]): Program {
  kit.require(vendorModule() !== "kvm_pvm", "kvm_pvm repeats VMMCALL at CPL 0 without end");
  const isIntel = kit.supported.find(0)?.ebx === INTEL;
  return guest("long", (g) => {
    for (const number of numbers) {
      g.asm((a) => {
        a.mov("rax", number).mov("rbx", 0).mov("rcx", 0).mov("rdx", 0).mov("rsi", 0);
        return isIntel ? a.vmcall() : a.vmmcall();
      }).record("rax");
    }
    return g.sync().done();
  });
}

claim(
  "pv-hypercalls-hidden",
  "a guest without KVM features gets -KVM_ENOSYS from each hypercall if KVM enforces the features",
  { number: 93 },
  (kit) => {
    const program = hypercalls(kit, [KVM_HC_KICK_CPU, KVM_HC_SEND_IPI, KVM_HC_SCHED_YIELD]);
    const { box } = enforcing(kit, { table: withoutFeatures(kit.supported), program });
    expect(box.next()).toEqual({ kind: "sync", values: [ENOSYS, ENOSYS, ENOSYS] });
  },
);

claim(
  "pv-hypercall-shown",
  "a guest with PV_UNHALT kicks a vCPU with a hypercall if KVM enforces the features",
  { number: 92 },
  (kit) => {
    const program = hypercalls(kit, [KVM_HC_KICK_CPU]);
    const { box } = enforcing(kit, { table: kit.supported.with({ kvm_pv_unhalt: 1 }), program });
    expect(box.next()).toEqual({ kind: "sync", values: [0n] });
  },
);

claim(
  "pv-unhalt-consumed",
  "a guest that halts without exits gets -KVM_ENOSYS from KVM_HC_KICK_CPU, because KVM removed PV_UNHALT from its table",
  { number: 92 },
  (kit) => {
    const mask = kit.kvm.checkExtension("KVM_CAP_X86_DISABLE_EXITS");
    kit.require(
      (mask & KVM_X86_DISABLE_EXITS_HLT) !== 0,
      "this KVM cannot disable the exits of HLT",
    );
    const program = hypercalls(kit, [KVM_HC_KICK_CPU]);
    const { box } = enforcing(kit, {
      table: kit.supported.with({ kvm_pv_unhalt: 1 }),
      program,
      prepare: (vm) => {
        vm.enableCap({ cap: "KVM_CAP_X86_DISABLE_EXITS", mask: KVM_X86_DISABLE_EXITS_HLT });
        vm.createIrqchip();
      },
    });
    expect(box.next()).toEqual({ kind: "sync", values: [ENOSYS] });
  },
);

/** A guest that reads kvmclock's MSR. The mode needs no CPUID feature, so an empty table is possible. */
const READ_CLOCK: Program = guest("protected", (g) =>
  g
    .attempt((t) => t.asm((a) => a.mov("ecx", MSR_KVM_SYSTEM_TIME_NEW).rdmsr()))
    .sync()
    .attempt((t) => t.asm((a) => a.mov("ecx", MSR_KVM_SYSTEM_TIME_NEW).rdmsr()))
    .sync()
    .done(),
);

const LATER_TABLES = [
  [
    "leaf",
    "without the leaf of KVM's features",
    (table: CpuidTable) => table.without(FEATURE_LEAF),
  ],
  [
    "signature",
    "without KVM's signature",
    (table: CpuidTable) => table.withEntry({ function: SIGNATURE_LEAF, eax: FEATURE_LEAF }),
  ],
  ["table", "without entries", () => CpuidTable.from([])],
] as const;
for (const [name, what, later] of LATER_TABLES) {
  claim(
    `pv-stale-${name}`,
    `a table ${what} takes KVM's MSRs from a guest whose previous table had them`,
    { number: 94 },
    (kit) => {
      kit.requireStrictMsrs();
      kit.requireVcpuHas("kvm_clocksource2");
      const { box, vcpu, sent } = enforcing(kit, { program: READ_CLOCK });
      vcpu.setCpuid2(later(sent));
      expect(box.next()).toEqual({ kind: "sync", values: [GP] });
    },
  );
}

claim(
  "pv-frozen",
  "a refused table without KVM features does not take KVM's MSRs from a guest that has run",
  { number: 95 },
  (kit) => {
    kit.requireVcpuHas("kvm_clocksource2");
    const { box, vcpu, stored } = enforcing(kit, { program: READ_CLOCK });
    expect(box.next()).toEqual({ kind: "sync", values: [NO_FAULT] });
    expect(() => vcpu.setCpuid2(withoutFeatures(stored))).toFailWith("EINVAL");
    expect(box.next()).toEqual({ kind: "sync", values: [NO_FAULT] });
  },
);
