/**
 * Claims about the tables of features that KVM supports or emulates for guests: KVM_GET_SUPPORTED_CPUID,
 * KVM_GET_EMULATED_CPUID and KVM_GET_SUPPORTED_HV_CPUID. arguments.test.ts has the claims about a vCPU's own table.
 */
import type { Handle } from "node-kvm";
import {
  Cpuid2,
  type CpuidEntry2,
  type Ioctl,
  KVM_GET_EMULATED_CPUID,
  KVM_GET_SUPPORTED_CPUID,
  KVM_GET_SUPPORTED_HV_CPUID,
  KVM_SET_CPUID2,
  read,
} from "node-kvm/abi";
import { type CpuidTable, fromSupported } from "node-kvm/cpuid";
import { claim, expect, type Kit } from "node-kvm/test";

const HEADER = 8;
const ENTRY = 40;
/** KVM never returns more entries (KVM_MAX_CPUID_ENTRIES). */
const MOST = 256;
/** The position of `padding` in an entry. */
const PADDING = 28;

/** Returns a struct kvm_cpuid2 with space for `nent` entries, whose bytes are all `fill`. */
function room(nent: number, fill = 0): Uint8Array {
  const bytes = new Uint8Array(HEADER + nent * ENTRY).fill(fill, HEADER);
  new DataView(bytes.buffer).setUint32(0, nent, true);
  return bytes;
}

/** Returns the count and the entries that an ioctl writes into a buffer for `nent` entries. */
function entriesOf(handle: Handle, ioctl: Ioctl, nent: number): readonly CpuidEntry2[] {
  const bytes = room(nent);
  handle.ioctl(ioctl, bytes);
  return read(Cpuid2, bytes).entries;
}

/** Returns the supported table with the APIC id of vCPU 0, because KVM returns the APIC id of the current CPU. */
const supported = (kit: Kit, nent: number): CpuidTable =>
  fromSupported(entriesOf(kit.kvm, KVM_GET_SUPPORTED_CPUID, nent));

claim(
  "supported-e2big",
  "KVM_GET_SUPPORTED_CPUID with too small a buffer returns E2BIG and writes nothing",
  { number: 1 },
  (kit) => {
    const count = supported(kit, MOST).length;
    for (const nent of [0, 1, count - 1]) {
      const bytes = room(nent, 0x5a);
      expect(() => kit.kvm.ioctl(KVM_GET_SUPPORTED_CPUID, bytes)).toFailWith("E2BIG");
      expect(bytes).toEqual(room(nent, 0x5a));
    }
  },
);

claim(
  "supported-exact",
  "KVM_GET_SUPPORTED_CPUID fills a buffer that has room for exactly all entries",
  { number: 2 },
  (kit) => {
    const table = supported(kit, MOST);
    expect(supported(kit, table.length)).toEqualTable(table);
  },
);

claim(
  "supported-large",
  "KVM_GET_SUPPORTED_CPUID accepts room for more than 256 entries and returns the count",
  { number: 2 },
  (kit) => {
    const table = supported(kit, MOST);
    expect(supported(kit, MOST + 44)).toEqualTable(table);
  },
);

claim(
  "supported-stable",
  "KVM_GET_SUPPORTED_CPUID returns the same table again, except the APIC id of the current CPU",
  { number: 3 },
  (kit) => {
    const table = supported(kit, MOST);
    for (let i = 0; i < 4; i += 1) expect(supported(kit, MOST)).toEqualTable(table);
  },
);

claim(
  "supported-unique",
  "KVM_GET_SUPPORTED_CPUID returns each leaf and index once",
  { number: 4 },
  (kit) => {
    const keys = Array.from(supported(kit, MOST), ({ function: fn, index }) => `${fn}.${index}`);
    expect(keys.filter((key, i) => keys.indexOf(key) !== i)).toEqual([]);
  },
);

claim("supported-padding", "KVM_GET_SUPPORTED_CPUID returns padding 0", { number: 4 }, (kit) => {
  const entries = entriesOf(kit.kvm, KVM_GET_SUPPORTED_CPUID, MOST);
  expect(entries.flatMap(({ padding }) => padding).filter((word) => word !== 0)).toEqual([]);
});

claim(
  "emulated-slack",
  "KVM_GET_EMULATED_CPUID needs room for one entry more than it returns",
  { number: 5 },
  (kit) => {
    kit.requireCapability("KVM_CAP_EXT_EMUL_CPUID");
    const functions = entriesOf(kit.kvm, KVM_GET_EMULATED_CPUID, 4).map((entry) => entry.function);
    expect(functions).toEqual([0, 1, 7]);
    expect(() => kit.kvm.ioctl(KVM_GET_EMULATED_CPUID, room(3))).toFailWith("E2BIG");
  },
);

/** Returns a struct kvm_cpuid2 whose last entry has a word of padding that is not 0. */
function padded(nent: number): Uint8Array {
  const bytes = room(nent);
  bytes.fill(0x5a, HEADER + (nent - 1) * ENTRY + PADDING);
  return bytes;
}

claim(
  "emulated-padding",
  "KVM_GET_EMULATED_CPUID refuses a buffer with padding that is not 0",
  { number: 6 },
  (kit) => {
    kit.requireCapability("KVM_CAP_EXT_EMUL_CPUID");
    expect(() => kit.kvm.ioctl(KVM_GET_EMULATED_CPUID, padded(8))).toFailWith("EINVAL");
  },
);

claim(
  "supported-any-padding",
  "KVM_GET_SUPPORTED_CPUID accepts a buffer with padding that is not 0",
  { number: 6 },
  (kit) => {
    const bytes = padded(MOST);
    expect(() => kit.kvm.ioctl(KVM_GET_SUPPORTED_CPUID, bytes)).toBeAccepted();
    expect(fromSupported(read(Cpuid2, bytes).entries)).toEqualTable(supported(kit, MOST));
  },
);

/** The leaves of KVM_GET_SUPPORTED_HV_CPUID (arch/x86/kvm/hyperv.c:kvm_get_hv_cpuid). */
const HYPERV_LEAVES = [0, 1, 2, 3, 4, 5, 0xa, 0x80, 0x81, 0x82].map((leaf) => 0x4000_0000 + leaf);

claim(
  "hyperv-e2big",
  "KVM_GET_SUPPORTED_HV_CPUID with room for 9 of its 10 entries returns E2BIG",
  { number: 7 },
  (kit) => {
    kit.requireCapability("KVM_CAP_SYS_HYPERV_CPUID");
    expect(() => kit.kvm.ioctl(KVM_GET_SUPPORTED_HV_CPUID, room(9))).toFailWith("E2BIG");
  },
);

for (const nent of [10, 64]) {
  claim(
    `hyperv-leaves-${nent}`,
    `KVM_GET_SUPPORTED_HV_CPUID writes 10 leaves without indices and their count into a buffer for ${nent}`,
    { number: 7 },
    (kit) => {
      kit.requireCapability("KVM_CAP_SYS_HYPERV_CPUID");
      const entries = entriesOf(kit.kvm, KVM_GET_SUPPORTED_HV_CPUID, nent).toSorted(
        (a, b) => a.function - b.function,
      );
      const rest = { index: 0, flags: 0, padding: [0, 0, 0] };
      expect(entries).toMatchObject(HYPERV_LEAVES.map((leaf) => ({ function: leaf, ...rest })));
    },
  );
}

/** Returns whether Hyper-V features that need an in-kernel local APIC are in a handle's table. */
function lapicFeatures(handle: Handle): readonly boolean[] {
  const entries = entriesOf(handle, KVM_GET_SUPPORTED_HV_CPUID, 64);
  const leaf = (fn: number): CpuidEntry2 | undefined =>
    entries.find((entry) => entry.function === fn);
  const stimerDirect = ((leaf(0x4000_0003)?.edx ?? 0) & (1 << 19)) !== 0;
  const clusterIpi = ((leaf(0x4000_0004)?.eax ?? 0) & (1 << 10)) !== 0;
  return [stimerDirect, clusterIpi];
}

claim(
  "hyperv-lapic-system",
  "KVM_GET_SUPPORTED_HV_CPUID on /dev/kvm returns direct synthetic timers and cluster IPIs",
  { number: 8 },
  (kit) => {
    kit.requireCapability("KVM_CAP_SYS_HYPERV_CPUID");
    expect(lapicFeatures(kit.kvm)).toEqual([true, true]);
  },
);

claim(
  "hyperv-lapic-user",
  "KVM offers no direct synthetic timers and no cluster IPIs to a vCPU without an in-kernel local APIC",
  { number: 8 },
  (kit) => {
    kit.requireCapability("KVM_CAP_HYPERV_CPUID");
    expect(lapicFeatures(kit.fresh())).toEqual([false, false]);
  },
);

claim(
  "hyperv-lapic-kernel",
  "KVM offers direct synthetic timers and cluster IPIs to a vCPU with an in-kernel local APIC",
  { number: 8 },
  (kit) => {
    kit.requireCapability("KVM_CAP_HYPERV_CPUID");
    const vm = kit.keep(kit.kvm.createVm());
    vm.createIrqchip();
    expect(lapicFeatures(kit.keep(vm.createVcpu(0)))).toEqual([true, true]);
  },
);

claim(
  "supported-wrong-fd",
  "KVM_GET_SUPPORTED_CPUID fails with ENOTTY on a VM and with EINVAL on a vCPU",
  { number: 17 },
  (kit) => {
    const vcpu = kit.fresh();
    expect(() => vcpu.vm.ioctl(KVM_GET_SUPPORTED_CPUID, room(MOST))).toFailWith("ENOTTY");
    expect(() => vcpu.ioctl(KVM_GET_SUPPORTED_CPUID, room(MOST))).toFailWith("EINVAL");
  },
);

claim(
  "set-wrong-fd",
  "KVM_SET_CPUID2 fails with ENOTTY on a VM and with EINVAL on /dev/kvm",
  { number: 17 },
  (kit) => {
    const { vm } = kit.fresh();
    expect(() => vm.ioctl(KVM_SET_CPUID2, room(1))).toFailWith("ENOTTY");
    expect(() => kit.kvm.ioctl(KVM_SET_CPUID2, room(1))).toFailWith("EINVAL");
  },
);
