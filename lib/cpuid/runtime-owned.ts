/**
 * The bits of a CPUID table that KVM sets itself (arch/x86/kvm/cpuid.c, Linux 6.1 to 7.2; observed). All other bits are
 * stored unchanged. lib/oracle lists the differences between kernels; query.ts computes the result of a guest's CPUID
 * instruction.
 */
import type { CpuidRegister } from "./entry.ts";
import type { CpuidFieldName, CpuidSpace } from "./field.ts";

/**
 * Describes bits that KVM writes into a stored table. The table of KVM_GET_CPUID2 may therefore differ from the table
 * of KVM_SET_CPUID2.
 */
export interface RuntimeOwnedBits {
  /** The space of `function`. */
  readonly space: CpuidSpace;
  /** The leaf, relative to the base of `space`. */
  readonly function: number;
  /** The sub-leaf. */
  readonly index: number;
  readonly register: CpuidRegister;
  readonly low: number;
  readonly high: number;
  /** The value that KVM writes. */
  readonly becomes: string;
  /** The field; undefined if no field of the database covers all of the bits. */
  readonly field?: CpuidFieldName;
  /**
   * The kind of the condition. `leaf`: the leaf exists. `quirk`: KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT is disabled.
   * `compacted`: the table has XSAVEC or XSAVES. `hlt`: HLT exits are disabled. `sgx` and `xen`: the table has the
   * leaves of SGX or Xen, and the kernel is one of some versions.
   */
  readonly when: "leaf" | "quirk" | "compacted" | "hlt" | "sgx" | "xen";
  /** The condition as text, with the kernels. */
  readonly condition: string;
}

const SGX_CONDITION = "kernel 6.1 only, if leaf 0x12.1 exists";
const XEN_CONDITION =
  "a Xen signature whose limit reaches base + 3; written at entry to the guest on 6.12 and 6.14, " +
  "only into the guest's CPUID result from 6.17";

/**
 * Lists the bits that KVM sets, each with its condition. A test suite filters this list by the conditions that its VM
 * fulfils.
 */
export const RUNTIME_OWNED: readonly RuntimeOwnedBits[] = [
  {
    space: "native",
    function: 0x1,
    index: 0,
    register: "ecx",
    low: 27,
    high: 27,
    becomes: "CR4.OSXSAVE",
    field: "osxsave",
    when: "leaf",
    condition: "leaf 1 exists; before 6.14 only if the host has XSAVE",
  },
  {
    space: "native",
    function: 0x1,
    index: 0,
    register: "edx",
    low: 9,
    high: 9,
    becomes: "APIC_BASE.EN",
    field: "apic",
    when: "leaf",
    condition: "leaf 1 exists",
  },
  {
    space: "native",
    function: 0x1,
    index: 0,
    register: "ecx",
    low: 3,
    high: 3,
    becomes: "MISC_ENABLE[18]",
    field: "monitor",
    when: "quirk",
    condition: "only with the quirk MISC_ENABLE_NO_MWAIT disabled on the VM",
  },
  {
    space: "native",
    function: 0x7,
    index: 0,
    register: "ecx",
    low: 4,
    high: 4,
    becomes: "CR4.PKE",
    field: "ospke",
    when: "leaf",
    condition: "leaf 0x7.0 exists; before 6.14 only if the host has PKU",
  },
  {
    space: "native",
    function: 0xd,
    index: 0,
    register: "ebx",
    low: 0,
    high: 31,
    becomes: "the XSAVE size for XCR0",
    field: "xsave_sz_xcr0",
    when: "leaf",
    condition: "leaf 0xd.0 exists",
  },
  {
    space: "native",
    function: 0xd,
    index: 1,
    register: "ebx",
    low: 0,
    high: 31,
    becomes: "the compacted XSAVE size for XCR0, on 7.2 also for IA32_XSS",
    field: "xsave_sz_xcr0_xss",
    when: "compacted",
    condition: "0xd.1:eax has xsavec or xsaves in the guest's table",
  },
  {
    space: "kvm",
    function: 0x1,
    index: 0,
    register: "eax",
    low: 7,
    high: 7,
    becomes: "0",
    field: "kvm_pv_unhalt",
    when: "hlt",
    condition: "a KVM signature exists and HLT exits are disabled on the VM",
  },
  {
    space: "native",
    function: 0x12,
    index: 1,
    register: "ecx",
    low: 0,
    high: 31,
    becomes: "itself, masked with the guest's supported XCR0, with bits 0 and 1 set",
    when: "sgx",
    condition: SGX_CONDITION,
  },
  {
    space: "native",
    function: 0x12,
    index: 1,
    register: "edx",
    low: 0,
    high: 31,
    becomes: "itself, masked with the guest's supported XCR0",
    when: "sgx",
    condition: SGX_CONDITION,
  },
  {
    space: "xen",
    function: 0x3,
    index: 1,
    register: "ecx",
    low: 0,
    high: 31,
    becomes: "the multiplier from TSC to nanoseconds",
    field: "xen_vtsc_mul",
    when: "xen",
    condition: XEN_CONDITION,
  },
  {
    space: "xen",
    function: 0x3,
    index: 1,
    register: "edx",
    low: 0,
    high: 31,
    becomes: "the shift from TSC to nanoseconds",
    field: "xen_vtsc_shift",
    when: "xen",
    condition: XEN_CONDITION,
  },
  {
    space: "xen",
    function: 0x3,
    index: 2,
    register: "eax",
    low: 0,
    high: 31,
    becomes: "the TSC frequency in kHz",
    field: "xen_host_tsc_khz",
    when: "xen",
    condition: XEN_CONDITION,
  },
];
