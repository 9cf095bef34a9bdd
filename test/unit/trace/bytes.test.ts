/**
 * Tests of arguments that are not plain Uint8Arrays: Buffers, and arrays of another realm. A trace contains the bytes
 * that were passed.
 */
import { runInNewContext } from "node:vm";
import { afterEach, describe, expect, test } from "vitest";
import * as ioctls from "../../../lib/abi/generated/ioctls.ts";
import { Handle } from "../../../lib/kvm/handle.ts";
import type { NativeFd } from "../../../lib/native.ts";
import { type IoctlStep, type Recording, record, toNdjson } from "../../../lib/trace/index.ts";

/**
 * Creates a handle whose kernel writes 2 into every byte of the argument, and of the memory at the argument's
 * addresses.
 */
class Answering extends Handle {
  constructor() {
    const fd: Pick<NativeFd, "ioctl" | "close" | "mapRun"> = {
      ioctl: (_request, argument, _pastEnd, links) => {
        if (typeof argument === "object") argument.fill(2);
        for (const link of links ?? []) (link as Uint8Array).fill(2);
        return 0;
      },
      close: () => undefined,
      mapRun: () => ({ call: "mmap", errno: 19 }),
    };
    super(fd as NativeFd, "vcpu 0");
  }
}

const KINDS: readonly [string, (length: number) => Uint8Array][] = [
  ["a Uint8Array", (length) => new Uint8Array(length).fill(1)],
  ["a Buffer", (length) => Buffer.alloc(length, 1)],
  ["a Buffer of the pool", (length) => Buffer.from(new Uint8Array(length).fill(1))],
  [
    "an array of another realm",
    (length) => runInNewContext(`new Uint8Array(${length}).fill(1)`) as Uint8Array,
  ],
];

let recording: Recording | undefined;
afterEach(() => recording?.stop());

const ONES = (length: number): Uint8Array => new Uint8Array(length).fill(1);
const TWOS = (length: number): Uint8Array => new Uint8Array(length).fill(2);

describe.each(KINDS)("the bytes that %s passes to an ioctl", (_, make) => {
  test("are recorded as they were before and after the call, without later changes", () => {
    recording = record();
    const argument = make(144);
    using handle = new Answering();
    handle.ioctl(ioctls.KVM_GET_REGS, argument);
    expect(Array.from(argument)).toEqual(Array.from(TWOS(144)));
    argument.fill(3);
    const step = recording.steps[0] as IoctlStep;
    expect([step.before, step.after]).toStrictEqual([ONES(144), TWOS(144)]);
    expect(toNdjson(step)).toContain(`"before":"${"01".repeat(144)}"`);
  });

  test("are recorded in the same way if the argument contains the address of the bytes", () => {
    recording = record();
    const bytes = make(8);
    using handle = new Answering();
    handle.ioctl(ioctls.KVM_GET_DIRTY_LOG, new Uint8Array(16), { links: [bytes] });
    bytes.fill(3);
    const step = recording.steps[0] as IoctlStep;
    expect(step.links).toStrictEqual([
      { kind: "bytes", field: "dirtyBitmap", before: ONES(8), after: TWOS(8) },
    ]);
  });

  test("are shown by trace()", () => {
    using handle = new Answering();
    handle.ioctl(ioctls.KVM_GET_REGS, make(144));
    expect(handle.trace()).toEqual([
      expect.stringContaining("KVM_GET_REGS(vcpu 0) = 0 {rax=0x202020202020202, "),
    ]);
  });
});
