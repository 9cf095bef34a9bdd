/**
 * Tests of hostile documents: the error is a StateDocumentError of limited size, and the time grows linearly with the
 * document.
 */
import { crc32 } from "node:zlib";
import { afterEach, describe, expect, test } from "vitest";
import { stateFromBytes, stateToBytes } from "../../../lib/state/binary.ts";
import { Complaints, StateDocumentError } from "../../../lib/state/error.ts";
import { stateFromJson } from "../../../lib/state/json-reader.ts";
import { contradictions, type VcpuState, type VmState } from "../../../lib/state/state.ts";
import { changed, errorOf, FULL } from "./any-state.ts";

/** An upper limit for the length of messages with 100 faults and their paths. */
const BOUND = 20_000;

const withMember = (name: string, text: string): string =>
  JSON.stringify(changed({ [name]: "@" })).replace('"@"', text);

const nested = (depth: number, open: string, close: string): string =>
  open.repeat(depth) + close.repeat(depth);

const ARRAYS = nested(20_000, "[", "]");
const OBJECTS = `${'{"a":'.repeat(20_000)}1${"}".repeat(20_000)}`;
const many = (count: number, one: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => one(i)).join(",");

describe("a saved state in JSON", () => {
  test.each([
    [
      "that nests 20,000 arrays",
      () => ARRAYS,
      "the document: expected an object, got an array of 1",
    ],
    [
      "whose vcpus nest 20,000 objects",
      () => withMember("vcpus", OBJECTS),
      "vcpus: expected an array, got an object",
    ],
    [
      "with a register of 20,000 nested arrays",
      () => withMember("vcpus.0.regs.rip", ARRAYS),
      'vcpus[0].regs.rip: expected "0x…", an unsigned 64-bit number in lower case, got an array of 1',
    ],
    [
      "with XSAVE bytes of 20,000 nested arrays",
      () => withMember("vcpus.0.xsave", ARRAYS),
      "vcpus[0].xsave: expected 4096 bytes or more in base64, got an array of 1",
    ],
    [
      "with a version of 20,000 nested objects",
      () => withMember("version", OBJECTS),
      "version: expected 1, got an object",
    ],
    [
      "with a text of a million characters as a number",
      () => withMember("vcpus.0.tscKhz", JSON.stringify("7".repeat(1_000_000))),
      `vcpus[0].tscKhz: expected an unsigned 32-bit number, got "${"7".repeat(40)}"…`,
    ],
    [
      "with a name of a million characters",
      () => withMember("vcpus.0.regs", `{"${"n".repeat(1_000_000)}":1}`),
      `vcpus[0].regs."${"n".repeat(60)}"…: unknown field`,
    ],
    [
      "with a name of control characters",
      () => withMember("source", String.raw`{"kernel":"6","\n\u001b[2J":1}`),
      String.raw`source."\n\u001b[2J": unknown field`,
    ],
  ])("with %s is rejected with an error that names the member", (_, text, complaint) => {
    const error = errorOf(() => stateFromJson(text()));
    expect(error).toBeInstanceOf(StateDocumentError);
    expect(error.complaints[0]).toBe(complaint);
    expect(error.message.length).toBeLessThan(BOUND);
  });

  test.each([["source"], ["vcpus.0"], ["vcpus.0.regs"]])(
    "with many unknown fields in %s is rejected with a message of limited length",
    (path) => {
      const refused = (count: number): StateDocumentError => {
        const members = `{${many(count, (i) => `"n${i}":${i}`)}}`;
        return errorOf(() => stateFromJson(withMember(path, members)));
      };
      const [small, large] = [refused(1_000), refused(20_000)];
      expect(large.count - small.count).toBe(19_000);
      expect(large.complaints).toHaveLength(100);
      expect(large.message.length).toBeLessThan(BOUND);
      expect(large.message.length - small.message.length).toBeLessThan(10);
    },
  );

  test("with many wrong vCPUs is rejected with the first 100 faults and the total number", () => {
    const error = errorOf(() => stateFromJson(withMember("vcpus", `[${many(5_000, () => "0")}]`)));
    expect(error.count).toBe(5_000);
    expect(error.complaints[99]).toBe("vcpus[99]: expected an object, got 0");
    expect(error.message).toMatch(/\n {2}and 4900 more$/);
    expect(error.message.length).toBeLessThan(BOUND);
  });

  test('with 101 faults is rejected with a message that ends with "and 1 more"', () => {
    const error = errorOf(() => stateFromJson(withMember("vcpus", `[${many(101, () => "0")}]`)));
    expect(error.message).toMatch(/vcpus\[99\][^\n]*\n {2}and 1 more$/);
  });

  test("with 100 faults is rejected with all 100 faults", () => {
    const error = errorOf(() => stateFromJson(withMember("vcpus", `[${many(100, () => "0")}]`)));
    expect(error.message).toMatch(/vcpus\[99\]: expected an object, got 0$/);
  });
});

describe("with a polluted Object.prototype, a saved state in JSON", () => {
  const polluted = Object.prototype as { vendor?: unknown; rip?: unknown };
  afterEach(() => {
    delete polluted.vendor;
    delete polluted.rip;
  });

  test("without a vendor is read as a state without a vendor", () => {
    polluted.vendor = 5;
    const state = stateFromJson(JSON.stringify(changed({ "source.vendor": undefined })));
    expect(Object.keys(state.source)).toEqual(["kernel"]);
  });

  test("without a register is rejected", () => {
    polluted.rip = "0x7";
    const text = JSON.stringify(changed({ "vcpus.0.regs.rip": undefined }));
    expect(errorOf(() => stateFromJson(text)).complaints[0]).toMatch(
      /^vcpus\[0\]\.regs\.rip: expected .*, got nothing$/,
    );
  });
});

test("the JSON reader returns ordinary objects", () => {
  const { source } = stateFromJson(JSON.stringify(changed({})));
  expect(Object.getPrototypeOf(source)).toBe(Object.prototype);
});

/** Counts the reads of the ids of vCPUs. */
function readsOfIds(count: number): number {
  let reads = 0;
  const vcpus = Array.from({ length: count }, (_, i) => ({
    get id() {
      reads += 1;
      return i;
    },
  }));
  contradictions({ vcpus: vcpus as unknown as readonly VcpuState[] }, new Complaints());
  return reads;
}

test("to find duplicates, the reader reads each vCPU's id once, for any number of vCPUs", () => {
  expect([readsOfIds(10), readsOfIds(3_000)]).toEqual([10, 3_000]);
});

/** Creates a document with these sections, with the correct length and checksum. */
function sealed(sections: readonly Uint8Array[]): Uint8Array {
  const bytes = Buffer.concat([stateToBytes(FULL).slice(0, 16), ...sections, Buffer.alloc(4)]);
  bytes.writeUInt32LE(bytes.length, 12);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, -4)), bytes.length - 4);
  return bytes;
}

function section(name: string, content: Uint8Array): Uint8Array {
  const header = Buffer.alloc(6);
  header.writeUInt16LE(name.length, 0);
  header.writeUInt32LE(content.length, 2);
  return Buffer.concat([header, Buffer.from(name, "latin1"), content]);
}

const KERNEL = section("source.kernel", Buffer.from("6"));

describe("a saved state in binary form, from an attacker,", () => {
  test("with many unknown sections is rejected with the first 100 faults and the total number", () => {
    const unknown = Array.from({ length: 20_000 }, (_, i) => section(`n${i}`, Buffer.of()));
    const error = errorOf(() => stateFromBytes(sealed([KERNEL, ...unknown])));
    expect([error.count, error.complaints.length]).toEqual([20_000, 100]);
    expect(error.message.length).toBeLessThan(BOUND);
  });

  test.each([
    ["with a long name", "n".repeat(60_000), `"${"n".repeat(60)}"…: unknown section`],
    ["with a name of control characters", "\n\x1b[2J", String.raw`"\n\u001b[2J": unknown section`],
  ])("with a section %s is rejected with a short name", (_, name, complaint) => {
    const error = errorOf(() => stateFromBytes(sealed([KERNEL, section(name, Buffer.of())])));
    expect(error.complaints).toEqual([complaint]);
  });

  test("with two sections of the same long name is rejected with a shortened name", () => {
    const twice = section("n".repeat(60_000), Buffer.of());
    const error = errorOf(() => stateFromBytes(sealed([KERNEL, twice, twice])));
    expect(error.complaints).toEqual([`"${"n".repeat(60)}"…: twice`]);
  });

  test("with many vCPUs of the same id is rejected with a fault for each, in a message of limited length", () => {
    const id = Buffer.of(7, 0, 0, 0);
    const vcpus = Array.from({ length: 5_000 }, (_, i) => section(`vcpus[${i}].id`, id));
    const error = errorOf(() => stateFromBytes(sealed([KERNEL, ...vcpus])));
    expect([error.count, error.complaints[0]]).toEqual([
      4_999,
      "vcpus[1].id: 7 is the id of vcpus[0] too",
    ]);
    expect(error.message.length).toBeLessThan(BOUND);
  });
});

test("a saved state of 2,000 vCPUs is read unchanged from both forms", () => {
  const vcpus = Array.from({ length: 2_000 }, (_, id) => ({ id, mpState: id & 3 }));
  const state: VmState = { ...FULL, vcpus };
  expect(stateFromBytes(stateToBytes(state)).vcpus).toEqual(vcpus);
});
