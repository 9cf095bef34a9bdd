/**
 * Tests of a vCPU in a worker: messages to its owner, and the ends of runs. The vCPU of these tests is scripted;
 * runner-worker.test.ts tests a real vCPU.
 */
import { expect, onTestFinished, test } from "vitest";
import type { IoInExit } from "../../../lib/kvm/exits/access.ts";
import { serveVcpu, VcpuWorker } from "../../../lib/worker/index.ts";

const FILE = new URL("scripted.js", import.meta.url);

async function started(script: string): Promise<VcpuWorker> {
  const worker = await VcpuWorker.start(FILE, { script });
  onTestFinished(() => worker.close());
  return worker;
}

const stateError = (code: string) => expect.objectContaining({ name: "StateError", code });

test("exits that VcpuWorker's own code handles are not sent to the owner's thread", async () => {
  const worker = await started("exits");
  expect(await worker.run()).toEqual({ kind: "hlt" });
  expect(worker.running).toBe(false);
});

test("the owner's reply to an exit of a worker's vCPU is sent with the next run", async () => {
  const worker = await started("reads");
  const read = await worker.run();
  if (read.kind !== "io" || read.direction !== "in") throw new Error(`exit: ${read.kind}`);
  read.reply([1, 2]);
  const rdmsr = await worker.run();
  if (rdmsr.kind !== "x86_rdmsr") throw new Error(`exit: ${rdmsr.kind}`);
  rdmsr.fail();
  expect(await worker.run()).toEqual({ kind: "unknown", reason: 2, bytes: [1, 2, "failed"] });
});

test("an exit of a worker's vCPU can be answered only once, and not after the next run", async () => {
  const worker = await started("reads");
  const read = await worker.run();
  if (read.kind !== "io" || read.direction !== "in") throw new Error(`exit: ${read.kind}`);
  read.reply([1]);
  expect(() => read.reply([2])).toThrow(stateError("ERR_ANSWERED"));
  const rdmsr = await worker.run();
  if (rdmsr.kind !== "x86_rdmsr") throw new Error(`exit: ${rdmsr.kind}`);
  // The reply to the first exit is not used for this exit.
  expect(await worker.run()).toEqual({ kind: "unknown", reason: 1, bytes: [1] });
  expect(() => rdmsr.fail()).toThrow(stateError("ERR_ANSWERED"));
});

async function readExit(worker: VcpuWorker): Promise<IoInExit> {
  const exit = await worker.run();
  if (exit.kind !== "io" || exit.direction !== "in") throw new Error(`exit: ${exit.kind}`);
  return exit;
}

/** Creates an AbortSignal whose `addEventListener` is a function of the program. */
const signalThat = (addEventListener: () => unknown): AbortSignal =>
  ({
    aborted: false,
    addEventListener,
    removeEventListener: () => undefined,
    throwIfAborted: () => undefined,
  }) as never;

test("if addEventListener() of a signal throws, the run of a worker's vCPU does not start, and the reply is kept", async () => {
  const worker = await started("reads one");
  const read = await readExit(worker);
  read.reply([7]);
  const signal = signalThat(() => {
    throw new Error("no listener");
  });
  expect(() => worker.run({ signal })).toThrow("no listener");
  expect(worker.running).toBe(false);
  expect(await worker.run()).toEqual({ kind: "unknown", reason: 1, bytes: [7] });
});

test("if addEventListener() of a signal runs the worker's vCPU, the inner run continues and the outer run is rejected", async () => {
  const worker = await started("exits");
  const inner: Promise<unknown>[] = [];
  const signal = signalThat(() => inner.push(worker.run()));
  expect(() => worker.run({ signal })).toThrow(stateError("ERR_RUNNING"));
  expect(await inner[0]).toEqual({ kind: "hlt" });
});

test("a reply that cannot be cloned is rejected, and the exit of the worker's vCPU can still be answered", async () => {
  const worker = await started("reads one");
  const read = await readExit(worker);
  const uncloneable = [() => 1] as unknown as number[];
  expect(() => read.reply(uncloneable)).toThrow(
    expect.objectContaining({ name: "DataCloneError" }),
  );
  expect(worker.running).toBe(false);
  read.reply([7]);
  expect(await worker.run()).toEqual({ kind: "unknown", reason: 1, bytes: [7] });
});

test("if the worker's vCPU rejects a reply, the run is also rejected, and the guest does not continue", async () => {
  const worker = await started("reads one");
  const read = await readExit(worker);
  read.reply([1, 2]);
  await expect(worker.run()).rejects.toThrow(new RangeError("1 value is read"));
  read.reply([7]);
  expect(await worker.run()).toEqual({ kind: "unknown", reason: 1, bytes: [7] });
  expect(() => read.reply([7])).toThrow(stateError("ERR_ANSWERED"));
});

test("a reply to a worker's vCPU is sent with its content at the time of the call", async () => {
  const worker = await started("reads one");
  const read = await readExit(worker);
  const values = [7];
  read.reply(values);
  values[0] = 8;
  expect(await worker.run()).toEqual({ kind: "unknown", reason: 1, bytes: [7] });
});

test("VcpuWorker.start() rejects worker data that cannot be cloned", async () => {
  await expect(VcpuWorker.start(FILE, () => undefined)).rejects.toMatchObject({
    name: "DataCloneError",
  });
});

test("the arguments of an error in a worker reach the owner, except those that cannot be cloned", async () => {
  const worker = await started("refused");
  const error: unknown = await worker.run().catch((thrown: unknown) => thrown);
  expect(error).toHaveProperty("args", { id: 7n, list: [1], bytes: new Uint8Array(2) });
});

test("errors of a worker keep their class, and the worker continues", async () => {
  const worker = await started("refused");
  await expect(worker.run()).rejects.toMatchObject({
    name: "KvmError",
    call: "KVM_RUN",
    object: "vcpu 0",
    errno: 5,
    message: "KVM_RUN (vcpu 0): EIO: the VM is dead",
  });
  await expect(worker.run()).rejects.toMatchObject({
    name: "StateError",
    code: "ERR_CLOSED",
    message: "vcpu 0: the handle was closed",
  });
  await expect(worker.run()).rejects.toThrow("not to be cloned");
  expect(await worker.run()).toEqual({ kind: "hlt" });
});

test("VcpuWorker does not report an interruption that the owner did not request", async () => {
  const worker = await started("interrupted");
  expect(await worker.run()).toEqual({ kind: "hlt" });
});

test("a kick of a worker's vCPU interrupts the current run but not the next run", async () => {
  const worker = await started("spins");
  for (let i = 0; i < 100; i += 1) {
    const ended = worker.run();
    expect(worker.running).toBe(true);
    worker.kick();
    expect(await ended).toEqual({ kind: "intr" });
    worker.kick();
  }
});

test("an abort ends a run of a worker's vCPU, even before the run starts", async () => {
  const worker = await started("spins");
  expect(await worker.run({ signal: AbortSignal.timeout(5) })).toEqual({ kind: "intr" });
  expect(await worker.run({ signal: AbortSignal.abort() })).toEqual({ kind: "intr" });
});

test("a second run of a worker's vCPU is rejected during a run", async () => {
  const worker = await started("spins");
  const ended = worker.run();
  expect(() => worker.run()).toThrow(stateError("ERR_RUNNING"));
  worker.kick();
  await ended;
});

test("closing a worker's vCPU ends its run and its thread", async () => {
  const worker = await started("spins");
  const ended = worker.run();
  await worker.close();
  expect(await ended).toEqual({ kind: "intr" });
  expect(() => worker.run()).toThrow(stateError("ERR_CLOSED"));
  await worker.close();
});

test("the end of a worker's thread ends the run of its vCPU", async () => {
  const worker = await started("ends its thread");
  await expect(worker.run()).rejects.toThrow("vcpu worker: its thread has ended (3)");
  expect(() => worker.run()).toThrow(stateError("ERR_CLOSED"));
});

test("VcpuWorker.start() rejects with the error of creating the vCPU", async () => {
  await expect(VcpuWorker.start(FILE, { throws: "no such guest" })).rejects.toThrow(
    new RangeError("no such guest"),
  );
  await expect(VcpuWorker.start(new URL("missing.js", import.meta.url))).rejects.toThrow(
    /Cannot find module/,
  );
  const silent = new URL("data:text/javascript,");
  await expect(VcpuWorker.start(silent)).rejects.toThrow(
    "vcpu worker: its thread has ended (0) without a vCPU",
  );
});

test("serveVcpu() throws in a thread that VcpuWorker did not start", async () => {
  await expect(serveVcpu(() => Promise.reject())).rejects.toThrow(
    "serveVcpu: this thread was not started by VcpuWorker.start()",
  );
});
