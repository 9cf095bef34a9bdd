/** Tests of exits: each exit reason of x86 is decoded into values, and every other reason becomes an "unknown" exit. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as kvm from "../../../../lib/abi/generated/constants.ts";
import { type ExitReasonName, KVM_EXIT_REASONS } from "../../../../lib/abi/generated/names.ts";
import type { Run } from "../../../../lib/abi/generated/structs.ts";
import type { StructInput } from "../../../../lib/abi/struct.ts";
import type { Exit } from "../../../../lib/kvm/exits/exit.ts";
import { decodeExit, isExitWithErrno } from "../../../../lib/kvm/exits/exit.ts";
import { changes, decode, decoded, mapped, sourceOf, UNION } from "../kvm-run.ts";

/**
 * The 27 exit reasons of x86 in Linux 7.2; nmi, which only the headers define; and the kinds that this package defines.
 */
const KINDS: Readonly<Record<Exit["kind"], ExitReasonName | undefined>> = {
  hw: "KVM_EXIT_UNKNOWN",
  exception: "KVM_EXIT_EXCEPTION",
  io: "KVM_EXIT_IO",
  hypercall: "KVM_EXIT_HYPERCALL",
  debug: "KVM_EXIT_DEBUG",
  hlt: "KVM_EXIT_HLT",
  mmio: "KVM_EXIT_MMIO",
  irq_window_open: "KVM_EXIT_IRQ_WINDOW_OPEN",
  shutdown: "KVM_EXIT_SHUTDOWN",
  fail_entry: "KVM_EXIT_FAIL_ENTRY",
  intr: "KVM_EXIT_INTR",
  set_tpr: "KVM_EXIT_SET_TPR",
  tpr_access: "KVM_EXIT_TPR_ACCESS",
  nmi: "KVM_EXIT_NMI",
  internal_error: "KVM_EXIT_INTERNAL_ERROR",
  system_event: "KVM_EXIT_SYSTEM_EVENT",
  ioapic_eoi: "KVM_EXIT_IOAPIC_EOI",
  hyperv: "KVM_EXIT_HYPERV",
  x86_rdmsr: "KVM_EXIT_X86_RDMSR",
  x86_wrmsr: "KVM_EXIT_X86_WRMSR",
  dirty_ring_full: "KVM_EXIT_DIRTY_RING_FULL",
  ap_reset_hold: "KVM_EXIT_AP_RESET_HOLD",
  x86_bus_lock: "KVM_EXIT_X86_BUS_LOCK",
  xen: "KVM_EXIT_XEN",
  notify: "KVM_EXIT_NOTIFY",
  memory_fault: "KVM_EXIT_MEMORY_FAULT",
  tdx: "KVM_EXIT_TDX",
  snp_req_certs: "KVM_EXIT_SNP_REQ_CERTS",
  unknown: undefined,
};

/** The additional fields that an exit needs if its kind has several variants or checks. */
const WHOLE: Readonly<Partial<Record<ExitReasonName, StructInput<Run>>>> = {
  KVM_EXIT_IO: { io: { size: 1, dataOffset: 4096n } },
  KVM_EXIT_HYPERV: { hyperv: { type: kvm.KVM_EXIT_HYPERV_SYNIC } },
  KVM_EXIT_XEN: { xen: { type: kvm.KVM_EXIT_XEN_HCALL } },
};

const kindOf = (reason: ExitReasonName): string =>
  decode({ exitReason: KVM_EXIT_REASONS[reason], ...WHOLE[reason] }).kind;

const ofX86 = Object.entries(KINDS).flatMap(([kind, reason]) =>
  reason === undefined ? [] : [[reason, kind] as const],
);
const foreign = (Object.keys(KVM_EXIT_REASONS) as ExitReasonName[]).filter(
  (reason) => !Object.values(KINDS).includes(reason),
);

describe("an exit reason", () => {
  test.each(ofX86)("with number %s has the kind %s", (reason, kind) => {
    expect(kindOf(reason)).toBe(kind);
  });

  test.each(ofX86.filter(([reason]) => reason !== "KVM_EXIT_UNKNOWN"))(
    "%s has the kind with the same name",
    (reason, kind) => {
      expect(reason).toBe(`KVM_EXIT_${kind.toUpperCase()}`);
    },
  );

  test.each(foreign)('%s, which x86 does not have, has the kind "unknown"', (reason) => {
    expect(reason).toMatch(/_(S390|PAPR|ARM|RISCV|LOONGARCH)_|_(DCR|OSI|WATCHDOG|EPR)$/);
    expect(kindOf(reason)).toBe("unknown");
  });

  test("is one of x86's 27 reasons, nmi, or one of the 16 reasons of other architectures", () => {
    expect([ofX86.length, foreign.length]).toEqual([27 + 1, 16]);
  });
});

const data16 = Array.from({ length: 16 }, (_, i) => BigInt(i + 1));

const kinds: readonly (readonly [string, StructInput<Run>, Exit])[] = [
  ["hlt", { exitReason: kvm.KVM_EXIT_HLT }, { kind: "hlt" }],
  ["shutdown", { exitReason: kvm.KVM_EXIT_SHUTDOWN }, { kind: "shutdown" }],
  ["intr", { exitReason: kvm.KVM_EXIT_INTR }, { kind: "intr" }],
  ["irq_window_open", { exitReason: kvm.KVM_EXIT_IRQ_WINDOW_OPEN }, { kind: "irq_window_open" }],
  ["nmi", { exitReason: kvm.KVM_EXIT_NMI }, { kind: "nmi" }],
  ["dirty_ring_full", { exitReason: kvm.KVM_EXIT_DIRTY_RING_FULL }, { kind: "dirty_ring_full" }],
  ["ap_reset_hold", { exitReason: kvm.KVM_EXIT_AP_RESET_HOLD }, { kind: "ap_reset_hold" }],
  ["x86_bus_lock", { exitReason: kvm.KVM_EXIT_X86_BUS_LOCK }, { kind: "x86_bus_lock" }],
  [
    "hw",
    { exitReason: kvm.KVM_EXIT_UNKNOWN, hw: { hardwareExitReason: 0x8000_0000_0000_0001n } },
    { kind: "hw", hardwareExitReason: 0x8000_0000_0000_0001n },
  ],
  [
    "fail_entry",
    {
      exitReason: kvm.KVM_EXIT_FAIL_ENTRY,
      failEntry: { hardwareEntryFailureReason: 0x8000_0021n, cpu: 3 },
    },
    { kind: "fail_entry", hardwareEntryFailureReason: 0x8000_0021n, cpu: 3 },
  ],
  [
    "internal_error",
    {
      exitReason: kvm.KVM_EXIT_INTERNAL_ERROR,
      internal: { suberror: kvm.KVM_INTERNAL_ERROR_SIMUL_EX, ndata: 2, data: data16 },
    },
    { kind: "internal_error", suberror: 2, data: [1n, 2n], emulationFailure: undefined },
  ],
  [
    "exception",
    { exitReason: kvm.KVM_EXIT_EXCEPTION, ex: { exception: 13, errorCode: 0xffff_ffff } },
    { kind: "exception", exception: 13, errorCode: 0xffff_ffff },
  ],
  [
    "debug",
    {
      exitReason: kvm.KVM_EXIT_DEBUG,
      debug: { arch: { exception: 1, pad: 9, pc: 0x1_0000n, dr6: 0xffff_4ff0n, dr7: 0x400n } },
    },
    { kind: "debug", exception: 1, pc: 0x1_0000n, dr6: 0xffff_4ff0n, dr7: 0x400n },
  ],
  ["set_tpr", { exitReason: kvm.KVM_EXIT_SET_TPR, cr8: 3n }, { kind: "set_tpr", cr8: 3n }],
  [
    "tpr_access, a write",
    { exitReason: kvm.KVM_EXIT_TPR_ACCESS, tprAccess: { rip: 0x1234n, isWrite: 1, pad: 9 } },
    { kind: "tpr_access", rip: 0x1234n, isWrite: true },
  ],
  [
    "tpr_access, a read",
    { exitReason: kvm.KVM_EXIT_TPR_ACCESS, tprAccess: { rip: 2n ** 64n - 1n } },
    { kind: "tpr_access", rip: 2n ** 64n - 1n, isWrite: false },
  ],
  [
    "system_event",
    {
      exitReason: kvm.KVM_EXIT_SYSTEM_EVENT,
      systemEvent: { type: kvm.KVM_SYSTEM_EVENT_CRASH, ndata: 1, data: [7n] },
    },
    { kind: "system_event", type: 3, data: [7n] },
  ],
  [
    "ioapic_eoi",
    { exitReason: kvm.KVM_EXIT_IOAPIC_EOI, eoi: { vector: 0xff } },
    { kind: "ioapic_eoi", vector: 0xff },
  ],
  [
    "notify",
    { exitReason: kvm.KVM_EXIT_NOTIFY, notify: { flags: kvm.KVM_NOTIFY_CONTEXT_INVALID } },
    { kind: "notify", flags: 1 },
  ],
  [
    "memory_fault",
    {
      exitReason: kvm.KVM_EXIT_MEMORY_FAULT,
      memoryFault: { flags: 8n, gpa: 0x1000n, size: 0x1000n },
    },
    { kind: "memory_fault", flags: 8n, gpa: 0x1000n, size: 0x1000n },
  ],
];

test.each(kinds)("the exit %s is decoded into its values", (_, fields, exit) => {
  expect(decode(fields)).toStrictEqual(exit);
});

describe("the exit of an instruction that KVM could not emulate", () => {
  const insn = Uint8Array.from({ length: 15 }, (_, i) => 0xf0 + i);
  const failed = (fields: StructInput<Run["emulationFailure"]>): unknown => {
    const emulationFailure = { suberror: 1, flags: 1n, insnSize: 3, insnBytes: insn, ...fields };
    const exit = decode({ exitReason: kvm.KVM_EXIT_INTERNAL_ERROR, emulationFailure });
    return (exit as Extract<Exit, { kind: "internal_error" }>).emulationFailure;
  };

  test("is decoded with the instruction's bytes", () => {
    expect(failed({ ndata: 8 })).toEqual({ flags: 1n, insnBytes: Uint8Array.of(0xf0, 0xf1, 0xf2) });
  });

  test.each([
    ["the flag is not set", { ndata: 3, flags: 0n }, { flags: 0n, insnBytes: undefined }],
    ["only another flag is set", { ndata: 3, flags: 2n }, { flags: 2n, insnBytes: undefined }],
    ["ndata ends before them", { ndata: 2 }, { flags: 1n, insnBytes: undefined }],
  ])("is decoded without the instruction's bytes when %s", (_, fields, told) => {
    expect(failed(fields)).toStrictEqual(told);
  });

  test.each([
    ["ndata is 0", { ndata: 0 }],
    ["the suberror is another", { ndata: 3, suberror: 3 }],
  ])("is not decoded when %s", (_, fields) => {
    expect(failed(fields)).toBeUndefined();
  });

  test("has at most 15 bytes of the instruction", () => {
    expect(failed({ ndata: 3, insnSize: 200 })).toEqual({ flags: 1n, insnBytes: insn });
  });
});

describe("an exit with an unknown reason", () => {
  test.each([13, 44, 0xffff_ffff])("%i has the bytes of kvm_run's union", (reason) => {
    const padding = Uint8Array.from({ length: 256 }, (_, i) => i);
    const run = mapped({ exitReason: reason, padding });
    const exit = decoded(run);
    run.fill(0);
    expect(exit).toEqual({ kind: "unknown", reason, bytes: padding });
  });
});

/** Arbitrary contents of kvm_run for an arbitrary exit reason. */
const anything = fc.record({
  exitReason: fc.oneof(fc.integer({ min: 0, max: 64 }), fc.nat(0xffff_ffff)),
  padding: fc.uint8Array({ minLength: 256, maxLength: 256 }),
  cr8: fc.bigInt({ min: 0n, max: 15n }),
});

/** Returns a value without its functions, so that it can be compared later. */
const withoutReply = (exit: Exit): unknown =>
  structuredClone(
    Object.fromEntries(Object.entries(exit).filter(([, member]) => typeof member !== "function")),
  );

describe("the value of every exit", () => {
  test("does not change when kvm_run changes", () => {
    fc.assert(
      fc.property(anything, fc.nat(255), (fields, byte) => {
        const run = mapped(fields);
        const exit = decoded(run);
        const before = withoutReply(exit);
        run.fill(byte);
        expect(withoutReply(exit)).toEqual(before);
      }),
    );
  });

  test("is created without an error, even if the kernel wrote random bytes", () => {
    fc.assert(
      fc.property(anything, (fields) => {
        expect(Object.keys(KINDS)).toContain(decode(fields).kind);
      }),
    );
  });

  test("is decoded from the page of kvm_run alone, for the largest and the smallest exit reason", () => {
    const exits = [0, 0xffff_ffff].map((exitReason) =>
      decodeExit(sourceOf(mapped({ exitReason }).slice(0, 4096))),
    );
    expect(exits.map(({ kind }) => kind)).toEqual(["hw", "unknown"]);
  });
});

describe("a kvm_run that no correct kernel writes", () => {
  test("is decoded into an internal error of at most 16 words, for any ndata", () => {
    const [internal, systemEvent] = [{ ndata: 17 }, { ndata: 0xffff_ffff }];
    expect(decode({ exitReason: kvm.KVM_EXIT_INTERNAL_ERROR, internal })).toMatchObject({
      data: Array(16).fill(0n),
    });
    expect(decode({ exitReason: kvm.KVM_EXIT_SYSTEM_EVENT, systemEvent })).toMatchObject({
      data: { length: 16 },
    });
  });

  test.each([
    [kvm.KVM_EXIT_HYPERV, { hyperv: { type: 4 } }],
    [kvm.KVM_EXIT_HYPERV, { hyperv: { type: 0 } }],
    [kvm.KVM_EXIT_XEN, { xen: { type: 2 } }],
  ])('with exit reason %i and the fields %j becomes an "unknown" exit', (exitReason, fields) => {
    const run = mapped({ exitReason, ...fields });
    const before = run.slice();
    const bytes = before.slice(UNION, UNION + 256);
    expect(decoded(run)).toEqual({ kind: "unknown", reason: exitReason, bytes });
    expect(changes(before, run)).toEqual([]);
  });
});

describe("the errno of a KVM_RUN that fails but reports an exit", () => {
  const fault = sourceOf(mapped({ exitReason: kvm.KVM_EXIT_MEMORY_FAULT }));

  test.each([14, 133])("may be %i for memory_fault", (errno) => {
    expect(isExitWithErrno(fault, errno)).toBe(true);
  });

  test("is EFAULT or EHWPOISON, and only for memory_fault", () => {
    const io = sourceOf(mapped({ exitReason: kvm.KVM_EXIT_IO }));
    expect([isExitWithErrno(fault, 22), isExitWithErrno(io, 14)]).toEqual([false, false]);
  });
});
