/** Tests of replies: every exit that needs a reply accepts one reply, and only before the vCPU runs again. */
import { describe, expect, test } from "vitest";
import * as kvm from "../../../../lib/abi/generated/constants.ts";
import type { Run } from "../../../../lib/abi/generated/structs.ts";
import type { StructInput } from "../../../../lib/abi/struct.ts";
import { StateError } from "../../../../lib/errors.ts";
import type { Exit } from "../../../../lib/kvm/exits/exit.ts";
import { decodeExit } from "../../../../lib/kvm/exits/exit.ts";
import type { ExitSource } from "../../../../lib/kvm/exits/source.ts";
import { changes, mapped, sourceOf } from "../kvm-run.ts";

/** A reply function of an exit, with the function's arguments. */
type Answers = Readonly<Record<string, readonly unknown[]>>;

const answerable: readonly (readonly [string, StructInput<Run>, Answers])[] = [
  ["io in", { exitReason: 2, io: { size: 1, count: 1, dataOffset: 4096n } }, { reply: [[1]] }],
  ["mmio read", { exitReason: kvm.KVM_EXIT_MMIO, mmio: { len: 1 } }, { reply: [Uint8Array.of(1)] }],
  ["x86_rdmsr", { exitReason: kvm.KVM_EXIT_X86_RDMSR }, { reply: [1n], fail: [] }],
  ["x86_wrmsr", { exitReason: kvm.KVM_EXIT_X86_WRMSR }, { reply: [], fail: [] }],
  ["hypercall", { exitReason: kvm.KVM_EXIT_HYPERCALL }, { reply: [1n] }],
  ["hyperv hcall", { exitReason: kvm.KVM_EXIT_HYPERV, hyperv: { type: 2 } }, { reply: [1n] }],
  ["hyperv syndbg", { exitReason: kvm.KVM_EXIT_HYPERV, hyperv: { type: 3 } }, { reply: [1n] }],
  ["xen", { exitReason: kvm.KVM_EXIT_XEN, xen: { type: 1 } }, { reply: [1n] }],
  ["tdx get_quote", { exitReason: kvm.KVM_EXIT_TDX, tdx: { nr: 0x10002n } }, { reply: [1n] }],
  [
    "tdx get_tdvmcall_info",
    { exitReason: kvm.KVM_EXIT_TDX, tdx: { nr: 0x10000n } },
    { reply: [{ ret: 1n }] },
  ],
  ["snp_req_certs", { exitReason: kvm.KVM_EXIT_SNP_REQ_CERTS }, { reply: [1n] }],
];

/** Each exit with each ordered pair of its reply functions, as `[name, fields, first, second]`. */
const pairs = answerable.flatMap(([name, fields, answers]) =>
  Object.keys(answers).flatMap((first) =>
    Object.keys(answers).map((second) => ({ name, fields, answers, first, second })),
  ),
);

function made(fields: StructInput<Run>): { run: Uint8Array; source: ExitSource; exit: Exit } {
  const run = mapped(fields);
  const source = sourceOf(run);
  return { run, source, exit: decodeExit(source) };
}

function call(exit: Exit, name: string, answers: Answers): void {
  const members = exit as unknown as Readonly<Record<string, (...args: unknown[]) => void>>;
  members[name]?.(...(answers[name] ?? []));
}

const late = new StateError("ERR_ANSWERED", "vcpu 0");

describe.each(pairs)("the exit $name accepts one reply:", ({ fields, answers, first, second }) => {
  test(`${second} is rejected after ${first}`, () => {
    const { run, exit } = made(fields);
    call(exit, first, answers);
    const after = run.slice();
    expect(() => call(exit, second, answers)).toThrow(late);
    expect(changes(after, run)).toEqual([]);
  });
});

describe.each(answerable)("the exit %s", (_, fields, answers) => {
  test.each(Object.keys(answers))("rejects %s after its vCPU has run again", (name) => {
    const { run, source, exit } = made(fields);
    source.expire();
    const before = run.slice();
    expect(() => call(exit, name, answers)).toThrow(late);
    expect(changes(before, run)).toEqual([]);
  });

  test.each(Object.keys(answers))(
    "rejects %s after a reply and another run of the vCPU",
    (name) => {
      const { source, exit } = made(fields);
      call(exit, name, answers);
      source.expire();
      const next = decodeExit(source);
      expect(() => call(exit, name, answers)).toThrow(late);
      expect(() => call(next, name, answers)).not.toThrow();
    },
  );

  test.each(Object.keys(answers))("rejects %s after its vCPU was closed", (name) => {
    const { run, exit } = made(fields);
    structuredClone(run.buffer, { transfer: [run.buffer as ArrayBuffer] });
    expect(() => call(exit, name, answers)).toThrow(late);
  });
});
