/** Tests that an exploration finds each wrong model, with the right model as the kernel. */
import { expect, test } from "vitest";
import { explore } from "../../../lib/explore/explore.ts";
import { MUTANTS } from "../../../lib/explore/mutants.ts";
import { modelSubject } from "../../../lib/explore/subject.ts";
import { changesOf, LifecycleModel } from "../../../lib/oracle/index.ts";
import { HOST, modelOf, SUPPORTED } from "./supported.ts";

/** The most steps until a wrong model must be found. */
const MOST = 5000;

const rows = Object.entries(MUTANTS);

/** Explores a wrong model; the right model of the same kernel stands for KVM. */
function find(name: string, seed: number) {
  const { changes, on = [] } = MUTANTS[name] ?? { changes: {} };
  return explore({
    subject: modelSubject(modelOf(...on)),
    model: new LifecycleModel(HOST, [...changesOf(on), changes]),
    supported: SUPPORTED,
    seed,
    steps: MOST,
  });
}

test("there are more than 40 wrong models", () => {
  expect(rows.length).toBeGreaterThan(40);
});

test.each(rows.filter(([, { equivalent }]) => equivalent === undefined))(
  "the wrong model %s is found within 5,000 steps",
  (name) => {
    const { finding } = find(name, 1);
    expect(finding?.disagreement).toBeDefined();
  },
);

test.each(rows.filter(([, { equivalent }]) => equivalent !== undefined))(
  "the wrong model %s, which has a reason, is not found",
  (name) => {
    expect(find(name, 1).finding).toBeUndefined();
  },
);

test("the model agrees with a second instance of itself in every sequence", () => {
  const { finding, steps } = explore({
    subject: modelSubject(modelOf()),
    model: modelOf(),
    supported: SUPPORTED,
    seed: 1,
    steps: MOST,
  });
  expect(finding).toBeUndefined();
  expect(steps).toBeGreaterThanOrEqual(MOST);
});
