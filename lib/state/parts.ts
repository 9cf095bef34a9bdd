/**
 * The parts of a saved machine, one row each: the shape of its value, the ioctls that read and write it, and the reason
 * for its position. The order of the rows is the order of restoring. The rows are used by kvm/vcpu-state.ts and
 * kvm/vm-state.ts; the capability of the ioctl determines whether a part exists.
 */
import {
  type CapabilityName,
  KVM_IRQCHIP_IOAPIC,
  KVM_IRQCHIP_PIC_MASTER,
  KVM_IRQCHIP_PIC_SLAVE,
} from "../abi/generated/constants.ts";
import * as ioctls from "../abi/generated/ioctls.ts";
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
  /** The ioctl for kernels without the capability of `get`; without one, the part is absent there. */
  readonly getBefore?: Ioctl;
  /** The newer form of the same part; this one is read if that is absent. */
  readonly insteadOf?: "sregs2";
  /** The errno of `get` if this VM, or this vCPU, was created without the part. */
  readonly absent?: "EINVAL" | "ENXIO" | "EIO";
  /**
   * For bytes: the capability whose value is their maximal number, and the field of the struct with the actual number;
   * without a field it is always the maximum.
   */
  readonly size?: { readonly capability: CapabilityName; readonly field?: "size" };
  /** The part is the `chip` of a `struct kvm_irqchip` with this `chip_id`. */
  readonly chipId?: number;
  /** Fields that are restored with another value than was read. */
  readonly sentAs?: Readonly<Record<string, unknown>>;
  /** The reason for its position in the order. */
  readonly why: string;
  /** The requirement that an error can mean; the end of "the saved tscKhz …". */
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
    why: "KVM checks what follows against it: CR4, EFER (7.0 and later), XCR0, XSS, the APIC base",
    needs: "must be the one that this vCPU ran with, if it has run",
  },
  tscKhz: {
    shape: { kind: "u32", most: MAX_IOCTL_RESULT },
    get: ioctls.KVM_GET_TSC_KHZ,
    set: ioctls.KVM_SET_TSC_KHZ,
    absent: "EIO",
    why: "the TSC is written, and the timers of the local APIC are set, in cycles of this length",
    needs: "needs a CPU that can scale its TSC (KVM_CAP_TSC_CONTROL), or that runs as fast",
  },
  sregs2: {
    shape: struct(structs.Sregs2),
    get: ioctls.KVM_GET_SREGS2,
    set: ioctls.KVM_SET_SREGS2,
    why: "CR0 says what RIP and RFLAGS mean; EFER and CR4 go before MSRs and nested state; the APIC base goes before the local APIC",
    needs: "must have only bits in CR0, CR4, EFER and the APIC base that the CPUID table allows",
  },
  sregs: {
    shape: struct(structs.Sregs),
    get: ioctls.KVM_GET_SREGS,
    set: ioctls.KVM_SET_SREGS,
    insteadOf: "sregs2",
    why: "in the place of sregs2, where a kernel had no KVM_CAP_SREGS2",
    needs: "must have only bits in CR0, CR4, EFER and the APIC base that the CPUID table allows",
  },
  regs: {
    shape: struct(structs.Regs),
    get: ioctls.KVM_GET_REGS,
    set: ioctls.KVM_SET_REGS,
    why: "KVM_SET_REGS drops a pending exception: it goes before vcpuEvents, which has it",
    needs: "is what every vCPU takes",
  },
  debugregs: {
    shape: struct(structs.Debugregs),
    get: ioctls.KVM_GET_DEBUGREGS,
    set: ioctls.KVM_SET_DEBUGREGS,
    why: "nothing depends on it but nested state, which takes DR7 as L2's",
    needs: "must have no bit above 31 in DR6 and DR7",
  },
  xcrs: {
    shape: struct(structs.Xcrs),
    get: ioctls.KVM_GET_XCRS,
    set: ioctls.KVM_SET_XCRS,
    why: "it needs leaf 0xD of the table; with it the CPUID sizes of the XSAVE area are right",
    needs: "must have only XCR0 bits that leaf 0xD of the CPUID table has",
  },
  xsave: {
    shape: { kind: "bytes", least: structs.Xsave.size },
    get: ioctls.KVM_GET_XSAVE2,
    getBefore: ioctls.KVM_GET_XSAVE,
    set: ioctls.KVM_SET_XSAVE,
    size: { capability: "KVM_CAP_XSAVE2" },
    why: "the table decides how large it is; it goes before the MSR XFD, which may switch off a part of it",
    needs: "must hold only components that this host has and gives to guests",
  },
  msrs: {
    shape: list(structs.MsrEntry),
    get: ioctls.KVM_GET_MSRS,
    set: ioctls.KVM_SET_MSRS,
    why: "some need a CPUID bit (XSS) or EFER; the TSC goes before the timers that count with it; VMX's cannot be written once nested state is back",
    needs: "must be MSRs that KVM lets be written",
  },
  lapic: {
    shape: struct(structs.LapicState),
    get: ioctls.KVM_GET_LAPIC,
    set: ioctls.KVM_SET_LAPIC,
    absent: "EINVAL",
    why: "its mode is that of the APIC base; its timer starts at once; the TSC deadline (msrs.ts) follows it",
    needs: "needs the local APIC in the kernel: createIrqchip() before the vCPU",
  },
  vcpuEvents: {
    shape: struct(structs.VcpuEvents),
    get: ioctls.KVM_GET_VCPU_EVENTS,
    set: ioctls.KVM_SET_VCPU_EVENTS,
    why: "after regs, which drops exceptions, and lapic, into which it puts a latched INIT; entering SMM leaves nested mode, so before nestedState",
    needs:
      "must have only flags whose capabilities are switched on (exception payload, triple fault)",
  },
  mpState: {
    shape: { kind: "u32" },
    get: ioctls.KVM_GET_MP_STATE,
    set: ioctls.KVM_SET_MP_STATE,
    why: "KVM_SET_SREGS wakes a boot CPU that stands at the reset vector",
    needs: "needs the local APIC in the kernel, if the vCPU does not run",
  },
  nestedState: {
    shape: { kind: "bytes", least: structs.NestedState.size },
    get: ioctls.KVM_GET_NESTED_STATE,
    set: ioctls.KVM_SET_NESTED_STATE,
    size: { capability: "KVM_CAP_NESTED_STATE", field: "size" },
    why: "it needs EFER.SVME or CR4.VMXE, the MSRs of VMX, and SMM; in guest mode KVM takes the registers that it finds as L2's",
    needs: "must be of this host's vendor (SVM or VMX), and the CPUID table must have it",
  },
};

const { name, size, fields } = structs.IoapicState;

/** The layout of an I/O APIC whose redirection entries are 64 bits instead of a union. */
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
    why: "after the vCPUs, as all of the VM's: an interrupt that is delivered on the way would be lost in a local APIC that is yet to be restored",
  },
  picSlave: {
    ...chip,
    shape: struct(structs.PicState),
    chipId: KVM_IRQCHIP_PIC_SLAVE,
    why: "after its master, whose line it drives",
  },
  ioapic: {
    ...chip,
    shape: struct(ioapicLayout),
    chipId: KVM_IRQCHIP_IOAPIC,
    why: "it delivers what is pending at once, to local APICs that must be there",
  },
  clock: {
    shape: struct(structs.ClockData),
    get: ioctls.KVM_GET_CLOCK,
    set: ioctls.KVM_SET_CLOCK,
    // With KVM_CLOCK_REALTIME the clock would advance by the time since the save, but the TSC would not.
    sentAs: { flags: 0 },
    why: "after the TSCs, which KVM may take as its base, and before the timer",
    needs: "is what every VM takes",
  },
  pit2: {
    shape: struct(structs.PitState2),
    get: ioctls.KVM_GET_PIT2,
    set: ioctls.KVM_SET_PIT2,
    absent: "ENXIO",
    why: "its channels start to count at once, and their interrupts need the controllers",
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
  throw new TypeError(`no part of a state is named ${wanted}`);
}

/** Parts that are read first or last, with the reason; the others are read in between, in any order. */
export const SAVE_ORDER: Readonly<Record<string, { place: "first" | "last"; why: string }>> = {
  mpState: {
    place: "first",
    why: "KVM_GET_MP_STATE takes pending INITs and SIPIs, which changes all other parts",
  },
  vcpuEvents: {
    place: "last",
    why: "KVM_GET_VCPU_EVENTS takes pending NMIs and SMIs, and other reads may leave some",
  },
};

/** The parts of a vCPU, in the order of reading. */
export const VCPU_PARTS_TO_READ: readonly Part[] = [
  ...VCPU_PARTS.filter(({ name }) => SAVE_ORDER[name]?.place === "first"),
  ...VCPU_PARTS.filter(({ name }) => SAVE_ORDER[name] === undefined),
  ...VCPU_PARTS.filter(({ name }) => SAVE_ORDER[name]?.place === "last"),
];

/**
 * The parts of a VM, in the order of reading, before its vCPUs: the path of an interrupt. An interrupt that moves
 * during the save is then found at its next place, and not lost.
 */
export const VM_PARTS_TO_READ: readonly Part[] = [...VM_PARTS].reverse();
