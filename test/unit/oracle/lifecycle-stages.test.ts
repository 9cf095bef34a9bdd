/** Tests of the stages of KVM's CPUID code: their rows decide exactly one stage, and a missing row decides none. */
import { describe, expect, test } from "vitest";
import {
  type KernelRowName,
  LIFECYCLE_STAGE_NAMES,
  LIFECYCLE_STAGES,
  lifecycleStageOf,
} from "../../../lib/oracle/index.ts";

describe.each(LIFECYCLE_STAGE_NAMES)("the stage %s", (name) => {
  const { rows } = LIFECYCLE_STAGES[name];

  test("is decided by its rows", () => {
    expect(lifecycleStageOf(rows)).toEqual({ stage: name });
  });

  test.each(Object.keys(rows) as KernelRowName[])("is not decided without the row %s", (row) => {
    const { [row]: _, ...others } = rows;
    const decision = lifecycleStageOf(others);
    expect(decision.stage).toBeUndefined();
    expect(decision).toMatchObject({ reason: expect.stringContaining(row) as unknown });
  });

  test.each(LIFECYCLE_STAGE_NAMES.filter((other) => other !== name))(
    "contradicts the stage %s in a row",
    (other) => {
      const others = LIFECYCLE_STAGES[other].rows;
      const common = (Object.keys(rows) as KernelRowName[]).filter(
        (row) => others[row] !== undefined && others[row] !== rows[row],
      );
      expect(common).not.toEqual([]);
    },
  );
});

test.each([
  { "never-frozen": true, eager: false },
  { "never-frozen": false, "compares-incoming": true, "stale-base": true, lazy: true },
  {
    "never-frozen": false,
    "compares-incoming": true,
    "stale-base": false,
    "cr4-before-cpuid": true,
    eager: false,
  },
])("a stage before Linux 6.15 is excluded by delayed updates: %o", (holds) => {
  expect(lifecycleStageOf(holds)).toEqual({
    stage: undefined,
    reason: "the decided rows contradict each known stage",
  });
});

test("without a row, the reason names all stages", () => {
  const decision = lifecycleStageOf({});
  expect(decision).toMatchObject({
    reason: expect.stringMatching(
      /^replaces-table, stale-base, .* or applies-updates; undecided: never-frozen, .* and lazy$/,
    ) as unknown,
  });
});

test("rows of no known kernel decide no stage", () => {
  expect(
    lifecycleStageOf({
      "never-frozen": false,
      "compares-incoming": false,
      eager: true,
      lazy: true,
    }),
  ).toEqual({ stage: undefined, reason: "the decided rows contradict each known stage" });
});
