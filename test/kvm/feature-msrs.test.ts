/**
 * Claims about the lists of MSRs that KVM_GET_MSR_INDEX_LIST and KVM_GET_MSR_FEATURE_INDEX_LIST return, and about
 * feature MSRs: their values in a new vCPU, and which values user space may write.
 */
import type { Vcpu } from "node-kvm";
import {
  encode,
  KVM_GET_MSR_FEATURE_INDEX_LIST,
  KVM_GET_MSR_INDEX_LIST,
  KVM_X86_QUIRK_STUFF_FEATURE_MSRS,
  MSRS,
  MsrList,
  read,
} from "node-kvm/abi";
import { guest, NO_FAULT } from "node-kvm/guest";
import { claim, expect, type Kit } from "node-kvm/test";

const MSR_IA32_UCODE_REV = 0x8b;
const GP = 13n;
const MAX_TURBO_RATIO = 0xff00n;

const LISTS = [
  ["index", "KVM_GET_MSR_INDEX_LIST", KVM_GET_MSR_INDEX_LIST],
  ["feature-index", "KVM_GET_MSR_FEATURE_INDEX_LIST", KVM_GET_MSR_FEATURE_INDEX_LIST],
] as const;
for (const [id, name, ioctl] of LISTS) {
  claim(
    `msr-${id}-list`,
    `${name} with a count of 0 fails with E2BIG and returns the count, with which it succeeds`,
    { number: 134 },
    (kit) => {
      kit.requireCapability("KVM_CAP_GET_MSR_FEATURES");
      const empty = encode(MsrList, { indices: [] });
      expect(() => kit.kvm.ioctl(ioctl, empty)).toFailWith("E2BIG");
      const count = new DataView(empty.buffer, empty.byteOffset).getUint32(0, true);
      const full = encode(MsrList, { indices: new Array<number>(count).fill(0) });
      expect(() => kit.kvm.ioctl(ioctl, full)).toBeAccepted();
      expect(read(MsrList, full).indices).toHaveLength(count);
    },
  );
}

/** KVM sets these MSRs itself, from the vCPU's CPUID. */
const FIXED: readonly number[] = [MSRS.MSR_IA32_VMX_CR0_FIXED1, MSRS.MSR_IA32_VMX_CR4_FIXED1];
/** User space writes the "true" control MSRs instead of these. */
const DERIVED: readonly number[] = [
  MSRS.MSR_IA32_VMX_PINBASED_CTLS,
  MSRS.MSR_IA32_VMX_PROCBASED_CTLS,
  MSRS.MSR_IA32_VMX_EXIT_CTLS,
  MSRS.MSR_IA32_VMX_ENTRY_CTLS,
];

/** Returns the feature MSRs with the values that KVM supports, without those that KVM sets itself. */
function featureMsrs(kit: Kit): readonly (readonly [index: number, value: bigint])[] {
  kit.requireCapability("KVM_CAP_GET_MSR_FEATURES");
  return kit.kvm
    .getMsrFeatureIndexList()
    .filter((index) => !FIXED.includes(index))
    .map((index) => [index, kit.kvm.getMsrs([index])[0]?.data ?? -1n] as const);
}

/** Reads MSRs one by one; the value of an MSR that KVM cannot read is -1. */
const valuesOf = (vcpu: Vcpu, indices: readonly number[]) =>
  indices.map((index) => [index, vcpu.getMsrs([index])[0]?.data ?? -1n]);

claim(
  "feature-msrs-readable",
  "KVM_GET_MSRS of /dev/kvm reads each MSR that KVM_GET_MSR_FEATURE_INDEX_LIST returns",
  { number: 135 },
  (kit) => {
    kit.requireCapability("KVM_CAP_GET_MSR_FEATURES");
    const indices = kit.kvm.getMsrFeatureIndexList();
    expect(indices.filter((index) => kit.kvm.getMsrs([index]).length !== 1)).toEqual([]);
  },
);

const OTHER_RESETS: readonly number[] = [MSRS.MSR_AMD64_DE_CFG, MSR_IA32_UCODE_REV];

claim(
  "feature-msrs-reset",
  "the feature MSRs of a new vCPU have the values that KVM_GET_MSRS of /dev/kvm returns",
  { number: 136 },
  (kit) => {
    const supported = featureMsrs(kit).filter(([index]) => !OTHER_RESETS.includes(index));
    const { vcpu } = kit.configured();
    expect(
      valuesOf(
        vcpu,
        supported.map(([index]) => index),
      ),
    ).toEqual(supported);
  },
);

claim("feature-msr-de-cfg", "MSR_AMD64_DE_CFG of a new vCPU is 0", { number: 136 }, (kit) => {
  const isListed = featureMsrs(kit).some(([index]) => index === MSRS.MSR_AMD64_DE_CFG);
  kit.require(isListed, "MSR_AMD64_DE_CFG is no feature MSR here");
  const { vcpu } = kit.configured();
  expect(valuesOf(vcpu, [MSRS.MSR_AMD64_DE_CFG])).toEqual([[MSRS.MSR_AMD64_DE_CFG, 0n]]);
});

claim(
  "feature-msr-ucode-rev",
  "MSR_IA32_UCODE_REV of a new vCPU is KVM's own value: 0x1000065 on AMD, 0x100000000 on Intel",
  { number: 136 },
  (kit) => {
    const isListed = featureMsrs(kit).some(([index]) => index === MSR_IA32_UCODE_REV);
    kit.require(isListed, "MSR_IA32_UCODE_REV is no feature MSR here");
    const { vcpu, stored } = kit.configured();
    const own = stored.get("cpu_vendorid_0") === 0x756e_6547 ? 0x1_0000_0000n : 0x0100_0065n;
    expect(valuesOf(vcpu, [MSR_IA32_UCODE_REV])).toEqual([[MSR_IA32_UCODE_REV, own]]);
  },
);

claim(
  "feature-msrs-written",
  "KVM_SET_MSRS writes to each feature MSR of a new vCPU the value that KVM supports",
  { number: 136 },
  (kit) => {
    const supported = featureMsrs(kit).filter(([index]) => !DERIVED.includes(index));
    const { vcpu } = kit.configured();
    const written = supported.filter(([index, data]) => vcpu.setMsrs([{ index, data }]) === 1);
    expect(written).toEqual(supported);
    expect(
      valuesOf(
        vcpu,
        supported.map(([index]) => index),
      ),
    ).toEqual(supported);
  },
);

claim(
  "feature-msrs-zeroed",
  "with KVM_X86_QUIRK_STUFF_FEATURE_MSRS off, the feature MSRs of a new vCPU are 0",
  { number: 136 },
  (kit) => {
    const quirks = kit.kvm.checkExtension("KVM_CAP_DISABLE_QUIRKS2");
    kit.require(
      (quirks & KVM_X86_QUIRK_STUFF_FEATURE_MSRS) !== 0,
      "KVM has no KVM_X86_QUIRK_STUFF_FEATURE_MSRS here",
    );
    const indices = featureMsrs(kit).flatMap(([i]) => (DERIVED.includes(i) ? [] : [i]));
    const { vcpu } = kit.configured({
      prepare: (vm) =>
        vm.enableCap({
          cap: "KVM_CAP_DISABLE_QUIRKS2",
          args: [BigInt(KVM_X86_QUIRK_STUFF_FEATURE_MSRS)],
        }),
    });
    expect(valuesOf(vcpu, indices)).toEqual(indices.map((index) => [index, 0n]));
  },
);

/** A guest that tries to read MSR_PLATFORM_INFO; it sends the value and the vector. */
const READ_PLATFORM_INFO = guest("long", (g) =>
  g
    .attempt((a) => a.rdmsr(MSRS.MSR_PLATFORM_INFO))
    .sync()
    .done(),
);

/** Creates a vCPU whose MSR_PLATFORM_INFO user space has written, with the capability on or off. */
function platformInfo(kit: Kit, enable: 0n | 1n) {
  kit.requireCapability("KVM_CAP_MSR_PLATFORM_INFO");
  const configured = kit.configured({
    program: READ_PLATFORM_INFO,
    prepare: (vm) => vm.enableCap({ cap: "KVM_CAP_MSR_PLATFORM_INFO", args: [enable] }),
  });
  const before = configured.vcpu.getMsrs([MSRS.MSR_PLATFORM_INFO])[0]?.data ?? 0n;
  const data = before | MAX_TURBO_RATIO;
  const written = configured.vcpu.setMsrs([{ index: MSRS.MSR_PLATFORM_INFO, data }]);
  return { ...configured, data, written };
}

claim(
  "platform-info-host",
  "user space reads and writes MSR_PLATFORM_INFO before the vCPU runs",
  { number: 113 },
  (kit) => {
    const { vcpu, data, written } = platformInfo(kit, 1n);
    expect(written).toBe(1);
    expect(vcpu.getMsrs([MSRS.MSR_PLATFORM_INFO])).toMatchObject([{ data }]);
  },
);

claim(
  "platform-info-on",
  "a guest reads MSR_PLATFORM_INFO while KVM_CAP_MSR_PLATFORM_INFO is 1",
  { number: 113 },
  (kit) => {
    const { box, data } = platformInfo(kit, 1n);
    expect(box.next()).toEqual({ kind: "sync", values: [data, 0xffn] });
  },
);

claim(
  "platform-info-off",
  "a guest gets #GP for RDMSR of MSR_PLATFORM_INFO while KVM_CAP_MSR_PLATFORM_INFO is 0",
  { number: 113 },
  (kit) => {
    const { box } = platformInfo(kit, 0n);
    expect(box.next()).toEqual({ kind: "sync", values: [0n, GP] });
  },
);

/** The bits of CR4 that VMX operation allows, by the CPUID feature on which they depend. */
const FIXED1_FEATURES = [
  ["smep", 1n << 20n],
  ["umip", 1n << 11n],
  ["fsgsbase", 1n << 16n],
] as const;

claim(
  "vmx-cr4-fixed1",
  "the CR4 bits in MSR_IA32_VMX_CR4_FIXED1 follow the CPUID table",
  { number: 114 },
  (kit) => {
    kit.require(kit.supported.has("vmx"), "KVM does not support VMX in guests here");
    for (const [name, bit] of FIXED1_FEATURES) {
      const seen = [0, Number(kit.supported.has(name))].map((value) => {
        const { vcpu } = kit.configured({ table: kit.supported.with({ [name]: value }) });
        const fixed = vcpu.getMsrs([MSRS.MSR_IA32_VMX_CR4_FIXED1])[0]?.data ?? 0n;
        return (fixed & bit) === 0n ? 0 : 1;
      });
      expect([name, seen]).toEqual([name, [0, Number(kit.supported.has(name))]]);
    }
  },
);

const FEAT_CTL_LOCKED = 1n;
const FEAT_CTL_VMX = 4n;
/** Bit 63 of MSR_IA32_FEAT_CTL is reserved. */
const FEAT_CTL_RESERVED = 1n << 63n;

claim(
  "vmx-feat-ctl",
  "KVM_SET_MSRS writes the VMX bit of MSR_IA32_FEAT_CTL even if the table lacks VMX, but no reserved bit",
  { number: 114 },
  (kit) => {
    kit.require(kit.supported.has("vmx"), "KVM does not support VMX in guests here");
    const written = ([0, 1] as const).map((vmx) => {
      const { vcpu } = kit.configured({ table: kit.supported.with({ vmx }) });
      return [FEAT_CTL_VMX, FEAT_CTL_RESERVED].map((bit) =>
        vcpu.setMsrs([{ index: MSRS.MSR_IA32_FEAT_CTL, data: FEAT_CTL_LOCKED | bit }]),
      );
    });
    expect(written).toEqual([
      [1, 0],
      [1, 0],
    ]);
  },
);

claim(
  "vmx-feat-ctl-guest",
  "a guest can write the VMX bit of MSR_IA32_FEAT_CTL only if the table has VMX",
  { number: 114 },
  (kit) => {
    kit.require(kit.supported.has("vmx"), "KVM does not support VMX in guests here");
    const data = FEAT_CTL_LOCKED | FEAT_CTL_VMX;
    const program = guest("long", (g) =>
      g
        .attempt((a) => a.wrmsr(MSRS.MSR_IA32_FEAT_CTL, data))
        .rdmsr(MSRS.MSR_IA32_FEAT_CTL)
        .sync()
        .done(),
    );
    const seen = ([0, 1] as const).map((vmx) => {
      const { box } = kit.configured({ table: kit.supported.with({ vmx }), program });
      return box.next();
    });
    expect(seen).toEqual([
      { kind: "sync", values: [GP, 0n] },
      { kind: "sync", values: [NO_FAULT, data] },
    ]);
  },
);
