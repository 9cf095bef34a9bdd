/** Tables without a lint finding: one for an Intel guest and one for an AMD guest, each with two logical CPUs. */
import { type CpuidEntry2Input, CpuidTable } from "../../../../lib/cpuid/index.ts";

type Registers = readonly [eax: number, ebx: number, ecx: number, edx: number];

const plain = (fn: number, [eax, ebx, ecx, edx]: Registers): CpuidEntry2Input => ({
  function: fn,
  eax,
  ebx,
  ecx,
  edx,
});

const subleaf = (fn: number, index: number, registers: Registers): CpuidEntry2Input => ({
  ...plain(fn, registers),
  index,
  flags: 1,
});

const bits = (...numbers: readonly number[]): number =>
  numbers.reduce((word, bit) => (word | (1 << bit)) >>> 0, 0);

function brand(text: string): readonly CpuidEntry2Input[] {
  const word = (offset: number): number =>
    [0, 1, 2, 3].reduce((w, i) => w + ((text.codePointAt(offset + i) ?? 0) << (8 * i)), 0);
  return [0, 16, 32].map((from, i) =>
    plain(0x8000_0002 + i, [word(from), word(from + 4), word(from + 8), word(from + 12)]),
  );
}

const KVM: readonly CpuidEntry2Input[] = [
  plain(0x4000_0000, [0x4000_0001, 0x4b4d_564b, 0x564b_4d56, 0x4d]),
  plain(0x4000_0001, [0x0100_7efb, 0, 0, 0]),
];

/** A guest of a Sapphire Rapids CPU: AVX-512, AMX, leaves up to 0x1f. */
export const INTEL: CpuidTable = CpuidTable.from([
  plain(0, [0x1f, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]),
  plain(1, [
    0x0008_06f4,
    0x0002_0800,
    bits(0, 1, 9, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 28, 29, 30, 31),
    0x1f8b_fbff,
  ]),
  plain(2, [0x00fe_ff01, 0xf0, 0, 0]),
  subleaf(4, 0, [0x4121, 0x02c0_003f, 0x3f, 0]),
  subleaf(4, 1, [0x4122, 0x01c0_003f, 0x3f, 0]),
  subleaf(4, 2, [0x4143, 0x03c0_003f, 0x7ff, 0]),
  subleaf(4, 3, [0x4163, 0x0380_003f, 0xdfff, 4]),
  subleaf(4, 4, [0, 0, 0, 0]),
  plain(6, [4, 0, 0, 0]),
  subleaf(7, 0, [
    2,
    bits(0, 1, 3, 5, 7, 8, 9, 10, 16, 17, 18, 19, 20, 21, 23, 24, 28, 29, 30, 31),
    bits(1, 2, 3, 6, 8, 9, 10, 11, 12, 14, 16, 22),
    bits(4, 14, 22, 23, 24, 25, 26, 27, 29, 31),
  ]),
  subleaf(7, 1, [bits(4, 5, 21), 0, 0, 0]),
  subleaf(7, 2, [0, 0, 0, bits(0, 4)]),
  plain(0xa, [0x0730_0802, 0, 0, 0x603]),
  subleaf(0xb, 0, [1, 2, 0x100, 0]),
  subleaf(0xb, 1, [1, 2, 0x201, 0]),
  subleaf(0xb, 2, [0, 0, 2, 0]),
  subleaf(0xd, 0, [0x602e7, 576, 11_008, 0]),
  subleaf(0xd, 1, [0x1f, 576, 0, 0]),
  subleaf(0xd, 2, [256, 576, 0, 0]),
  subleaf(0xd, 5, [64, 1088, 0, 0]),
  subleaf(0xd, 6, [512, 1152, 0, 0]),
  subleaf(0xd, 7, [1024, 1664, 0, 0]),
  subleaf(0xd, 9, [8, 2688, 0, 0]),
  subleaf(0xd, 17, [64, 2752, 2, 0]),
  subleaf(0xd, 18, [8192, 2816, 6, 0]),
  plain(0x15, [2, 160, 25_000_000, 0]),
  plain(0x16, [2000, 3800, 100, 0]),
  subleaf(0x1d, 0, [1, 0, 0, 0]),
  subleaf(0x1d, 1, [0x0400_2000, 0x0008_0040, 16, 0]),
  subleaf(0x1e, 0, [1, 0x4010, 0, 0]),
  subleaf(0x1e, 1, [0xb, 0, 0, 0]),
  subleaf(0x1f, 0, [1, 2, 0x100, 0]),
  subleaf(0x1f, 1, [1, 2, 0x201, 0]),
  subleaf(0x1f, 2, [0, 0, 2, 0]),
  ...KVM,
  plain(0x8000_0000, [0x8000_0008, 0, 0, 0]),
  plain(0x8000_0001, [0, 0, bits(0, 5, 8), bits(11, 20, 26, 27, 29)]),
  ...brand("Guest of an Intel CPU"),
  plain(0x8000_0006, [0, 0, 0x0800_7040, 0]),
  plain(0x8000_0007, [0, 0, 0, 0x100]),
  plain(0x8000_0008, [0x392e, bits(9), 0, 0]),
]);

/** A guest of a Genoa CPU: AVX-512, shadow stacks, leaves up to 0x80000026. */
export const AMD: CpuidTable = CpuidTable.from([
  plain(0, [0xd, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
  plain(1, [
    0x00a1_0f10,
    0x0002_0800,
    bits(0, 1, 9, 12, 13, 17, 19, 20, 21, 22, 23, 25, 26, 28, 29, 30, 31),
    0x178b_fbff,
  ]),
  plain(2, [0, 0, 0, 0]),
  plain(6, [4, 0, 0, 0]),
  subleaf(7, 0, [
    1,
    bits(0, 3, 5, 7, 8, 9, 10, 16, 17, 18, 19, 20, 21, 23, 24, 28, 29, 30, 31),
    bits(1, 2, 3, 6, 7, 8, 9, 10, 11, 12, 14, 16, 22),
    bits(4, 28),
  ]),
  subleaf(7, 1, [bits(5), 0, 0, 0]),
  subleaf(0xb, 0, [1, 2, 0x100, 0]),
  subleaf(0xb, 1, [1, 2, 0x201, 0]),
  subleaf(0xb, 2, [0, 0, 2, 0]),
  subleaf(0xd, 0, [0x2e7, 576, 2440, 0]),
  subleaf(0xd, 1, [0xf, 576, 0x1800, 0]),
  subleaf(0xd, 2, [256, 576, 0, 0]),
  subleaf(0xd, 5, [64, 832, 0, 0]),
  subleaf(0xd, 6, [512, 896, 0, 0]),
  subleaf(0xd, 7, [1024, 1408, 0, 0]),
  subleaf(0xd, 9, [8, 2432, 0, 0]),
  subleaf(0xd, 11, [16, 0, 1, 0]),
  subleaf(0xd, 12, [24, 0, 1, 0]),
  ...KVM,
  plain(0x8000_0000, [0x8000_0026, 0x6874_7541, 0x444d_4163, 0x6974_6e65]),
  plain(0x8000_0001, [0x00a1_0f10, 0, bits(0, 1, 4, 5, 6, 7, 8, 9, 22, 23), 0x2fd3_fbff]),
  ...brand("Guest of an AMD CPU"),
  plain(0x8000_0005, [0, 0, 0x2008_0140, 0x2008_0140]),
  plain(0x8000_0006, [0, 0, 0x0400_6140, 0x0100_9140]),
  plain(0x8000_0007, [0, 0, 0, 0x100]),
  plain(0x8000_0008, [0x3930, bits(0, 2, 9, 12, 14, 15, 24), 0x1001, 0]),
  subleaf(0x8000_001d, 0, [0x4121, 0x01c0_003f, 0x3f, 0]),
  subleaf(0x8000_001d, 1, [0x4122, 0x01c0_003f, 0x3f, 0]),
  subleaf(0x8000_001d, 2, [0x4143, 0x01c0_003f, 0x7ff, 0]),
  subleaf(0x8000_001d, 3, [0x4163, 0x03c0_003f, 0x7fff, 0]),
  subleaf(0x8000_001d, 4, [0, 0, 0, 0]),
  plain(0x8000_001e, [0, 0x100, 0, 0]),
  plain(0x8000_0021, [bits(2, 6, 8), 0, 0, 0]),
  plain(0x8000_0022, [1, 6, 0, 0]),
  subleaf(0x8000_0026, 0, [1, 2, 0x100, 0]),
  subleaf(0x8000_0026, 1, [1, 2, 0x201, 0]),
  subleaf(0x8000_0026, 2, [1, 2, 0x302, 0]),
  subleaf(0x8000_0026, 3, [1, 2, 0x403, 0]),
  subleaf(0x8000_0026, 4, [0, 0, 4, 0]),
]);
