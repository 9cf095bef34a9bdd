/** No kick is lost, and none ends another run than it was meant for; kicks.js does a million. */
import { beforeEach, expect, test } from "vitest";
import { CLEAN, deviceProblem, runNode } from "./run-node.ts";

const KICKS = Number(process.env["KICKS"] ?? 10_000);

/** The result of kicks.js. */
interface Kicked {
  readonly kicks: number;
  /** Runs of a guest that was about to exit itself, by what ended them. */
  readonly racing: { readonly intr: number; readonly io: number };
}

const problem = deviceProblem();
beforeEach(({ skip }) => {
  if (problem !== undefined) skip(problem);
});

test.each(["real", "user"])(
  "each of many random kicks ends its own run of a guest in %s mode",
  async (mode) => {
    const { stdout, ...ending } = await runNode("kicks.js", JSON.stringify({ kicks: KICKS, mode }));
    expect({ ...ending, stdout: "" }).toEqual(CLEAN);
    const { kicks, racing } = JSON.parse(stdout) as Kicked;
    expect(kicks).toBeGreaterThanOrEqual(KICKS);
    // Else no kick came near a guest's own exit.
    expect(racing.intr).toBeGreaterThan(0);
    expect(racing.io).toBeGreaterThan(0);
  },
);
