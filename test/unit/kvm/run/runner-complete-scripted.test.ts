/**
 * Tests of completeExit() with a vCPU whose KVM_RUN is scripted: the calls of KVM_RUN, and the handling of their
 * results.
 */
import { describe, expect, test } from "vitest";
import * as kvm from "../../../../lib/abi/generated/constants.ts";
import { Run } from "../../../../lib/abi/generated/structs.ts";
import { offsetOf, type StructInput, write } from "../../../../lib/abi/struct.ts";
import { KvmError, StateError } from "../../../../lib/errors.ts";
import type { IoInExit, MmioReadExit } from "../../../../lib/kvm/exits/access.ts";
import type { Exit } from "../../../../lib/kvm/exits/exit.ts";
import { RunGate } from "../../../../lib/kvm/run/run-gate.ts";
import { Vcpu } from "../../../../lib/kvm/vcpu.ts";
import type { Vm } from "../../../../lib/kvm/vm.ts";
import type { NativeFd } from "../../../../lib/native.ts";
import { MAPPED } from "../kvm-run.ts";

const IMMEDIATE_EXIT = offsetOf(Run, "immediateExit");
const [EINTR, EFAULT, EINVAL] = [4, 14, 22];

/** One call of KVM_RUN: the fields that it writes, and its return value 0 or `-errno`. */
interface Step {
  readonly fields?: StructInput<Run>;
  readonly errno?: number;
}

/** Creates a vCPU with scripted runs, and records the contents of kvm_run at each run. */
function scripted(...steps: readonly Step[]): { vcpu: Vcpu; found: Uint8Array[] } {
  const bytes = new Uint8Array(MAPPED);
  const found: Uint8Array[] = [];
  const run = (): number => {
    const step = steps[found.length];
    if (step === undefined) throw new Error("a run too many");
    found.push(bytes.slice());
    write(Run, step.fields ?? {}, bytes);
    return -(step.errno ?? 0);
  };
  const fd: Partial<NativeFd> = {
    mapRun: () => ({
      bytes: bytes.buffer,
      token: 0n,
      run,
      start: () => 0,
      kick: () => 0,
      history: () => 0,
      setFilter: () => 0,
    }),
    close: () => undefined,
  };
  return { vcpu: new Vcpu(fd as NativeFd, 0, { gate: new RunGate() } as Vm), found };
}

const interrupted: Step = { errno: EINTR };
const portRead: Step = {
  fields: {
    exitReason: kvm.KVM_EXIT_IO,
    io: { direction: kvm.KVM_EXIT_IO_IN, size: 1, count: 1, port: 0x60, dataOffset: 4096n },
  },
};
const read: Step = {
  fields: { exitReason: kvm.KVM_EXIT_MMIO, mmio: { physAddr: 0xd000_0000n, len: 1, isWrite: 0 } },
};
const written: Step = {
  fields: {
    exitReason: kvm.KVM_EXIT_MMIO,
    mmio: { physAddr: 0xd000_0008n, data: Uint8Array.of(7), len: 1, isWrite: 1 },
  },
};

describe("completeExit()", () => {
  test("calls KVM_RUN once, with immediate_exit set, if KVM_RUN returns EINTR", () => {
    const { vcpu, found } = scripted(interrupted);
    vcpu.completeExit();
    expect(found.map((run) => run[IMMEDIATE_EXIT])).toEqual([1]);
  });

  test.each([false, true])(
    "leaves immediateExit %s if the caller had set it to this value",
    (before) => {
      const { vcpu } = scripted(interrupted);
      vcpu.immediateExit = before;
      vcpu.completeExit();
      expect(vcpu.immediateExit).toBe(before);
    },
  );

  test("passes the current reply to KVM, but not a later reply", () => {
    const { vcpu, found } = scripted(portRead, interrupted);
    const exit = vcpu.runSync() as IoInExit;
    exit.reply([0x5a]);
    vcpu.completeExit();
    expect(found[1]?.[4096]).toBe(0x5a);
    expect(() => exit.reply([1])).toThrow(new StateError("ERR_ANSWERED", "vcpu 0"));
  });

  test("makes later replies to an unanswered exit fail", () => {
    const { vcpu } = scripted(portRead, interrupted);
    const exit = vcpu.runSync() as IoInExit;
    vcpu.completeExit();
    expect(() => exit.reply([1])).toThrow(new StateError("ERR_ANSWERED", "vcpu 0"));
  });

  test("calls the reply function for every further exit of the instruction, in order", () => {
    const { vcpu, found } = scripted(read, read, written, interrupted);
    (vcpu.runSync() as MmioReadExit).reply(Uint8Array.of(1));
    const seen: Exit[] = [];
    vcpu.completeExit((exit) => {
      seen.push(exit);
      if ("reply" in exit) (exit as MmioReadExit).reply(Uint8Array.of(2));
    });
    expect(seen).toMatchObject([{ isWrite: false }, { isWrite: true, data: Uint8Array.of(7) }]);
    expect(found.map((run) => run[offsetOf(Run, "mmio.data")])).toEqual([0, 1, 2, 7]);
    expect(found.map((run) => run[IMMEDIATE_EXIT])).toEqual([0, 1, 1, 1]);
  });

  test("restores the caller's immediateExit while the reply function runs", () => {
    const { vcpu } = scripted(read, interrupted);
    const seen: boolean[] = [];
    vcpu.completeExit(() => seen.push(vcpu.immediateExit));
    expect(seen).toEqual([false]);
  });

  test("throws ERR_UNANSWERED if a further exit needs a reply and no function was passed", () => {
    const { vcpu } = scripted(read, written, interrupted);
    vcpu.runSync();
    expect(() => vcpu.completeExit()).toThrow(new StateError("ERR_UNANSWERED", "vcpu 0: mmio"));
    expect(vcpu.immediateExit).toBe(false);
    expect(() => vcpu.completeExit()).not.toThrow();
  });

  test("calls the reply function for a memory fault with an errno, as for any exit", () => {
    const fault = { exitReason: kvm.KVM_EXIT_MEMORY_FAULT, memoryFault: { gpa: 0x1000n } };
    const { vcpu } = scripted({ fields: fault, errno: EFAULT }, interrupted);
    const seen: Exit[] = [];
    vcpu.completeExit((exit) => seen.push(exit));
    expect(seen).toMatchObject([{ kind: "memory_fault", gpa: 0x1000n }]);
  });

  test("throws any other errno of KVM_RUN, and leaves immediateExit unchanged", () => {
    const { vcpu } = scripted({ errno: EINVAL });
    expect(() => vcpu.completeExit()).toThrow(
      new KvmError({ call: "KVM_RUN", object: "vcpu 0", errno: EINVAL }),
    );
    expect(vcpu.immediateExit).toBe(false);
  });

  test("rethrows the error of the reply function", () => {
    const { vcpu } = scripted(written);
    const own = new Error("no such device");
    const refuse = (): void => {
      throw own;
    };
    expect(() => vcpu.completeExit(refuse)).toThrow(own);
    expect(vcpu.immediateExit).toBe(false);
  });

  test("ends if the reply function closes the vCPU", () => {
    const { vcpu } = scripted(written);
    expect(() => vcpu.completeExit(() => vcpu.close())).toThrow(
      new StateError("ERR_CLOSED", "vcpu 0"),
    );
  });
});
