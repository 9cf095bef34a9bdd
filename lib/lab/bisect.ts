/** Between a kernel that keeps a claim and one that breaks it: the two neighbours where it changes. */

/** What one kernel says about the claim; a kernel that cannot say is passed over. */
export type Judgement = "good" | "bad" | "skip";

/** Where the claim's verdict changes. */
export interface Turn<K> {
  /** The kernel nearest to the change on the good side, and on the bad side. */
  readonly good: K;
  readonly bad: K;
  /** Kernels between the two that could not say. */
  readonly skipped: readonly K[];
  /** How many kernels were asked, the two given ones included. */
  readonly asked: number;
}

/** An end that does not judge as its name says: there is nothing to search between. */
export class NotAnEnd<K> extends Error {
  override readonly name: string = "NotAnEnd";
  readonly kernel: K;
  readonly judgement: Judgement;

  /** Makes the error; `expected` is what the kernel was given as. */
  constructor(kernel: K, expected: Judgement, judgement: Judgement) {
    super(`${String(kernel)} was given as ${expected}, but is ${judgement}`);
    this.kernel = kernel;
    this.judgement = judgement;
  }
}

/**
 * Finds the change by halving, from either side: `good` may be older or newer than `bad`.
 *
 * @param kernels - all candidates in order, the two ends among them.
 * @throws {@link NotAnEnd} when an end does not judge as given.
 */
export async function bisect<K>(
  kernels: readonly K[],
  good: K,
  bad: K,
  judge: (kernel: K) => Promise<Judgement>,
): Promise<Turn<K>> {
  const known = new Map<K, Judgement>();
  const ask = async (kernel: K): Promise<Judgement> => {
    const judgement = known.get(kernel) ?? (await judge(kernel));
    known.set(kernel, judgement);
    return judgement;
  };
  for (const [kernel, expected] of [
    [good, "good"],
    [bad, "bad"],
  ] as const) {
    const judgement = await ask(kernel);
    if (judgement !== expected) throw new NotAnEnd(kernel, expected, judgement);
  }
  // Positions of the nearest known good and bad kernel; either may be the smaller.
  let [g, b] = [kernels.indexOf(good), kernels.indexOf(bad)];
  for (;;) {
    const between = kernels
      .slice(Math.min(g, b) + 1, Math.max(g, b))
      .filter((kernel) => known.get(kernel) !== "skip");
    const middle = between[Math.floor(between.length / 2)];
    if (middle === undefined) break;
    const judgement = await ask(middle);
    if (judgement === "good") g = kernels.indexOf(middle);
    if (judgement === "bad") b = kernels.indexOf(middle);
  }
  return {
    good: kernels[g] ?? good,
    bad: kernels[b] ?? bad,
    skipped: kernels.slice(Math.min(g, b) + 1, Math.max(g, b)),
    asked: known.size,
  };
}

/** The exit status that `git bisect run` understands. */
export const BISECT_STATUS: Readonly<Record<Judgement, number>> = { good: 0, bad: 1, skip: 125 };
