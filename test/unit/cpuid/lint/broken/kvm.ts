/** Tables that break the rules about KVM and other hypervisors: K01 to K22, H01 to H04. */
import { AMD, INTEL } from "../bases.ts";
import { type Broken, broken, fixable } from "./row.ts";

/** Intel's base table without KVM's leaves; HYPER_V adds Hyper-V's leaves. */
const BARE = INTEL.without(0x4000_0000).without(0x4000_0001);
const HYPER_V = BARE.append(
  { function: 0x4000_0000, eax: 0x4000_0005, ebx: 0x7263_694d, ecx: 0x666f_736f, edx: 0x7648_2074 },
  { function: 0x4000_0001, eax: 0x3123_7648 },
  { function: 0x4000_0003, eax: 1 << 6 },
  { function: 0x4000_0004 },
);
const XEN = BARE.append(
  { function: 0x4000_0000, eax: 0x4000_0003, ebx: 0x566e_6558, ecx: 0x6558_4d4d, edx: 0x4d4d_566e },
  { function: 0x4000_0001, eax: 0x4_0011 },
  { function: 0x4000_0002, eax: 1, ebx: 0x4000_0000 },
  { function: 0x4000_0003, flags: 1, eax: 2 },
);
const MOVBE_LESS = INTEL.with({ movbe: 0 });

export const BROKEN_KVM: readonly Broken[] = [
  fixable(
    "K01",
    "a KVM maximum that is its base",
    "0x40000000.0:eax[31:0]",
    INTEL.with({ kvm_max_leaf: 0x4000_0000 }),
  ),
  fixable(
    "K02",
    "a bit that KVM does not define",
    "0x40000001.0:eax[31:0]",
    INTEL.map((e) => (e.function === 0x4000_0001 ? { ...e, eax: 0x0100_7ffb } : e)),
  ),
  fixable(
    "K02",
    "data in EBX of KVM's features",
    "0x40000001.0:ebx[31:0]",
    INTEL.map((e) => (e.function === 0x4000_0001 ? { ...e, ebx: 1 } : e)),
  ),
  fixable(
    "K03",
    "a paravirtual TLB flush without steal time",
    "0x40000001.0:eax[9]",
    INTEL.with({ kvm_steal_time: 0 }),
  ),
  fixable(
    "K03",
    "a stable clock without a clock",
    "0x40000001.0:eax[24]",
    INTEL.with({ kvm_clocksource: 0, kvm_clocksource2: 0 }),
  ),
  fixable(
    "K04",
    "extended destinations that the VMM lacks",
    "0x40000001.0:eax[15]",
    INTEL.with({ kvm_msi_ext_dest_id: 1 }),
    { vm: { hasExtendedDestinations: false } },
  ),
  broken(
    "K05",
    "the realtime hint and a paravirtual unhalt",
    "0x40000001.0:eax[7]",
    INTEL.with({ kvm_hint_realtime: 1 }),
  ),
  fixable("K06", "a paravirtual unhalt without HLT exits", "0x40000001.0:eax[7]", INTEL, {
    vm: { disabledExits: ["hlt"] },
  }),
  fixable(
    "K07",
    "36 virtual address bits",
    "0x80000008.0:eax[15:8]",
    INTEL.with({ virt_addr_bits: 36 }),
  ),
  broken("K08", "a feature that KVM lacks", "0x7.0:ebx[3]", INTEL, {
    supported: INTEL.with({ bmi1: 0 }),
  }),
  broken("K09", "a feature that KVM emulates", "0x1.0:ecx[22]", INTEL, {
    supported: MOVBE_LESS,
    emulated: [{ function: 1, ecx: 1 << 22 }],
  }),
  broken("K10", "AMX without permission", "0xd.0:eax[18]", INTEL, {
    vm: { xcompPermission: 0x2e7n },
  }),
  fixable("K11", "a set OSXSAVE", "0x1.0:ecx[27]", INTEL.with({ osxsave: 1 })),
  broken("K13", "hidden 1 GiB pages", "0x80000001.0:edx[26]", INTEL.with({ pdpe1gb: 0 }), {
    supported: INTEL,
  }),
  fixable(
    "K14",
    "IA32_ARCH_CAPABILITIES on AMD",
    "0x7.0:edx[29]",
    AMD.with({ arch_capabilities: 1 }),
  ),
  fixable("K15", "an invariant TSC without a fixed frequency", "0x80000007.0:edx[8]", INTEL, {
    vm: { hasFixedTsc: false },
  }),
  fixable("K16", "another FPU than the host", "0x7.0:ebx[13]", INTEL, {
    host: INTEL.with({ zero_fcs_fds: 1 }),
  }),
  fixable(
    "K17",
    "a hypervisor's leaf without the bit",
    "0x1.0:ecx[31]",
    INTEL.with({ guest_status: 0 }),
  ),
  broken("K17", "the hypervisor bit without a leaf", "0x1.0:ecx[31]", BARE),
  broken(
    "K18",
    "another feature on the second vCPU",
    "0x7.0:ebx[31:0]",
    [INTEL, INTEL.with({ bmi1: 0 })],
    { ignore: ["T11"] },
  ),
  broken("K19", "another table than the vCPU has run with", "0x7.0", INTEL, {
    before: INTEL.with({ bmi1: 0 }),
  }),
  broken("K20", "a hidden absence of a fault", "0x80000021.0:eax[29]", AMD, {
    host: AMD.with({ srso_no: 1 }),
  }),
  broken(
    "K21",
    "a highest leaf that is a Centaur maximum",
    "0x20.0:eax[31:0]",
    INTEL.with({ max_std_leaf: 0x20 }).append({ function: 0x20, eax: 0xc000_0001 }),
  ),
  fixable(
    "K22",
    "MONITOR with MWAIT exits",
    "0x1.0:ecx[3]",
    INTEL.append({ function: 5, eax: 64, ebx: 64 }).with({
      monitor: 1,
      kvm_pv_tlb_flush: 0,
      kvm_pv_sched_yield: 0,
    }),
    { vm: { disabledExits: [] } },
  ),
  fixable(
    "H01",
    "Hyper-V's vendor without its interface",
    "0x40000001.0:eax[31:0]",
    HYPER_V.map((e) => (e.function === 0x4000_0001 ? { ...e, eax: 0 } : e)).without(0x4000_0003),
  ),
  broken(
    "H01",
    "a Hyper-V maximum that is too low",
    "0x40000000.0:eax[31:0]",
    HYPER_V.with({ hv_max_leaf: 0x4000_0004 }),
  ),
  fixable(
    "H02",
    "a synthetic timer without the interrupt controller",
    "0x40000003.0:eax[3]",
    HYPER_V.with({ hv_stimer: 1 }),
  ),
  broken(
    "H03",
    "two blocks of KVM",
    "0x40000100.0",
    INTEL.append({
      function: 0x4000_0100,
      eax: 0x4000_0101,
      ebx: 0x4b4d_564b,
      ecx: 0x564b_4d56,
      edx: 0x4d,
    }),
  ),
  broken(
    "H03",
    "Hyper-V's interface in KVM's block",
    "0x40000001.0:eax[31:0]",
    INTEL.map((e) => (e.function === 0x4000_0001 ? { ...e, eax: 0x3123_7648 } : e)),
  ),
  fixable(
    "H04",
    "a Xen maximum without the hypercall leaf",
    "0x40000000.0:eax[31:0]",
    XEN.with({ xen_max_leaf: 0x4000_0001 }),
  ),
  fixable(
    "H04",
    "an unflagged time leaf of Xen",
    "0x40000003.0",
    XEN.map((e) => (e.function === 0x4000_0003 ? { ...e, flags: 0 } : e)),
  ),
  broken(
    "H04",
    "a fourth sub-leaf of Xen's time leaf",
    "0x40000003.3",
    XEN.append({ function: 0x4000_0003, index: 3, flags: 1 }),
  ),
];
