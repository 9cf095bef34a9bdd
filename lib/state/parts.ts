/**
 * The parts of a saved machine. Each row has the shape of the part's value, the ioctls that read and write the part,
 * and the reason for the part's position in the order. The order of the rows is the order of restoring.
 * kvm/state/vcpu-state.ts and kvm/state/vm-state.ts use the rows; the capability of the ioctl determines whether a part
 * exists.
 */
import {
  KVM_IRQCHIP_IOAPIC,
  KVM_IRQCHIP_PIC_MASTER,
  KVM_IRQCHIP_PIC_SLAVE,
} from "../abi/generated/constants.ts";
import * as ioctls from "../abi/generated/ioctls.ts";
import type { CapabilityName } from "../abi/generated/names.ts";
import * as structs from "../abi/generated/structs.ts";
import type { Ioctl } from "../abi/ioctl.ts";
import type { Layout } from "../abi/struct.ts";
import { MAX_IOCTL_RESULT, type Shape, type ShapeOf } from "./shape.ts";
import type { IoapicRegisters, VcpuParts, VmParts } from "./state.ts";

/** The fields of a part, except for its name. */
export interface PartRow<S extends Shape = Shape> {
  readonly shape: S;
  readonly get: Ioctl;
  readonly set: Ioctl;
  /**
   * The ioctl for kernels without the capability of `get`; if there is no such ioctl, the part is absent on these
   * kernels.
   */
  readonly getBefore?: Ioctl;
  /** The newer form of the same part; the older form is read only if the kernel does not have the newer form. */
  readonly insteadOf?: "sregs2";
  /** The errno of `get` if the VM or the vCPU was created without the part. */
  readonly absent?: "EINVAL" | "ENXIO" | "EIO";
  /**
   * For a part whose value is bytes: the capability that returns the maximum number of bytes, and the struct field with
   * the actual number. Without a field, the number of bytes is always the maximum.
   */
  readonly size?: { readonly capability: CapabilityName; readonly field?: "size" };
  /** The `chip_id` of the `struct kvm_irqchip` whose field `chip` is the part. */
  readonly chipId?: number;
  /** Fields that are restored with these values instead of the values that were read. */
  readonly sentAs?: Readonly<Record<string, unknown>>;
  /** The reason for the part's position in the order of restoring. */
  readonly why: string;
  /**
   * The requirement of the part, as the end of a sentence "the saved tscKhz …". If KVM rejects the part, the part may
   * violate this requirement.
   */
  readonly needs: string;
}

/** A part of a vCPU, or of a VM. */
export interface Part extends PartRow {
  readonly name: string;
  readonly fd: "vcpu" | "vm";
}

type Rows<T> = { readonly [K in keyof T]-?: PartRow<ShapeOf<NonNullable<T[K]>>> };

const struct = <T>(layout: Layout<T>) => ({ kind: "struct", layout }) as const;
const list = <T>(element: Layout<T>) => ({ kind: "list", element }) as const;

const vcpuRows: Rows<VcpuParts> = {
  cpuid: {
    shape: list(structs.CpuidEntry2),
    get: ioctls.KVM_GET_CPUID2,
    set: ioctls.KVM_SET_CPUID2,
    why: "KVM checks the later parts against the table: CR4, EFER (7.0 and later), XCR0, XSS, the APIC base",
    needs: "must be the table with which this vCPU has run, if the vCPU has run",
  },
  tscKhz: {
    shape: { kind: "u32", most: MAX_IOCTL_RESULT },
    get: ioctls.KVM_GET_TSC_KHZ,
    set: ioctls.KVM_SET_TSC_KHZ,
    absent: "EIO",
    why: "the TSC and the timers of the local APIC, which are restored later, count at this frequency",
    needs:
      "needs a CPU that can scale its TSC (KVM_CAP_TSC_CONTROL), or whose TSC has the same frequency",
  },
  sregs2: {
    shape: struct(structs.Sregs2),
    get: ioctls.KVM_GET_SREGS2,
    set: ioctls.KVM_SET_SREGS2,
    why: "later parts depend on these registers: RIP and RFLAGS on CR0, MSRs and nested state on EFER and CR4, the local APIC on the APIC base",
    needs: "must have only bits in CR0, CR4, EFER and the APIC base that the CPUID table allows",
  },
  sregs: {
    shape: struct(structs.Sregs),
    get: ioctls.KVM_GET_SREGS,
    set: ioctls.KVM_SET_SREGS,
    insteadOf: "sregs2",
    why: "sregs replaces sregs2 in a state that was saved on a kernel without KVM_CAP_SREGS2",
    needs: "must have only bits in CR0, CR4, EFER and the APIC base that the CPUID table allows",
  },
  regs: {
    shape: struct(structs.Regs),
    get: ioctls.KVM_GET_REGS,
    set: ioctls.KVM_SET_REGS,
    why: "KVM_SET_REGS drops a pending exception; vcpuEvents contains this exception, so vcpuEvents must come later",
    needs: "is accepted by every vCPU",
  },
  debugregs: {
    shape: struct(structs.Debugregs),
    get: ioctls.KVM_GET_DEBUGREGS,
    set: ioctls.KVM_SET_DEBUGREGS,
    why: "only nested state depends on the debug registers: in guest mode, KVM uses DR7 as the DR7 of L2",
    needs: "must have no bit above 31 in DR6 and DR7",
  },
  xcrs: {
    shape: struct(structs.Xcrs),
    get: ioctls.KVM_GET_XCRS,
    set: ioctls.KVM_SET_XCRS,
    why: "KVM checks XCR0 against leaf 0xD of the table, and computes the XSAVE sizes in CPUID from XCR0",
    needs: "must have only XCR0 bits that leaf 0xD of the CPUID table has",
  },
  xsave: {
    shape: { kind: "bytes", least: structs.Xsave.size },
    get: ioctls.KVM_GET_XSAVE2,
    getBefore: ioctls.KVM_GET_XSAVE,
    set: ioctls.KVM_SET_XSAVE,
    size: { capability: "KVM_CAP_XSAVE2" },
    why: "the size of the XSAVE area depends on the table; the MSR XFD, which can disable a component, must come later",
    needs: "must contain only components that this host offers to guests",
  },
  msrs: {
    shape: list(structs.MsrEntry),
    get: ioctls.KVM_GET_MSRS,
    set: ioctls.KVM_SET_MSRS,
    why: "some MSRs need a CPUID bit (XSS) or EFER; timers that use the TSC must come later; after nested state, KVM rejects writes of VMX's MSRs",
    needs: "must be MSRs that KVM allows to write",
  },
  lapic: {
    shape: struct(structs.LapicState),
    get: ioctls.KVM_GET_LAPIC,
    set: ioctls.KVM_SET_LAPIC,
    absent: "EINVAL",
    why: "the mode of the local APIC depends on the APIC base, and the APIC's timer starts at once; the TSC deadline (msrs.ts) must come later",
    needs: "needs the local APIC in the kernel: createIrqchip() before the vCPU",
  },
  vcpuEvents: {
    shape: struct(structs.VcpuEvents),
    get: ioctls.KVM_GET_VCPU_EVENTS,
    set: ioctls.KVM_SET_VCPU_EVENTS,
    why: "KVM_SET_REGS would drop the exception, and KVM_SET_VCPU_EVENTS puts a latched INIT into the local APIC; nestedState must come later, because entering SMM leaves nested mode",
    needs: "must have only flags whose capabilities are enabled (exception payload, triple fault)",
  },
  mpState: {
    shape: { kind: "u32" },
    get: ioctls.KVM_GET_MP_STATE,
    set: ioctls.KVM_SET_MP_STATE,
    why: "KVM_SET_SREGS makes a boot CPU at the reset vector runnable, so the MP state must come later",
    needs: "needs the local APIC in the kernel, if the vCPU is not runnable",
  },
  nestedState: {
    shape: { kind: "bytes", least: structs.NestedState.size },
    get: ioctls.KVM_GET_NESTED_STATE,
    set: ioctls.KVM_SET_NESTED_STATE,
    size: { capability: "KVM_CAP_NESTED_STATE", field: "size" },
    why: "nested state needs EFER.SVME or CR4.VMXE, the MSRs of VMX, and SMM; in guest mode, KVM uses the restored registers as the registers of L2",
    needs:
      "must have the format of this host's vendor (SVM or VMX), and the CPUID table must contain that feature",
  },
};

const { name, size, fields } = structs.IoapicState;

/** The layout of an I/O APIC in which each redirection entry is a 64-bit number instead of a union. */
const ioapicLayout: Layout<IoapicRegisters> = {
  name,
  size,
  fields: fields.map((field) =>
    field.name === "redirtbl" ? { ...field, type: { of: "u64", count: 24 } } : field,
  ),
};

const chip = {
  get: ioctls.KVM_GET_IRQCHIP,
  set: ioctls.KVM_SET_IRQCHIP,
  absent: "ENXIO",
  needs: "needs the interrupt controllers in the kernel: createIrqchip() before the vCPUs",
} as const;

const vmRows: Rows<VmParts> = {
  picMaster: {
    ...chip,
    shape: struct(structs.PicState),
    chipId: KVM_IRQCHIP_PIC_MASTER,
    why: "all parts of the VM come after the vCPUs, because restoring a local APIC would discard an interrupt that was already delivered",
  },
  picSlave: {
    ...chip,
    shape: struct(structs.PicState),
    chipId: KVM_IRQCHIP_PIC_SLAVE,
    why: "the slave PIC drives a line of the master PIC, so the master must come first",
  },
  ioapic: {
    ...chip,
    shape: struct(ioapicLayout),
    chipId: KVM_IRQCHIP_IOAPIC,
    why: "the I/O APIC delivers pending interrupts at once, so the local APICs must come first",
  },
  clock: {
    shape: struct(structs.ClockData),
    get: ioctls.KVM_GET_CLOCK,
    set: ioctls.KVM_SET_CLOCK,
    // The flags are 0, because KVM_CLOCK_REALTIME would advance the clock by the time since the save, but not the TSC.
    sentAs: { flags: 0 },
    why: "KVM may compute the clock from the TSCs, so the TSCs must come first; the timer must come later",
    needs: "is accepted by every VM",
  },
  pit2: {
    shape: struct(structs.PitState2),
    get: ioctls.KVM_GET_PIT2,
    set: ioctls.KVM_SET_PIT2,
    absent: "ENXIO",
    why: "the timer's channels start to count at once, and their interrupts need the restored controllers",
    needs: "needs the timer in the kernel: KVM_CREATE_PIT2",
  },
};

const named = (fd: "vcpu" | "vm", rows: Readonly<Record<string, PartRow>>): readonly Part[] =>
  Object.entries(rows).map(([name, row]) => ({ name, fd, ...row }));

/** The parts of a vCPU, in the order of restoring. */
export const VCPU_PARTS: readonly Part[] = named("vcpu", { ...vcpuRows });

/** The parts of a VM, in the order of restoring, after its vCPUs. */
export const VM_PARTS: readonly Part[] = named("vm", { ...vmRows });

/** Finds a part by its name. */
export function partNamed(wanted: keyof VcpuParts | keyof VmParts): Part {
  const found = [...VCPU_PARTS, ...VM_PARTS].find((part) => part.name === wanted);
  if (found !== undefined) return found;
  throw new TypeError(`a state has no part named ${wanted}`);
}

/**
 * The parts that are read before or after all others, with the reason. The order of the other parts does not matter.
 */
export const SAVE_ORDER: Readonly<Record<string, { place: "first" | "last"; why: string }>> = {
  mpState: {
    place: "first",
    why: "KVM_GET_MP_STATE processes pending INITs and SIPIs, which changes all other parts",
  },
  vcpuEvents: {
    place: "last",
    why: "KVM_GET_VCPU_EVENTS processes pending NMIs and SMIs, and reading other parts may make an NMI or SMI pending",
  },
};

/** The parts of a vCPU, in the order of reading. */
export const VCPU_PARTS_TO_READ: readonly Part[] = [
  ...VCPU_PARTS.filter(({ name }) => SAVE_ORDER[name]?.place === "first"),
  ...VCPU_PARTS.filter(({ name }) => SAVE_ORDER[name] === undefined),
  ...VCPU_PARTS.filter(({ name }) => SAVE_ORDER[name]?.place === "last"),
];

/**
 * The parts of a VM in the order of reading. The parts are read before the vCPUs, in the order in which an interrupt
 * passes through them, so that an interrupt that is delivered during the save is not lost.
 */
export const VM_PARTS_TO_READ: readonly Part[] = [...VM_PARTS].reverse();
