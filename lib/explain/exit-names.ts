/**
 * The names of numbers in exits: the hardware's exit codes, KVM's suberrors, exceptions. exit.ts explains an exit with
 * these names.
 */
import { KVM_INTERNAL_ERRORS } from "../abi/generated/names.ts";
import { hex } from "./wording.ts";

/** The vendor module of /dev/kvm. The vendor of the CPU defines the numbers, and the module shows the vendor. */
export type Vendor = "kvm_intel" | "kvm_amd" | "kvm_pvm";

/**
 * AMD's VMEXIT codes (AMD64 Architecture Programmer's Manual Vol. 2, Appendix C), except the codes for control
 * registers.
 */
const SVM: Readonly<Record<number, string>> = {
  96: "INTR",
  97: "NMI",
  98: "SMI",
  99: "INIT",
  100: "VINTR",
  101: "CR0_SEL_WRITE",
  102: "IDTR_READ",
  103: "GDTR_READ",
  104: "LDTR_READ",
  105: "TR_READ",
  106: "IDTR_WRITE",
  107: "GDTR_WRITE",
  108: "LDTR_WRITE",
  109: "TR_WRITE",
  110: "RDTSC",
  111: "RDPMC",
  112: "PUSHF",
  113: "POPF",
  114: "CPUID",
  115: "RSM",
  116: "IRET",
  117: "SWINT",
  118: "INVD",
  119: "PAUSE",
  120: "HLT",
  121: "INVLPG",
  122: "INVLPGA",
  123: "IOIO",
  124: "MSR",
  125: "TASK_SWITCH",
  126: "FERR_FREEZE",
  127: "SHUTDOWN",
  128: "VMRUN",
  129: "VMMCALL",
  130: "VMLOAD",
  131: "VMSAVE",
  132: "STGI",
  133: "CLGI",
  134: "SKINIT",
  135: "RDTSCP",
  136: "ICEBP",
  137: "WBINVD",
  138: "MONITOR",
  139: "MWAIT",
  140: "MWAIT_CONDITIONAL",
  141: "XSETBV",
  142: "RDPRU",
  1024: "NPF (nested page fault)",
  1025: "AVIC_INCOMPLETE_IPI",
  1026: "AVIC_NOACCEL",
};

/** The first of AMD's exit codes for exceptions; the exit code of an exception is this code plus the vector. */
const [SVM_EXCEPTION, SVM_LAST_EXCEPTION] = [0x40, 0x5f];

/** Intel's basic exit reasons (Intel SDM Vol. 3, Appendix C). */
const VMX: Readonly<Record<number, string>> = {
  0: "exception or NMI",
  1: "external interrupt",
  2: "triple fault",
  3: "INIT",
  4: "SIPI",
  7: "interrupt window",
  8: "NMI window",
  9: "task switch",
  10: "CPUID",
  12: "HLT",
  13: "INVD",
  14: "INVLPG",
  15: "RDPMC",
  16: "RDTSC",
  18: "VMCALL",
  28: "control-register access",
  29: "MOV DR",
  30: "I/O instruction",
  31: "RDMSR",
  32: "WRMSR",
  33: "VM-entry failure: invalid guest state",
  34: "VM-entry failure: MSR loading",
  36: "MWAIT",
  37: "monitor trap flag",
  39: "MONITOR",
  40: "PAUSE",
  41: "VM-entry failure: machine check",
  43: "TPR below threshold",
  44: "APIC access",
  45: "virtualized EOI",
  46: "access to GDTR or IDTR",
  47: "access to LDTR or TR",
  48: "EPT violation",
  49: "EPT misconfiguration",
  50: "INVEPT",
  51: "RDTSCP",
  52: "VMX-preemption timer",
  54: "WBINVD",
  55: "XSETBV",
  56: "APIC write",
  58: "INVPCID",
  59: "VMFUNC",
  62: "page-modification log full",
  74: "bus lock",
  75: "notify",
};

/** Intel's VM-instruction errors that a VM entry can end with (Intel SDM Vol. 3, "VM Instruction Error Numbers"). */
const VMX_INSTRUCTION_ERRORS: Readonly<Record<number, string>> = {
  4: "VMLAUNCH with non-clear VMCS",
  5: "VMRESUME with non-launched VMCS",
  7: "VM entry with invalid control fields",
  8: "VM entry with invalid host-state fields",
};

/** The mnemonics of exceptions, by vector (Intel SDM Vol. 3, "Exception and Interrupt Reference"). */
const EXCEPTIONS: Readonly<Record<number, string>> = {
  0: "#DE",
  1: "#DB",
  2: "NMI",
  3: "#BP",
  4: "#OF",
  5: "#BR",
  6: "#UD",
  7: "#NM",
  8: "#DF",
  10: "#TS",
  11: "#NP",
  12: "#SS",
  13: "#GP",
  14: "#PF",
  16: "#MF",
  17: "#AC",
  18: "#MC",
  19: "#XM",
  20: "#VE",
  21: "#CP",
};

/** Formats an exception as its vector and mnemonic: `14 #PF`. */
export function exceptionName(vector: number): string {
  const name = EXCEPTIONS[vector];
  return name === undefined ? `${vector}` : `${vector} ${name}`;
}

/** Returns the name of a suberror of KVM_EXIT_INTERNAL_ERROR; its number if it has no name. */
export function suberrorName(suberror: number): string {
  const found = Object.entries(KVM_INTERNAL_ERRORS).find(([, value]) => value === suberror);
  return found?.[0] ?? `suberror ${suberror}`;
}

const FAILED_ENTRY = 0x8000_0000n;

/** Formats an exit code of the hardware, with its name if the vendor is known: `0x400 NPF (nested page fault)`. */
export function exitCodeName(code: bigint, vendor: Vendor | undefined): string {
  if (vendor === "kvm_amd") return named(code, svmName(code));
  if (vendor === "kvm_intel") return named(code, VMX[Number(code & 0xffffn)]);
  return hex(code);
}

function svmName(code: bigint): string | undefined {
  if (isInvalid(code)) return "VMEXIT_INVALID";
  const number = Number(code);
  if (number >= SVM_EXCEPTION && number <= SVM_LAST_EXCEPTION) {
    return `exception ${exceptionName(number - SVM_EXCEPTION)}`;
  }
  return SVM[number];
}

/**
 * Returns whether a code is AMD's exit code -1, which some kernels write with 32 bits, and other kernels with 64 bits.
 */
function isInvalid(code: bigint): boolean {
  return code === 0xffff_ffffn || code === 0xffff_ffff_ffff_ffffn;
}

/**
 * Names the reason of KVM_EXIT_FAIL_ENTRY. On Intel, the reason is an exit reason with bit 31 set, or a VM-instruction
 * error.
 */
export function entryFailureName(reason: bigint, vendor: Vendor | undefined): string {
  if (vendor !== "kvm_intel" || (reason & FAILED_ENTRY) !== 0n) return exitCodeName(reason, vendor);
  return named(reason, VMX_INSTRUCTION_ERRORS[Number(reason)]);
}

/**
 * Returns whether the entry failed because of the guest's state, and not because of the host's state or the controls.
 */
export function isStateRefused(reason: bigint, vendor: Vendor | undefined): boolean {
  if (vendor === "kvm_amd") return isInvalid(reason);
  return vendor === "kvm_intel" && reason === (FAILED_ENTRY | 33n);
}

function named(code: bigint, name: string | undefined): string {
  return name === undefined ? hex(code) : `${hex(code)} ${name}`;
}
