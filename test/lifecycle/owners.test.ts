/**
 * Tests that no two objects keep each other from being freed. No mapping and no descriptor may remain, for each kind of
 * memory and for each order in which handles are closed or dropped.
 */
import { beforeEach, describe, expect, test } from "vitest";
import { vendorModule } from "../../lib/kvm/host.ts";
import { CLEAN, deviceProblem, runNode } from "./run-node.ts";

/** The number of mappings and descriptors of this package in a process. */
interface Count {
  readonly mappings: number;
  readonly descriptors: number;
}

interface Judged {
  readonly kind: string;
  /** The reason why this kernel does not support this kind of object. */
  readonly missing?: string;
  readonly orders: number;
  readonly left: readonly {
    readonly order: readonly string[];
    readonly before: Count;
    readonly after: Count;
  }[];
}

const problem = deviceProblem();
beforeEach(({ skip }) => {
  if (problem !== undefined) skip(problem);
});

async function judge(kind: string): Promise<Judged> {
  const { stdout, ...ending } = await runNode("owners.js", JSON.stringify([kind]));
  expect({ ...ending, stdout: "" }).toEqual(CLEAN);
  const [judged] = JSON.parse(stdout) as Judged[];
  if (judged === undefined) throw new Error(`nothing was judged: ${stdout}`);
  return judged;
}

describe("closing a VM, its vCPU and its memory in any order leaves no descriptor and no mapping, with", () => {
  test.for([
    "anonymous",
    "memfd",
    "file",
    "windows of memory",
    "guest_memfd mapped",
    "guest_memfd in a slot",
    "guest_memfds of two VMs, each a slot of the other",
    "dirty ring",
    "kvm_run of a vCPU that has run",
    "exit filter's ring",
    "irqfd and ioeventfd",
    "memory that Xen's shared info is in",
    "statistics",
  ])("%s", async (kind, { skip }) => {
    const { missing, orders, left } = await judge(kind);
    skip(missing !== undefined && vendorModule() === "kvm_pvm", `kvm_pvm has ${missing}`);
    expect({ missing, left }).toEqual({ missing: undefined, left: [] });
    expect(orders).toBeGreaterThan(5);
  });
});
