/**
 * Reads the captured tables of tables/, which are text of `cpuid -r`. The table host-zen5.txt is from a virtual machine
 * on a Zen 5 server; the other files are CPU models of QEMU 7.2's user mode with all features forced on.
 */
import { readdirSync, readFileSync } from "node:fs";
import { CpuidTable, isIndexed } from "../../../lib/cpuid/index.ts";

const FOLDER = new URL("tables/", import.meta.url);

/** The names of the captured tables. */
export const CAPTURED: readonly string[] = readdirSync(FOLDER)
  .map((file) => file.replace(/\.txt$/, ""))
  .sort();

/** Reads a captured table by its name. */
export function captured(name: string): CpuidTable {
  const lines = readFileSync(new URL(`${name}.txt`, FOLDER), "utf8").split("\n");
  const words = lines.map((line) =>
    [...line.matchAll(/0x[0-9a-f]+/g)].map(([word]) => Number(word)),
  );
  return CpuidTable.from(
    words
      .filter((row) => row.length === 6)
      .map(([fn = 0, index = 0, eax = 0, ebx = 0, ecx = 0, edx = 0]) => {
        return { function: fn, index, flags: isIndexed(fn) ? 1 : 0, eax, ebx, ecx, edx };
      }),
  );
}
