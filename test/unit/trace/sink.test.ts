/** Tests of the receivers of a call: always the VM's ring, and also a recording or the channel if one is active. */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { afterEach, describe, expect, test } from "vitest";
import * as ioctls from "../../../lib/abi/generated/ioctls.ts";
import { Msrs, UserspaceMemoryRegion } from "../../../lib/abi/generated/structs.ts";
import { encode } from "../../../lib/abi/struct.ts";
import { type IoctlStep, type Recording, record, TRACE_CHANNEL } from "../../../lib/trace/index.ts";
import { RING_BYTES } from "../../../lib/trace/ring.ts";
import { traceExit, traceMap, traceRun, traceUnmap } from "../../../lib/trace/sink.ts";
import { ask, make, open } from "./as-recorded.ts";

let recording: Recording | undefined;
afterEach(() => {
  recording?.stop();
  recording = undefined;
});

const names = (steps: readonly { readonly kind: string }[]): readonly string[] =>
  steps.map((step) => ("name" in step ? String(step.name) : step.kind));

class Memory {
  readonly bytes: Uint8Array = new Uint8Array(8192);
  readonly byteLength = 8192;
  read(offset: number, length: number): Uint8Array {
    return this.bytes.slice(offset, offset + length);
  }
}

describe("the ring of recorded calls of a VM", () => {
  test("contains the calls of the VM's vCPUs, but not calls of another VM", () => {
    const kvm = open();
    const [vm, other] = [0, 1].map(() => make(kvm, ioctls.KVM_CREATE_VM, 0, "vm"));
    const vcpu = vm && make(vm, ioctls.KVM_CREATE_VCPU, 0, "vcpu 0");
    if (vcpu) ask(vcpu, ioctls.KVM_GET_REGS, new Uint8Array(144), 0);
    expect(names(vm?.ring.steps() ?? [])).toEqual([
      "KVM_CREATE_VM",
      "KVM_CREATE_VCPU",
      "KVM_GET_REGS",
    ]);
    expect(names(other?.ring.steps() ?? [])).toEqual(["KVM_CREATE_VM"]);
    expect(names(kvm.ring.steps())).toEqual(["open", "KVM_CREATE_VM", "KVM_CREATE_VM"]);
  });

  test("contains copies of the arguments, but only the beginning of long arguments", () => {
    const vm = make(open(), ioctls.KVM_CREATE_VM, 0, "vm");
    const argument = new Uint8Array(8 + 200 * 16).fill(1);
    ask(vm, ioctls.KVM_GET_MSRS, argument, 0, (bytes) => bytes.fill(2));
    argument.fill(3);
    const step = vm.ring.steps().at(-1) as IoctlStep;
    expect(step.byteLength).toBe(argument.length);
    expect(step.before).toEqual(new Uint8Array(RING_BYTES).fill(1));
    expect(step.after).toEqual(new Uint8Array(RING_BYTES).fill(2));
  });
});

describe("the diagnostics channel of the trace", () => {
  test("publishes complete steps while it has a subscriber", () => {
    const heard: unknown[] = [];
    const listen = (step: unknown): void => {
      heard.push(step);
    };
    const kvm = open();
    ask(kvm, ioctls.KVM_GET_API_VERSION, undefined, 12);
    subscribe(TRACE_CHANNEL, listen);
    const argument = encode(Msrs, { entries: new Array(100).fill({ index: 1 }) });
    ask(kvm, ioctls.KVM_GET_MSRS, argument, 100);
    unsubscribe(TRACE_CHANNEL, listen);
    ask(kvm, ioctls.KVM_GET_API_VERSION, undefined, 12);
    expect(heard).toMatchObject([{ kind: "ioctl", name: "KVM_GET_MSRS", before: argument }]);
  });
});

describe("a recording of calls", () => {
  test("contains the calls between its start and its end", () => {
    const kvm = open();
    recording = record();
    const vm = make(kvm, ioctls.KVM_CREATE_VM, 0, "vm");
    recording.stop();
    ask(vm, ioctls.KVM_CREATE_IRQCHIP, undefined, 0);
    expect(names(recording.steps)).toEqual(["KVM_CREATE_VM"]);
  });

  test("is the only recording of its thread", () => {
    recording = record();
    expect(() => record()).toThrow("a recording is under way in this thread");
    recording.stop();
    expect(() => {
      recording = record();
    }).not.toThrow();
  });

  test("contains the writes of the program and of the guest to memory, in order", () => {
    recording = record();
    const vm = make(open(), ioctls.KVM_CREATE_VM, 0, "vm");
    const memory = new Memory();
    traceMap(memory);
    const argument = encode(UserspaceMemoryRegion, { memorySize: 8192n });
    const link = { field: "userspaceAddr", memory, offset: 4096 };
    ask(vm, ioctls.KVM_SET_USER_MEMORY_REGION, argument, 0, undefined, [link]);
    const vcpu = make(vm, ioctls.KVM_CREATE_VCPU, 0, "vcpu 0");
    memory.bytes.set([0xf4], 16);
    const run = new Int32Array(1024);
    new Uint8Array(run.buffer)[1] = 1;
    const replies = traceRun(vcpu, new Uint8Array(run.buffer));
    memory.bytes.set([0x5a], 24);
    run[2] = 5;
    traceExit(vcpu, run, 0, replies);
    memory.bytes[16] = 0;
    traceUnmap(memory);
    expect(recording.steps).toMatchObject([
      { kind: "open" },
      { name: "KVM_CREATE_VM" },
      { kind: "map", memory: 1, byteLength: 8192 },
      {
        name: "KVM_SET_USER_MEMORY_REGION",
        links: [{ kind: "memory", field: "userspaceAddr", memory: 1, offset: 4096 }],
      },
      { name: "KVM_CREATE_VCPU" },
      {
        kind: "write",
        ranges: [{ memory: 1, offset: 16, bytes: Uint8Array.of(0xf4, 0, 0, 0, 0, 0, 0, 0) }],
      },
      {
        kind: "run",
        replies: [{ offset: 1, bytes: Uint8Array.of(1) }],
        guest: [{ memory: 1, offset: 24, bytes: Uint8Array.of(0x5a, 0, 0, 0, 0, 0, 0, 0) }],
      },
      { kind: "write", ranges: [{ memory: 1, offset: 16, bytes: new Uint8Array(8) }] },
    ]);
  });
});
