/** Tests of the reasons of refused vCPU state: extended state, events, debug registers, time, nested guests. */
import { describe, expect, test } from "vitest";
import { Xsave } from "../../../lib/abi/generated/structs.ts";
import { encode } from "../../../lib/abi/struct.ts";
import { CpuidTable } from "../../../lib/cpuid/index.ts";
import type { Evidence } from "../../../lib/explain/index.ts";
import { tableWith, vcpuWithoutTable, vmWith, why } from "./refused.ts";

const bit = (n: number): bigint => 1n << BigInt(n);

/** Creates evidence of a vCPU and of a KVM with these components in leaf 0xD. */
function components(eax: number): Evidence {
  const table = Array.from(
    CpuidTable.from(tableWith()).map((e) =>
      e.function === 0xd && e.index === 0 ? { ...e, eax } : e,
    ),
  );
  return { kvm: { supportedCpuid: () => table }, vcpu: { id: 0, cpuid: () => table } };
}

describe("the reason of a failed KVM_SET_XCRS", () => {
  const set = (value: bigint, evidence = components(0x600e7), more = {}): string | undefined =>
    why("KVM_SET_XCRS EINVAL", { nrXcrs: 1, xcrs: [{ xcr: 0, value }], ...more }, evidence);

  test.each([
    [0n, "XCR0 0x0: bit 0 x87 must be 1"],
    [5n, "XCR0 0x5: bit 2 AVX needs bit 1 SSE"],
    [0x23n, "XCR0 0x23: AVX-512 is incomplete without bits 6 ZMM_Hi256, 7 Hi16_ZMM"],
    [0xe3n, "XCR0 0xe3: bits 5 to 7 (AVX-512) need bit 2 AVX"],
    [0x20007n, "XCR0 0x20007: AMX is incomplete without bit 18 TILEDATA"],
    [
      0x207n,
      "XCR0 0x207: bit 9 PKRU not in this vCPU's CPUID, which has 0x600e7 in 0xd.0:eax and edx",
    ],
    [0x600e7n, undefined],
    [1n, undefined],
  ])("is stated for the XCR0 value %i", (value, reason) => {
    expect(set(value)).toBe(reason);
  });

  test("is stated for one of MPX's two components without the other", () => {
    expect(set(0xfn, components(0x1f))).toBe("XCR0 0xf: MPX is incomplete without bit 4 BNDCSR");
  });

  test("is stated for a vCPU without a CPUID table", () => {
    expect(set(3n, vcpuWithoutTable([]))).toBe(
      "XCR0 0x3: bit 1 SSE not in this vCPU's CPUID, which has no leaf 0xd",
    );
  });

  test("is stated for an XCR0 in the last register of the struct", () => {
    const xcrs = Array.from({ length: 16 }, (_, i) => ({ xcr: i === 15 ? 0 : 1, value: 0n }));
    expect(why("KVM_SET_XCRS EINVAL", { nrXcrs: 16, xcrs })).toBe("XCR0 0x0: bit 0 x87 must be 1");
    expect(why("KVM_SET_XCRS EINVAL", { nrXcrs: 15, xcrs })).toBeUndefined();
  });

  test.each([
    [4n, 1, "bits 1 SSE, 2 AVX", 7n],
    [0x1800n, 3, "bits 11 CET_U, 12 CET_S", 0x1803n],
  ])("names the refused XSAVE components (case %#)", (_, eax, names, value) => {
    expect(set(value, components(eax))).toContain(`: ${names} not in this vCPU's CPUID`);
  });

  test("names the component of AMX that is missing", () => {
    expect(set(0x4_0007n)).toBe("XCR0 0x40007: AMX is incomplete without bit 17 TILECFG");
  });

  test("is stated for too many registers, and for flags", () => {
    expect(set(1n, components(7), { nrXcrs: 17 })).toBe("nrXcrs 17: the struct has room for 16");
    expect(set(1n, components(7), { flags: 1 })).toMatch(/^flags 0x1: bit 0 may not be set/);
  });

  test("is absent for other registers than XCR0, because KVM ignores those registers", () => {
    const xcrs = [{ xcr: 1, value: 0n }];
    expect(why("KVM_SET_XCRS EINVAL", { nrXcrs: 1, xcrs }, components(7))).toBeUndefined();
  });

  test("is stated for a host without XSAVE", () => {
    expect(set(1n, { ...components(7), ...vmWith({ KVM_CAP_XCRS: 0 }) })).toBe(
      "the host has no XSAVE (KVM_CAP_XCRS is 0)",
    );
  });
});

describe("the reason of a failed KVM_SET_XSAVE is stated for", () => {
  /** Returns an XSAVE area in which the given words of the header are set. */
  function area(words: Readonly<Record<number, bigint>>, mxcsr = 0x1f80): Uint8Array {
    const bytes = encode(Xsave, {});
    const view = new DataView(bytes.buffer);
    view.setUint32(24, mxcsr, true);
    for (const [at, word] of Object.entries(words)) view.setBigUint64(Number(at), word, true);
    return bytes;
  }
  const set = (bytes: Uint8Array): string | undefined =>
    why("KVM_SET_XSAVE EINVAL", bytes, components(7));

  test.each([
    [
      "a component that there is not",
      area({ 512: 0x20n }),
      "xstate_bv 0x20: bit 5 opmask may not be set; this KVM's guests have 0x7",
    ],
    [
      "the compacted form",
      area({ 520: bit(63) }),
      "xcomp_bv 0x8000000000000000 must be 0: KVM accepts only the standard form",
    ],
    [
      "a reserved byte",
      area({ 536: 0x100n }),
      "byte 537 of the XSAVE header is reserved, but is not 0",
    ],
    [
      "a bit of MXCSR that there is not",
      area({ 512: 2n }, 0x1_1f80),
      "mxcsr 0x11f80: bit 16 may not be set; x86 has 0x2ffff",
    ],
    [
      "AMD's bit of MXCSR",
      area({ 512: 1n }, 0x2_1f80),
      "either mxcsr 0x21f80: bit 17 MM is reserved on a CPU without misaligned SSE, or another cause",
    ],
    ["an MXCSR that is not looked at", area({ 512: 0n }, 0x1_1f80), undefined],
    ["nothing wrong", area({ 512: 7n }), undefined],
  ])("%s", (_, bytes, reason) => {
    expect(set(bytes)).toBe(reason);
  });

  test("an area of 576 bytes inside a larger buffer", () => {
    const bytes = new Uint8Array(600);
    bytes[8 + 521] = 1;
    expect(set(bytes.subarray(8, 8 + 576))).toBe(
      "xcomp_bv 0x100 must be 0: KVM accepts only the standard form",
    );
    expect(set(bytes.subarray(8, 8 + 575))).toBeUndefined();
  });

  test("x87 state on a KVM that reports no components", () => {
    expect(why("KVM_SET_XSAVE EINVAL", area({ 512: 1n }), components(0))).toMatch(
      /^xstate_bv 0x1: bit 0 x87 may not be set/,
    );
    expect(why("KVM_SET_XSAVE EINVAL", area({ 512: 0x20n }))).toBeUndefined();
    const bare = { kvm: { supportedCpuid: () => [] } };
    expect(why("KVM_SET_XSAVE EINVAL", area({ 512: 0x20n }), bare)).toBeUndefined();
  });

  test("an area of 32-bit words instead of bytes", () => {
    const region = Array.from({ length: 1024 }, (_, i) => (i === 130 ? 1 : 0));
    expect(why("KVM_SET_XSAVE EINVAL", { region }, components(7))).toMatch(
      /^xcomp_bv 0x1 must be 0/,
    );
  });

  test("an area that is shorter than required, or longer than KVM_SET_XSAVE accepts", () => {
    const amx = vmWith({ KVM_CAP_XSAVE2: 11008 });
    expect(why("KVM_SET_XSAVE EFAULT", area({}), amx)).toBe(
      "4096 bytes, but the state has 11008 (KVM_CAP_XSAVE2)",
    );
    expect(why("KVM_GET_XSAVE2 EFAULT", area({}), amx)).toBe(
      "4096 bytes, but the state has 11008 (KVM_CAP_XSAVE2)",
    );
    expect(why("KVM_SET_XSAVE EFAULT", { region: [] }, amx)).toBeUndefined();
    expect(why("KVM_SET_XSAVE EFAULT", area({}))).toBeUndefined();
    expect(why("KVM_GET_XSAVE EINVAL", area({}), amx)).toBe(
      "the state has up to 11008 bytes, but this call returns 4096: KVM_GET_XSAVE2 returns all",
    );
    expect(why("KVM_GET_XSAVE EINVAL", area({}), vmWith({ KVM_CAP_XSAVE2: 4096 }))).toBeUndefined();
  });
});

describe("the reason of a failed KVM_SET_VCPU_EVENTS is stated for", () => {
  const off = vmWith({ KVM_CAP_X86_SMM: 1 }, { enabled: () => new Map() });
  const on = vmWith(
    {},
    {
      enabled: () =>
        new Map([
          ["KVM_CAP_EXCEPTION_PAYLOAD", [1n]],
          ["KVM_CAP_X86_TRIPLE_FAULT_EVENT", [1n]],
        ]),
    },
  );

  test.each([
    ["unknown flags", { flags: 0x40 }, off, "flags 0x40: bit 6 may not be set; Linux 7.2 has 0x3f"],
    [
      "payloads that are off",
      { flags: 0x10 },
      off,
      "flags 0x10 has 0x10, which requires KVM_CAP_EXCEPTION_PAYLOAD to be enabled on the VM",
    ],
    ["payloads that are on", { flags: 0x10 }, on, undefined],
    [
      "triple faults that are off",
      { flags: 0x21 },
      off,
      "flags 0x21 has 0x20, which requires KVM_CAP_X86_TRIPLE_FAULT_EVENT to be enabled on the VM",
    ],
    [
      "an exception 32",
      { exception: { injected: 1, nr: 32 } },
      off,
      "exception.nr 32: exceptions are 0 to 31",
    ],
    [
      "the NMI as an exception",
      { exception: { injected: 1, nr: 2 } },
      off,
      "exception.nr 2 is the NMI, which is not an exception: use nmi.injected or nmi.pending",
    ],
    [
      "a pending exception that is not looked at",
      { exception: { pending: 1, nr: 2 } },
      off,
      undefined,
    ],
    [
      "a pending exception",
      { flags: 0x10, exception: { pending: 1, nr: 40 } },
      on,
      "exception.nr 40: exceptions are 0 to 31",
    ],
    [
      "SMM without SMM",
      { flags: 8, smi: { pending: 1 } },
      vmWith({ KVM_CAP_X86_SMM: 0 }),
      "smi: this VM has no System Management Mode (KVM_CAP_X86_SMM is 0)",
    ],
    [
      "SMM after INIT",
      { flags: 8, smi: { smm: 1 } },
      off,
      "either smi: the vCPU has received INIT (KVM_MP_STATE_INIT_RECEIVED), which SMM would block, or another cause",
    ],
    ["no SMM after INIT", { flags: 8 }, off, undefined],
    ["SMM that is not looked at", { smi: { smm: 1 } }, vmWith({ KVM_CAP_X86_SMM: 0 }), undefined],
    ["payloads without evidence", { flags: 0x10 }, vmWith({}), undefined],
    ["no exception at all", { flags: 0x10, exception: { nr: 40 } }, on, undefined],
    ["the last exception", { exception: { injected: 1, nr: 31 } }, off, undefined],
  ])("%s", (_, events, evidence, reason) => {
    expect(why("KVM_SET_VCPU_EVENTS EINVAL", events, evidence)).toBe(reason);
  });
});

describe("the reason of a failed KVM_SET_MP_STATE is stated for", () => {
  const alone: Evidence = { vcpu: { id: 0, hasLapic: () => false } };
  const whole: Evidence = { vcpu: { id: 0, hasLapic: () => true } };

  test.each([
    [5, alone, "mpState 5 is not a state of x86"],
    [
      3,
      alone,
      "mpState 3 HALTED: this vCPU has no LAPIC in the kernel: KVM_CREATE_IRQCHIP creates them, before the first vCPU",
    ],
    [0, alone, undefined],
    [
      1,
      alone,
      "mpState 1 UNINITIALIZED: this vCPU has no LAPIC in the kernel: KVM_CREATE_IRQCHIP creates them, before the first vCPU",
    ],
    [
      9,
      alone,
      "mpState 9 AP_RESET_HOLD: this vCPU has no LAPIC in the kernel: KVM_CREATE_IRQCHIP creates them, before the first vCPU",
    ],
    [
      4,
      whole,
      "either mpState 4 SIPI_RECEIVED: SMM, a pending SMI or nested virtualisation blocks INIT and SIPI, or another cause",
    ],
    [
      2,
      whole,
      "either mpState 2 INIT_RECEIVED: SMM, a pending SMI or nested virtualisation blocks INIT and SIPI, or another cause",
    ],
    [3, whole, undefined],
  ])("the state %i", (mpState, evidence, reason) => {
    expect(why("KVM_SET_MP_STATE EINVAL", { mpState }, evidence)).toBe(reason);
  });
});

describe("the reason of a failed call about debugging or machine checks is stated for", () => {
  test.each([
    ["KVM_SET_DEBUGREGS EINVAL", { dr7: bit(32) }, "dr7 0x100000000: bits 32-63 are reserved"],
    ["KVM_SET_DEBUGREGS EINVAL", { dr6: bit(40) }, "dr6 0x10000000000: bits 32-63 are reserved"],
    [
      "KVM_SET_DEBUGREGS EINVAL",
      { flags: 1n },
      "flags 0x1: bit 0 may not be set; Linux 7.2 has 0x0",
    ],
    ["KVM_SET_DEBUGREGS EINVAL", { dr6: 0xffff_0ff0n, dr7: 0x400n }, undefined],
    [
      "KVM_SET_GUEST_DEBUG EBUSY",
      { control: 0x40001 },
      "control asks for an exception (KVM_GUESTDBG_INJECT_DB or _BP), and one is pending on the vCPU",
    ],
    [
      "KVM_TPR_ACCESS_REPORTING EINVAL",
      { flags: 1 },
      "flags 0x1: bit 0 may not be set; Linux 7.2 has 0x0",
    ],
    [
      "KVM_X86_SETUP_MCE EINVAL",
      { mcgCap: 33n },
      "mcgCap 0x21 asks for 33 banks, and KVM has 1 to 32 (KVM_CAP_MCE)",
    ],
    [
      "KVM_X86_SETUP_MCE EINVAL",
      { mcgCap: 0x0200_0001n },
      "either mcgCap 0x2000001 has the bits 0x2000000, which this KVM may not support, or another cause",
    ],
    ["KVM_X86_SETUP_MCE EINVAL", { mcgCap: 0xff_0020n }, undefined],
    ["KVM_X86_SET_MCE EINVAL", { status: 1n }, "status 0x1 lacks bit 63 VAL"],
    [
      "KVM_X86_SET_MCE EINVAL",
      { status: bit(63), bank: 40 },
      "either bank 40: KVM_X86_SETUP_MCE gave this vCPU no such bank, or bank 40 does not accept this error",
    ],
  ])("%s with %o", (call, sent, reason) => {
    expect(why(call, sent, vmWith({ KVM_CAP_MCE: 32 }))).toBe(reason);
  });

  test("machine check banks that were passed as bytes", () => {
    const asked = (cap: bigint, most = 32): string | undefined => {
      const bytes = new Uint8Array(BigUint64Array.of(cap).buffer);
      return why("KVM_X86_SETUP_MCE EINVAL", bytes, vmWith({ KVM_CAP_MCE: most }));
    };
    expect(asked(0n)).toMatch(/asks for 0 banks/);
    expect(asked(33n)).toMatch(/^mcgCap 0x21 asks for 33 banks/);
    expect(asked(33n, 0)).toMatch(/^either KVM_X86_SETUP_MCE needs KVM_CAP_MCE/);
    expect(why("KVM_X86_SETUP_MCE EINVAL", { mcgCap: 33n })).toBeUndefined();
    expect(why("KVM_X86_SETUP_MCE EINVAL", { mcgCap: 33 })).toBeUndefined();
  });
});

describe("the reason of a failed call about time is stated for", () => {
  test("KVM_KVMCLOCK_CTRL if the guest has not enabled kvmclock", () => {
    expect(why("KVM_KVMCLOCK_CTRL EINVAL")).toBe(
      "the guest has not enabled kvmclock, by bit 0 of MSR 0x4b564d01 (or 0x12)",
    );
  });

  test.each([
    [
      "vcpu",
      0,
      "1000 kHz is lower than the frequency of the host's TSC, which this host cannot scale (KVM_CAP_TSC_CONTROL is 0)",
    ],
    ["vcpu", 1, "1000 kHz is out of reach of this host's TSC scaling"],
    ["vm", 1, "1000 kHz is higher than the frequencies to which this host can scale its TSC"],
    ["vm", 0, undefined],
  ])("KVM_SET_TSC_KHZ on a %s if TSC scaling is %i", (kind, scaling, reason) => {
    const evidence = vmWith({ KVM_CAP_TSC_CONTROL: scaling });
    expect(why(`KVM_SET_TSC_KHZ EINVAL ${kind}`, 1000, evidence)).toBe(reason);
  });

  test.each([
    [1, 14, "flags 0x1: bit 0 may not be set; KVM_CAP_ADJUST_CLOCK allows 0xe"],
    [1, 1, "flags 0x1: bit 0 may not be set; Linux 7.2 has 0xe"],
    [4, 2, "flags 0x4: bit 2 may not be set; KVM_CAP_ADJUST_CLOCK allows 0x2"],
    [14, 14, undefined],
  ])("KVM_SET_CLOCK with flags %i if KVM supports %i", (flags, allowed, reason) => {
    const evidence = vmWith({ KVM_CAP_ADJUST_CLOCK: allowed });
    expect(why("KVM_SET_CLOCK EINVAL", { flags }, evidence)).toBe(reason);
  });
});

describe("the reason of a failed KVM_SET_NESTED_STATE is stated for", () => {
  const svm = (efer: bigint): Evidence => ({
    ...vmWith({ KVM_CAP_NESTED_STATE: 4224 }),
    kvm: { supportedCpuid: () => tableWith("svm") },
    vcpu: { id: 0, sregs: () => ({ efer }) as never },
  });

  test.each([
    ["a small size", { size: 64 }, svm(0n), "size 64: the header alone has 128 bytes"],
    [
      "unknown flags",
      { size: 128, flags: 0x10 },
      svm(0n),
      "flags 0x10: bit 4 may not be set; Linux 7.2 has 0x10f",
    ],
    [
      "a run without a guest",
      { size: 128, flags: 2 },
      svm(0n),
      "flags 0x2: RUN_PENDING without GUEST_MODE",
    ],
    [
      "the other vendor's format",
      { size: 128, format: 0 },
      svm(0n),
      "format 0: this KVM's is 1 (0 is VMX, 1 is SVM)",
    ],
    [
      "VMX's flags",
      { size: 128, format: 1, flags: 8 },
      svm(0n),
      "flags 0x8: bit 3 may not be set; SVM has 0x103",
    ],
    [
      "SVM that is off",
      { size: 128, format: 1, flags: 0 },
      svm(0n),
      "flags 0x0: with EFER.SVME 0 they must be just KVM_STATE_NESTED_GIF_SET (0x100)",
    ],
    [
      "a guest without its VMCB",
      { size: 128, format: 1, flags: 1 },
      svm(bit(12)),
      "size 128: GUEST_MODE requires a VMCB, 4224 bytes in total",
    ],
    ["nothing wrong", { size: 128, format: 1, flags: 0x100 }, svm(0n), undefined],
    ["a guest with its VMCB", { size: 4224, format: 1, flags: 1 }, svm(bit(12)), undefined],
    ["no guest, and no VMCB", { size: 128, format: 1, flags: 0 }, svm(bit(12)), undefined],
    ["a run of a guest", { size: 4224, format: 1, flags: 3 }, svm(bit(12)), undefined],
    [
      "SVM's format on VMX",
      { size: 128, format: 1, flags: 0 },
      { ...svm(0n), kvm: { supportedCpuid: () => tableWith("vmx") } },
      "format 1: this KVM's is 0 (0 is VMX, 1 is SVM)",
    ],
    [
      "VMX's own flags",
      { size: 128, format: 0, flags: 8 },
      { ...svm(0n), kvm: { supportedCpuid: () => tableWith("vmx") } },
      undefined,
    ],
    [
      "a format without evidence",
      { size: 128, format: 1, flags: 0 },
      { ...svm(0n), kvm: { supportedCpuid: () => tableWith() } },
      undefined,
    ],
    [
      "an EFER that is not known",
      { size: 128, format: 1, flags: 0 },
      { kvm: { supportedCpuid: () => tableWith("svm") } },
      undefined,
    ],
    [
      "no nesting",
      { size: 128 },
      vmWith({ KVM_CAP_NESTED_STATE: 0 }),
      "this KVM has no nested virtualisation (KVM_CAP_NESTED_STATE is 0)",
    ],
  ])("%s", (_, state, evidence, reason) => {
    expect(why("KVM_SET_NESTED_STATE EINVAL", state, evidence)).toBe(reason);
  });

  test("a state that is larger than the buffer of the call", () => {
    expect(why("KVM_GET_NESTED_STATE E2BIG", {}, svm(0n))).toBe(
      "size is less than the size of this vCPU's state; 4224 bytes are always enough",
    );
  });
});
