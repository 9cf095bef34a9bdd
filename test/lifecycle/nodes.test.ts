/**
 * Tests that one build of the addon works in every Node version: the running version, and the versions that
 * $NODE_KVM_NODES lists.
 */
import { execFileSync } from "node:child_process";
import { beforeEach, describe, expect, test } from "vitest";
import { CLEAN, deviceProblem, runNode } from "./run-node.ts";

// NODE_KVM_NODES=$(node scripts/nodes.js) installs Node 22, 24 and 26 and lists their binaries.
const listed = (process.env["NODE_KVM_NODES"] ?? "").split(":").filter((path) => path !== "");
const versionOf = (node: string): string => execFileSync(node, ["--version"], { encoding: "utf8" });
const nodes = [process.execPath, ...listed].map((node) => ({
  node,
  version: versionOf(node).trim(),
}));

const RAN = ["kvm", "vm", "memory", "slot", "vcpu", "run"];
const CLOSE = ["close vcpu", "close vm", "close memory", "close kvm"];

const LIVES: Readonly<Record<string, readonly unknown[]>> = {
  "a VM runs and is closed": [...RAN, "view", ...CLOSE, "view is empty", "no descriptors"],
  "a VM runs and is dropped": [
    ...RAN,
    "drop kvm",
    "drop vm",
    "drop vcpu",
    "drop memory",
    "gc",
    "no descriptors",
  ],
  "memory is closed while its slot is live, and the vCPU runs": [
    ...RAN,
    "close memory",
    "gc",
    "run",
  ],
  "memory that was moved can be touched after closing": [
    ...RAN,
    "move",
    "run",
    "close memory",
    "moved can be touched",
    "gc",
    "moved can be touched",
  ],
  "memory of a worker that has ended can be touched where it was moved to": [
    { workers: [[...RAN, "post moved"]], end: "naturally" },
    "moved can be touched",
    "gc",
  ],
  "memory is closed under a job that writes into it": [
    ...RAN,
    "job",
    "close memory",
    "drop memory",
    "gc",
    "job ends",
  ],
  "workers are terminated while they work": [
    {
      workers: [
        ["kvm", "forever"],
        ["kvm", "forever"],
      ],
      end: "terminated",
    },
    "gc",
    "no descriptors",
  ],
};

const problem = deviceProblem();
beforeEach(({ skip }) => {
  if (problem !== undefined) skip(problem);
});

describe.each(nodes)("with Node $version,", ({ node }) => {
  test.each(Object.entries(LIVES))("%s", async (_, order) => {
    expect(await runNode("life.js", JSON.stringify(order), [node])).toEqual(CLEAN);
  });
});

test("the Node binaries in NODE_KVM_NODES have distinct major versions", ({ skip }) => {
  if (listed.length === 0) skip("NODE_KVM_NODES is not set; scripts/nodes.js installs them");
  const majors = nodes.map(({ version }) => version.split(".")[0]);
  expect(new Set(majors).size).toBe(nodes.length);
});
