/** Tests of a saved TSC frequency: a document contains only frequencies that KVM_GET_TSC_KHZ can return. */
import { crc32 } from "node:zlib";
import { describe, expect, test } from "vitest";
import { stateFromBytes, stateToBytes } from "../../../lib/state/binary.ts";
import { stateToJson } from "../../../lib/state/json.ts";
import { stateFromJson } from "../../../lib/state/json-reader.ts";
import type { VmState } from "../../../lib/state/state.ts";
import { changed, complaintsOf, FULL } from "./any-state.ts";

const stateWith = (tscKhz: number): VmState => ({ ...FULL, vcpus: [{ id: 0, tscKhz }] });

/** Returns the bytes of a state with this frequency, even if stateToBytes() refuses it. */
function bytesWith(tscKhz: number): Uint8Array {
  const bytes = Buffer.from(stateToBytes(stateWith(0x0102_0304)));
  bytes.writeUInt32LE(tscKhz, bytes.indexOf(Buffer.of(4, 3, 2, 1), bytes.indexOf("tscKhz")));
  bytes.writeUInt32LE(crc32(bytes.subarray(0, -4)), bytes.length - 4);
  return bytes;
}

const jsonWith = (tscKhz: number): string => JSON.stringify(changed({ "vcpus.0.tscKhz": tscKhz }));

/** The frequencies are at the limits of a signed int, of MAX_ERRNO (-4095), and of 32 bits. */
describe.each([0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_f000])(
  "a saved TSC frequency of %i kHz",
  (tscKhz) => {
    test("is read unchanged from JSON and from binary form", () => {
      expect(stateFromJson(jsonWith(tscKhz)).vcpus[0]?.tscKhz).toBe(tscKhz);
      const state = stateWith(tscKhz);
      expect(stateFromJson(stateToJson(state))).toEqual(state);
      expect(stateFromBytes(stateToBytes(state))).toEqual(state);
      expect(stateFromBytes(bytesWith(tscKhz))).toEqual(state);
    });
  },
);

describe.each([0xffff_f001, 4_294_967_292, 0xffff_ffff])(
  "a TSC frequency of %i kHz that KVM_GET_TSC_KHZ cannot return",
  (tscKhz) => {
    const complaint = `vcpus[0].tscKhz: expected at most 4294963200, got ${tscKhz}`;

    test("is rejected in JSON form", () => {
      expect(complaintsOf(() => stateFromJson(jsonWith(tscKhz)))).toEqual([complaint]);
    });

    test("is rejected in binary form", () => {
      expect(complaintsOf(() => stateFromBytes(bytesWith(tscKhz)))).toEqual([complaint]);
    });

    test("is not written", () => {
      expect(() => stateToJson(stateWith(tscKhz))).toThrow(RangeError);
      expect(() => stateToBytes(stateWith(tscKhz))).toThrow(RangeError);
    });
  },
);
