/** Tests of guests whose state one process saves, and whose execution continues in a VM of another process. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Counted, countedIn, GUESTS, LONG, MOVES } from "./counted.ts";
import { CLEAN, deviceProblem, runNode } from "./run-node.ts";

const folder = mkdtempSync(join(tmpdir(), "state-"));
afterAll(() => rmSync(folder, { recursive: true }));

const problem = deviceProblem();
beforeEach(({ skip }) => {
  if (problem !== undefined) skip(problem);
});

async function counted(act: "save" | "restore", guest: string): Promise<readonly Counted[]> {
  const { stdout, ...ending } = await runNode(
    "counting.js",
    JSON.stringify({ act, guests: [guest], folder }),
  );
  expect({ ...ending, stdout: "" }).toEqual(CLEAN);
  return countedIn(stdout);
}

describe.each(GUESTS)(
  "the state of a guest (%s) %s, restored in a new VM,",
  (guest, _, [before, after]) => {
    let saved: readonly Counted[] = [];
    let restored: readonly Counted[] = [];
    beforeAll(async () => {
      if (problem !== undefined) return;
      saved = await counted("save", guest);
      restored = await counted("restore", guest);
    });

    test("continues with the guest's next number, from bytes and from JSON", () => {
      expect(saved.map(({ said }) => said)).toEqual([before]);
      expect(restored.map(({ form, said }) => [form, said])).toEqual([
        ["bytes", after],
        ["json", after],
      ]);
    });

    test("continues with the same number if it is restored into the same vCPU after a run", () => {
      expect(restored.map(({ again }) => again)).toEqual([after, after]);
    });

    test("equals the saved state, except for clocks", () => {
      const different = restored.flatMap((one) => one.different ?? []);
      expect(different.filter((name) => !MOVES.includes(name))).toEqual([]);
    });

    test("has a TSC that neither decreases nor jumps", () => {
      const leaps = restored.map(({ tsc: [was, is] = [0, -1] }) => is - was);
      expect(leaps.filter((cycles) => cycles <= 0 || cycles > LONG)).toEqual([]);
      expect(leaps).toHaveLength(2);
    });
  },
);
