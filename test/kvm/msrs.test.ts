/**
 * Claims about architectural MSRs: the value in a new vCPU, reads and writes of the guest and of user space, reserved
 * values, the CPUID feature on which an MSR depends, and KVM's list of MSRs. feature-msrs.test.ts has feature MSRs.
 */
import type { Vcpu } from "node-kvm";
import { KVM_REG_GUEST_SSP, KVM_X86_REG_KVM, KVM_X86_REG_MSR, MSRS } from "node-kvm/abi";
import type { CpuidFieldName, CpuidTable } from "node-kvm/cpuid";
import { guest, NO_FAULT, type Program } from "node-kvm/guest";
import { claim, expect, type Kit } from "node-kvm/test";

const GP = 13n;
/** A canonical address whose low 12 bits, which are not an address in some MSRs, are 0. */
const CANONICAL = 0x1234_5678_9000n;
const NOT_CANONICAL = 0xaaaa_aaaa_aaaa_aaaan;
/** Bits 6 to 9 of the CET MSRs are reserved. */
const CET_RESERVED = 0x3c0n;

/** An MSR of the claims, with the value in a new vCPU, another value, and a value that KVM refuses. */
interface MsrCase {
  readonly name: string;
  readonly index: number;
  readonly reset: bigint;
  readonly value: bigint;
  readonly reserved?: bigint;
  /** The MSR exists if the table has one of these features; it always exists if the list is empty. */
  readonly features: readonly CpuidFieldName[];
}

const MISC_ENABLE_RESET = 0x1800n;
const FAST_STRING = 1n;

const address = (name: string, index: number): MsrCase => ({
  name,
  index,
  reset: 0n,
  value: CANONICAL,
  reserved: NOT_CANONICAL,
  features: [],
});
const CASES: readonly MsrCase[] = [
  {
    name: "misc-enable",
    index: MSRS.MSR_IA32_MISC_ENABLE,
    reset: MISC_ENABLE_RESET,
    value: MISC_ENABLE_RESET | FAST_STRING,
    reserved: FAST_STRING,
    features: [],
  },
  {
    name: "pat",
    index: MSRS.MSR_IA32_CR_PAT,
    reset: 0x7_0406_0007_0406n,
    value: 0x707_0707n,
    features: [],
  },
  {
    name: "tsc-aux",
    index: MSRS.MSR_TSC_AUX,
    reset: 0n,
    value: 0x1234_5678n,
    features: ["rdtscp", "rdpid"],
  },
  { name: "sysenter-cs", index: 0x174, reset: 0n, value: 0x1234n, features: [] },
  { name: "sysenter-esp", index: 0x175, reset: 0n, value: 0x5678_9000n, features: [] },
  { name: "sysenter-eip", index: 0x176, reset: 0n, value: 0x5678_9000n, features: [] },
  address("fs-base", MSRS.MSR_FS_BASE),
  address("gs-base", MSRS.MSR_GS_BASE),
  address("kernel-gs-base", MSRS.MSR_KERNEL_GS_BASE),
  address("lstar", MSRS.MSR_LSTAR),
  address("cstar", MSRS.MSR_CSTAR),
  { name: "syscall-mask", index: 0xc000_0084, reset: 0n, value: 0xffff_ffffn, features: [] },
];

/** Returns whether a table has one of the features of an MSR. */
const exists = (features: MsrCase["features"], table: CpuidTable): boolean =>
  features.length === 0 || features.some((name) => table.has(name));

/** Skips the claim if the vCPU has none of the features of an MSR. */
function requireMsr(kit: Kit, { features }: MsrCase): void {
  const { stored } = kit.configured();
  kit.require(exists(features, stored), `a vCPU has no ${features.join(" and no ")} here`);
}

const read = (vcpu: Vcpu, index: number): bigint | undefined => vcpu.getMsrs([index])[0]?.data;

/** A guest that reads the MSR, writes and reads it, waits for the host, and reads it again. */
const visit = ({ index, value }: Pick<MsrCase, "index" | "value">): Program =>
  guest("long", (g) =>
    g.rdmsr(index).wrmsr(index, value).rdmsr(index).sync().rdmsr(index).sync().done(),
  );

/** The MSRs of shadow stacks and of indirect branch tracking. */
const CET_CASES: readonly MsrCase[] = [
  ...[0x6a0, 0x6a2].flatMap((index) =>
    (["cet_ss", "ibt"] as const).map((feature) => ({
      name: feature,
      index,
      reset: 0n,
      value: feature === "ibt" ? 4n : 1n,
      reserved: CET_RESERVED,
      features: [feature],
    })),
  ),
  ...[0x6a4, 0x6a5, 0x6a6, 0x6a7].flatMap((index) =>
    [NOT_CANONICAL, CANONICAL | 1n].map((reserved) => ({
      name: "ssp",
      index,
      reset: 0n,
      value: CANONICAL,
      reserved,
      features: ["cet_ss"] as const,
    })),
  ),
];

for (const msr of CASES) {
  const { name, index, reset, value, reserved } = msr;
  claim(
    `msr-value-${name}`,
    `a guest and user space read the value of the MSR ${name} that the other has written`,
    { number: 137 },
    (kit) => {
      requireMsr(kit, msr);
      const { box, vcpu } = kit.configured({ program: visit(msr) });
      expect(box.next()).toEqual({ kind: "sync", values: [reset, value] });
      expect(read(vcpu, index)).toBe(value);
      expect(vcpu.setMsrs([{ index, data: reset }])).toBe(1);
      expect(read(vcpu, index)).toBe(reset);
      expect(box.next()).toEqual({ kind: "sync", values: [reset] });
    },
  );

  if (reserved === undefined) continue;
  claim(
    `msr-reserved-${name}`,
    `a guest gets #GP for a reserved value of the MSR ${name}`,
    { number: 138 },
    (kit) => {
      kit.requireStrictMsrs();
      requireMsr(kit, msr);
      const program = guest("long", (g) =>
        g
          .attempt((a) => a.wrmsr(index, reserved))
          .rdmsr(index)
          .sync()
          .done(),
      );
      const { box } = kit.configured({ program });
      const [vector, current] = box.syncs().flat();
      expect(vector).toBe(GP);
      expect(current).toBe(reset);
    },
  );
}

/** A guest that tries to read and to write an MSR; it sends the value that it has read, and both vectors. */
const access = (index: number, value: bigint): Program =>
  guest("long", (g) =>
    g
      .attempt((a) => a.rdmsr(index))
      .attempt((a) => a.wrmsr(index, value))
      .sync()
      .done(),
  );

const CET_CLAIMS = [
  ["cet_ss", "shstk", "the MSRs S_CET and U_CET for shadow stacks"],
  ["ibt", "ibt", "the MSRs S_CET and U_CET for indirect branch tracking"],
  ["ssp", "ssp", "the MSRs PL0_SSP to PL3_SSP"],
] as const;
for (const [name, id, text] of CET_CLAIMS) {
  const cases = CET_CASES.filter((one) => one.name === name);
  const feature = name === "ssp" ? "cet_ss" : name;

  claim(
    `cet-value-${id}`,
    `a guest and user space read the values of ${text} that the other has written`,
    { number: 137 },
    (kit) => {
      kit.requireVcpuHas(feature);
      for (const { index, reset, value } of cases) {
        const { box, vcpu } = kit.configured({ program: visit({ index, value }) });
        expect(box.next()).toEqual({ kind: "sync", values: [reset, value] });
        expect(read(vcpu, index)).toBe(value);
        expect(vcpu.setMsrs([{ index, data: reset }])).toBe(1);
        expect(read(vcpu, index)).toBe(reset);
        expect(box.next()).toEqual({ kind: "sync", values: [reset] });
      }
    },
  );

  claim(
    `cet-reserved-${id}`,
    `a guest gets #GP for reserved values of ${text}`,
    { number: 138 },
    (kit) => {
      kit.requireStrictMsrs();
      kit.requireVcpuHas(feature);
      const program = guest("long", (g) => {
        for (const { index, reserved = 0n } of cases) g.attempt((a) => a.wrmsr(index, reserved));
        return g.sync().done();
      });
      const { box } = kit.configured({ program });
      expect(box.next()).toEqual({ kind: "sync", values: cases.map(() => GP) });
    },
  );

  claim(
    `cet-needs-${id}`,
    `a guest gets #GP for ${text} if the table lacks the feature`,
    { number: 139 },
    (kit) => {
      kit.requireStrictMsrs();
      const program = guest("long", (g) => {
        for (const { index, value } of cases) {
          g.attempt((a) => a.rdmsr(index)).attempt((a) => a.wrmsr(index, value));
        }
        return g.sync().done();
      });
      const { box } = kit.configured({
        table: kit.supported.with({ cet_ss: 0, ibt: 0 }),
        program,
      });
      expect(box.next()).toEqual({
        kind: "sync",
        values: cases.flatMap(() => [0n, GP, GP]),
      });
    },
  );
}

/** Sets RDTSCP and RDPID in a table. */
const tscAux = (table: CpuidTable, rdtscp: 0 | 1, rdpid: 0 | 1): CpuidTable =>
  table.with({ rdtscp, rdpid });

claim(
  "tsc-aux-needs-feature",
  "a guest gets #GP for the MSR TSC_AUX if the table has neither RDTSCP nor RDPID",
  { number: 139 },
  (kit) => {
    kit.requireStrictMsrs();
    const { box, stored } = kit.configured({
      table: tscAux(kit.supported, 0, 0),
      program: access(MSRS.MSR_TSC_AUX, 0x1234_5678n),
    });
    kit.require(!stored.has("rdpid"), "RDPID cannot be removed from a table here");
    expect(box.next()).toEqual({ kind: "sync", values: [0n, GP, GP] });
  },
);

for (const [feature, rdtscp, rdpid] of [
  ["rdtscp", 1, 0],
  ["rdpid", 0, 1],
] as const) {
  claim(
    `tsc-aux-only-${feature}`,
    `a guest can access the MSR TSC_AUX if the table has only ${feature.toUpperCase()}`,
    { number: 139 },
    (kit) => {
      kit.require(kit.supported.has(feature), `KVM does not support ${feature} in guests here`);
      const { box } = kit.configured({
        table: tscAux(kit.supported, rdtscp, rdpid),
        program: access(MSRS.MSR_TSC_AUX, 0x1234_5678n),
      });
      expect(box.next()).toEqual({ kind: "sync", values: [0n, NO_FAULT, NO_FAULT] });
    },
  );
}

for (const { name, index, reserved } of CASES.filter((one) => one.reserved === NOT_CANONICAL)) {
  claim(
    `msr-refused-${name}`,
    `KVM_SET_MSRS refuses an address in the MSR ${name} that is not canonical`,
    { number: 138 },
    (kit) => {
      const { vcpu } = kit.configured();
      expect(vcpu.setMsrs([{ index, data: reserved ?? 0n }])).toBe(0);
    },
  );
}

/** The values of vendors in leaf 0:ebx, and what KVM does with the bits 32 to 63 of TSC_AUX. */
const AMD = 0x6874_7541;
const WIDE = 0xaaaa_5555_aaaa_5555n;

claim(
  "tsc-aux-amd",
  "a guest of vendor AMD loses the bits 32 to 63 of a value that it writes to the MSR TSC_AUX",
  { number: 138 },
  (kit) => {
    kit.requireVcpuHas("rdtscp");
    kit.require(kit.supported.get("cpu_vendorid_0") === AMD, "the vendor is not AMD here");
    const program = guest("long", (g) =>
      g.wrmsr(MSRS.MSR_TSC_AUX, WIDE).rdmsr(MSRS.MSR_TSC_AUX).sync().done(),
    );
    const { box } = kit.configured({ program });
    expect(box.next()).toEqual({ kind: "sync", values: [WIDE & 0xffff_ffffn] });
  },
);

claim(
  "tsc-aux-intel",
  "a guest of vendor Intel gets #GP for a value of the MSR TSC_AUX with a bit above 31",
  { number: 138 },
  (kit) => {
    kit.requireStrictMsrs();
    kit.requireVcpuHas("rdtscp");
    kit.require(kit.supported.get("cpu_vendorid_0") !== AMD, "the vendor is AMD here");
    const program = guest("long", (g) =>
      g
        .attempt((a) => a.wrmsr(MSRS.MSR_TSC_AUX, WIDE))
        .sync()
        .done(),
    );
    const { box } = kit.configured({ program });
    expect(box.next()).toEqual({ kind: "sync", values: [GP] });
  },
);

/** Returns the table with the vendor Intel in leaf 0. */
const ofIntel = (table: CpuidTable): CpuidTable =>
  table
    .filter(({ function: fn }) => fn !== 0)
    .append({
      ...table.find(0),
      function: 0,
      ebx: 0x756e_6547,
      edx: 0x4965_6e69,
      ecx: 0x6c65_746e,
    });

for (const [name, index] of [
  ["esp", 0x175],
  ["eip", 0x176],
] as const) {
  const register = `SYSENTER_${name.toUpperCase()}`;

  claim(
    `sysenter-${name}-intel`,
    `a guest of vendor Intel and user space read all 64 bits of an address that the other has written to ${register}`,
    { number: 137 },
    (kit) => {
      const program = visit({ index, value: CANONICAL });
      const { box, vcpu } = kit.configured({ table: ofIntel(kit.supported), program });
      expect(box.next()).toEqual({ kind: "sync", values: [0n, CANONICAL] });
      expect(read(vcpu, index)).toBe(CANONICAL);
      expect(vcpu.setMsrs([{ index, data: ~CANONICAL & 0x7fff_ffff_ffffn }])).toBe(1);
      expect(box.next()).toEqual({ kind: "sync", values: [~CANONICAL & 0x7fff_ffff_ffffn] });
    },
  );

  claim(
    `sysenter-${name}-amd`,
    `a vCPU of vendor AMD has only the low 32 bits of a value that user space writes to ${register}`,
    { number: 138 },
    (kit) => {
      kit.require(kit.supported.get("cpu_vendorid_0") === AMD, "the vendor is not AMD here");
      const { vcpu } = kit.configured();
      expect(vcpu.setMsrs([{ index, data: CANONICAL }])).toBe(1);
      expect(read(vcpu, index)).toBe(CANONICAL & 0xffff_ffffn);
    },
  );
}

claim(
  "msrs-per-vcpu",
  "two guests that run in turn on one thread each read their own values of the MSRs",
  { number: 140 },
  (kit) => {
    const { stored } = kit.configured();
    const present = CASES.filter(({ features }) => exists(features, stored));
    const program = guest("long", (g) => {
      for (const { index } of present) g.rdmsr(index);
      g.sync();
      for (const { index, value } of present) g.wrmsr(index, value);
      g.sync();
      for (const { index } of present) g.rdmsr(index);
      return g.sync().done();
    });
    const [first, second] = [kit.configured({ program }).box, kit.configured({ program }).box];
    const initial = first.next();
    expect(first.next()).toEqual({ kind: "sync", values: [] });
    expect(second.next()).toEqual(initial);
    expect(first.next()).toEqual({ kind: "sync", values: present.map(({ value }) => value) });
    expect(second.next()).toEqual({ kind: "sync", values: [] });
    expect(second.next()).toEqual({ kind: "sync", values: present.map(({ value }) => value) });
  },
);

claim(
  "msrs-listed",
  "KVM_GET_MSR_INDEX_LIST has an MSR if and only if KVM_GET_SUPPORTED_CPUID has a feature of the MSR",
  { number: 141 },
  (kit) => {
    const listed = kit.kvm.getMsrIndexList();
    // KVM_GET_SREGS returns FS_BASE and GS_BASE, so the list does not have them.
    const bases: readonly number[] = [MSRS.MSR_FS_BASE, MSRS.MSR_GS_BASE];
    const candidates = [...CASES, ...CET_CASES].filter(({ index }) => !bases.includes(index));
    const expected = candidates.filter(({ index }) =>
      candidates.some((one) => one.index === index && exists(one.features, kit.supported)),
    );
    expect(candidates.filter(({ index }) => listed.includes(index))).toEqual(expected);
  },
);

claim(
  "msr-one-reg",
  "KVM_SET_ONE_REG and KVM_GET_ONE_REG access the same MSRs as KVM_SET_MSRS and KVM_GET_MSRS",
  { number: 142 },
  (kit) => {
    kit.requireCapability("KVM_CAP_ONE_REG");
    const { vcpu } = kit.configured();
    for (const { index, value } of CASES.filter(({ features }) => features.length === 0)) {
      const id = KVM_X86_REG_MSR(index);
      expect(() => vcpu.setOneReg(id, value)).toBeAccepted();
      expect(read(vcpu, index)).toBe(value);
      expect(vcpu.getOneReg(id)).toBe(value);
    }
  },
);

claim(
  "guest-ssp-reg",
  "KVM_SET_ONE_REG and KVM_GET_ONE_REG access the guest's SSP, and KVM_GET_REG_LIST has it",
  { number: 143 },
  (kit) => {
    kit.requireCapability("KVM_CAP_ONE_REG");
    kit.requireVcpuHas("cet_ss");
    const { vcpu } = kit.configured();
    const id = KVM_X86_REG_KVM(KVM_REG_GUEST_SSP);
    expect(vcpu.getRegList()).toContain(id);
    expect(vcpu.getOneReg(id)).toBe(0n);
    expect(() => vcpu.setOneReg(id, CANONICAL)).toBeAccepted();
    expect(vcpu.getOneReg(id)).toBe(CANONICAL);
    expect(() => vcpu.setOneReg(id, NOT_CANONICAL)).toFailWith("EINVAL");
  },
);

claim(
  "guest-ssp-reg-needs-feature",
  "KVM refuses the register of the guest's SSP if the table lacks shadow stacks",
  { number: 143 },
  (kit) => {
    kit.requireCapability("KVM_CAP_ONE_REG");
    const { vcpu } = kit.configured({ table: kit.supported.with({ cet_ss: 0 }) });
    const id = KVM_X86_REG_KVM(KVM_REG_GUEST_SSP);
    expect(vcpu.getRegList()).not.toContain(id);
    expect(() => vcpu.getOneReg(id)).toFailWith("EINVAL");
    expect(() => vcpu.setOneReg(id, 0n)).toFailWith("EINVAL");
  },
);
