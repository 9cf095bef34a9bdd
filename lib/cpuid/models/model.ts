/**
 * The shape of a named CPU model: what it adds to the model that it inherits from. The models are levels.ts, intel.ts
 * and amd.ts; lookup.ts finds one, its table is table.ts.
 */
import type { CpuidFieldName } from "../field.ts";
import type { CpuidFieldValuesInput } from "../table.ts";

/** The vendor of a model, as leaf 0 spells it. */
export type CpuidModelVendor = "GenuineIntel" | "AuthenticAMD" | "HygonGenuine";

/** The family, model and stepping that software displays (SDM volume 2, CPUID leaf 1). */
export interface CpuidModelSignature {
  /** The base family plus the extended family, 0 to 270. */
  readonly family: number;
  /** The extended model in bits 7 to 4, the base model in bits 3 to 0. */
  readonly model: number;
  /** 0 to 15. */
  readonly stepping: number;
}

/** One cache of a model's CPU. All lines have 64 bytes. */
export interface CpuidModelCache {
  /** 1 to 3. */
  readonly level: 1 | 2 | 3;
  readonly type: "data" | "instruction" | "unified";
  /** The size in KiB. */
  readonly kib: number;
  /** The associativity. */
  readonly ways: number;
}

/**
 * The names of a model in other programs, as they spell them. A name of QEMU has the same features but for the
 * differences that scripts/models.js lists; a name of libvirt is a name only: libvirt's model may have other features.
 */
export interface CpuidModelAliases {
  readonly qemu: readonly string[];
  readonly libvirt: readonly string[];
}

/** Where the facts of a model are from, by the kind of fact. */
export interface CpuidModelSources {
  /** The source of `vendor`, `signature`, `maxLeaf` and `maxExtended`. */
  readonly identity: string;
  /** The source of `add` and `remove`, and of the variants. */
  readonly features: string;
  /** The source of `physicalBits` and `caches`. */
  readonly sizes: string;
  /**
   * The kinds of fact that were not compared with a second source: their source is the place to check them. The
   * others equal those of a running QEMU, a captured table or a published list.
   */
  readonly unverified: readonly ("identity" | "features" | "sizes")[];
}

/** A variant of a model: the same CPU after a microcode update, or with other choices of the operator. */
export interface CpuidModelVariant {
  /** The name, which starts with the model's. */
  readonly name: string;
  /** One sentence: the change, and its reason. */
  readonly note: string;
  /** The features that the model lacks. */
  readonly add: readonly CpuidFieldName[];
  /** Features of the model that the variant lacks. */
  readonly remove: readonly CpuidFieldName[];
  /** The maximum extended leaf, if it is not the model's. */
  readonly maxExtended?: number;
  readonly aliases: CpuidModelAliases;
}

/**
 * A named CPU model, as a difference from the model that it inherits from. Its features are those of the CPU that a
 * guest can use without the host's help: power management, debug store, performance counters, processor trace, SGX and
 * VMX are not part of it, because each needs MSRs or host resources that a CPUID table does not describe.
 */
export interface CpuidModel {
  /** The name; it is unique without regard to case, `-` and `_`. */
  readonly name: string;
  /** The model whose features this one starts with; undefined for a root. Nothing else is inherited. */
  readonly from: string | undefined;
  /** The CPU in words, with the year of its release. */
  readonly title: string;
  readonly vendor: CpuidModelVendor;
  readonly signature: CpuidModelSignature;
  /** The maximum basic leaf. */
  readonly maxLeaf: number;
  /** The maximum extended leaf, 0x80000008 or more. */
  readonly maxExtended: number;
  /** The one-bit fields that it has and `from` lacks. */
  readonly add: readonly CpuidFieldName[];
  /** The one-bit fields of `from` that it lacks. */
  readonly remove: readonly CpuidFieldName[];
  /** Fields wider than one bit that belong to its features, such as the AVX10 version. */
  readonly values?: CpuidFieldValuesInput;
  /** The brand string, at most 47 characters. */
  readonly brand: string;
  /** The width of physical addresses, 36 to 52. */
  readonly physicalBits: number;
  /** From level 1 up. Empty if the table describes none. */
  readonly caches: readonly CpuidModelCache[];
  readonly variants: readonly CpuidModelVariant[];
  /** The names of this model, not of its variants. */
  readonly aliases: CpuidModelAliases;
  readonly sources: CpuidModelSources;
}

/** The first word of a text that is no field's name; never if each is one. */
type UnknownIn<S extends string> = S extends `${infer First} ${infer Rest}`
  ? First extends CpuidFieldName
    ? UnknownIn<Rest>
    : First
  : S extends CpuidFieldName
    ? never
    : S;

/** The texts themselves if each word is a field's name, so that the compiler rejects others. */
type Checked<T extends readonly string[]> = {
  readonly [K in keyof T]: [UnknownIn<T[K]>] extends [never]
    ? T[K]
    : `unknown field ${UnknownIn<T[K]>}`;
};

/** Splits texts at single spaces into names of fields, which the compiler checks. */
export function names<const T extends readonly string[]>(
  ...texts: Checked<T>
): readonly CpuidFieldName[] {
  // Checked<T> proved that each word is a name.
  return texts.flatMap((text) => text.split(" ")) as readonly CpuidFieldName[];
}

/** Lists names that QEMU and libvirt share. */
export function shared(...names: readonly string[]): CpuidModelAliases {
  return { qemu: names, libvirt: names };
}
