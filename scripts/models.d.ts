/** Types of models.js, for its test. */

/** An intended difference between a model and QEMU's model. */
export interface Intended {
  readonly only: "ours" | "qemu";
  readonly feature: string;
  readonly models: RegExp;
  readonly reason: string;
}

/** A difference; it is intended if it has a reason. */
export interface Difference {
  readonly only: "ours" | "qemu";
  readonly feature: string;
  readonly reason: string | undefined;
}

export const INTENDED: readonly Intended[];
export function expansions(
  program: string,
  names: readonly string[],
): Promise<ReadonlyMap<string, string>>;
export function differences(
  ours: { readonly name: string; readonly features: readonly string[] },
  theirs: { readonly features: readonly string[]; readonly unknown: readonly string[] },
): readonly Difference[];
