/** The kit as a fixture of vitest, for tests that are not written with `claim()`. */
import { deviceProblem } from "./claim.ts";
import { Kit } from "./kit.ts";

/** The part of vitest's test context that the fixture uses. */
export interface Skippable {
  /** Ends the test as skipped. */
  readonly skip: (reason?: string) => never;
}

/** The fixtures that {@link fixtures} adds to a test. */
export interface KitFixtures {
  /** The kit of the test, which is closed after the test. */
  kit: Kit;
}

/**
 * The argument of vitest's `test.extend`: each test gets a new `kit`. A test is skipped, with the reason, if there is
 * no usable device or if a requirement of its kit is not met.
 *
 * ```ts
 * import { expect, test as base } from "vitest";
 * import { fixtures, tableOf } from "node-kvm/test";
 *
 * const test = base.extend(fixtures);
 * test("a new vCPU has an empty CPUID table", ({ kit }) => {
 *   expect(tableOf(kit.fresh())).toHaveLength(0);
 * });
 * ```
 */
export const fixtures: {
  /** Creates the test's kit, and closes it after the test. */
  readonly kit: (context: Skippable, use: (kit: Kit) => Promise<void>) => Promise<void>;
} = {
  // The parameter must be a destructuring pattern, because vitest reads the names of the used fixtures from the
  // pattern.
  kit: async ({ skip }, use) => {
    const problem = deviceProblem();
    if (problem !== undefined) skip(problem);
    const kit = new Kit((reason) => skip(reason));
    try {
      await use(kit);
    } finally {
      kit.close();
    }
  },
};
