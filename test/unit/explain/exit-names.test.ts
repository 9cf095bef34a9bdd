/** Tests that exits and exceptions have the numbers and names of asm/svm.h, asm/vmx.h and asm/kvm.h in Linux 7.2. */
import { describe, expect, test } from "vitest";
import facts from "../../../gen/facts/exit-codes.json" with { type: "json" };
import abi from "../../../gen/facts/kvm-abi.json" with { type: "json" };
import {
  entryFailureName,
  exceptionName,
  exitCodeName,
  isStateRefused,
  suberrorName,
  type Vendor,
} from "../../../lib/explain/exit-names.ts";

/**
 * Names that this package spells differently from the kernel's header. All other names may differ from the header only
 * in case and spaces.
 */
const IN_WORDS: Readonly<Record<string, string>> = {
  NPF: "NPF (nested page fault)",
  MWAIT_COND: "MWAIT_CONDITIONAL",
  AVIC_UNACCELERATED_ACCESS: "AVIC_NOACCEL",
  EXCEPTION_NMI: "exception or NMI",
  INIT_SIGNAL: "INIT",
  SIPI_SIGNAL: "SIPI",
  CR_ACCESS: "control-register access",
  DR_ACCESS: "MOV DR",
  IO_INSTRUCTION: "I/O instruction",
  MSR_READ: "RDMSR",
  MSR_WRITE: "WRMSR",
  INVALID_STATE: "VM-entry failure: invalid guest state",
  MSR_LOAD_FAIL: "VM-entry failure: MSR loading",
  MWAIT_INSTRUCTION: "MWAIT",
  MONITOR_INSTRUCTION: "MONITOR",
  PAUSE_INSTRUCTION: "PAUSE",
  MCE_DURING_VMENTRY: "VM-entry failure: machine check",
  EOI_INDUCED: "virtualized EOI",
  GDTR_IDTR: "access to GDTR or IDTR",
  LDTR_TR: "access to LDTR or TR",
  EPT_MISCONFIG: "EPT misconfiguration",
  PREEMPTION_TIMER: "VMX-preemption timer",
  PML_FULL: "page-modification log full",
};

/**
 * Exits of the headers that this package names only by number: accesses to registers, nested VMX, and exits that KVM
 * never reports.
 */
const UNNAMED = {
  kvm_amd: /^((READ|WRITE)_[CD]R\d+|\w+_WRITE_TRAP|INVPCID|BUS_LOCK|IDLE_HLT|VMGEXIT)$/,
  kvm_intel:
    /^(OTHER_SMI|VM(CLEAR|LAUNCH|PTRLD|PTRST|READ|RESUME|WRITE|OFF|ON)|INVVPID|RDRAND|RDSEED|ENCLS|XSAVES|XRSTORS|UMWAIT|TPAUSE|SEAMCALL|TDCALL|MSR_\w+_IMM)$/,
} as const;

const plain = (name: string): string => name.replaceAll("_", " ").toLowerCase();

/** Returns the name that this package has for an exit code, or nothing if it has only the number. */
function nameOf(code: number, vendor: Vendor): string | undefined {
  const number = `0x${code.toString(16)}`;
  const text = exitCodeName(BigInt(code), vendor);
  return text === number ? undefined : text.slice(number.length + 1);
}

const { EXCP_BASE, LAST_EXCP, ...SVM } = facts.codes.svm;

describe("the hardware's exit code", () => {
  const NAMED = [
    ...Object.entries(SVM).map(([name, code]) => ["kvm_amd", name, code] as const),
    ...Object.entries(facts.codes.vmx).map(([name, code]) => ["kvm_intel", name, code] as const),
  ].filter(([vendor, name]) => !UNNAMED[vendor].test(name));

  test.each(NAMED)("has the kernel's name: on %s, %s has the code %i", (vendor, name, code) => {
    expect(plain(nameOf(code, vendor) ?? "")).toBe(plain(IN_WORDS[name] ?? name));
  });

  test("is printed as a number if the header has no name for the code", () => {
    const named = (vendor: Vendor): readonly number[] =>
      Array.from({ length: 0x500 }, (_, code) => code).filter(
        (code) => nameOf(code, vendor) !== undefined,
      );
    const listed = (vendor: Vendor): readonly number[] =>
      NAMED.filter((row) => row[0] === vendor).map(([, , code]) => code);
    const exceptions = Array.from({ length: LAST_EXCP - EXCP_BASE + 1 }, (_, i) => EXCP_BASE + i);
    expect(named("kvm_intel")).toEqual(listed("kvm_intel"));
    expect(named("kvm_amd")).toEqual([...exceptions, ...listed("kvm_amd")]);
  });

  test("of an exception on AMD is SVM_EXIT_EXCP_BASE plus the vector, for every vector", () => {
    expect(nameOf(EXCP_BASE, "kvm_amd")).toBe("exception 0 #DE");
    expect(nameOf(LAST_EXCP, "kvm_amd")).toBe("exception 31");
    expect(nameOf(EXCP_BASE - 1, "kvm_amd")).toBeUndefined();
  });
});

describe("an exception's vector", () => {
  const vectors = Object.entries(abi.constants).filter(([name]) => /^[A-Z]{2}_VECTOR$/.test(name));
  const names = new Map(vectors.map(([name, vector]) => [Number(vector), `#${name.slice(0, 2)}`]));
  /**
   * The header has no constant for the NMI; #HV, #VC and #SX occur only in encrypted guests, for which no reason names
   * an exception.
   */
  const nameOfVector = (vector: number): string => {
    const name = vector === 2 ? "NMI" : vector > 21 ? undefined : names.get(vector);
    return name === undefined ? `${vector}` : `${vector} ${name}`;
  };

  test("is printed with the kernel's mnemonic", () => {
    const all = Array.from({ length: 32 }, (_, vector) => vector);
    expect(all.map(exceptionName)).toEqual(all.map(nameOfVector));
  });
});

describe("the hardware's reason of a refused VM entry", () => {
  test.each([
    [4n, "0x4 VMLAUNCH with non-clear VMCS"],
    [5n, "0x5 VMRESUME with non-launched VMCS"],
    [7n, "0x7 VM entry with invalid control fields"],
    [8n, "0x8 VM entry with invalid host-state fields"],
    [9n, "0x9"],
    [0x8000_0022n, "0x80000022 VM-entry failure: MSR loading"],
  ])("has the text of the VM-instruction error on Intel: %i", (reason, text) => {
    expect(entryFailureName(reason, "kvm_intel")).toBe(text);
  });

  test("has no VM-instruction error on other CPUs", () => {
    expect(entryFailureName(7n, "kvm_amd")).toBe("0x7");
    expect(entryFailureName(7n, undefined)).toBe("0x7");
  });

  test.each<[Vendor | undefined, bigint, boolean]>([
    ["kvm_intel", 0x8000_0021n, true],
    ["kvm_intel", 0x8000_0022n, false],
    ["kvm_intel", 33n, false],
    ["kvm_pvm", 0x8000_0021n, false],
    [undefined, 0x8000_0021n, false],
    ["kvm_amd", 0xffff_ffffn, true],
    ["kvm_amd", 0x8000_0021n, false],
    ["kvm_intel", 0xffff_ffffn, false],
  ])("on %s with code %i, is the guest's state: %s", (vendor, reason, isRefused) => {
    expect(isStateRefused(reason, vendor)).toBe(isRefused);
  });
});

test("a suberror of KVM_EXIT_INTERNAL_ERROR is printed with KVM's name, or with its number if KVM has no name for it", () => {
  expect([suberrorName(1), suberrorName(77)]).toEqual([
    "KVM_INTERNAL_ERROR_EMULATION",
    "suberror 77",
  ]);
});
