/**
 * Tests that no kick is lost, and that no kick ends a run for which it was not meant; kicks.js can send a million
 * kicks.
 */
import { beforeEach, expect, test } from "vitest";
import { CLEAN, deviceProblem, runNode } from "./run-node.ts";

const KICKS = Number(process.env["KICKS"] ?? 10_000);

/** The result that kicks.js prints. */
interface Kicked {
  readonly kicks: number;
  /** The number of kicked runs of a guest that was about to exit, by the kind of exit. */
  readonly racing: { readonly intr: number; readonly io: number };
}

const problem = deviceProblem();
beforeEach(({ skip }) => {
  if (problem !== undefined) skip(problem);
});

test.each(["real", "user"])(
  "each of many random kicks ends its own run of a guest in %s mode, and no other run",
  async (mode) => {
    const { stdout, ...ending } = await runNode("kicks.js", JSON.stringify({ kicks: KICKS, mode }));
    expect({ ...ending, stdout: "" }).toEqual(CLEAN);
    const { kicks, racing } = JSON.parse(stdout) as Kicked;
    expect(kicks).toBeGreaterThanOrEqual(KICKS);
    // If one of these numbers is 0, no kick was close to a guest's own exit.
    expect(racing.intr).toBeGreaterThan(0);
    expect(racing.io).toBeGreaterThan(0);
  },
);
