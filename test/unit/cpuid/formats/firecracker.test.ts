/** Tests of Firecracker's templates and fingerprints. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CPUID_REGISTERS } from "../../../../lib/cpuid/entry.ts";
import type { CpuidDump, CpuidMask } from "../../../../lib/cpuid/formats/dump.ts";
import {
  firecrackerFingerprint,
  firecrackerTemplate,
} from "../../../../lib/cpuid/formats/firecracker.ts";
import { CpuidTable } from "../../../../lib/cpuid/table.ts";
import { SAMPLES } from "./samples.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const template = (value: unknown): CpuidDump =>
  firecrackerTemplate.parse(bytes(typeof value === "string" ? value : JSON.stringify(value)));
const faults = (dump: CpuidDump): readonly string[] =>
  dump.problems.map((p) => `${p.line}:${p.column} ${p.message}`);

/** Creates a template with one register, which has the given bitmap. */
const withBitmap = (bitmap: unknown): object => ({
  cpuid_modifiers: [
    { leaf: "0x7", subleaf: "0x0", flags: 1, modifiers: [{ register: "ebx", bitmap }] },
  ],
});

const maskOf = (dump: CpuidDump): CpuidMask => {
  if (dump.kind !== "mask") throw new Error(`a ${dump.kind}`);
  return dump;
};

/** Writes a mask and returns the JSON value. */
const written = (mask: CpuidMask, msrs = []): unknown =>
  JSON.parse(new TextDecoder().decode(firecrackerTemplate.formatMask?.(mask, msrs)));

describe("a Firecracker template", () => {
  test("has bitmaps, MSRs and capabilities", () => {
    const dump = template(SAMPLES["firecracker-template"]);
    expect(dump).toEqual({
      kind: "mask",
      format: "firecracker-template",
      mask: [
        {
          function: 7,
          indexes: { first: 0, last: 0 },
          register: "ebx",
          mask: 0x220,
          value: 0x200,
          flags: 1,
          line: 8,
        },
      ],
      unlisted: "keep",
      capabilities: [
        { number: 171, isRequired: true },
        { number: 56, isRequired: false },
      ],
      msrs: [{ index: 0x10a, mask: 5n, value: 1n }],
      problems: [],
      notes: [],
    });
  });

  test.each([
    ["0b1", { mask: 1, value: 1 }],
    ["10x", { mask: 6, value: 4 }],
    ["", { mask: 0, value: 0 }],
    ["_", { mask: 0, value: 0 }],
    [`0b${"1".repeat(32)}`, { mask: 0xffffffff, value: 0xffffffff }],
    [`0b${"0".repeat(16)}_${"0".repeat(16)}`, { mask: 0xffffffff, value: 0 }],
  ])("reads the bitmap %j", (bitmap, bits) => {
    expect(maskOf(template(withBitmap(bitmap))).mask).toEqual([expect.objectContaining(bits)]);
  });

  test.each([
    [withBitmap("0b2"), 'cpuid_modifiers[0].modifiers[0].bitmap: "2" is not one of 0, 1, x and _'],
    [withBitmap("1".repeat(33)), "bitmap: it is longer than 32 bits"],
    // Firecracker 1.16 compares the number of characters with the width before it removes underscores.
    [withBitmap(`0b_${"1".repeat(32)}`), "bitmap: it is longer than 32 bits"],
    [withBitmap(1), "bitmap: expected text, got 1"],
    [withBitmap("0B1"), '"B" is not one of 0, 1, x and _'],
    [{ cpuid_modifier: [] }, 'unknown member "cpuid_modifier"; did you mean "cpuid_modifiers"?'],
    [{ __proto__: null, reg_modifiers: [] }, "reg_modifiers: the template is for ARM"],
    [[], "expected an object, got an array"],
    [{ cpuid_modifiers: {} }, "cpuid_modifiers: expected an array, got an object"],
    [{ cpuid_modifiers: [{}] }, "cpuid_modifiers[0]: there is no leaf, subleaf, flags, modifiers"],
    [
      { msr_modifiers: [{ addr: "266", bitmap: "1" }] },
      "msr_modifiers[0].addr: expected a number with the prefix 0x or 0b",
    ],
    [{ msr_modifiers: [{ addr: "0x100000000", bitmap: "1" }] }, "does not fit 32 bits"],
    [{ msr_modifiers: [{ addr: "0x1", bitmap: "1".repeat(65) }] }, "it is longer than 64 bits"],
    [{ kvm_capabilities: [171] }, "kvm_capabilities[0]: expected text, got 171"],
    [{ kvm_capabilities: ["-1"] }, "expected the number of a KVM capability"],
    [{ kvm_capabilities: ["4294967296"] }, "expected the number of a KVM capability"],
    [
      { cpuid_modifiers: [{ leaf: "0x1", subleaf: "0x0", flags: -1, modifiers: [] }] },
      "cpuid_modifiers[0].flags: -1 does not fit 32 bits",
    ],
    [
      {
        cpuid_modifiers: [
          { leaf: "0x1", subleaf: "0x0", flags: 0, modifiers: [{ register: "EAX", bitmap: "1" }] },
        ],
      },
      "cpuid_modifiers[0].modifiers[0].register: expected eax, ebx, ecx or edx",
    ],
    [
      '{"cpuid_modifiers":[],\n "cpuid_modifiers":[]}',
      '2:2 the member "cpuid_modifiers" occurs twice',
    ],
    ['{"cpuid_modifiers": [}', "1:22 the JSON is broken"],
    ['{"__proto__": {"a": 1}}', 'unknown member "__proto__"'],
  ])("refuses %j", (value, fault) => {
    const dump = template(value);
    expect(faults(dump)).toEqual([expect.stringContaining(fault)]);
    expect(maskOf(dump).mask).toEqual([]);
  });

  test("drops the whole leaf if one of its registers has a fault", () => {
    const modifiers = [
      { register: "eax", bitmap: "1" },
      { register: "ebx", bitmap: "2" },
    ];
    const dump = template({
      cpuid_modifiers: [
        { leaf: "0x1", subleaf: "0x0", flags: 0, modifiers },
        { leaf: "0x2", subleaf: "0x0", flags: 0, modifiers: [modifiers[0]] },
      ],
    });
    expect(maskOf(dump).mask.map((change) => change.function)).toEqual([2]);
  });

  const u32 = fc.integer({ min: 0, max: 0xffffffff });
  const change = fc
    .record({
      function: u32,
      index: u32,
      register: fc.constantFrom(...CPUID_REGISTERS),
      mask: u32,
      bits: u32,
      flags: u32,
    })
    .map(({ index, bits, ...rest }) => ({
      ...rest,
      indexes: { first: index, last: index },
      value: (rest.mask & bits) >>> 0,
      line: 0,
    }));
  const msr = fc
    .tuple(
      u32,
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    )
    .map(([index, mask, bits]) => ({ index, mask, value: mask & bits }));

  test("has the same changes, MSRs and capabilities after it was written and read", () => {
    const capability = fc.record({ number: u32, isRequired: fc.boolean() });
    fc.assert(
      fc.property(
        fc.array(change),
        fc.array(msr),
        fc.array(capability),
        (mask, msrs, capabilities) => {
          const contents: CpuidMask = { mask, unlisted: "keep", capabilities };
          const text = firecrackerTemplate.formatMask?.(contents, msrs) ?? new Uint8Array();
          const read = firecrackerTemplate.parse(text);
          expect(read.problems).toEqual([]);
          expect(maskOf(read).mask.map((c) => ({ ...c, line: 0 }))).toEqual(mask);
          expect(read.msrs).toEqual(msrs);
          expect(maskOf(read).capabilities).toEqual(capabilities);
        },
      ),
    );
  });

  test("is written with the members and bitmaps that Firecracker accepts", () => {
    fc.assert(
      fc.property(fc.array(change), (mask) => {
        const value = written({ mask, unlisted: "keep", capabilities: [] });
        expect(Object.keys(value as object)).toEqual([
          ...["kvm_capabilities", "cpuid_modifiers", "msr_modifiers"],
        ]);
        const { cpuid_modifiers: leaves } = value as { cpuid_modifiers: Record<string, unknown>[] };
        for (const leaf of leaves) {
          expect(leaf).toEqual({
            leaf: expect.stringMatching(/^0x[0-9a-f]{1,8}$/),
            subleaf: expect.stringMatching(/^0x[0-9a-f]{1,8}$/),
            flags: expect.any(Number),
            modifiers: expect.any(Array),
          });
          for (const modifier of leaf["modifiers"] as object[]) {
            expect(modifier).toEqual({
              register: expect.stringMatching(/^e[abcd]x$/),
              bitmap: expect.stringMatching(/^0b[01x]{32}$/),
            });
          }
        }
      }),
    );
  });

  test("puts the registers of one leaf into one modifier, in order", () => {
    const at = {
      function: 7,
      indexes: { first: 0, last: 0 },
      mask: 1,
      value: 0,
      flags: 1,
      line: 0,
    };
    const mask = [
      { ...at, register: "ebx" as const },
      { ...at, register: "ecx" as const },
    ];
    expect(written({ mask, unlisted: "keep", capabilities: [] })).toMatchObject({
      cpuid_modifiers: [{ leaf: "0x7", modifiers: [{ register: "ebx" }, { register: "ecx" }] }],
    });
  });

  test.each([
    [{ indexes: { first: 0, last: 1 } }, "it names one sub-leaf, not a range"],
    [{ indexes: undefined }, "it names one sub-leaf, not a range"],
    [{ host: 1 }, "it has no bits that are copied from the host"],
  ])("refuses to write a change with %j", (patch, fault) => {
    const at = {
      function: 7,
      indexes: { first: 0, last: 0 },
      mask: 1,
      value: 0,
      flags: 1,
      line: 0,
    };
    const mask = [{ ...at, register: "ebx" as const, ...patch }];
    expect(() => written({ mask, unlisted: "keep", capabilities: [] })).toThrow(fault);
  });

  test("refuses to write a mask that clears unnamed bits", () => {
    expect(() => written({ mask: [], unlisted: "clear", capabilities: [] })).toThrow(RangeError);
  });

  test("that is made from a table sets every bit of each register", () => {
    const table = CpuidTable.from([{ function: 7, flags: 1, ebx: 0x21 }]);
    const file = { cpu: undefined, table, isComplete: true, lines: [] };
    const text = firecrackerTemplate.format?.([file]) ?? new Uint8Array();
    const fingerprint = `{"guest_cpu_config":${new TextDecoder().decode(text)}}`;
    const dump = firecrackerFingerprint.parse(bytes(fingerprint));
    expect(dump).toMatchObject({ kind: "tables", problems: [], tables: [{ isComplete: true }] });
    expect(dump.kind === "tables" && dump.tables[0]?.table.equals(table)).toBe(true);
  });
});

describe("a Firecracker fingerprint", () => {
  const read = (text: string): CpuidDump => firecrackerFingerprint.parse(bytes(text));

  test("has a complete table, MSRs and facts", () => {
    const dump = read(SAMPLES["firecracker-fingerprint"]);
    expect(dump).toMatchObject({
      kind: "tables",
      problems: [],
      notes: ['kernel_version: "6.1.1"'],
      msrs: [{ index: 0x10a, mask: 0xffff_ffff_ffff_ffffn, value: 1n }],
      tables: [{ isComplete: true, lines: [6, 29] }],
    });
    expect(dump.kind === "tables" && dump.tables[0]?.table.toJSON().entries).toMatchObject([
      { function: "0x0", flags: 0, eax: "0x7" },
      { function: "0x7", flags: 1, ebx: "0x21" },
    ]);
  });

  test("refuses a bit that is neither 0 nor 1, and drops the entry", () => {
    const dump = read(SAMPLES["firecracker-fingerprint"].replace("0b0000", "0bx000"));
    expect(faults(dump)).toEqual(["6:4 0x0.0: a fingerprint has all bits of the four registers"]);
    expect(dump).toMatchObject({ tables: [{ lines: [29] }] });
  });

  test("refuses a register that occurs twice", () => {
    const dump = read(SAMPLES["firecracker-fingerprint"].replace('"eax"', '"ebx"'));
    expect(faults(dump)).toEqual(["6:4 0x0.0: a fingerprint has all bits of the four registers"]);
  });

  test.each([
    ["{}", "there is no guest_cpu_config"],
    ['{"guest_cpu_config":{},"a":1}', 'unknown member "a"'],
    ['{"guest_cpu_config":[]}', "guest_cpu_config: expected an object, got an array"],
    [
      '{"guest_cpu_config":{"reg_modifiers":[]}}',
      "guest_cpu_config.reg_modifiers: the template is for ARM",
    ],
    ['{"guest_cpu_config":{},"kernel_version":5}', "kernel_version: expected text, got 5"],
  ])("refuses %s", (text, fault) => {
    expect(faults(read(text))).toContainEqual(expect.stringContaining(fault));
  });
});
