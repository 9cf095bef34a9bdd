/**
 * Claims about the Xen leaf with the frequency of the TSC: KVM leaves the table unchanged, and the guest reads the
 * values of its table. Kernels before 7.3 replace them by values that KVM computes. The Xen leaves are at 0x40000100,
 * after KVM's own.
 */
import { KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL } from "node-kvm/abi";
import type { CpuidTable } from "node-kvm/cpuid";
import { guest } from "node-kvm/guest";
import { claim, expect, type Kit, tableOf } from "node-kvm/test";

const BASE = 0x4000_0100;
const TIME_LEAF = BASE + 3;
const SIGNIFICANT_INDEX = 1;
/** The MSR for the hypercall page. KVM emulates Xen only in a VM with such an MSR. */
const XEN_MSR = 0x4000_0200;
/** "XenVMMXenVMM" in EBX, ECX and EDX. */
const SIGNATURE = { ebx: 0x566e_6558, ecx: 0x6558_4d4d, edx: 0x4d4d_566e };
const MARK = { eax: 0x1111, ebx: 0x2222, ecx: 0x3333, edx: 0x4444 };

/** Returns the host's table with the Xen leaves up to a limit. */
const withXen = (kit: Kit, limit: number): CpuidTable =>
  kit.supported.append(
    { function: BASE, eax: limit, ...SIGNATURE },
    ...[0, 1, 2].map((index) => ({
      function: TIME_LEAF,
      index,
      flags: SIGNIFICANT_INDEX,
      ...MARK,
    })),
  );

const TIME_LEAFS = guest("long", (g) => g.cpuid(TIME_LEAF, 1).cpuid(TIME_LEAF, 2).sync().done());

/** Runs a guest with Xen leaves up to a limit, which reads the time leaf, and returns the values. */
function guestTime(kit: Kit, limit: number): readonly bigint[] {
  kit.require(
    (kit.kvm.checkExtension("KVM_CAP_XEN_HVM") & KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL) !== 0,
    "KVM_CAP_XEN_HVM lacks KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL here",
  );
  const { box } = kit.configured({
    table: withXen(kit, limit),
    program: TIME_LEAFS,
    prepare: (vm) => vm.xenHvmConfig({ msr: XEN_MSR, flags: KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL }),
  });
  return box.syncs().flat();
}

claim(
  "xen-table",
  "a run leaves the Xen leaf with the frequency of the TSC unchanged in the table",
  { number: 102 },
  (kit) => {
    kit.requireCapability("KVM_CAP_XEN_HVM");
    const { vcpu, stored } = kit.ran({ table: withXen(kit, TIME_LEAF) });
    expect(tableOf(vcpu)).toEqualTable(stored);
  },
);

claim(
  "xen-resend",
  "a vCPU that has run accepts the same table with Xen leaves once more",
  { number: 102 },
  (kit) => {
    kit.requireCapability("KVM_CAP_XEN_HVM");
    const { vcpu, stored } = kit.ran({ table: withXen(kit, TIME_LEAF) });
    expect(() => vcpu.setCpuid2(stored)).toBeAccepted();
  },
);

const UNCHANGED = Object.values(MARK).map(BigInt);

claim(
  "xen-time-leaf",
  "a guest in a VM with Xen hypercalls reads the Xen leaf as it is in its table",
  { number: 103 },
  (kit) => {
    expect(guestTime(kit, TIME_LEAF)).toEqual([...UNCHANGED, ...UNCHANGED]);
  },
);

claim(
  "xen-time-leaf-frequency",
  "a KVM that fills the Xen leaf writes its scale of the TSC and the frequency of KVM_GET_TSC_KHZ, and nothing else",
  { number: 103 },
  (kit) => {
    const [eax1, ebx1, ecx1, edx1, eax2, ...rest] = guestTime(kit, TIME_LEAF);
    kit.require(eax2 !== BigInt(MARK.eax), "KVM does not fill the Xen leaf here");
    expect([eax1, ebx1]).toEqual([0x1111n, 0x2222n]);
    expect([ecx1, edx1]).not.toEqual([0x3333n, 0x4444n]);
    expect(eax2).toBe(BigInt(kit.fresh().getTscKhz()));
    expect(rest).toEqual([0x2222n, 0x3333n, 0x4444n]);
  },
);

claim(
  "xen-time-leaf-limit",
  "a guest reads the Xen leaf as it is in the table if the leaf is above the Xen limit",
  { number: 103 },
  (kit) => {
    expect(guestTime(kit, TIME_LEAF - 1)).toEqual([...UNCHANGED, ...UNCHANGED]);
  },
);
