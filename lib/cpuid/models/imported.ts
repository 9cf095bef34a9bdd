/**
 * A CPU model that was read from another program's files, and its table. qemu.ts reads QEMU's models, and libvirt.ts
 * reads libvirt's.
 */
import { refuseMissing } from "../../options.ts";
import { type CpuidFieldName, field } from "../field.ts";
import type { CpuidTable } from "../table.ts";
import type { CpuidModelSignature } from "./model.ts";
import { tableOf } from "./table.ts";

/** A CPU model of another program. */
export interface ImportedCpuidModel {
  /** The name, as the program spells it. */
  readonly name: string;
  /** The vendor's twelve characters, as in leaf 0. */
  readonly vendor: string;
  readonly signature: CpuidModelSignature;
  /** The maximum basic leaf. */
  readonly maxLeaf: number;
  /** The maximum extended leaf, 0x80000008 or more. */
  readonly maxExtended: number;
  /** The one-bit fields that are 1, except fields whose leaf is above the maximum. */
  readonly features: readonly CpuidFieldName[];
  /**
   * The features that are not CPUID fields of this package, as the program spells them: bits of MSRs, or unknown bits.
   */
  readonly unknown: readonly string[];
  /** The brand string, at most 47 characters. */
  readonly brand: string;
  /** The width of physical addresses; 40 if the program's file does not contain it. */
  readonly physicalBits: number;
  /** The members that have a default, because the program's files do not contain them; empty if they contain all. */
  readonly assumed: readonly ("vendor" | "signature" | "physicalBits")[];
}

/** QEMU's default width of physical addresses. */
export const DEFAULT_PHYSICAL_BITS = 40;

/** Keeps the one-bit fields whose leaf is not above its maximum, each once. */
export function reachable(
  names: Iterable<CpuidFieldName>,
  maxLeaf: number,
  maxExtended: number,
): readonly CpuidFieldName[] {
  return [...new Set(names)].filter((name) => {
    const { function: fn, low, high, space } = field(name);
    return space === "native" && low === high && fn <= (fn < 0x8000_0000 ? maxLeaf : maxExtended);
  });
}

/**
 * Makes the table of an imported model, as modelTable() does for a model of this package: one CPU with one thread,
 * without caches.
 *
 * @throws TypeError for anything but an imported model.
 */
export function importedModelTable(model: ImportedCpuidModel): CpuidTable {
  const members = ["vendor", "signature", "maxLeaf", "maxExtended", "features", "brand"];
  refuseMissing("importedModelTable()", model, [...members, "physicalBits"]);
  return tableOf(model);
}
