/**
 * Tests of a real vCPU in a worker that handles its exits. The tests need a device; vcpu-worker.test.ts tests the
 * messages between the threads.
 */
import { expect } from "vitest";
import { VcpuWorker } from "../../../../lib/worker/index.ts";
import { test } from "../on-device.ts";

const FILE = new URL("../../worker/machine.js", import.meta.url);

test("a vCPU in a worker runs, gets replies, is kicked and closed", async ({ kvm }) => {
  expect(kvm.closed).toBe(false);
  await using worker = await VcpuWorker.start(FILE);
  expect(await worker.run()).toMatchObject({ kind: "io", direction: "out", port: 0x81 });
  const read = await worker.run();
  if (read.kind !== "io" || read.direction !== "in") throw new Error(`exit: ${read.kind}`);
  read.reply([0x5a]);
  expect(await worker.run()).toMatchObject({ port: 0x83, data: Uint8Array.of(0x5a) });
  for (let i = 0; i < 20; i += 1) {
    const ended = worker.run({ signal: AbortSignal.timeout(i) });
    expect(await ended).toEqual({ kind: "intr" });
  }
  const spinning = worker.run();
  await worker.close();
  expect(await spinning).toEqual({ kind: "intr" });
});
