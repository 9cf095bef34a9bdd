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
/** The heap's own regions come and go. */
const MAPPINGS = 100;
/** A page a life: nothing that is mapped could leak unseen. The runtime itself grows by half of it. */
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

describe("after 2,000 lives everything is as after the first three hundred", () => {
  test.each([
    "vm closed",
    "vm dropped",
    "vcpu kicked and closed",
    "memory closed",
    "memory dropped",
  ])("%s", async (name) => {
    expectNothingLeft(await samples(name));
  });

  // There the thread of a run stands still wherever the event loop's was woken.
  test("vcpu kicked and closed, all threads on one CPU", async () => {
    expectNothingLeft(await samples("vcpu kicked and closed", ON_ONE_CPU));
  });
});
