/** A seeded generator of numbers: a seed gives the same numbers on each host. */

/** Returns a number from 0 to `n` - 1. */
export type Random = (n: number) => number;

/** Makes the generator of a seed (mulberry32). */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % n;
  };
}

/** Chooses a value of a list. */
export function pick<Value>(random: Random, values: readonly [Value, ...Value[]]): Value {
  return values[random(values.length)] ?? values[0];
}

/** Chooses a name by its weight. */
export function weighted<Name extends string>(
  random: Random,
  weights: Readonly<Record<Name, number>>,
): Name {
  const rows = Object.entries(weights) as [Name, number][];
  let rest = random(rows.reduce((sum, [, weight]) => sum + weight, 0));
  for (const [name, weight] of rows) {
    rest -= weight;
    if (rest < 0) return name;
  }
  throw new RangeError("no name has a weight");
}
