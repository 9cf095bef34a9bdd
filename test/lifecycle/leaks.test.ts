/** Tests that two thousand repetitions in one process leak no descriptors, no mappings and no memory. */
import { beforeEach, describe, expect, test } from "vitest";
import { CLEAN, deviceProblem, ON_ONE_CPU, runNode } from "./run-node.ts";

interface Sample {
  readonly descriptors: number;
  readonly mappings: number;
  readonly residentBytes: number;
}

const LIVES = 2000;
const SAMPLE = 100;
/** After 300 repetitions, the ring of the last 256 calls of /dev/kvm is full. */
const COUNTED_FROM = 300;
/**
 * The number of the heap's memory regions varies; the largest difference was 101. A mapping that leaked in each
 * repetition would add 1,700 mappings.
 */
const MAPPINGS = 400;
/**
 * The limit is one page per repetition, so that a leaked mapping is detected. The runtime itself grows by half of the
 * limit.
 */
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

  // With all threads on one CPU, the thread of a run is not running while the event loop's thread is.
  test("if vCPUs are kicked and closed, with all threads on one CPU", async () => {
    expectNothingLeft(await samples("vcpu kicked and closed", ON_ONE_CPU));
  });
});
