/** The handle of /dev/kvm: versions, capabilities, supported CPUID and MSRs, and the creation of VMs. */
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
import { encode, offsetOf, read } from "../abi/struct.ts";
import { KvmError } from "../errors.ts";
import type { Evidence } from "../explain/index.ts";
import { inspectAs } from "../inspect.ts";
import { native } from "../native.ts";
import { refuseNonBooleans, refuseUnknown, toPath } from "../options.ts";
import { traceOpen, tracePermission } from "../trace/sink.ts";
import { type Capability, capabilityNumber } from "./calls/capability.ts";
import { growCpuid2 } from "./calls/cpuid2.ts";
import { type DeviceAttrInput, getDeviceAttr, hasDeviceAttr } from "./calls/device-attr.ts";
import { getMsrs } from "./calls/msrs.ts";
import { clearSupportedCpuid, evidenceOf } from "./evidence.ts";
import { KvmIoctls } from "./generated/kvm-ioctls.ts";
import { vendorModule } from "./host.ts";
import { cachedOrigin, type Origin } from "./origin.ts";
import { refused } from "./refused.ts";
import { readable } from "./state/vcpu-msrs.ts";
import { Vm } from "./vm.ts";

const NMSRS = offsetOf(MsrList, "nmsrs");

/** Returns the device that {@link Kvm.open} opens by default: `$NODE_KVM_DEVICE`, or `/dev/kvm`. */
export function defaultDevice(): string {
  return process.env["NODE_KVM_DEVICE"] ?? "/dev/kvm";
}

/** The options of {@link Kvm.open}. */
export interface OpenOptions {
  /** Whether errors of the kernel get a reason, as in {@link Handle.explain}. */
  readonly explain?: boolean;
}

/**
 * An open `/dev/kvm`: the KVM subsystem of this kernel.
 *
 * @example
 * ```ts run
 * import { Kvm } from "node-kvm";
 *
 * using kvm = Kvm.open();
 * using vm = kvm.createVm();
 * console.log(kvm.getApiVersion(), vm.checkExtension("KVM_CAP_USER_MEMORY"));
 * ```
 *
 * ```text output
 * 12 1
 * ```
 */
export class Kvm extends KvmIoctls {
  /** Results of this KVM that the code for saved states needs. @internal */
  readonly origin: Origin = cachedOrigin({
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
   * @param path - the device; the default is `$NODE_KVM_DEVICE` or `/dev/kvm`.
   * @param options - with `explain: false`, errors of this handle and of all handles created from it have no reason.
   * @throws {@link KvmError} with open's errno and a remedy: `ENOENT` (no KVM in this kernel, or no hardware
   *   virtualisation), `EACCES` (not in the device's group), `EBUSY` (another hypervisor), `ENOTTY` (not a KVM device).
   * @throws TypeError if the path is not a string or contains a NUL character.
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
        facts: {
          vendor: vendorModule(),
          variable: process.env["NODE_KVM_DEVICE"] === path ? "NODE_KVM_DEVICE" : undefined,
        },
        isExplained: options.explain,
      });
    }
    const kvm = new Kvm(fd, path);
    if (options.explain !== undefined) kvm.explain = options.explain;
    return kvm;
  }

  /**
   * Requests permission for a dynamic XSAVE component, such as component 18, AMX tile data. Guests may use a dynamic
   * component only after this request. The permission applies to the process, and must be requested before its first
   * vCPU is created. A granted permission may be requested again at any time.
   *
   * @source arch_prctl(2) `ARCH_REQ_XCOMP_GUEST_PERM`; api.rst 4.46; `xstate_request_perm`
   * @throws {@link KvmError} `EBUSY` after the first vCPU, `EOPNOTSUPP` or `EINVAL` if the component does not exist.
   */
  static reqXcompGuestPerm(component: number): void {
    const answer = native().reqXcompGuestPerm(component);
    tracePermission(component, answer);
    if (answer < 0) {
      throw refused({ call: "arch_prctl", label: "process", errno: -answer, args: { component } });
    }
    clearSupportedCpuid();
  }

  /**
   * Returns the value of a capability: 0 if the capability is absent or unknown; otherwise 1 or a number that depends
   * on the capability.
   *
   * @ioctl KVM_CHECK_EXTENSION (api.rst 4.4; /dev/kvm)
   */
  checkExtension(capability: Capability): number {
    return this.ioctl(KVM_CHECK_EXTENSION, capabilityNumber(capability), { args: { capability } });
  }

  /**
   * Lists the CPUID entries that this kernel supports for guests on this CPU.
   *
   * Some values depend on the CPU that executes the call, such as the APIC id in leaf 1; see `fromSupported` in
   * `node-kvm/cpuid`.
   *
   * @ioctl KVM_GET_SUPPORTED_CPUID (api.rst 4.46; /dev/kvm; KVM_CAP_EXT_CPUID)
   * @throws {@link KvmError} with any errno except `E2BIG`, after which the call is repeated with a larger buffer.
   */
  getSupportedCpuid(): readonly CpuidEntry2[] {
    return growCpuid2(this, KVM_GET_SUPPORTED_CPUID);
  }

  /**
   * Lists the CPUID features that KVM emulates on every CPU.
   *
   * @ioctl KVM_GET_EMULATED_CPUID (api.rst 4.88; /dev/kvm; KVM_CAP_EXT_EMUL_CPUID)
   */
  getEmulatedCpuid(): readonly CpuidEntry2[] {
    return growCpuid2(this, KVM_GET_EMULATED_CPUID);
  }

  /**
   * Lists the Hyper-V CPUID entries that KVM supports for guests.
   *
   * @ioctl KVM_GET_SUPPORTED_HV_CPUID (api.rst 4.118; /dev/kvm; KVM_CAP_SYS_HYPERV_CPUID)
   * @throws {@link KvmError} `EINVAL` or `ENOTTY` if KVM has no Hyper-V support.
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
   * Reads feature MSRs in order, and stops at the first MSR that KVM does not know.
   *
   * @returns the entries that were read.
   * @ioctl KVM_GET_MSRS (api.rst 4.18; /dev/kvm; KVM_CAP_GET_MSR_FEATURES)
   */
  getMsrs(indices: Iterable<number>): readonly MsrEntry[] {
    return getMsrs(this, KVM_GET_MSRS, indices);
  }

  /**
   * Reads an attribute of this KVM. For example, the attribute `KVM_X86_XCOMP_GUEST_SUPP` of the group
   * `KVM_X86_GRP_SYSTEM` (0) has the XSAVE components that guests may use.
   *
   * @param length - the attribute's size in bytes; from 65536, KVM_HAS_DEVICE_ATTR is called first.
   * @ioctl KVM_GET_DEVICE_ATTR (api.rst 4.80; /dev/kvm; KVM_CAP_SYS_ATTRIBUTES)
   * @throws {@link KvmError} `ENXIO`: the attribute does not exist.
   */
  getDeviceAttr(attribute: DeviceAttrInput, length = 8): Uint8Array {
    return getDeviceAttr(this, attribute, length);
  }

  /**
   * Checks that this KVM has an attribute, and throws if it does not.
   *
   * @ioctl KVM_HAS_DEVICE_ATTR (api.rst 4.81; /dev/kvm; KVM_CAP_SYS_ATTRIBUTES)
   * @throws {@link KvmError} `ENXIO`: the attribute does not exist.
   */
  hasDeviceAttr(attribute: DeviceAttrInput): void {
    hasDeviceAttr(this, attribute);
  }

  /**
   * Creates a virtual machine without memory and vCPUs.
   *
   * @param type - `KVM_X86_DEFAULT_VM` (0) or another `KVM_X86_*_VM`.
   * @ioctl KVM_CREATE_VM (api.rst 4.2; /dev/kvm)
   */
  createVm(type = 0): Vm {
    return new Vm(this.openFd(KVM_CREATE_VM, type, { args: { type } }), this);
  }

  /** Returns the evidence that this KVM can provide after an error. @internal */
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
        const needed = new DataView(bytes.buffer).getUint32(NMSRS, true);
        // The kernel writes the number of indices into the first field.
        if (!(error instanceof KvmError && error.code === "E2BIG" && needed > nmsrs)) throw error;
        nmsrs = needed;
      }
    }
  }

  static {
    inspectAs(Kvm, (it) => ({ path: it.label, closed: it.closed }));
  }
}
