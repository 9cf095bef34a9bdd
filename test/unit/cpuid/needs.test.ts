/** Tests of needs(): with bytes whose instructions are known, and with programs that this machine's compiler builds. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  CpuidTable,
  elfCode,
  fields,
  formatNeed,
  INSTRUCTION_FEATURES,
  needs,
  WITHOUT_SUPPORT,
} from "../../../lib/cpuid/index.ts";
import { instructionDecoder } from "../../../lib/guest/index.ts";

const x86 = createRequire(import.meta.url)("iced-x86") as {
  readonly CpuidFeature: object;
  readonly Mnemonic: object;
};
const namesIn = (values: object): readonly string[] =>
  Object.entries(values)
    .filter(([, value]) => typeof value === "number")
    .map(([name]) => name);

const decoder = instructionDecoder();
const empty = CpuidTable.from([
  { function: 1 },
  { function: 7, flags: 1 },
  { function: 7, index: 1, flags: 1 },
  { function: 0x80000001 },
]);
const v1 = empty.with({
  ...{ fpu: 1, cmov: 1, cx8: 1, mmx: 1, fxsr: 1, sse: 1, sse2: 1 },
  ...{ syscall: 1, lm: 1 },
});
const v2 = v1.with({ cx16: 1, lahf_lm: 1, popcnt: 1, pni: 1, ssse3: 1, sse4_1: 1, sse4_2: 1 });

describe("the table of instruction sets", () => {
  test("has each name that the decoder uses, and no other name", () => {
    expect(new Set(Object.keys(INSTRUCTION_FEATURES))).toEqual(new Set(namesIn(x86.CpuidFeature)));
  });

  test("names only fields that exist", () => {
    const known = new Set<string>(fields().map(({ name }) => name));
    const used = Object.values(INSTRUCTION_FEATURES).flatMap((known) =>
      known.kind === "any" ? known.fields : [],
    );
    expect(used.filter((name) => !known.has(name))).toEqual([]);
    expect(used.length).toBeGreaterThan(120);
  });

  test("has no unnamed bit for which the database has a name", () => {
    const named = Object.values(INSTRUCTION_FEATURES).flatMap((known) => {
      if (known.kind !== "bit") return [];
      const { function: fn, index, register, bit } = known.bit;
      return fields().filter(
        (one) =>
          one.space === "native" &&
          one.function === fn &&
          one.index === index &&
          one.register === register &&
          one.low <= bit &&
          bit <= one.high,
      );
    });
    expect(named).toEqual([]);
  });

  test("lists as exceptions only mnemonics that the decoder uses", () => {
    const known = namesIn(x86.Mnemonic).map((name) => name.toLowerCase());
    expect(Object.keys(WITHOUT_SUPPORT).filter((name) => !known.includes(name))).toEqual([]);
  });
});

const code = (...bytes: readonly number[]): Uint8Array => Uint8Array.from(bytes);
const VPADDD_YMM = [0xc5, 0xfd, 0xfe, 0xc0];
const VPADDD_ZMM_K = [0x62, 0xf1, 0x7d, 0x29, 0xfe, 0xc0]; // vpaddd ymm0{k1}, ymm0, ymm0
const ADD = [0x01, 0xc0];

describe("needs()", () => {
  test("returns the first instruction, its address and the missing bit", () => {
    const found = needs(code(...ADD, ...VPADDD_YMM, ...VPADDD_YMM), v2, { decoder, ip: 0x1000 });
    expect(found).toMatchObject({ instructions: 3, invalid: 0, unknown: [] });
    expect(found.missing).toEqual([
      {
        feature: "AVX2",
        fields: ["avx2"],
        where: "0x7.0:ebx[5]",
        isMet: false,
        effect: "invalid-opcode",
        runsAs: undefined,
        count: 2,
        first: { ip: 0x1002n, mnemonic: "vpaddd" },
      },
    ]);
    expect(found.missing.map(formatNeed)).toEqual([
      "0x1002 vpaddd needs AVX2: 0x7.0:ebx[5] avx2 (2 instructions)",
    ]);
  });

  test("reports a need as met if the table meets it", () => {
    const { missing, needs: all } = needs(code(...VPADDD_YMM), v2.with({ avx2: 1 }), { decoder });
    expect(missing).toEqual([]);
    expect(all).toMatchObject([{ feature: "AVX2", isMet: true }]);
  });

  test("requires all instruction sets that an instruction needs", () => {
    const { missing } = needs(code(...VPADDD_ZMM_K), v2, { decoder });
    expect(missing.map(({ feature }) => feature)).toEqual(["AVX512VL", "AVX512F"]);
  });

  test("requires one of the fields that report the same instruction set", () => {
    const xtest = code(0x0f, 0x01, 0xd6);
    expect(needs(xtest, v2, { decoder }).missing.map(formatNeed)).toEqual([
      "0x0 xtest needs HLE_or_RTM: 0x7.0:ebx[4] hle or rtm (1 instruction)",
    ]);
    expect(needs(xtest, v2.with({ rtm: 1 }), { decoder }).missing).toEqual([]);
    expect(needs(xtest, v2.with({ hle: 1 }), { decoder }).missing).toEqual([]);
  });

  test("finds a bit that the database does not name", () => {
    const aadd = code(0x0f, 0x38, 0xfc, 0x03); // aadd [rbx], eax
    expect(needs(aadd, v2, { decoder }).missing.map(formatNeed)).toEqual([
      "0x0 aadd needs RAO_INT: 0x7.1:eax[3] reserved (1 instruction)",
    ]);
    expect(needs(aadd, v2.replace(2, { eax: 8 }), { decoder }).missing).toEqual([]);
  });

  test("does not report hints that run as NOP", () => {
    const hints = code(0xf3, 0x0f, 0x1e, 0xfa, 0xf3, 0x48, 0x0f, 0x1e, 0xc8, 0xf3, 0x90);
    expect(needs(hints, v1, { decoder })).toMatchObject({ instructions: 3, missing: [] });
  });

  test("reports for TZCNT and LZCNT which instruction runs instead", () => {
    const counts = code(0xf3, 0x0f, 0xbc, 0xc0, 0xf3, 0x0f, 0xbd, 0xc0);
    expect(needs(counts, v1, { decoder }).missing.map(formatNeed)).toEqual([
      "0x0 tzcnt needs BMI1: 0x7.0:ebx[3] bmi1 (1 instruction), and runs as BSF without it",
      "0x4 lzcnt needs LZCNT: 0x80000001.0:ecx[5] abm (1 instruction), and runs as BSR without it",
    ]);
  });

  test("reports a real use of BMI1 separately from TZCNT", () => {
    const andn = [0xc4, 0xe2, 0x78, 0xf2, 0xc0];
    const { missing } = needs(code(0xf3, 0x0f, 0xbc, 0xc0, ...andn), v1, { decoder });
    expect(missing.map(({ effect }) => effect)).toEqual(["other-instruction", "invalid-opcode"]);
  });

  test("counts bytes that are not an instruction, and continues after them", () => {
    const found = needs(code(0x06, ...VPADDD_YMM), v1, { decoder });
    expect(found).toMatchObject({ instructions: 1, invalid: 1, missing: [{ first: { ip: 1n } }] });
  });

  test("decodes code of the given bitness", () => {
    expect(needs(code(0x06), v1, { decoder, bitness: 32 })).toMatchObject({ instructions: 1 });
  });

  test("finds instructions across the boundaries of the decoder's chunks", () => {
    const long = new Uint8Array(0x20000 + 4).fill(0x90);
    for (let at = 0xfff2; at < 0x10012; at += 4) long.set(VPADDD_YMM, at);
    long.set(VPADDD_YMM, 0x20000);
    expect(needs(long, v1, { decoder })).toMatchObject({
      instructions: 0x20000 - 32 + 8 + 1,
      invalid: 0,
      missing: [{ count: 9, first: { ip: 0xfff2n } }],
    });
  });

  test("reports a decoder's instruction sets that needs() does not know", () => {
    const other = {
      decode: () => [{ ip: 0n, mnemonic: "new", features: ["NEW", "AVX2", "toString"] }],
    };
    const found = needs(code(0x90), v1, { decoder: other });
    expect(found).toMatchObject({ unknown: ["NEW", "toString"], missing: [{ feature: "AVX2" }] });
  });

  test.each([
    [() => needs(code(), v1, {} as never), "needs(): missing option decoder"],
    [
      () => needs(code(), v1, { decoder: 5 } as never),
      "needs(): decoder: expected instructionDecoder(), got 5",
    ],
    [
      () => needs(code(), v1, { decoder, bitness: 8 as 16 }),
      "needs(): bitness is 16, 32 or 64, not 8",
    ],
    [
      () => needs(code(), v1, { decoder, ipp: 8 } as never),
      'unknown option "ipp"; did you mean "ip"?',
    ],
    [() => needs("code" as never, v1, { decoder }), "needs(): code: expected an array"],
    [
      () => needs([{ address: 0 }] as never, v1, { decoder }),
      "needs(): code[0]: missing member bytes",
    ],
    [() => formatNeed({} as never), "formatNeed(): missing members"],
  ])("refuses a wrong argument: %s", (call, message) => {
    expect(call).toThrow(TypeError);
    expect(call).toThrow(message);
  });
});

describe("a compiled program", () => {
  test("with -mavx2 is reported with the address of the first AVX2 instruction", () => {
    const folder = mkdtempSync(join(tmpdir(), "needs-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const source = join(folder, "sum.c");
    const program = join(folder, "sum.o");
    writeFileSync(
      source,
      `typedef int v8 __attribute__((vector_size(32)));
      int plain(int a, int b) { return a + b; }
      v8 sum(v8 a, v8 b) { return a + b; }\n`,
    );
    execFileSync("gcc", ["-O2", "-mavx2", "-fcf-protection", "-c", "-o", program, source]);
    const { missing } = needs(elfCode(readFileSync(program)), v2, { decoder });
    const avx2 = missing.filter(({ feature }) => feature === "AVX2");
    const symbols = execFileSync("nm", [program], { encoding: "utf8" });
    const [, address] = /^([0-9a-f]+) T sum$/m.exec(symbols) ?? [];
    // The function begins with ENDBR64, an instruction of four bytes.
    expect(avx2).toMatchObject([
      { where: "0x7.0:ebx[5]", first: { ip: BigInt(`0x${address}`) + 4n, mnemonic: "vpaddd" } },
    ]);
    const all = v2.with({ avx: 1, avx2: 1 });
    expect(needs(elfCode(readFileSync(program)), all, { decoder }).missing).toEqual([]);
  });

  test("of this system (/bin/true) has no instruction that fails on x86-64-v1", () => {
    const found = needs(elfCode(readFileSync("/bin/true")), v1, { decoder });
    expect(found.instructions).toBeGreaterThan(1000);
    expect(found.missing.filter(({ effect }) => effect === "invalid-opcode")).toEqual([]);
  });
});
