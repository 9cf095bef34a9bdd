// Measures in interleaved rounds: each round measures every contender once, and a disturbance thus affects all
// contenders. stage.js makes the contenders.

/** @typedef {{ ns: number, operations: number }} Span */

/**
 * Measures the time of a sample, or returns the time that the sample itself has measured.
 *
 * @param {(n: number) => number | Span | Promise<number | Span>} sample does n operations; returns how many it did
 * @param {number} n
 * @returns {Promise<Span>}
 */
export async function timed(sample, n) {
  const start = process.hrtime.bigint();
  let answer = sample(n);
  // Only an asynchronous sample is awaited, because a turn of the microtask queue costs time.
  if (answer instanceof Promise) answer = await answer;
  const ns = Number(process.hrtime.bigint() - start);
  return typeof answer === "number" ? { ns, operations: answer } : answer;
}

/** The warm-up time of each contender: V8 compiles hot code, and an emulator translates new code. */
const WARM_UP_MS = 500;

/** @param {{ measure: () => Promise<Span> }} contender */
async function warmUp(contender) {
  const start = performance.now();
  do await contender.measure();
  while (performance.now() - start < WARM_UP_MS);
}

/**
 * Measures contenders against each other.
 *
 * @param {readonly { measure: () => Promise<Span> }[]} contenders
 * @param {number} rounds
 * @returns {Promise<readonly ({ figure: object, each: readonly number[] } | { failed: string })[]>} in their order
 */
export async function race(contenders, rounds) {
  const samples = contenders.map(() => []);
  const failures = new Map();
  const attempt = async (i, work) => {
    if (failures.has(i)) return;
    try {
      await work(contenders[i]);
    } catch (error) {
      failures.set(i, error instanceof Error ? error.message : String(error));
    }
  };
  for (const i of contenders.keys()) await attempt(i, warmUp);
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      // Each round begins with another contender, because a contender should not always run after the same other
      // contender.
      const i = (turn + round) % contenders.length;
      await attempt(i, async ({ measure }) => {
        const { ns, operations } = await measure();
        samples[i].push(ns / operations);
      });
    }
  }
  return samples.map((all, i) =>
    failures.has(i) ? { failed: failures.get(i) } : { figure: summary(all), each: all },
  );
}

/** @param {readonly number[]} samples nanoseconds an operation */
export function summary(samples) {
  const sorted = samples.toSorted((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  const middle = sorted.length / 2;
  const median = (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2;
  return { min: sorted[0], median, p99: at(0.99), samples: sorted.length };
}
