/** Bisection: finds the two neighbouring kernels between which a claim's verdict changes. */

/** The judgement of a claim on one kernel; a kernel that cannot be judged is skipped. */
export type Judgement = "good" | "bad" | "skip";

/** The place where the claim's verdict changes. */
export interface Turn<K> {
  /**
   * The kernels next to the change: the last kernel with the verdict of `good`, and the first kernel with the verdict
   * of `bad`.
   */
  readonly good: K;
  readonly bad: K;
  /** The kernels between `good` and `bad` that could not be judged. */
  readonly skipped: readonly K[];
  /** The number of judged kernels, including the caller's two kernels. */
  readonly asked: number;
}

/**
 * Reports that one of the caller's two kernels has another judgement than the caller expected, so no search is
 * possible.
 */
export class NotAnEnd<K> extends Error {
  override readonly name: string = "NotAnEnd";
  readonly kernel: K;
  readonly judgement: Judgement;

  /** Makes the error; `expected` is the judgement that the caller expected for the kernel. */
  constructor(kernel: K, expected: Judgement, judgement: Judgement) {
    super(`${String(kernel)} was given as ${expected}, but is ${judgement}`);
    this.kernel = kernel;
    this.judgement = judgement;
  }
}

/**
 * Finds the change by bisection; `good` may be older or newer than `bad`.
 *
 * @param kernels - all candidates in order, including the two ends.
 * @throws {@link NotAnEnd} if an end is not judged as given.
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
  // The positions of the nearest good and bad kernels found so far, in either order.
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

/** The exit status that `git bisect run` expects. */
export const BISECT_STATUS: Readonly<Record<Judgement, number>> = { good: 0, bad: 1, skip: 125 };
