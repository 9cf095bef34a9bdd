/** Two thousand lives in one process all end and leave nothing: counted in descriptors, mappings and bytes. */
import { beforeEach, describe, expect, test } from "vitest";
import { CLEAN, deviceProblem, ON_ONE_CPU, runNode } from "./run-node.ts";

interface Sample {
  readonly descriptors: number;
  readonly mappings: number;
  readonly residentBytes: number;
}

const LIVES = 2000;
const SAMPLE = 100;
/** By then the ring of /dev/kvm's last 256 calls is full. */
const COUNTED_FROM = 300;
/** The number of the heap's own regions varies, by 101 once. A mapping that each round leaks would be 1,700. */
const MAPPINGS = 400;
/** One page per round, so that a leaked mapping is detected. The runtime itself grows by half of that. */
const BYTES = (LIVES - COUNTED_FROM) * 4096;

const problem = deviceProblem();
beforeEach(({ skip }) => {
  if (problem !== undefined) skip(problem);
});

async function samples(name: string, node?: readonly string[]): Promise<readonly Sample[]> {
  const { stdout, ...ending } = await runNode("many.js", JSON.stringify([name, LIVES]), node);
  expect({ ...ending, stdout: "" }).toEqual(CLEAN);
  return JSON.parse(stdout) as Sample[];
}

function expectNothingLeft(counts: readonly Sample[]): void {
  const [first, last] = [counts[COUNTED_FROM / SAMPLE - 1] as Sample, counts.at(-1) as Sample];
  expect(counts).toHaveLength(LIVES / SAMPLE);
  expect(last.descriptors).toBe(first.descriptors);
  expect(last.mappings).toBeLessThan(first.mappings + MAPPINGS);
  expect(last.residentBytes).toBeLessThan(first.residentBytes + BYTES);
}

describe("2,000 repetitions use no more memory and descriptors than the first 300:", () => {
  test.each([
    "vm closed",
    "vm dropped",
    "vcpu kicked and closed",
    "memory closed",
    "memory dropped",
  ])("%s", async (name) => {
    expectNothingLeft(await samples(name));
  });

  // On one CPU, the thread of a run does not run while the event loop's thread does.
  test("vCPUs that are kicked and closed, with all threads on one CPU", async () => {
    expectNothingLeft(await samples("vcpu kicked and closed", ON_ONE_CPU));
  });
});
