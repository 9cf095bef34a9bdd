/** Tests of rings: they keep the last calls, in order from the oldest. */
import { describe, expect, test } from "vitest";
import { KVM_GET_REGS, KVM_SET_REGS } from "../../../lib/abi/generated/ioctls.ts";
import type { Step } from "../../../lib/trace/record.ts";
import { Ring } from "../../../lib/trace/ring.ts";

const vcpu = { id: 7, kind: "vcpu", label: "vcpu 0" } as const;
const close = (seq: number): Step => ({ kind: "close", seq, fd: vcpu });
const numbers = (ring: Ring): readonly number[] => ring.steps().map(({ seq }) => seq);

/** A kvm_run with an exit for a write of one byte to port 0x505. */
function ioExit(): Int32Array {
  const words = new Int32Array(1024);
  const view = new DataView(words.buffer);
  view.setUint32(8, 2, true);
  view.setUint8(32, 1);
  view.setUint8(33, 1);
  view.setUint16(34, 0x505, true);
  view.setUint32(36, 1, true);
  return words;
}

describe("the ring of recorded calls", () => {
  test("is empty at first", () => {
    expect(new Ring().steps()).toEqual([]);
  });

  test("keeps the last calls in order, as many as it has space for", () => {
    const ring = new Ring(4);
    for (const seq of [1, 2, 3]) ring.push(close(seq));
    expect(numbers(ring)).toEqual([1, 2, 3]);
  });

  test.each([4, 5, 7, 8, 9])("of four calls keeps the last four of %i", (count) => {
    const ring = new Ring(4);
    for (let seq = 1; seq <= count; seq += 1) ring.push(close(seq));
    expect(numbers(ring)).toEqual([count - 3, count - 2, count - 1, count]);
  });

  test("keeps runs among other calls, each with its own exit", () => {
    const ring = new Ring(3);
    const words = ioExit();
    ring.push(close(1));
    ring.push(close(2));
    ring.pushRun(vcpu, 3, 0, words);
    words[2] = 5;
    ring.pushRun(vcpu, 4, -4, words);
    expect(ring.steps()).toMatchObject([
      { kind: "close", seq: 2 },
      { kind: "run", seq: 3, fd: vcpu, result: 0, exitReason: 2 },
      { kind: "run", seq: 4, fd: vcpu, result: -4, exitReason: 5 },
    ]);
  });

  test("does not show a call that has no result yet", () => {
    const ring = new Ring(3);
    ring.begin(vcpu, KVM_GET_REGS, new Uint8Array(144));
    const place = ring.begin(vcpu, KVM_SET_REGS, new Uint8Array(144).fill(1));
    ring.end(place, 8, -22, new Uint8Array(144).fill(2), undefined);
    expect(ring.steps()).toEqual([
      {
        kind: "ioctl",
        seq: 8,
        fd: vcpu,
        request: KVM_SET_REGS.request,
        name: "KVM_SET_REGS",
        before: new Uint8Array(144).fill(1),
        byteLength: 144,
        links: [],
        result: -22,
        after: undefined,
        made: undefined,
      },
    ]);
  });

  test("removes a run when a call replaces it", () => {
    const ring = new Ring(1);
    ring.pushRun(vcpu, 1, 0, ioExit());
    ring.push(close(2));
    expect(numbers(ring)).toEqual([2]);
  });
});
