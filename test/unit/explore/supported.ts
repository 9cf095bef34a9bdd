/** The table of KVM_GET_SUPPORTED_CPUID that the tests of the explorer use; its leaves are those of QEMU's CPU `max`. */
import type { CpuidEntry2 } from "../../../lib/cpuid/index.ts";
import {
  changesOf,
  type KernelRowName,
  type LifecycleHost,
  LifecycleModel,
  lifecycleHost,
} from "../../../lib/oracle/index.ts";

type Row = readonly [
  fn: number,
  index: number,
  flags: number,
  eax: number,
  ebx: number,
  ecx: number,
  edx: number,
];

const ROWS: readonly Row[] = [
  [0x0, 0, 0, 0xd, 0x68747541, 0x444d4163, 0x69746e65],
  [0x1, 0, 0, 0x00060fb1, 0x00000800, 0x76fab203, 0x078bfbff],
  [0x2, 0, 0, 1, 0, 0x4d, 0x2c307d],
  [0x5, 0, 0, 0, 0, 3, 0],
  [0x6, 0, 0, 4, 0, 0, 0],
  [0x7, 0, 1, 0, 0x009c07ab, 0x0001000c, 0x00000010],
  [0xd, 0, 1, 0x207, 0xa88, 0xa88, 0],
  [0xd, 1, 1, 0x5, 0, 0, 0],
  [0xd, 2, 1, 0x100, 0x240, 0, 0],
  [0xd, 9, 1, 0x8, 0xa80, 0, 0],
  [0x80000000, 0, 0, 0x8000001f, 0, 0, 0],
  [0x80000001, 0, 0, 0x00060fb1, 0, 0x000000f5, 0x2c100800],
  [0x80000002, 0, 0, 0x554d4551, 0x54434720, 0x55504320, 0x72657620],
  [0x80000007, 0, 0, 0, 0, 0, 0],
  [0x80000008, 0, 0, 0x3928, 0x01011000, 0, 0],
  [0x8000000a, 0, 0, 1, 8, 0, 0x401],
  [0x40000000, 0, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d],
  [0x40000001, 0, 0, 0x01007afb, 0, 0, 0],
];

/** The entries of the table. */
export const SUPPORTED: readonly CpuidEntry2[] = ROWS.map(
  ([fn, index, flags, eax, ebx, ecx, edx]) => ({
    function: fn,
    index,
    flags,
    eax,
    ebx,
    ecx,
    edx,
    padding: [0, 0, 0],
  }),
);

/** The facts about a host with this table. */
export const HOST: LifecycleHost = lifecycleHost(SUPPORTED);

/** Makes the model of a kernel with these rows. */
export const modelOf = (...rows: readonly KernelRowName[]): LifecycleModel =>
  new LifecycleModel(HOST, changesOf(rows));
