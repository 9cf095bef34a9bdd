/** The operations of the life-cycle model on a vCPU or its VM, and the answers that the model predicts. */
import type { CpuidEntry2 } from "../../cpuid/entry.ts";

/** The bits of CR4 that KVM copies into a CPUID table. */
export type Cr4BitName = "osxsave" | "pke";

/**
 * One operation on the vCPU with the number `vcpu`, or on its VM. An operation without a value toggles a bit, so that
 * each list of operations is valid without its first operations.
 */
export type LifecycleOperation =
  | {
      /** KVM_SET_CPUID2. KVM_SET_CPUID sends only the functions and the registers of the entries. */
      readonly call: "setCpuid2" | "setCpuid";
      readonly vcpu: number;
      readonly entries: readonly CpuidEntry2[];
    }
  | {
      /** KVM_GET_CPUID2 with room for this number of entries. */
      readonly call: "getCpuid2";
      readonly vcpu: number;
      readonly room: number;
    }
  | {
      /**
       * KVM_RUN. `io`: the guest executes OUT. `internalError`: the guest fetches its first instruction from an address
       * without memory. `tripleFault`: a triple fault is pending before the call. `immediateExit`: immediate_exit is 1.
       */
      readonly call: "run";
      readonly vcpu: number;
      readonly how: "io" | "internalError" | "tripleFault" | "immediateExit";
    }
  | {
      /** The guest executes CPUID. */
      readonly call: "guestCpuid";
      readonly vcpu: number;
      readonly function: number;
      readonly index: number;
    }
  | {
      /**
       * Toggles a bit of CR4. `syncRegs`: KVM_RUN with the special registers in kvm_run (KVM_CAP_SYNC_REGS) and
       * immediate_exit, so that the guest does not run.
       */
      readonly call: "cr4";
      readonly vcpu: number;
      readonly by: "sregs" | "sregs2" | "syncRegs" | "guest";
      readonly bit: Cr4BitName;
    }
  | {
      /** KVM_SET_XCRS with this value of XCR0. */
      readonly call: "xcr0";
      readonly vcpu: number;
      readonly value: bigint;
    }
  | {
      /** Toggles the enable bit of IA32_APIC_BASE. */
      readonly call: "apicBase";
      readonly vcpu: number;
      readonly by: "sregs" | "sregs2" | "syncRegs" | "msrs" | "guest";
    }
  | {
      /** Toggles the MWAIT bit (18) of IA32_MISC_ENABLE. */
      readonly call: "miscEnable";
      readonly vcpu: number;
      readonly by: "msrs" | "guest";
    }
  | {
      /** KVM_SET_MSRS with this value of IA32_XSS. */
      readonly call: "xss";
      readonly vcpu: number;
      readonly value: bigint;
    }
  | {
      /** KVM_CAP_X86_DISABLE_EXITS with KVM_X86_DISABLE_EXITS_HLT, after the vCPUs were created. */
      readonly call: "disableHltExits";
    }
  | {
      /** KVM_CAP_DISABLE_QUIRKS2 with KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT, after the vCPUs were created. */
      readonly call: "disableMwaitQuirk";
    };

/** The name of an operation's call. */
export type LifecycleCall = LifecycleOperation["call"];

/** The answer of KVM to an operation. */
export type LifecycleAnswer =
  /** The result of an ioctl: `ok`, or the name of its errno. */
  | { readonly kind: "result"; readonly result: string }
  /** The number of MSRs that KVM_SET_MSRS wrote. */
  | { readonly kind: "written"; readonly count: number }
  /**
   * The end of a run: `io`, `internalError`, `shutdown`, `EINTR`, or `#GP` if the guest's instruction caused the
   * exception.
   */
  | { readonly kind: "exit"; readonly exit: string }
  /** EAX, EBX, ECX and EDX after the guest's CPUID. */
  | { readonly kind: "registers"; readonly registers: readonly number[] }
  /** The table of KVM_GET_CPUID2, and the nent that the call returned. */
  | { readonly kind: "table"; readonly nent: number; readonly entries: readonly CpuidEntry2[] };

/** The prediction that an ioctl succeeds. */
export const OK: LifecycleAnswer = { kind: "result", result: "ok" };

/** Makes the prediction that an ioctl fails with an errno, or ends with another result. */
export const result = (name: string): LifecycleAnswer => ({ kind: "result", result: name });

/** Makes the prediction that a run ends with this exit. */
export const exit = (name: string): LifecycleAnswer => ({ kind: "exit", exit: name });

const sameWords = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((word, i) => word === b[i]);

/** Compares two entries with all their members, including the padding. */
function isIdentical(a: CpuidEntry2 | undefined, b: CpuidEntry2 | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    a === b ||
    (a.function === b.function &&
      a.index === b.index &&
      a.flags === b.flags &&
      a.eax === b.eax &&
      a.ebx === b.ebx &&
      a.ecx === b.ecx &&
      a.edx === b.edx &&
      sameWords(a.padding, b.padding))
  );
}

/** Whether two answers are equal; the padding of entries is compared too. */
export function sameAnswer(a: LifecycleAnswer, b: LifecycleAnswer): boolean {
  if (a.kind === "table" && b.kind === "table") {
    return (
      a.nent === b.nent &&
      a.entries.length === b.entries.length &&
      a.entries.every((entry, i) => isIdentical(entry, b.entries[i]))
    );
  }
  if (a.kind === "registers" && b.kind === "registers") return sameWords(a.registers, b.registers);
  if (a.kind === "result" && b.kind === "result") return a.result === b.result;
  if (a.kind === "written" && b.kind === "written") return a.count === b.count;
  return a.kind === "exit" && b.kind === "exit" && a.exit === b.exit;
}
