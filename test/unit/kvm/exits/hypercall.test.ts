/** Tests of exits for hypercalls of the guest: their fields, and the field in which KVM expects the result. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as kvm from "../../../../lib/abi/generated/constants.ts";
import { Run } from "../../../../lib/abi/generated/structs.ts";
import { offsetOf, type StructInput } from "../../../../lib/abi/struct.ts";
import type { Exit } from "../../../../lib/kvm/exits/exit.ts";
import type {
  SnpReqCertsExit,
  TdxGetTdvmcallInfoExit,
} from "../../../../lib/kvm/exits/hypercall.ts";
import { changes, decoded, mapped, wordAt } from "../kvm-run.ts";

const OLD = 0xdead_beef_dead_beefn;
/** The value is TDVMCALL_STATUS_SUBFUNC_UNSUPPORTED, which KVM writes before the exit. */
const UNSUPPORTED = 0x8000_0000_0000_0003n;
const six = [1n, 2n, 3n, 4n, 5n, 6n];

interface Call {
  readonly name: string;
  readonly fields: StructInput<Run>;
  /** The fields of the exit, except for `reply`. */
  readonly says: Readonly<Record<string, unknown>>;
  /** The field for the result, and the value of this field if there is no reply. */
  readonly result: string;
  readonly unanswered: bigint;
}

const calls: readonly Call[] = [
  {
    name: "hypercall",
    fields: {
      exitReason: kvm.KVM_EXIT_HYPERCALL,
      hypercall: { nr: 12n, args: six, ret: OLD, flags: 1n },
    },
    says: { kind: "hypercall", nr: 12n, args: six, flags: 1n },
    result: "hypercall.ret",
    unanswered: 0n,
  },
  {
    name: "hyperv hcall",
    fields: {
      exitReason: kvm.KVM_EXIT_HYPERV,
      hyperv: { type: 2, u: { hcall: { input: 0x5cn, result: OLD, params: [7n, 8n] } } },
    },
    says: { kind: "hyperv", type: "hcall", input: 0x5cn, params: [7n, 8n] },
    result: "hyperv.u.hcall.result",
    unanswered: 0n,
  },
  {
    name: "hyperv syndbg",
    fields: {
      exitReason: kvm.KVM_EXIT_HYPERV,
      hyperv: {
        type: 3,
        u: {
          syndbg: {
            msr: 0x4000_00f1,
            pad2: 9,
            control: 1n,
            status: OLD,
            sendPage: 2n,
            recvPage: 3n,
            pendingPage: 4n,
          },
        },
      },
    },
    says: {
      kind: "hyperv",
      type: "syndbg",
      msr: 0x4000_00f1,
      control: 1n,
      sendPage: 2n,
      recvPage: 3n,
      pendingPage: 4n,
    },
    result: "hyperv.u.syndbg.status",
    unanswered: 0n,
  },
  {
    name: "xen",
    fields: {
      exitReason: kvm.KVM_EXIT_XEN,
      xen: {
        type: 1,
        u: { hcall: { longmode: 1, cpl: 3, input: 29n, result: OLD, params: six } },
      },
    },
    says: { kind: "xen", type: "hcall", longmode: 1, cpl: 3, input: 29n, params: six },
    result: "xen.u.hcall.result",
    unanswered: 0n,
  },
  {
    name: "tdx get_quote",
    fields: {
      exitReason: kvm.KVM_EXIT_TDX,
      tdx: { nr: 0x10002n, getQuote: { ret: UNSUPPORTED, gpa: 0x1000n, size: 0x2000n } },
    },
    says: {
      kind: "tdx",
      type: "get_quote",
      flags: 0n,
      nr: 0x10002n,
      gpa: 0x1000n,
      size: 0x2000n,
    },
    result: "tdx.getQuote.ret",
    unanswered: UNSUPPORTED,
  },
  {
    name: "tdx setup_event_notify",
    fields: {
      exitReason: kvm.KVM_EXIT_TDX,
      tdx: { nr: 0x10004n, setupEventNotify: { ret: UNSUPPORTED, vector: 0x30n } },
    },
    says: { kind: "tdx", type: "setup_event_notify", flags: 0n, nr: 0x10004n, vector: 0x30n },
    result: "tdx.setupEventNotify.ret",
    unanswered: UNSUPPORTED,
  },
  {
    name: "a tdx call of the future",
    fields: {
      exitReason: kvm.KVM_EXIT_TDX,
      tdx: { flags: 4n, nr: 0x10009n, unknown: { ret: UNSUPPORTED, data: [1n, 2n, 3n, 4n, 5n] } },
    },
    says: {
      kind: "tdx",
      type: "unknown",
      flags: 4n,
      nr: 0x10009n,
      data: [1n, 2n, 3n, 4n, 5n],
    },
    result: "tdx.unknown.ret",
    unanswered: UNSUPPORTED,
  },
  {
    name: "snp_req_certs",
    fields: {
      exitReason: kvm.KVM_EXIT_SNP_REQ_CERTS,
      snpReqCerts: { gpa: 0x8000n, npages: 2n, ret: OLD },
    },
    says: { kind: "snp_req_certs", gpa: 0x8000n, npages: 2n },
    result: "snpReqCerts.ret",
    unanswered: 0n,
  },
];

/** The exits with a `reply` function that writes one word. */
type OneResult = Extract<Exit, { reply(word: bigint): void }>;

function made({ fields }: Call): { run: Uint8Array; exit: OneResult } {
  const run = mapped(fields);
  return { run, exit: decoded(run) as OneResult };
}

const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });

describe.each(calls)("the exit of the hypercall $name", (call) => {
  test("is decoded into its values", () => {
    const { reply, ...says } = made(call).exit;
    expect(says).toStrictEqual(call.says);
    expect(reply).toBeTypeOf("function");
  });

  test("returns no data of the previous exit to the guest if there is no reply", () => {
    expect(wordAt(made(call).run, call.result)).toBe(call.unanswered);
  });

  test("writes the result of the reply, and nothing else", () => {
    const at = offsetOf(Run, call.result);
    fc.assert(
      fc.property(u64, (value) => {
        const { run, exit } = made(call);
        const before = run.slice();
        exit.reply(value);
        expect(wordAt(run, call.result)).toBe(value);
        expect(changes(before, run).filter((place) => place < at || place >= at + 8)).toEqual([]);
      }),
      { numRuns: 20 },
    );
  });

  test("rejects a result of more than 64 bits, and then accepts another result", () => {
    const { run, exit } = made(call);
    const value = 2n ** 64n;
    expect(() => exit.reply(value)).toThrow(RangeError);
    expect(wordAt(run, call.result)).toBe(call.unanswered);
    exit.reply(5n);
    expect(wordAt(run, call.result)).toBe(5n);
  });
});

const byName = (name: string): Call => {
  const call = calls.find((one) => one.name === name);
  if (call === undefined) throw new Error(`no call ${name}`);
  return call;
};

describe.each(["hypercall", "xen"])("the hypercall %s, whose result is a signed long,", (name) => {
  test.each([-1n, -38n, -(2n ** 63n)])("accepts the result %d in two's complement", (result) => {
    const { run, exit } = made(byName(name));
    exit.reply(result);
    expect(wordAt(run, byName(name).result)).toBe(2n ** 64n + result);
  });

  test("rejects a result below the minimum of a long", () => {
    const { exit } = made(byName(name));
    expect(() => exit.reply(-(2n ** 63n) - 1n)).toThrow(RangeError);
  });
});

test.each(["hyperv hcall", "hyperv syndbg", "tdx get_quote", "snp_req_certs"])(
  "the hypercall %s, whose result is unsigned, rejects a negative result",
  (name) => {
    const { exit } = made(byName(name));
    expect(() => exit.reply(-1n)).toThrow(RangeError);
  },
);

test("the error about a rejected hypercall result uses the field's name in kvm_run", () => {
  const { exit } = made(byName("hyperv hcall"));
  expect(() => exit.reply(-1n)).toThrow(
    new RangeError("hyperv.u.hcall.result: -1 does not fit 64 bits"),
  );
});

test("the exit of Hyper-V's SynIC is decoded into its values, and accepts no reply", () => {
  const synic = { msr: 0x4000_0080, pad2: 9, control: 1n, evtPage: 0x1001n, msgPage: 0x2001n };
  const run = mapped({ exitReason: kvm.KVM_EXIT_HYPERV, hyperv: { type: 1, u: { synic } } });
  const { pad2, ...says } = synic;
  expect(decoded(run)).toStrictEqual({ kind: "hyperv", type: "synic", ...says });
});

describe("the exit tdx get_tdvmcall_info", () => {
  const asked = (): { run: Uint8Array; exit: TdxGetTdvmcallInfoExit } => {
    const getTdvmcallInfo = { ret: 0n, leaf: 1n, r11: 11n, r12: 12n, r13: 13n, r14: 14n };
    const run = mapped({
      exitReason: kvm.KVM_EXIT_TDX,
      tdx: { flags: 0n, nr: 0x10000n, getTdvmcallInfo },
    });
    return { run, exit: decoded(run) as TdxGetTdvmcallInfoExit };
  };
  const seen = (run: Uint8Array): readonly bigint[] =>
    ["ret", "r11", "r12", "r13", "r14"].map((name) => wordAt(run, `tdx.getTdvmcallInfo.${name}`));

  test("is decoded into its values", () => {
    const { reply, ...says } = asked().exit;
    const call = { kind: "tdx", type: "get_tdvmcall_info", flags: 0n, nr: 0x10000n };
    expect(says).toStrictEqual({ ...call, leaf: 1n });
    expect(reply).toBeTypeOf("function");
  });

  test("keeps KVM's values if there is no reply", () => {
    expect(seen(asked().run)).toEqual([0n, 11n, 12n, 13n, 14n]);
  });

  test("passes the values of the reply to the guest, and keeps KVM's other values", () => {
    const { run, exit } = asked();
    exit.reply({ r11: 1n, r13: 3n });
    expect(seen(run)).toEqual([0n, 1n, 12n, 3n, 14n]);
  });

  test("passes all values of the reply to the guest", () => {
    const { run, exit } = asked();
    exit.reply({ ret: 5n, r11: 6n, r12: 7n, r13: 8n, r14: 9n });
    expect(seen(run)).toEqual([5n, 6n, 7n, 8n, 9n]);
  });

  test("writes nothing if one value does not fit, and then accepts another reply", () => {
    const { run, exit } = asked();
    expect(() => exit.reply({ ret: 1n, r14: 2n ** 64n })).toThrow(
      new RangeError("tdx.getTdvmcallInfo.r14: 18446744073709551616 does not fit 64 bits"),
    );
    expect(seen(run)).toEqual([0n, 11n, 12n, 13n, 14n]);
    exit.reply({ ret: 1n });
    expect(seen(run)).toEqual([1n, 11n, 12n, 13n, 14n]);
  });
});

describe("the reply to the exit snp_req_certs", () => {
  const asked = (): { run: Uint8Array; exit: SnpReqCertsExit } => {
    const { run, exit } = made(byName("snp_req_certs"));
    return { run, exit: exit as SnpReqCertsExit };
  };
  const seen = (run: Uint8Array): readonly bigint[] => [
    wordAt(run, "snpReqCerts.ret"),
    wordAt(run, "snpReqCerts.npages"),
  ];

  test("passes the number of pages that the certificates need", () => {
    const { run, exit } = asked();
    exit.reply(28n, 5n);
    expect(seen(run)).toEqual([28n, 5n]);
  });

  test("keeps the guest's number of pages if the reply has no number", () => {
    const { run, exit } = asked();
    exit.reply(11n);
    expect(seen(run)).toEqual([11n, 2n]);
  });
});
