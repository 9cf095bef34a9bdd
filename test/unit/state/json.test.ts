/** Tests of saved states in JSON form: no value is lost, and every fault is named. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Sregs2 } from "../../../lib/abi/generated/structs.ts";
import { stateToBytes } from "../../../lib/state/binary.ts";
import { StateDocumentError } from "../../../lib/state/error.ts";
import { stateToJson } from "../../../lib/state/json.ts";
import { stateFromJson } from "../../../lib/state/json-reader.ts";
import type { VmState } from "../../../lib/state/state.ts";
import { anyState, changed, complaintsOf, errorOf, FULL } from "./any-state.ts";

describe("a saved state in JSON form", () => {
  test("of random parts and values is read unchanged", () => {
    fc.assert(
      fc.property(anyState, (state) => {
        expect(stateFromJson(stateToJson(state))).toEqual(state);
      }),
      { numRuns: 30 },
    );
  });

  test("with all parts is read and written unchanged", () => {
    const text = stateToJson(FULL);
    expect(stateFromJson(text)).toEqual(FULL);
    expect(stateToJson(stateFromJson(text))).toBe(text);
  });

  test("is read into values that share no memory with the source", () => {
    const { xsave } = stateFromJson(stateToJson(FULL)).vcpus[0] ?? {};
    expect(xsave?.buffer.byteLength).toBe(xsave?.length);
  });

  test("contains 64-bit numbers as hexadecimal text, bytes as base64, and other numbers as numbers", () => {
    expect(JSON.parse(stateToJson(FULL)).vcpus[0]).toMatchObject({
      id: 1,
      mpState: 0x0102_0304,
      regs: { rax: "0x322b241d160f0801" },
      lapic: { regs: expect.stringMatching(/^AQgPFh0k[A-Za-z0-9+/]+==$/) },
    });
  });

  test.each<[what: string, vcpus: unknown, message: RegExp]>([
    [
      "registers left out",
      [{ id: 0, regs: { rip: 7n } }],
      /^stateToJson\(\): vcpus\[0\]\.regs: missing rax, rbx, /,
    ],
    [
      "an unknown part",
      [{ id: 0, reggs: {} }],
      /^stateToJson\(\): vcpus\[0\]\.reggs: .* did you mean "regs"\?$/,
    ],
    [
      "an id that is text",
      [{ id: "0" }],
      /^stateToJson\(\): vcpus: expected vCPUs, each with an id$/,
    ],
    ["an id used twice", [{ id: 0 }, { id: 0 }], /^stateToJson\(\): vcpus: two have the same id$/],
    ["no list of vCPUs", 5, /^stateToJson\(\): vcpus: expected vCPUs, each with an id$/],
  ])("that JSON cannot represent is not written: %s", (_, vcpus, message) => {
    const state = { ...FULL, vcpus } as unknown as VmState;
    expect(() => stateToJson(state)).toThrow(message);
    expect(() => stateToBytes(state)).toThrow(
      new RegExp(message.source.replace("stateToJson", "stateToBytes")),
    );
  });

  test("of another format or version is not written", () => {
    expect(() => stateToJson({} as VmState)).toThrow(/format: expected .*; version: expected /);
  });

  test("with a value that the schema excludes is not written", () => {
    const regs = { ...FULL.vcpus[0]?.regs, rip: 0.5 };
    const vcpus = [{ id: 0, regs }] as unknown as VmState["vcpus"];
    expect(() => stateToJson({ ...FULL, vcpus })).toThrow(
      "kvm_regs.rip: 0.5 is not an integer (u64)",
    );
  });
});

const refused = (changes: Readonly<Record<string, unknown>>): readonly string[] =>
  complaintsOf(() => stateFromJson(JSON.stringify(changed(changes))));

const U64 = '"0x…", an unsigned 64-bit number in lower case';

describe("a JSON document of a saved state", () => {
  test.each([
    ["vcpus.0.sregs2.cs.base", 5, `vcpus[0].sregs2.cs.base: expected ${U64}, got 5`],
    ["vcpus.1.regs.rip", "0xG", `vcpus[1].regs.rip: expected ${U64}, got "0xG"`],
    ["vcpus.1.regs.rip", "-0x1", `vcpus[1].regs.rip: expected ${U64}, got "-0x1"`],
    ["vcpus.1.regs.rip", "7", `vcpus[1].regs.rip: expected ${U64}, got "7"`],
    [
      "pit2.channels.2.countLoadTime",
      "0x8000000000000000",
      'pit2.channels[2].countLoadTime: expected "0x…", a signed 64-bit number in lower case, got "0x8000000000000000"',
    ],
    ["picMaster.irr", 256, "picMaster.irr: expected an unsigned 8-bit number, got 256"],
    ["vcpus.0.tscKhz", 1.5, "vcpus[0].tscKhz: expected an unsigned 32-bit number, got 1.5"],
    [
      "vcpus.0.cpuid.1.eax",
      -1,
      "vcpus[0].cpuid[1].eax: expected an unsigned 32-bit number, got -1",
    ],
    ["ioapic.redirtbl", ["0x0"], "ioapic.redirtbl: expected an array of 24, got 1"],
    ["vcpus.0.lapic.regs", "AAAA", "vcpus[0].lapic.regs: expected 1024 bytes, got 3"],
    ["vcpus.0.xsave", "", "vcpus[0].xsave: expected 4096 bytes or more, got 0"],
    ["vcpus.0.xsave", "AAA", 'vcpus[0].xsave: expected 4096 bytes or more in base64, got "AAA"'],
    ["vcpus.0.regs.r16", "0x0", "vcpus[0].regs.r16: unknown field"],
    ["apic", {}, "apic: unknown field"],
    ["vcpus.0.regs.r15", undefined, `vcpus[0].regs.r15: expected ${U64}, got nothing`],
    ["vcpus.0.regs", [], "vcpus[0].regs: expected an object, got []"],
    ["vcpus.0.cpuid", {}, "vcpus[0].cpuid: expected an array, got {}"],
    ["vcpus", null, "vcpus: expected an array, got null"],
    ["source", {}, "source.kernel: expected a string, got nothing"],
    ["source.vendor", 1, "source.vendor: expected a string, got 1"],
    ["vcpus.1.id", 1, "vcpus[1].id: 1 is the id of vcpus[0] too"],
    [
      "vcpus.0.nestedState",
      "AA".repeat(100),
      "vcpus[0].nestedState: the field size is 0, but the value has 150 bytes",
    ],
    ["version", 2, "version: expected 1, got 2"],
    ["format", "qcow2", 'format: expected "node-kvm-state", got "qcow2"'],
  ])(
    "whose %s is %j is rejected with an error that names this member",
    (path, value, complaint) => {
      expect(refused({ [path]: value })).toEqual([complaint]);
    },
  );

  test("with both structs of the special registers is rejected", () => {
    const { flags, pdptrs, ...rest } = FULL.vcpus[0]?.sregs2 ?? ({} as Sregs2);
    const sregs = { ...rest, interruptBitmap: [0n, 0n, 0n, 0n] };
    const vcpus = [{ id: 0, sregs2: FULL.vcpus[0]?.sregs2, sregs }] as unknown as VmState["vcpus"];
    const text = stateToJson({ ...FULL, vcpus });
    expect(complaintsOf(() => stateFromJson(text))).toEqual([
      "vcpus[0].sregs: cannot be used together with sregs2",
    ]);
  });

  test("with several faults is rejected with an error that lists all faults", () => {
    const changes = { "vcpus.0.regs.rip": 1, "vcpus.0.regs.rax": "1", picMaster: "", more: 1 };
    const complaints = refused(changes);
    expect(complaints.map((one) => one.split(":")[0])).toEqual([
      "more",
      "picMaster",
      "vcpus[0].regs.rax",
      "vcpus[0].regs.rip",
    ]);
    expect(() => stateFromJson(JSON.stringify(changed(changes)))).toThrow(complaints.join("\n  "));
  });

  test.each(["version", "format"])(
    "of another %s is rejected, and the error lists no faults of other members",
    (name) => {
      expect(refused({ [name]: 7, vcpus: 7, more: 1 })).toHaveLength(1);
    },
  );

  test.each(["", "{", "null", "[]", '"x"'])("that is %j is rejected", (text) => {
    expect(() => stateFromJson(text)).toThrow(StateDocumentError);
  });
});

test.each([
  ["msrs", 5, TypeError, "expected an array"],
  ["xsave", 5, TypeError, "expected a Uint8Array"],
  ["xsave", new Uint8Array(3), RangeError, "expected 4096 bytes or more, got 3"],
  ["tscKhz", 0xffff_f001, RangeError, "expected at most 4294963200, got 4294963201"],
] as const)("a saved state whose %s is %o is not written to JSON", (part, value, kind, message) => {
  const vcpus = [{ id: 0, [part]: value }] as unknown as VmState["vcpus"];
  const write = (): string => stateToJson({ ...FULL, vcpus });
  expect(write).toThrow(kind);
  expect(write).toThrow(message);
});

test("the error about a JSON document has the name of its class and the parser's message", () => {
  const error = errorOf(() => stateFromJson("{"));
  expect(error.name).toBe("StateDocumentError");
  expect(error.complaints).toEqual([expect.stringMatching(/^not JSON: \S/)]);
});
