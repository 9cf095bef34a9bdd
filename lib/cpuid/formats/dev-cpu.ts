/**
 * Reads bytes that were read from /dev/cpu/N/cpuid in order: `dd if=/dev/cpu/0/cpuid bs=16 count=32`. Each 16 bytes are
 * EAX, EBX, ECX and EDX of the next leaf, from leaf 0, with sub-leaf 0 (drivers: arch/x86/kernel/cpuid.c). A file with
 * other leaves or sub-leaves cannot be recognised, because the bytes contain no leaf numbers.
 */
import { TableCollector } from "./collect.ts";
import type { CpuidDump, CpuidFormat } from "./dump.ts";
import { MOST_ENTRIES } from "./limits.ts";

const RECORD = 16;
/** The highest basic leaf that is accepted; the highest leaf in use is 0x29. */
const HIGHEST_LEAF = 0xff;

function parse(bytes: Uint8Array): CpuidDump {
  const into = new TableCollector(devCpu.name, { contents: "dump", canBeComplete: false });
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const highest = bytes.length < 4 ? 0 : view.getUint32(0, true);
  if (highest > HIGHEST_LEAF) {
    into.problem(0, 1, `the highest leaf is ${highest}, and at most ${HIGHEST_LEAF} is read`);
    return into.finish();
  }
  const records = Math.floor(bytes.length / RECORD);
  if (bytes.length % RECORD !== 0) {
    into.problem(0, records * RECORD + 1, `the file ends within the ${RECORD} bytes of a leaf`);
  }
  if (records > MOST_ENTRIES)
    into.problem(0, 1, `${records} leaves, and at most ${MOST_ENTRIES} are read`);
  const count = Math.min(records, highest + 1, MOST_ENTRIES);
  for (let leaf = 0; leaf < count; leaf += 1) {
    const [eax = 0, ebx = 0, ecx = 0, edx = 0] = [0, 4, 8, 12].map((offset) =>
      view.getUint32(leaf * RECORD + offset, true),
    );
    into.add({ function: leaf, eax, ebx, ecx, edx }, 0);
  }
  if (records > highest + 1) {
    into.note(`the leaves above the highest one, 0x${highest.toString(16)}, are left out`);
  }
  return into.finish();
}

/** Whether four bytes are printable characters, as in a vendor's name. */
const isPrintable = (head: Uint8Array, start: number, end: number): boolean =>
  head.subarray(start, end).every((byte) => byte >= 0x20 && byte < 0x7f);

function likelihood(head: Uint8Array): number {
  if (head.length < RECORD || head.length % RECORD !== 0) return 0;
  const [leaf = 0, ...zeros] = head.subarray(0, 4);
  if (leaf === 0 || zeros.some((byte) => byte !== 0)) return 0;
  return isPrintable(head, 4, RECORD) ? 0.8 : 0;
}

/**
 * The format of bytes from /dev/cpu/N/cpuid, starting with leaf 0. The format is read but not written, because it has
 * no sub-leaves.
 */
export const devCpu: CpuidFormat = {
  name: "dev-cpu",
  title: "bytes read from /dev/cpu/N/cpuid",
  kind: "tables",
  isLossless: false,
  likelihood,
  parse,
  format: undefined,
};
