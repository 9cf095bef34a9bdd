/**
 * The type of a named CPU model, as a difference from the model that it inherits from. levels.ts, intel.ts and amd.ts
 * contain the models; lookup.ts finds a model, and table.ts makes its table.
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
 * The names of a model in other programs, as they spell them. A model of QEMU with this name has the same features,
 * except for the differences that scripts/models.js lists. A model of libvirt with this name may have other features.
 */
export interface CpuidModelAliases {
  readonly qemu: readonly string[];
  readonly libvirt: readonly string[];
}

/** The sources of a model's facts, by the kind of fact. */
export interface CpuidModelSources {
  /** The source of `vendor`, `signature`, `maxLeaf` and `maxExtended`. */
  readonly identity: string;
  /** The source of `add` and `remove`, and of the variants. */
  readonly features: string;
  /** The source of `physicalBits` and `caches`. */
  readonly sizes: string;
  /**
   * The kinds of fact that were not compared with a second source. All other facts were compared with a running QEMU, a
   * captured table or a published list, and are equal.
   */
  readonly unverified: readonly ("identity" | "features" | "sizes")[];
}

/** A variant of a model: the same CPU after a microcode update, or with other choices of the operator. */
export interface CpuidModelVariant {
  /** The name, which starts with the name of the model. */
  readonly name: string;
  /** The change and its reason, in one sentence. */
  readonly note: string;
  /** The features that the model lacks. */
  readonly add: readonly CpuidFieldName[];
  /** The features of the model that the variant lacks. */
  readonly remove: readonly CpuidFieldName[];
  /** The maximum extended leaf, if it differs from the model's maximum. */
  readonly maxExtended?: number;
  readonly aliases: CpuidModelAliases;
}

/**
 * A named CPU model, as a difference from the model that it inherits from. The model has the features of the CPU that a
 * guest can use without support of the host. Power management, debug store, performance counters, processor trace, SGX
 * and VMX are not included, because each needs MSRs or host resources that a CPUID table does not describe.
 */
export interface CpuidModel {
  /** The name; it is unique without regard to case, `-` and `_`. */
  readonly name: string;
  /** The model whose features this model inherits; undefined for a root. Only features are inherited. */
  readonly from: string | undefined;
  /** The CPU in words, with the year of its release. */
  readonly title: string;
  readonly vendor: CpuidModelVendor;
  readonly signature: CpuidModelSignature;
  /** The maximum basic leaf. */
  readonly maxLeaf: number;
  /** The maximum extended leaf, 0x80000008 or more. */
  readonly maxExtended: number;
  /** The one-bit fields that this model has and `from` lacks. */
  readonly add: readonly CpuidFieldName[];
  /** The one-bit fields of `from` that this model lacks. */
  readonly remove: readonly CpuidFieldName[];
  /** Fields wider than one bit that belong to its features, such as the AVX10 version. */
  readonly values?: CpuidFieldValuesInput;
  /** The brand string, at most 47 characters. */
  readonly brand: string;
  /** The width of physical addresses, 36 to 52. */
  readonly physicalBits: number;
  /** The caches from level 1 up; empty if the table describes no caches. */
  readonly caches: readonly CpuidModelCache[];
  readonly variants: readonly CpuidModelVariant[];
  /** The names of this model in other programs; its variants have their own names. */
  readonly aliases: CpuidModelAliases;
  readonly sources: CpuidModelSources;
}

/** The first word of a text that is not the name of a field; `never` if all words are names. */
type UnknownIn<S extends string> = S extends `${infer First} ${infer Rest}`
  ? First extends CpuidFieldName
    ? UnknownIn<Rest>
    : First
  : S extends CpuidFieldName
    ? never
    : S;

/**
 * The type of the texts if each word is the name of a field; otherwise a type that makes the compiler reject the texts.
 */
type Checked<T extends readonly string[]> = {
  readonly [K in keyof T]: [UnknownIn<T[K]>] extends [never]
    ? T[K]
    : `unknown field ${UnknownIn<T[K]>}`;
};

/** Splits texts at single spaces into names of fields, which the compiler checks. */
export function names<const T extends readonly string[]>(
  ...texts: Checked<T>
): readonly CpuidFieldName[] {
  // Checked<T> proves that each word is the name of a field.
  return texts.flatMap((text) => text.split(" ")) as readonly CpuidFieldName[];
}

/** Returns the names of a model that QEMU and libvirt share. */
export function shared(...names: readonly string[]): CpuidModelAliases {
  return { qemu: names, libvirt: names };
}
