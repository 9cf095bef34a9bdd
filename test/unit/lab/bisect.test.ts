/** Tests of bisection: it finds the two neighbours between which a claim's verdict changes, in either order. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { bisect, type Judgement, NotAnEnd } from "../../../lib/lab/bisect.ts";

/** Returns a function that judges kernels 0 to n-1; the kernels from `turn` on are bad. */
const breakingAt =
  (turn: number) =>
  (kernel: number): Promise<Judgement> =>
    Promise.resolve(kernel < turn ? "good" : "bad");

const upTo = (count: number): readonly number[] => Array.from({ length: count }, (_, i) => i);

test("a bisection finds the first bad kernel after a good kernel, at any position", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 2, max: 60 }), fc.nat(), async (count, at) => {
      const turn = 1 + (at % (count - 1));
      const found = await bisect(upTo(count), 0, count - 1, breakingAt(turn));
      expect(found).toMatchObject({ good: turn - 1, bad: turn, skipped: [] });
      expect(found.asked).toBeLessThanOrEqual(3 + Math.ceil(Math.log2(count)));
    }),
  );
});

test("a bisection finds the last bad kernel before a good kernel, if the good kernel is newer", async () => {
  const judge = (kernel: number): Promise<Judgement> =>
    Promise.resolve(kernel <= 6 ? "bad" : "good");
  expect(await bisect(upTo(20), 19, 3, judge)).toMatchObject({ good: 7, bad: 6 });
});

test("a bisection skips kernels that cannot be judged, and names the skipped kernels", async () => {
  const judge = (kernel: number): Promise<Judgement> =>
    Promise.resolve([4, 5, 6].includes(kernel) ? "skip" : kernel < 5 ? "good" : "bad");
  expect(await bisect(upTo(10), 0, 9, judge)).toMatchObject({
    good: 3,
    bad: 7,
    skipped: [4, 5, 6],
  });
});

test("a bisection between two adjacent kernels judges no other kernel", async () => {
  expect(await bisect([0, 1], 0, 1, breakingAt(1))).toEqual({
    good: 0,
    bad: 1,
    skipped: [],
    asked: 2,
  });
});

test("a bisection fails if the verdict of a given end differs from the stated verdict, and the error names this end", async () => {
  const failed = bisect(upTo(5), 0, 4, breakingAt(9));
  await expect(failed).rejects.toThrow("4 was given as bad, but is good");
  await expect(failed).rejects.toBeInstanceOf(NotAnEnd);
});
