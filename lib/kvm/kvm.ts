/** /dev/kvm itself: versions, capabilities, what this kernel can give a guest, and new VMs. */
import {
  KVM_CHECK_EXTENSION,
  KVM_CREATE_VM,
  KVM_GET_EMULATED_CPUID,
  KVM_GET_MSR_FEATURE_INDEX_LIST,
  KVM_GET_MSR_INDEX_LIST,
  KVM_GET_MSRS,
  KVM_GET_SUPPORTED_CPUID,
  KVM_GET_SUPPORTED_HV_CPUID,
} from "../abi/generated/ioctls.ts";
import type { CpuidEntry2, MsrEntry } from "../abi/generated/structs.ts";
import { MsrList } from "../abi/generated/structs.ts";
import type { Ioctl } from "../abi/ioctl.ts";
import { encode, read } from "../abi/struct.ts";
import { KvmError } from "../errors.ts";
import type { Evidence } from "../explain/index.ts";
import { inspectAs } from "../inspect.ts";
import { native } from "../native.ts";
import { refuseNonBooleans, refuseUnknown, toPath } from "../options.ts";
import { traceOpen, tracePermission } from "../trace/sink.ts";
import { type Capability, capabilityNumber } from "./capability.ts";
import { growCpuid2 } from "./cpuid2.ts";
import { type Attribute, getDeviceAttr, hasDeviceAttr } from "./device-attr.ts";
import { evidenceOf, forgetSupportedCpuid } from "./evidence.ts";
import { KvmIoctls } from "./generated/kvm-ioctls.ts";
import { vendorModule } from "./host.ts";
import { getMsrs } from "./msrs.ts";
import { type Origin, remembering } from "./origin.ts";
import { refused } from "./refused.ts";
import { readable } from "./vcpu-msrs.ts";
import { Vm } from "./vm.ts";

/** The device that {@link Kvm.open} opens: `$NODE_KVM_DEVICE`, or `/dev/kvm`. */
export function defaultDevice(): string {
  return process.env["NODE_KVM_DEVICE"] ?? "/dev/kvm";
}

/** How KVM is opened. */
export interface OpenOptions {
  /** Whether refused calls get a reason; {@link Handle.explain}. */
  readonly explain?: boolean;
}

/** The KVM subsystem of this kernel: an open `/dev/kvm`. */
export class Kvm extends KvmIoctls {
  /** What saved states want to know of it, which never changes. @internal */
  readonly origin: Origin = remembering({
    checkExtension: (capability) => this.checkExtension(capability),
    msrIndexList: () => this.getMsrIndexList(),
    supportedCpuid: () => this.getSupportedCpuid(),
    featureMsrs: () =>
      this.checkExtension("KVM_CAP_GET_MSR_FEATURES") === 0
        ? []
        : readable(this, this.getMsrFeatureIndexList()),
  });

  /**
   * Opens KVM.
   *
   * @param path - the device; `$NODE_KVM_DEVICE` or `/dev/kvm` when left out.
   * @param options - `explain: false`: refused calls get no reason, here and on all that is made from it.
   * @throws {@link KvmError} with open's errno and what to do about it: `ENOENT` (no KVM in this
   *   kernel, or no hardware virtualisation), `EACCES` (not in the device's group), `EBUSY`
   *   (another hypervisor), `ENOTTY` (not a KVM device).
   * @throws TypeError when the path is no string or contains a NUL character.
   */
  static open(path: string = defaultDevice(), options: OpenOptions = {}): Kvm {
    refuseUnknown("Kvm.open()", options, ["explain"]);
    refuseNonBooleans("Kvm.open()", options, ["explain"]);
    const fd = native().open(toPath("Kvm.open()", path));
    traceOpen(path, fd);
    if (typeof fd === "number") {
      throw refused({
        call: "open",
        label: path,
        errno: -fd,
        args: { path },
        facts: { vendor: vendorModule() },
        isExplained: options.explain,
      });
    }
    const kvm = new Kvm(fd, path);
    if (options.explain !== undefined) kvm.explain = options.explain;
    return kvm;
  }

  /**
   * Asks for permission to give guests an XSAVE component that the kernel hands out only on
   * request: 18 is AMX tile data. It belongs to the process, and must come before its first vCPU;
   * what was granted may be asked for again at any time.
   *
   * @source arch_prctl(2) `ARCH_REQ_XCOMP_GUEST_PERM`; api.rst 4.46; `xstate_request_perm`
   * @throws {@link KvmError} `EBUSY` after the first vCPU, `EOPNOTSUPP` or `EINVAL` when there is
   *   no such component.
   */
  static reqXcompGuestPerm(component: number): void {
    const answer = native().reqXcompGuestPerm(component);
    tracePermission(component, answer);
    if (answer < 0) {
      throw refused({ call: "arch_prctl", label: "process", errno: -answer, args: { component } });
    }
    forgetSupportedCpuid();
  }

  /**
   * Asks whether, or how much of, a capability there is; 0 means absent, and also unknown.
   *
   * @ioctl KVM_CHECK_EXTENSION (api.rst 4.4; /dev/kvm)
   */
  checkExtension(capability: Capability): number {
    return this.ioctl(KVM_CHECK_EXTENSION, capabilityNumber(capability), { args: { capability } });
  }

  /**
   * Lists the CPUID entries that this kernel and this CPU can give a guest.
   *
   * Values that depend on the CPU it runs on, such as the APIC id in leaf 1, are that CPU's; see
   * `fromSupported` in `node-kvm/cpuid`.
   *
   * @ioctl KVM_GET_SUPPORTED_CPUID (api.rst 4.46; /dev/kvm; KVM_CAP_EXT_CPUID)
   * @throws {@link KvmError} any errno but `E2BIG`, on which the table is grown and asked again.
   */
  getSupportedCpuid(): readonly CpuidEntry2[] {
    return growCpuid2(this, KVM_GET_SUPPORTED_CPUID);
  }

  /**
   * Lists the CPUID features that KVM emulates, whether or not the CPU has them.
   *
   * @ioctl KVM_GET_EMULATED_CPUID (api.rst 4.88; /dev/kvm; KVM_CAP_EXT_EMUL_CPUID)
   */
  getEmulatedCpuid(): readonly CpuidEntry2[] {
    return growCpuid2(this, KVM_GET_EMULATED_CPUID);
  }

  /**
   * Lists the Hyper-V CPUID entries that KVM can give a guest.
   *
   * @ioctl KVM_GET_SUPPORTED_HV_CPUID (api.rst 4.118; /dev/kvm; KVM_CAP_SYS_HYPERV_CPUID)
   * @throws {@link KvmError} `EINVAL` or `ENOTTY` where KVM has no Hyper-V.
   */
  getSupportedHvCpuid(): readonly CpuidEntry2[] {
    return growCpuid2(this, KVM_GET_SUPPORTED_HV_CPUID);
  }

  /**
   * Lists the MSRs that KVM saves and restores for a guest.
   *
   * @ioctl KVM_GET_MSR_INDEX_LIST (api.rst 4.3; /dev/kvm)
   */
  getMsrIndexList(): readonly number[] {
    return this.#msrList(KVM_GET_MSR_INDEX_LIST);
  }

  /**
   * Lists the MSRs that describe features; {@link getMsrs} reads them.
   *
   * @ioctl KVM_GET_MSR_FEATURE_INDEX_LIST (api.rst 4.3; /dev/kvm; KVM_CAP_GET_MSR_FEATURES)
   */
  getMsrFeatureIndexList(): readonly number[] {
    return this.#msrList(KVM_GET_MSR_FEATURE_INDEX_LIST);
  }

  /**
   * Reads feature MSRs, as many as KVM knows before the first that it does not.
   *
   * @ioctl KVM_GET_MSRS (api.rst 4.18; /dev/kvm; KVM_CAP_GET_MSR_FEATURES)
   */
  getMsrs(indices: Iterable<number>): readonly MsrEntry[] {
    return getMsrs(this, KVM_GET_MSRS, indices);
  }

  /**
   * Reads an attribute of this KVM: `KVM_X86_XCOMP_GUEST_SUPP`, the XSAVE components that guests may
   * have, of the group `KVM_X86_GRP_SYSTEM` (0).
   *
   * @ioctl KVM_GET_DEVICE_ATTR (api.rst 4.80; /dev/kvm; KVM_CAP_SYS_ATTRIBUTES)
   * @throws {@link KvmError} `ENXIO`: there is no such attribute.
   */
  getDeviceAttr(attribute: Attribute, length = 8): Uint8Array {
    return getDeviceAttr(this, attribute, length);
  }

  /**
   * Asks whether this KVM has an attribute; returns when it has.
   *
   * @ioctl KVM_HAS_DEVICE_ATTR (api.rst 4.81; /dev/kvm; KVM_CAP_SYS_ATTRIBUTES)
   * @throws {@link KvmError} `ENXIO`: it has none such.
   */
  hasDeviceAttr(attribute: Attribute): void {
    hasDeviceAttr(this, attribute);
  }

  /**
   * Makes a virtual machine without memory or vCPUs.
   *
   * @param type - `KVM_X86_DEFAULT_VM` (0) or another `KVM_X86_*_VM`.
   * @ioctl KVM_CREATE_VM (api.rst 4.2; /dev/kvm)
   */
  createVm(type = 0): Vm {
    return new Vm(this.openFd(KVM_CREATE_VM, type, { args: { type } }), this);
  }

  /** What this KVM can be asked about a refusal. */
  protected override evidence(): Evidence {
    return { kvm: evidenceOf(this) };
  }

  #msrList(ioctl: Ioctl): readonly number[] {
    for (let nmsrs = 256; ; ) {
      const bytes = encode(MsrList, { indices: new Array<number>(nmsrs).fill(0) });
      try {
        this.ioctl(ioctl, bytes, { args: { nmsrs } });
        return read(MsrList, bytes).indices;
      } catch (error) {
        const needed = new DataView(bytes.buffer).getUint32(0, true);
        // The kernel writes back how many there are.
        if (!(error instanceof KvmError && error.code === "E2BIG" && needed > nmsrs)) throw error;
        nmsrs = needed;
      }
    }
  }

  static {
    inspectAs(Kvm, (it) => ({ path: it.label, closed: it.closed }));
  }
}
