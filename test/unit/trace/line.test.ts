/** Tests of a step of a trace as a line of text and as a line of JSON. */
import { describe, expect, test } from "vitest";
import * as ioctls from "../../../lib/abi/generated/ioctls.ts";
import { KVM_EXIT_REASONS } from "../../../lib/abi/generated/names.ts";
import { Cpuid2, EnableCap, Regs, Run } from "../../../lib/abi/generated/structs.ts";
import { encode } from "../../../lib/abi/struct.ts";
import { toLine } from "../../../lib/trace/line.ts";
import { toNdjson } from "../../../lib/trace/ndjson.ts";
import type { Step } from "../../../lib/trace/record.ts";
import { traceClose, traceExit } from "../../../lib/trace/sink.ts";
import { ask, make, open, writing } from "./as-recorded.ts";

const ENTRIES = [{ function: 1, eax: 2 }];

/** The calls of one small VM, as the ring of the VM contains them. */
function calls(): readonly Step[] {
  const vm = make(open(), ioctls.KVM_CREATE_VM, 0, "vm");
  const vcpu = make(vm, ioctls.KVM_CREATE_VCPU, 0, "vcpu 0");
  ask(vm, ioctls.KVM_CHECK_EXTENSION, 208, 4096);
  ask(vm, ioctls.KVM_ENABLE_CAP, encode(EnableCap, { cap: 213, args: [16n] }), 0);
  ask(vcpu, ioctls.KVM_SET_CPUID2, encode(Cpuid2, { entries: ENTRIES }), -22);
  ask(vcpu, ioctls.KVM_SET_REGS, encode(Regs, { rip: 0x1000n, rflags: 2n }), 0);
  ask(
    vcpu,
    ioctls.KVM_GET_REGS,
    new Uint8Array(144),
    0,
    writing(Regs, { rip: 0x1002n, rflags: 2n }),
  );
  ask(vm, ioctls.KVM_CREATE_IRQCHIP, undefined, -17);
  // The test makes a request for a vCPU on the VM.
  ask(vm, ioctls.KVM_GET_REGS, new Uint8Array(144), -25);
  const run = new Int32Array(1024);
  run.set([5], 2);
  traceExit(vcpu, run, 0, []);
  run.set([2, 0x0505_0101, 1], 2);
  run.set([0x0505_0101, 1], 8);
  traceExit(vcpu, run, 0, []);
  traceExit(vcpu, run, -4, []);
  traceClose(vcpu);
  return vm.ring.steps();
}

describe("a line of the trace", () => {
  test("has the format of strace, for each request and kind of descriptor", () => {
    expect(calls().map(toLine)).toEqual([
      "KVM_CREATE_VM(/dev/kvm, 0) = vm",
      "KVM_CREATE_VCPU(vm, 0) = vcpu 0",
      "KVM_CHECK_EXTENSION(vm, KVM_CAP_XSAVE2) = 4096",
      "KVM_ENABLE_CAP(vm, cap=KVM_CAP_DISABLE_QUIRKS2, args=[16 0 0 0]) = 0",
      "KVM_SET_CPUID2(vcpu 0, nent=1) = -1 EINVAL",
      "KVM_SET_REGS(vcpu 0, rip=0x1000, rflags=2) = 0",
      "KVM_GET_REGS(vcpu 0) = 0 {rip=0x1002, rflags=2}",
      "KVM_CREATE_IRQCHIP(vm) = -1 EEXIST",
      "KVM_GET_REGS(vm) = -1 ENOTTY",
      "KVM_RUN(vcpu 0) = 0 KVM_EXIT_HLT",
      "KVM_RUN(vcpu 0) = 0 KVM_EXIT_IO io.direction=1, io.size=1, io.port=0x505, io.count=1",
      "KVM_RUN(vcpu 0) = -1 EINTR",
      "close(vcpu 0) = 0",
    ]);
  });
});

describe("a line of the trace for an exit of a confidential guest", () => {
  test.each([
    [
      "KVM_EXIT_TDX",
      { tdx: { nr: 0x10002n, getQuote: { gpa: 0x5000n } } },
      "KVM_RUN(vcpu 0) = 0 KVM_EXIT_TDX tdx.nr=0x10002",
    ],
    [
      "KVM_EXIT_SNP_REQ_CERTS",
      { snpReqCerts: { gpa: 0x5000n, npages: 4n } },
      "KVM_RUN(vcpu 0) = 0 KVM_EXIT_SNP_REQ_CERTS snp_req_certs.gpa=0x5000, snp_req_certs.npages=4",
    ],
  ] as const)("of %s contains the exit's name and fields", (name, fields, line) => {
    const vm = make(open(), ioctls.KVM_CREATE_VM, 0, "vm");
    const vcpu = make(vm, ioctls.KVM_CREATE_VCPU, 0, "vcpu 0");
    const bytes = encode(Run, { exitReason: KVM_EXIT_REASONS[name], ...fields });
    traceExit(vcpu, new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4), 0, []);
    const step = vm.ring.steps().at(-1);
    expect(step && toLine(step)).toBe(line);
  });
});

describe("a line of the trace in JSON", () => {
  test("contains the fields of the struct, and bytes in hexadecimal", () => {
    const parsed = calls().map((step): unknown => JSON.parse(toNdjson(step)));
    expect(parsed[4]).toMatchObject({
      kind: "ioctl",
      fd: { kind: "vcpu", label: "vcpu 0" },
      request: "0x4008ae90",
      name: "KVM_SET_CPUID2",
      argument: { nent: 1, entries: [{ function: 1, eax: 2 }] },
      result: -22,
      errno: "EINVAL",
      text: "KVM_SET_CPUID2(vcpu 0, nent=1) = -1 EINVAL",
    });
    expect(parsed[5]).toMatchObject({
      argument: { rip: "4096" },
      before: expect.stringMatching(/^0+/),
    });
    expect(parsed[6]).toMatchObject({ answer: { rip: "4098", rflags: "2" } });
    expect(parsed[10]).toMatchObject({ kind: "run", exit_reason: "KVM_EXIT_IO" });
  });

  test("is a single line, and does not contain the ring", () => {
    for (const step of calls()) expect(toNdjson(step)).not.toMatch(/\n|"ring"/);
  });
});
