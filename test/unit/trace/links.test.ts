/**
 * Tests of the exported C for addresses and descriptors, with one case of each kind. test/lab/links.test.ts tests the
 * same on a kernel.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import * as kvm from "../../../lib/abi/generated/constants.ts";
import * as ioctls from "../../../lib/abi/generated/ioctls.ts";
import { KVM_CAPABILITIES } from "../../../lib/abi/generated/names.ts";
import * as structs from "../../../lib/abi/generated/structs.ts";
import { encode } from "../../../lib/abi/struct.ts";
import { exportC, type Recording, record, toLine, toNdjson } from "../../../lib/trace/index.ts";
import {
  type TraceLink,
  traceAnswer,
  traceCall,
  traceClose,
  traceCounter,
  traced,
  traceEventFd,
  traceFallocate,
  traceFile,
  traceMap,
} from "../../../lib/trace/sink.ts";
import type { Traced } from "../../../lib/trace/traced.ts";
import { ask, make, open } from "./as-recorded.ts";
import { compile, problem } from "./compiler.ts";

let recording: Recording | undefined;
beforeEach(() => {
  recording = record();
});
afterEach(() => recording?.stop());

const IOEVENTFD = (flags: number): Uint8Array =>
  encode(structs.Ioeventfd, { datamatch: 5n, addr: 0x80n, len: 1, flags });
const IRQFD = (flags: number): Uint8Array => encode(structs.Irqfd, { gsi: 9, flags });
const ENABLE_CAP = (cap: number): Uint8Array => encode(structs.EnableCap, { cap });

function eventFd(initval = 0): Traced {
  const file = {};
  traceEventFd(initval, file);
  return traced(file, "eventfd");
}

function sev(): Traced {
  const file = {};
  traceFile("/dev/sev", file);
  return traced(file, "/dev/sev");
}

function memory() {
  const bytes = new Uint8Array(4096);
  return { byteLength: 4096, bytes, read: () => bytes };
}

const fd = (field: string, file: Traced): TraceLink => ({ field, fd: file });

/** The calls for each kind of link, and the expected lines of C. */
const KINDS: readonly [string, (vm: Traced) => void, readonly string[]][] = [
  [
    "an irqfd",
    (vm) => ask(vm, ioctls.KVM_IRQFD, IRQFD(0), 0, undefined, [fd("fd", eventFd())]),
    ["event = make_eventfd(", "irqfd.fd = event;"],
  ],
  [
    "an irqfd with a resamplefd",
    (vm) => {
      const links = [fd("fd", eventFd()), fd("resamplefd", eventFd(7))];
      ask(vm, ioctls.KVM_IRQFD, IRQFD(kvm.KVM_IRQFD_FLAG_RESAMPLE), 0, undefined, links);
    },
    ["event2 = make_eventfd(4, 7);", "irqfd.fd = event;", "irqfd.resamplefd = event2;"],
  ],
  ...(
    [
      ["DATAMATCH", kvm.KVM_IOEVENTFD_FLAG_DATAMATCH],
      ["PIO", kvm.KVM_IOEVENTFD_FLAG_PIO],
      ["DEASSIGN", kvm.KVM_IOEVENTFD_FLAG_DEASSIGN],
      ["VIRTIO_CCW_NOTIFY", kvm.KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY],
      ["no flag", 0],
    ] as const
  ).map(([name, flag]): [string, (vm: Traced) => void, readonly string[]] => [
    `an ioeventfd with ${name}`,
    (vm) => ask(vm, ioctls.KVM_IOEVENTFD, IOEVENTFD(flag), 0, undefined, [fd("fd", eventFd())]),
    ["ioeventfd.fd = event;", ...(flag === 0 ? [] : [`.flags = ${flag}`])],
  ]),
  [
    "an eventfd's counter",
    (vm) => {
      const event = eventFd();
      ask(vm, ioctls.KVM_IOEVENTFD, IOEVENTFD(0), 0, undefined, [fd("fd", event)]);
      traceCounter(event, "write", 3n, 0);
      traceCounter(event, "read", 3n, 0);
      traceCounter(event, "read", 0n, -11);
      traceClose(event);
    },
    [
      'write_counter(5, "event", event, 3, 0);',
      'read_counter(6, "event", event, 3, 0);',
      'read_counter(7, "event", event, 0, -EAGAIN);',
      "close(event);",
    ],
  ],
  [
    "a Hyper-V eventfd",
    (vm) => {
      const argument = encode(structs.HypervEventfd, { connId: 2 });
      ask(vm, ioctls.KVM_HYPERV_EVENTFD, argument, 0, undefined, [fd("fd", eventFd())]);
    },
    ["hyperv_eventfd.fd = event;"],
  ],
  [
    "a Xen eventfd",
    (vm) => {
      const argument = encode(structs.XenHvmAttr, { type: kvm.KVM_XEN_ATTR_TYPE_EVTCHN });
      const link = fd("u.evtchn.deliver.eventfd.fd", eventFd());
      ask(vm, ioctls.KVM_XEN_HVM_SET_ATTR, argument, 0, undefined, [link]);
    },
    ["xen_hvm_attr.u.evtchn.deliver.eventfd.fd = event;"],
  ],
  [
    "Xen's shared memory, whose field old headers lack",
    (vm) => {
      const shared = memory();
      traceMap(shared);
      const argument = encode(structs.XenHvmAttr, {
        type: kvm.KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA,
      });
      const link = { field: "u.sharedInfo.hva", memory: shared, offset: 0 };
      ask(vm, ioctls.KVM_XEN_HVM_SET_ATTR, argument, 0, undefined, [link]);
    },
    ["memcpy(bytes + 8, &(unsigned long){ (unsigned long)(memory1) }, sizeof(unsigned long));"],
  ],
  [
    "a guest_memfd, its pages and its mapping",
    (vm) => {
      const options = encode(structs.CreateGuestMemfd, { size: 4096n, flags: 1n });
      const memfd = make(vm, ioctls.KVM_CREATE_GUEST_MEMFD, options, "guest_memfd");
      traceFallocate(memfd, { mode: 3, offset: 0n, length: 4096n }, 0);
      const mapped = memory();
      traceMap(mapped);
      const region = encode(structs.UserspaceMemoryRegion2, { memorySize: 4096n });
      const links = [
        { field: "userspaceAddr", memory: mapped, offset: 0 },
        fd("guestMemfd", memfd),
      ];
      ask(vm, ioctls.KVM_SET_USER_MEMORY_REGION2, region, 0, undefined, links);
    },
    [
      'check_result(4, "fallocate (vm_memfd)", syscall(SYS_fallocate, vm_memfd, 3, 0, 0x1000)',
      "&(int){ vm_memfd }",
    ],
  ],
  ...(["KVM_CAP_VM_COPY_ENC_CONTEXT_FROM", "KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM"] as const).map(
    (cap): [string, (vm: Traced) => void, readonly string[]] => [
      `another VM: ${cap}`,
      (vm) => {
        const other = make(open(), ioctls.KVM_CREATE_VM, 0, "vm");
        const argument = ENABLE_CAP(KVM_CAPABILITIES[cap]);
        ask(vm, ioctls.KVM_ENABLE_CAP, argument, -22, undefined, [fd("args[0]", other)]);
      },
      ["enable_cap.args[0] = vm2;", cap],
    ],
  ),
  [
    "bytes that a capability writes to",
    (vm) => {
      const vcpu = make(vm, ioctls.KVM_CREATE_VCPU, 0, "vcpu 0");
      const argument = ENABLE_CAP(kvm.KVM_CAP_HYPERV_ENLIGHTENED_VMCS);
      const link = { field: "args[0]", bytes: new Uint8Array(2) };
      ask(vcpu, ioctls.KVM_ENABLE_CAP, argument, -22, undefined, [link]);
    },
    ["enable_cap.args[0] = (uintptr_t)link0;"],
  ],
  [
    "a secure processor",
    (vm) => {
      const argument = encode(structs.SevCmd, { id: 0 });
      ask(vm, ioctls.KVM_MEMORY_ENCRYPT_OP, argument, -25, undefined, [fd("sevFd", sev())]);
    },
    ['file = open_file(3, "/dev/sev");', "sev_cmd.sev_fd = file;"],
  ],
  [
    "an attribute of a device",
    (vm) => {
      const dev = make(vm, ioctls.KVM_CREATE_DEVICE, new Uint8Array(12), "device");
      const argument = encode(structs.DeviceAttr, { group: 1 });
      const link = { field: "addr", bytes: Uint8Array.of(1, 2) };
      ask(dev, ioctls.KVM_SET_DEVICE_ATTR, argument, 0, undefined, [link]);
    },
    ["device_attr.addr = (uintptr_t)link0;"],
  ],
];

describe.each(KINDS)("a link between descriptors, %s,", (_, act, lines) => {
  test("is traced as a step, as a line of text, as a line of JSON, and as C that compiles", ({
    skip,
  }) => {
    skip(problem !== undefined, problem);
    const vm = make(open(), ioctls.KVM_CREATE_VM, 0, "vm");
    act(vm);
    const trace = recording?.stop() ?? { about: {}, steps: [] };
    for (const step of trace.steps) {
      expect(JSON.parse(toNdjson(step))).toMatchObject({ kind: step.kind, text: toLine(step) });
    }
    const text = exportC(trace);
    for (const line of lines) expect(text).toContain(line);
    compile({ "a.c": text });
  });
});

test("the trace shows the mapping of a guest_memfd as a mapping of that file", () => {
  const vm = make(open(), ioctls.KVM_CREATE_VM, 0, "vm");
  const memfd = {};
  traceAnswer(traceCall(vm, ioctls.KVM_CREATE_GUEST_MEMFD, new Uint8Array(64)), memfd);
  traceMap(memory(), memfd);
  const trace = recording?.stop() ?? { about: {}, steps: [] };
  expect(trace.steps.map(toLine).at(-1)).toBe("mmap(memory 1 of memfd, 4096 bytes) = 0");
  expect(exportC(trace)).toContain("memory1 = map_file(4, vm_memfd, 4096);");
});

test("if an eventfd was opened before the recording, the error names the eventfd", () => {
  recording?.stop();
  const event = eventFd();
  recording = record();
  const vm = make(open(), ioctls.KVM_CREATE_VM, 0, "vm");
  ask(vm, ioctls.KVM_IRQFD, IRQFD(0), 0, undefined, [fd("fd", event)]);
  const trace = recording.stop();
  expect(() => exportC(trace)).toThrow(
    "eventfd was created before the recording started, so a C file cannot create it",
  );
});

test("the trace's lines about files have the format of strace", () => {
  const event = eventFd(2);
  traceCounter(event, "write", 3n, 0);
  traceCounter(event, "read", 5n, 0);
  traceCounter(event, "read", 0n, -11);
  traceEventFd(0, -24);
  traceFile("/dev/sev", -2);
  traceClose(event);
  expect(recording?.steps.map(toLine)).toEqual([
    "eventfd(2) = eventfd",
    "write(eventfd, 3) = 8",
    "read(eventfd, 5) = 8",
    "read(eventfd) = -1 EAGAIN",
    "eventfd(0) = -1 EMFILE",
    'open("/dev/sev") = -1 ENOENT',
    "close(eventfd) = 0",
  ]);
});
