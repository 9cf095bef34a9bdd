/** Tests of saved states in binary form: no value is lost, and all damage is detected. */

import { crc32 } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { stateFromBytes, stateToBytes } from "../../../lib/state/binary.ts";
import { StateDocumentError } from "../../../lib/state/error.ts";
import { anyState, complaintsOf, FULL } from "./any-state.ts";

let bytesOfFull: Uint8Array | undefined;

/** The full state in binary form, which the first test that needs it creates. */
function whole(): Uint8Array {
  bytesOfFull ??= stateToBytes(FULL);
  return bytesOfFull;
}

/** Replaces the content between header and checksum, and sets the matching length and checksum. */
function resealed(content: Uint8Array): Uint8Array {
  const bytes = new Uint8Array([...whole().slice(0, 16), ...content, 0, 0, 0, 0]);
  const view = new DataView(bytes.buffer);
  view.setUint32(12, bytes.length, true);
  view.setUint32(bytes.length - 4, crc32(bytes.subarray(0, -4)), true);
  return bytes;
}

function section(name: string, content: readonly number[]): readonly number[] {
  return [name.length, 0, content.length, 0, 0, 0, ...Buffer.from(name), ...content];
}

const KERNEL = section("source.kernel", [0x36]);

describe("a saved state in binary form", () => {
  test("of random parts and values is read unchanged", () => {
    fc.assert(
      fc.property(anyState, (state) => {
        expect(stateFromBytes(stateToBytes(state))).toEqual(state);
      }),
      { numRuns: 30 },
    );
  });

  test("with all parts is read unchanged, even from a Buffer", () => {
    expect(stateFromBytes(whole())).toEqual(FULL);
    expect(stateFromBytes(Buffer.from(whole()))).toEqual(FULL);
  });

  test("is read into values that share no memory with the bytes", () => {
    const bytes = Buffer.from(whole());
    const read = stateFromBytes(bytes);
    bytes.fill(0);
    expect(read).toEqual(FULL);
  });

  test("contains the kernel's bytes unchanged", () => {
    const { regs = Buffer.of() } = FULL.vcpus[0]?.lapic ?? {};
    expect(Buffer.from(whole()).indexOf(Buffer.from(regs))).toBeGreaterThan(0);
  });
});

describe("the bytes of a binary saved state", () => {
  test("are rejected if they are truncated at any byte", () => {
    for (let length = 0; length < whole().length; length += length < 200 ? 1 : 97) {
      expect(() => stateFromBytes(whole().subarray(0, length))).toThrow(StateDocumentError);
    }
  });

  test("are rejected if any bit is changed", () => {
    fc.assert(
      fc.property(fc.nat(whole().length * 8 - 1), (bit) => {
        const bytes = whole().slice();
        bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(() => stateFromBytes(bytes)).toThrow(StateDocumentError);
      }),
    );
  });

  test("are rejected because of their length if they are shorter or longer than the header states", () => {
    const { length } = whole();
    expect(complaintsOf(() => stateFromBytes(whole().subarray(0, 100)))).toEqual([
      `cut short: 100 bytes of ${length}`,
    ]);
    expect(complaintsOf(() => stateFromBytes(new Uint8Array([...whole(), 0])))).toEqual([
      `too long: ${length + 1} bytes of ${length}`,
    ]);
  });

  test.each([
    ["with a byte changed", () => whole().with(500, 0xaa), "damaged: the checksum is wrong"],
    ["of version 2", () => whole().with(8, 2), "version: expected 1, got 2"],
    [
      "of something else",
      () => Buffer.from("ELF".repeat(20)),
      "not a saved state: it does not begin with KVMSTATE",
    ],
    [
      "with an unknown section",
      () => resealed(Uint8Array.from([...KERNEL, ...section("gpu", [])])),
      "gpu: unknown section",
    ],
    [
      "with a section twice",
      () => resealed(Uint8Array.from([...KERNEL, ...KERNEL])),
      "source.kernel: twice",
    ],
    [
      "with a section too long",
      () => resealed(Uint8Array.of(1, 0, 9, 0, 0, 0, 0x61)),
      "damaged: the section at 16 is too long",
    ],
    [
      "with half a header",
      () => resealed(Uint8Array.of(1, 0)),
      "damaged: the section at 16 is too long",
    ],
    ["without a source", () => resealed(new Uint8Array()), "source.kernel: it is missing"],
    [
      "with a struct too short",
      () => resealed(Uint8Array.from([...KERNEL, ...section("picSlave", [1, 2])])),
      "picSlave: expected 16 bytes, got 2",
    ],
    [
      "with a vCPU that has no id",
      () => resealed(Uint8Array.from([...KERNEL, ...section("vcpus[0].tscKhz", [1, 2, 3, 4])])),
      "vcpus[0].tscKhz: unknown section",
    ],
  ])("%s are rejected with the expected reason", (_, bytes, complaint) => {
    expect(complaintsOf(() => stateFromBytes(bytes()))).toEqual([complaint]);
  });
});
