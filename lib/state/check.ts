/**
 * Finds incompatibilities between a saved state and a machine before anything is written. STATE_RULES is the list of
 * rules. read-back.ts compares the values after they were written.
 */
import type { CapabilityName } from "../abi/generated/names.ts";
import { type CpuidEntry2, type MsrEntry, NestedState } from "../abi/generated/structs.ts";
import type { Ioctl } from "../abi/ioctl.ts";
import { KVM_MAX_CPUID_ENTRIES } from "../abi/limits.ts";
import { read } from "../abi/struct.ts";
import { checkCpuid } from "../cpuid/check.ts";
import { CpuidTable } from "../cpuid/table.ts";
import type { StateFinding } from "./error.ts";
import { unlistedMsrs } from "./msrs.ts";
import { VCPU_PARTS, VM_PARTS } from "./parts.ts";
import { findShapeless } from "./shapeless.ts";
import type { VcpuState, VmState } from "./state.ts";

/** The part of a vCPU that the rules need. */
export interface TargetVcpu {
  readonly id: number;
  /** Whether the vCPU's local APIC is in the kernel. */
  hasLapic(): boolean;
  /** The frequency of the vCPU's TSC in kHz; undefined if the frequency of the host's TSC is not stable. */
  tscKhz(): number | undefined;
}

/** The part of a machine that the rules need. */
export interface Target {
  /** Returns the result of KVM_CHECK_EXTENSION. */
  checkExtension(capability: CapabilityName): number;
  /** Returns the result of KVM_GET_SUPPORTED_CPUID. */
  supportedCpuid(): readonly CpuidEntry2[];
  /** Returns the result of KVM_GET_MSR_INDEX_LIST. */
  msrIndexList(): readonly number[];
  /** Reads the feature MSRs of /dev/kvm. */
  featureMsrs(): readonly MsrEntry[];
  /** Returns whether the VM has a part; undefined if only vCPUs are restored. */
  readonly hasPart: ((name: string) => boolean) | undefined;
  readonly vcpus: readonly TargetVcpu[];
}

type Parts = Omit<VmState, "format" | "version" | "source">;

/** The arguments of a rule. */
interface Checked {
  readonly state: Parts;
  readonly target: Target;
}

interface StateRule {
  readonly name: string;
  /** The reason why a state that violates the rule does not fit, with the source. */
  readonly why: string;
  readonly find: (checked: Checked) => readonly StateFinding[];
}

const isThere = (owner: object, name: string): boolean => Reflect.get(owner, name) !== undefined;

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;
const idsOf = (all: readonly { id: number }[]): string =>
  all.map(({ id }) => id).join(", ") || "none";

/** An incompatibility of one vCPU's state: the part, the place in the part, and the message. */
interface Wrong {
  readonly part: string;
  readonly place?: string;
  readonly message: string;
  readonly prevents: boolean;
}

/**
 * Makes a rule that checks each saved vCPU state against the vCPU with the same id; the vCPU is undefined if no vCPU
 * has the id.
 */
function eachVcpu(
  find: (state: VcpuState, target: Target, vcpu: TargetVcpu | undefined) => readonly Wrong[],
): StateRule["find"] {
  return ({ state, target }) => {
    const byId = new Map(target.vcpus.map((vcpu) => [vcpu.id, vcpu]));
    return state.vcpus.flatMap((one, i) =>
      find(one, target, byId.get(one.id)).map(({ part, place = "", message, prevents }) => ({
        object: `vcpu ${one.id}`,
        part,
        path: `vcpus[${i}].${part}${place}`,
        message,
        prevents,
      })),
    );
  };
}

/** Returns the XCR0 bits that guests of this KVM may set, from leaf 0xD.0. */
function supportedXcr0(supported: readonly CpuidEntry2[]): bigint {
  const leaf = CpuidTable.from(supported).find(0xd, 0);
  return leaf === undefined ? 0n : (BigInt(leaf.edx) << 32n) | BigInt(leaf.eax);
}

const XSTATE_BV = 512;
/** x87 is always allowed (x86.c:__kvm_set_xcr), and SSE is allowed if the CPU has FXSAVE. */
const X87_AND_SSE = 3n;

const [RUNNABLE, LAST_X86_MP_STATE, AP_RESET_HOLD] = [0, 4, 9] as const;
/** The formats KVM_STATE_NESTED_FORMAT_VMX and _SVM, each with the CPUID field that KVM requires for this format. */
const NESTED_FORMATS = [
  { name: "VMX", field: "vmx" },
  { name: "SVM", field: "svm" },
] as const;

/**
 * The largest difference from the host's TSC frequency that needs no TSC scaling, in parts per million
 * (tsc_tolerance_ppm of kvm.ko).
 */
const TOLERANCE_PPM = 250;

const VALID_PAYLOAD = 0x10;
const VALID_TRIPLE_FAULT = 0x20;

/** All rules, in the order of restoring. For each rule, test/unit/state/check.test.ts has a state that violates it. */
export const STATE_RULES: readonly StateRule[] = [
  {
    name: "shape",
    why: "an omitted field would be written as 0, and an unknown part would not be written",
    find: ({ state }) => findShapeless(state),
  },
  {
    name: "vcpus",
    why: "each saved vCPU is restored into the vCPU with the same id",
    find: ({ state, target }) => {
      const ids = (all: readonly { id: number }[]): string =>
        String(all.map(({ id }) => id).sort((a, b) => a - b));
      if (ids(state.vcpus) === ids(target.vcpus)) return [];
      const message = `the state has the vCPU ids ${idsOf(state.vcpus)}; the passed vCPUs have the ids ${idsOf(target.vcpus)}`;
      return [{ object: "vm", part: "vcpus", path: "vcpus", message, prevents: true }];
    },
  },
  {
    name: "capability",
    why: "this kernel has no ioctl that writes the part",
    find: ({ state, target }) => {
      // The rule tsc-khz checks the TSC frequency, because KVM_SET_TSC_KHZ also works without its capability.
      const has = ({ kind, capability }: Ioctl, fd: "vcpu" | "vm"): boolean => {
        const needed = capability[fd];
        return kind === "value" || needed == null || target.checkExtension(needed) !== 0;
      };
      const missing = (object: string, path: string, owner: object, parts: typeof VM_PARTS) =>
        parts
          .filter(({ name, fd: kind, set }) => isThere(owner, name) && !has(set, kind))
          .map(({ name, fd: kind, set }) => ({
            object,
            part: name,
            path: `${path}${name}`,
            message: `this kernel has no ${set.name} (${set.capability[kind]})`,
            prevents: true,
          }));
      return [
        ...state.vcpus.flatMap((one, i) =>
          missing(`vcpu ${one.id}`, `vcpus[${i}].`, one, VCPU_PARTS),
        ),
        ...missing("vm", "", state, VM_PARTS),
      ];
    },
  },
  {
    name: "cpuid-count",
    why: "KVM_SET_CPUID2 answers E2BIG",
    find: eachVcpu(({ cpuid = [] }) =>
      cpuid.length <= KVM_MAX_CPUID_ENTRIES
        ? []
        : [
            {
              part: "cpuid",
              message: `${cpuid.length} entries, and KVM accepts ${KVM_MAX_CPUID_ENTRIES}`,
              prevents: true,
            },
          ],
    ),
  },
  {
    name: "cpuid-features",
    why: "the guest may use features that this host lacks, and KVM_SET_CPUID2 does not reject them",
    find: eachVcpu(({ cpuid }, target) =>
      cpuid === undefined
        ? []
        : checkCpuid(cpuid, { supported: target.supportedCpuid() })
            .filter(({ rule }) => rule === "unsupported")
            .map(({ message, position }) => ({
              part: "cpuid",
              place: `[${position}]`,
              message,
              prevents: false,
            })),
    ),
  },
  {
    name: "hypervisor",
    why: "the guest may use a paravirtual interface that this KVM does not have",
    find: eachVcpu(({ cpuid }, target) => {
      if (cpuid === undefined) return [];
      const table = CpuidTable.from(cpuid);
      const interfaces = [
        ["hyperv", "KVM_CAP_HYPERV", "Hyper-V"],
        ["xen", "KVM_CAP_XEN_HVM", "Xen"],
      ] as const;
      return interfaces
        .filter(
          ([space, cap]) => table.base(space) !== undefined && target.checkExtension(cap) === 0,
        )
        .map(([, cap, name]) => ({
          part: "cpuid",
          message: `the table has ${name}'s leaves, and this KVM has no ${cap}`,
          prevents: false,
        }));
    }),
  },
  {
    name: "tsc-khz",
    why: "without scaling, the guest's TSC is the host's; KVM_SET_TSC_KHZ rejects a lower frequency",
    find: eachVcpu(({ tscKhz }, target, vcpu) => {
      const own = vcpu?.tscKhz();
      if (tscKhz === undefined || own === undefined || tscKhz === own) return [];
      const isNear = Math.abs(tscKhz - own) * 1_000_000 <= own * TOLERANCE_PPM;
      if (isNear || target.checkExtension("KVM_CAP_TSC_CONTROL") !== 0) return [];
      const message = `${tscKhz} kHz, and this vCPU has ${own} kHz, which this host cannot scale (KVM_CAP_TSC_CONTROL)`;
      // KVM accepts a frequency above the host's, and then advances the guest's TSC at each entry (tsc_always_catchup).
      return [{ part: "tscKhz", message, prevents: tscKhz < own }];
    }),
  },
  {
    name: "xcr0",
    why: "KVM_SET_XCRS rejects bits that guests of this KVM cannot have (x86.c:__kvm_set_xcr)",
    find: eachVcpu(({ xcrs }, target) => {
      if (xcrs === undefined) return [];
      const allowed = supportedXcr0(target.supportedCpuid()) | X87_AND_SSE;
      return xcrs.xcrs.slice(0, xcrs.nrXcrs).flatMap(({ xcr, value }, i) => {
        const extra = value & ~allowed;
        const message = `XCR0 ${hex(value)} has ${hex(extra)}, which this KVM's guests cannot have`;
        const place = `.xcrs[${i}].value`;
        return xcr === 0 && extra !== 0n ? [{ part: "xcrs", place, message, prevents: true }] : [];
      });
    }),
  },
  {
    name: "xsave",
    why: "KVM_SET_XSAVE rejects components that guests of this KVM cannot have",
    find: eachVcpu(({ xsave }, target) => {
      if (xsave === undefined) return [];
      const view = new DataView(xsave.buffer, xsave.byteOffset, xsave.byteLength);
      const bits = view.getBigUint64(XSTATE_BV, true);
      const extra = bits & ~(supportedXcr0(target.supportedCpuid()) | X87_AND_SSE);
      if (extra === 0n) return [];
      const message = `it has the components ${hex(extra)}, which this KVM's guests cannot have`;
      return [{ part: "xsave", message, prevents: true }];
    }),
  },
  {
    name: "xsave-size",
    why: "KVM reads only the size of its own area, so the rest is lost",
    find: eachVcpu(({ xsave }, target) => {
      const most = Math.max(4096, target.checkExtension("KVM_CAP_XSAVE2"));
      if (xsave === undefined || xsave.length <= most) return [];
      const message = `${xsave.length} bytes, and this KVM's area has ${most} (KVM_CAP_XSAVE2)`;
      return [{ part: "xsave", message, prevents: false }];
    }),
  },
  {
    name: "msr-unknown",
    why: "KVM rejects unknown MSRs; an MSR with the value 0 need not be restored",
    find: eachVcpu(({ msrs = [], cpuid = [] }, target) => {
      const mcgCap = msrs.find(({ index }) => index === 0x179)?.data ?? 0n;
      const known = new Set([
        ...target.msrIndexList(),
        ...target.featureMsrs().map(({ index }) => index),
        ...unlistedMsrs(mcgCap, cpuid),
      ]);
      return msrs
        .filter(({ index, data }) => data !== 0n && !known.has(index))
        .map(({ index, data }) => ({
          part: "msrs",
          place: `[${hex(index)}]`,
          message: `${hex(data)}, and KVM_GET_MSR_INDEX_LIST does not have this MSR`,
          prevents: false,
        }));
    }),
  },
  {
    name: "msr-features",
    why: "the guest may use a feature that this KVM does not offer",
    find: eachVcpu(({ msrs = [] }, target) => {
      const offered = new Map(target.featureMsrs().map(({ index, data }) => [index, data]));
      return msrs.flatMap(({ index, data }) => {
        const own = FEATURE_MSRS.includes(index) ? offered.get(index) : undefined;
        const extra = own === undefined ? 0n : data & ~own;
        const message = `${hex(data)} has ${hex(extra)}, which this KVM does not offer (KVM_GET_MSRS of /dev/kvm: ${hex(own ?? 0)})`;
        return extra === 0n
          ? []
          : [{ part: "msrs", place: `[${hex(index)}]`, message, prevents: false }];
      });
    }),
  },
  {
    name: "lapic",
    why: "KVM_SET_LAPIC fails with EINVAL without a local APIC in the kernel",
    find: eachVcpu(({ lapic }, _target, vcpu) =>
      lapic === undefined || vcpu === undefined || vcpu.hasLapic()
        ? []
        : [
            {
              part: "lapic",
              message: "this vCPU has no local APIC in the kernel: createIrqchip() before the vCPU",
              prevents: true,
            },
          ],
    ),
  },
  {
    name: "events",
    why: "KVM_SET_VCPU_EVENTS rejects flags whose capability was not enabled",
    find: eachVcpu(({ vcpuEvents }, target) => {
      const flags = vcpuEvents?.flags ?? 0;
      const needed = [
        [VALID_PAYLOAD, "KVM_CAP_EXCEPTION_PAYLOAD"],
        [VALID_TRIPLE_FAULT, "KVM_CAP_X86_TRIPLE_FAULT_EVENT"],
      ] as const;
      return needed
        .filter(([flag, cap]) => (flags & flag) !== 0 && target.checkExtension(cap) === 0)
        .map(([flag, cap]) => ({
          part: "vcpuEvents",
          place: ".flags",
          message: `it has ${hex(flag)}, and this KVM has no ${cap}`,
          prevents: true,
        }));
    }),
  },
  {
    name: "mp-state",
    why: "x86.c:kvm_arch_vcpu_ioctl_set_mpstate",
    find: eachVcpu(({ mpState }, _target, vcpu) => {
      if (mpState === undefined || mpState === RUNNABLE) return [];
      if (mpState > LAST_X86_MP_STATE && mpState !== AP_RESET_HOLD) {
        return [{ part: "mpState", message: `x86 has no MP state ${mpState}`, prevents: true }];
      }
      if (vcpu === undefined || vcpu.hasLapic()) return [];
      const message = `MP state ${mpState} needs a local APIC in the kernel: createIrqchip() before the vCPU`;
      return [{ part: "mpState", message, prevents: true }];
    }),
  },
  {
    name: "nested-state",
    why: "KVM_SET_NESTED_STATE accepts only the format of its vendor module",
    find: eachVcpu(({ nestedState }, target) => {
      if (nestedState === undefined || target.checkExtension("KVM_CAP_NESTED_STATE") === 0)
        return [];
      const { format } = read(NestedState, nestedState);
      const known = NESTED_FORMATS[format];
      if (known === undefined) {
        const message = `format ${format} is neither VMX (0) nor SVM (1)`;
        return [{ part: "nestedState", message, prevents: true }];
      }
      const { name, field } = known;
      if (CpuidTable.from(target.supportedCpuid()).has(field)) return [];
      const message = `it is in the format of ${name}, but this KVM's guests have no ${name}`;
      return [{ part: "nestedState", message, prevents: true }];
    }),
  },
  {
    name: "devices",
    why: "KVM_SET_IRQCHIP and KVM_SET_PIT2 fail with ENXIO if the VM has no such device",
    find: ({ state, target: { hasPart } }) => {
      if (hasPart === undefined) return [];
      return VM_PARTS.flatMap(({ name, absent, needs }) => {
        if (absent === undefined) return [];
        const [isSaved, isMade] = [isThere(state, name), hasPart(name)];
        if (isSaved === isMade) return [];
        const message = isSaved
          ? `the VM has none: it ${needs}`
          : "the VM has it but the state does not, so it is not changed";
        return [{ object: "vm", part: name, path: name, message, prevents: isSaved }];
      });
    },
  },
];

/** The MSRs whose bits are features of KVM (msr_based_features): ARCH_CAPABILITIES and PERF_CAPABILITIES. */
const FEATURE_MSRS: readonly number[] = [0x10a, 0x345];

/** Finds all incompatibilities between a state and a machine, without writing anything. */
export function findMisfits(state: Parts, target: Target): readonly StateFinding[] {
  return STATE_RULES.flatMap(({ find }) => find({ state, target }));
}
