/** Tests of the exported C of all ioctls, including ioctls that no claim uses, with pseudorandom arguments. */
import { afterEach, expect, test } from "vitest";
import * as ioctls from "../../../lib/abi/generated/ioctls.ts";
import type { Ioctl } from "../../../lib/abi/ioctl.ts";
import { sizeOf } from "../../../lib/abi/struct.ts";
import { type CStyle, exportC, type Recording, record } from "../../../lib/trace/index.ts";
import { type TraceLink, traceMap } from "../../../lib/trace/sink.ts";
import type { Traced } from "../../../lib/trace/traced.ts";
import { ask, make, open } from "./as-recorded.ts";
import { compile, problem, SELFTEST } from "./compiler.ts";

const memory = { byteLength: 4096, bytes: new Uint8Array(4096), read: () => new Uint8Array(4096) };
const bytes = Uint8Array.of(1, 2, 3);

/** The struct fields that contain an address, and the bytes at each address. */
const LINKS: Readonly<Record<string, TraceLink>> = {
  KVM_GET_DIRTY_LOG: { field: "dirtyBitmap", bytes },
  KVM_CLEAR_DIRTY_LOG: { field: "dirtyBitmap", bytes },
  KVM_SET_USER_MEMORY_REGION: { field: "userspaceAddr", memory, offset: 0 },
  KVM_SET_USER_MEMORY_REGION2: { field: "userspaceAddr", memory, offset: 0 },
  KVM_GET_DEVICE_ATTR: { field: "addr", bytes },
  KVM_SET_ONE_REG: { field: "addr", bytes },
  KVM_X86_SET_MSR_FILTER: { field: "ranges[3].bitmap", bytes },
  KVM_ENABLE_CAP: { field: "args[0]", bytes },
  KVM_HAS_DEVICE_ATTR: { field: "addr" },
};

function random(length: number, seed: number): Uint8Array {
  let state = seed;
  return Uint8Array.from({ length }, () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return (state >> 16) & 0xff;
  });
}

/** Records one call with an argument of the ioctl's kind; the fake kernel changes all bytes of the argument. */
function call(on: Traced, ioctl: Ioctl, seed: number): void {
  const { struct, kind } = ioctl;
  if (kind === "none" || kind === "value") {
    ask(on, ioctl, kind === "value" ? 0xffff_ffff : undefined, -22);
    return;
  }
  const size = struct?.tail === undefined ? ioctl.size : sizeOf(struct, 5);
  const link = LINKS[ioctl.name];
  const argument = random(size, seed);
  // In a recording, an address is replaced by zeros.
  if (link !== undefined) argument.fill(0);
  const change = (now: Uint8Array): void => now.set(random(size, seed + 1));
  ask(on, ioctl, argument, 0, ioctl.direction === "in" ? undefined : change, link ? [link] : []);
}

let recording: Recording | undefined;
afterEach(() => recording?.stop());

/** The ioctls that the functions of the selftests' framework issue. */
const OF_THE_FRAMEWORK = ["KVM_CREATE_VM", "KVM_CREATE_VCPU", "KVM_RUN"];

test.for<[CStyle, readonly string[], readonly string[]]>([
  ["program", [], []],
  ["selftest", SELFTEST, OF_THE_FRAMEWORK],
])(
  "in the style %s, the C file of every ioctl on every kind of descriptor compiles without a warning",
  ([style, options, ofTheFramework], { skip }) => {
    skip(problem !== undefined, problem);
    recording = record();
    const sys = open();
    traceMap(memory);
    const vm = make(sys, ioctls.KVM_CREATE_VM, 0, "vm");
    const vcpu = make(vm, ioctls.KVM_CREATE_VCPU, 1, "vcpu 1");
    const dev = make(vm, ioctls.KVM_CREATE_DEVICE, new Uint8Array(12), "device");
    const made = { sys, vm, vcpu, dev };
    for (const [seed, ioctl] of ioctls.IOCTLS.entries()) {
      for (const kind of ioctl.fds) {
        if (ioctl !== ioctls.KVM_RUN && ioctl.result === "int") call(made[kind], ioctl, seed);
      }
    }
    const memfd = make(vm, ioctls.KVM_CREATE_GUEST_MEMFD, new Uint8Array(64), "guest_memfd");
    ask(vm, ioctls.KVM_IRQFD, new Uint8Array(32), 0, undefined, [{ field: "fd", fd: memfd }]);
    make(vcpu, ioctls.KVM_GET_STATS_FD, 0, "statistics");
    const text = exportC(recording.stop(), { style });
    expect(compile({ "every.c": text }, ["-c", ...options])).toMatch(/program$/);
    const missing = ioctls.IOCTLS.filter(({ name }) => !text.includes(name));
    expect(missing.map(({ name }) => name)).toEqual(ofTheFramework);
  },
);
