/** Tests of batches of MSRs: a batch has at most 255 MSRs, and no batch is sent after a failure. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { KVM_GET_MSRS, KVM_SET_MSRS } from "../../../../lib/abi/generated/ioctls.ts";
import { type MsrEntry, Msrs } from "../../../../lib/abi/generated/structs.ts";
import type { Ioctl } from "../../../../lib/abi/ioctl.ts";
import { read, write } from "../../../../lib/abi/struct.ts";
import { getMsrs, setMsrs } from "../../../../lib/kvm/calls/msrs.ts";
import type { Handle, IoctlArgument, IoctlOptions } from "../../../../lib/kvm/handle.ts";

/** A fake kernel that rejects one index and returns `index * 3` for every other MSR. */
class Kernel {
  readonly calls: (readonly MsrEntry[])[] = [];
  readonly contexts: (IoctlOptions | undefined)[] = [];
  readonly #refused: number | undefined;

  constructor(refused?: number) {
    this.#refused = refused;
  }

  get handle(): Handle {
    return { ioctl: this.#ioctl.bind(this) } as unknown as Handle;
  }

  #ioctl(_ioctl: Ioctl, argument?: IoctlArgument, context?: IoctlOptions): number {
    const bytes = argument as Uint8Array;
    const { entries } = read(Msrs, bytes);
    this.calls.push(entries);
    this.contexts.push(context);
    const known = entries.findIndex(({ index }) => index === this.#refused);
    const count = known === -1 ? entries.length : known;
    const filled = entries.map((entry, i) => (i < count ? three(entry) : entry));
    write(Msrs, { entries: filled }, bytes);
    return count;
  }
}

const three = (entry: MsrEntry): MsrEntry => ({ ...entry, data: BigInt(entry.index) * 3n });
const upTo = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i);
const values = (count: number) => upTo(count).map((index) => ({ index, data: 1n }));
const lengths = (kernel: Kernel): readonly number[] => kernel.calls.map(({ length }) => length);

test.each([
  [0, [0]],
  [1, [1]],
  [255, [255]],
  [256, [255, 1]],
  [511, [255, 255, 1]],
])("setMsrs() and getMsrs() split %i MSRs into batches of %j", (count, batches) => {
  const [reader, writer] = [new Kernel(), new Kernel()];
  getMsrs(reader.handle, KVM_GET_MSRS, upTo(count));
  setMsrs(writer.handle, KVM_SET_MSRS, values(count));
  expect([lengths(reader), lengths(writer)]).toEqual([batches, batches]);
});

test("getMsrs() returns the index and the value of each MSR, in the order of the arguments", () => {
  const got = getMsrs(new Kernel().handle, KVM_GET_MSRS, new Set([0xc000_0080, 0x10]));
  expect(got).toEqual([
    { index: 0xc000_0080, reserved: 0, data: 0x2_4000_0180n },
    { index: 0x10, reserved: 0, data: 0x30n },
  ]);
});

test("getMsrs() stops at the first MSR that KVM refuses, and returns the earlier values", () => {
  const kernel = new Kernel(300);
  const got = getMsrs(kernel.handle, KVM_GET_MSRS, upTo(1000));
  expect(got.map(({ index }) => index)).toEqual(upTo(300));
  expect(lengths(kernel)).toEqual([255, 255]);
});

test("setMsrs() stops at the first MSR that KVM refuses, and returns the number of written MSRs", () => {
  const kernel = new Kernel(300);
  expect(setMsrs(kernel.handle, KVM_SET_MSRS, values(1000))).toBe(300);
  expect(lengths(kernel)).toEqual([255, 255]);
});

test("setMsrs() and getMsrs() issue no further batch after a batch that KVM ended early", () => {
  const kernel = new Kernel(254);
  expect(setMsrs(kernel.handle, KVM_SET_MSRS, values(600))).toBe(254);
  expect(lengths(kernel)).toEqual([255]);
});

test("setMsrs() passes the index and the value of each MSR, and nothing else", () => {
  const kernel = new Kernel();
  const entry = { index: 0x10, data: 2n ** 64n - 1n, reserved: 7 };
  setMsrs(kernel.handle, KVM_SET_MSRS, [entry]);
  expect(kernel.calls).toEqual([[{ index: 0x10, reserved: 0, data: 2n ** 64n - 1n }]]);
});

test("the error of a refused batch of MSRs contains the indices of the MSRs in the batch", () => {
  const kernel = new Kernel();
  getMsrs(kernel.handle, KVM_GET_MSRS, upTo(256));
  expect(kernel.contexts.map((context) => context?.args)).toEqual([
    { indices: upTo(255) },
    { indices: [255] },
  ]);
});

test("setMsrs() returns the number of MSRs before the refused MSR, for a list of any length", () => {
  fc.assert(
    fc.property(fc.nat(800), fc.nat(800), (count, refused) => {
      const expected = Math.min(count, refused);
      const got = getMsrs(new Kernel(refused).handle, KVM_GET_MSRS, upTo(count));
      expect(got).toHaveLength(expected);
      expect(setMsrs(new Kernel(refused).handle, KVM_SET_MSRS, values(count))).toBe(expected);
    }),
    { numRuns: 30 },
  );
});
