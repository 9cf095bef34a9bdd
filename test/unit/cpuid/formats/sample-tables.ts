/** Tables for the tests of formats: two CPUs whose leaves have sub-leaves, and arbitrary tables. */
import fc from "fast-check";
import {
  type CpuidEntry2Input,
  type CpuidFileTable,
  CpuidTable,
} from "../../../../lib/cpuid/index.ts";

const GENUINE_INTEL = { ebx: 0x756e6547, ecx: 0x6c65746e, edx: 0x49656e69 };

function cpu(apicId: number): readonly CpuidEntry2Input[] {
  return [
    { function: 0, eax: 0xd, ...GENUINE_INTEL },
    { function: 1, eax: 0x000906ea, ebx: apicId * 0x1000000 + 0x00100800, ecx: 0x7ffafbbf },
    { function: 4, index: 0, flags: 1, eax: 0x1c004121, ebx: 0x01c0003f, ecx: 0x3f },
    { function: 4, index: 1, flags: 1, eax: 0x1c03c163, ebx: 0x03c0003f, ecx: 0x2fff, edx: 6 },
    { function: 4, index: 2, flags: 1 },
    { function: 7, flags: 1, ebx: 0x009c6fbf, edx: 0xbc000600 },
    { function: 0xb, index: 0, flags: 1, eax: 1, ebx: 2, ecx: 0x100, edx: apicId },
    { function: 0xb, index: 1, flags: 1, eax: 4, ebx: 16, ecx: 0x201, edx: apicId },
    { function: 0xb, index: 2, flags: 1, ecx: 2, edx: apicId },
    { function: 0xd, index: 0, flags: 1, eax: 7, ebx: 0x340, ecx: 0x340 },
    { function: 0xd, index: 1, flags: 1, eax: 0xf },
    { function: 0xd, index: 2, flags: 1, eax: 0x100, ebx: 0x240 },
    { function: 0x80000000, eax: 0x80000008 },
    { function: 0x80000001, ecx: 0x121, edx: 0x2c100800 },
    { function: 0x80000008, eax: 0x3027 },
  ];
}

/** Creates the tables of a file in the form that the writing functions accept. */
export function fileTable(
  entries: Iterable<CpuidEntry2Input>,
  number?: number,
  isComplete = true,
): CpuidFileTable {
  return { cpu: number, table: CpuidTable.from(entries), isComplete, lines: [] };
}

/** The table of one CPU, without a CPU number. */
export const oneCpu: readonly CpuidFileTable[] = [fileTable(cpu(0))];

/** The tables of two CPUs, with CPU numbers. */
export const twoCpus: readonly CpuidFileTable[] = [fileTable(cpu(0), 0), fileTable(cpu(2), 1)];

const few = (apicId: number, leaves: readonly number[], last: number): CpuidFileTable =>
  fileTable(
    cpu(apicId).filter(({ function: fn, index = 0 }) => leaves.includes(fn) && index <= last),
    apicId,
  );

/**
 * Two CPUs with few entries, for tests that damage each byte, because the time of these tests grows with the square of
 * the file's length.
 */
export const fewEntries: readonly CpuidFileTable[] = [
  few(0, [0, 4, 0x80000008], 1),
  few(2, [0, 4], 0),
];

const u32 = fc.oneof(
  fc.integer({ min: 0, max: 0xffffffff }),
  fc.constantFrom(0, 1, 0xffffffff, 0x80000000),
);

const anyEntry: fc.Arbitrary<CpuidEntry2Input> = fc.record({
  function: fc.oneof(u32, fc.constantFrom(0, 1, 4, 7, 0xb, 0x40000000, 0x80000008, 0xc0000000)),
  index: fc.oneof(fc.constantFrom(0, 0, 1, 2, 63), u32),
  flags: fc.oneof(fc.constantFrom(0, 1, 7), u32),
  eax: u32,
  ebx: u32,
  ecx: u32,
  edx: u32,
});

const anyTable = fc.array(anyEntry, { maxLength: 12 });

/** Arbitrary tables of 1 to 4 CPUs; the order, duplicates, flags and sub-leaves are arbitrary. */
export const anyTables: fc.Arbitrary<readonly CpuidFileTable[]> = fc
  .array(anyTable, { minLength: 1, maxLength: 4 })
  .map((tables) =>
    tables.map((entries, i) => fileTable(entries, tables.length > 1 ? i : undefined)),
  );
