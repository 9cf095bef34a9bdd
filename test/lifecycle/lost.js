/**
 * Accesses unavailable pages in one way per process, with files in an existing directory: `node --expose-gc lost.js
 * '["by index","/tmp/x"]'`. lost-pages.test.ts defines how each process must end.
 */
import assert from "node:assert/strict";
import { randomFill } from "node:crypto";
import {
  copyFileSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { isMainThread, Worker, workerData } from "node:worker_threads";
import { fromSupported, GuestMemory, Kvm, KvmError } from "node-kvm";
import { guest } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";

const PAGE = 4096;
const MIB = 2 ** 20;
const DATA = 0x8000_0000n;
const LISTENED = "SIGBUS";

const here = fileURLToPath(import.meta.url);
const addon = fileURLToPath(
  new URL(process.env.NODE_KVM_ADDON ?? "../../build/Release/node_kvm.node", import.meta.url),
);
const [way, parent] = isMainThread ? JSON.parse(process.argv[2]) : workerData;
const directory = mkdtempSync(join(parent, "lost-"));
const file = join(directory, "file");

/** Detaches a buffer from its memory with transfer(); Node 20 copies the bytes instead. */
const move = (buffer) =>
  buffer.transfer === undefined
    ? structuredClone(buffer, { transfer: [buffer] })
    : buffer.transfer();

/**
 * Maps a file whose first 100 pages contain bytes 7, and later pages zeros. The returned `cut` truncates the file to
 * `left` pages.
 */
function cut(pages, left = 0) {
  writeFileSync(file, new Uint8Array(Math.min(pages, 100) * PAGE).fill(7));
  truncateSync(file, pages * PAGE);
  const memory = GuestMemory.mapFile(file);
  return { memory, bytes: memory.bytes, cut: () => truncateSync(file, left * PAGE) };
}

/** Maps a file like {@link cut} and truncates it. */
function lost(pages, left) {
  const made = cut(pages, left);
  made.cut();
  return made;
}

/** Loads a library without its second half: the dynamic loader accesses the missing pages. */
function loadHalf() {
  const path = join(directory, "half.node");
  const whole = readFileSync(addon);
  writeFileSync(path, whole.subarray(0, 4 * PAGE));
  process.dlopen({ exports: {} }, path);
}

function inWorker(name) {
  const worker = new Worker(here, { workerData: [name, directory] });
  return new Promise((resolve, reject) => {
    worker.once("error", reject);
    worker.once("exit", resolve);
  });
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Accesses lost memory to check that the access still works. */
function touch() {
  const { memory, bytes } = lost(3);
  assert.equal(bytes[PAGE], 0);
  memory.close();
}

const ways = {
  "by index": () => {
    const { memory, bytes } = lost(8, 2);
    assert.equal(memory.isDamaged, false);
    assert.equal(bytes[PAGE], 7);
    assert.equal(memory.isDamaged, false);
    assert.equal(bytes[2 * PAGE], 0);
    assert.equal(memory.isDamaged, true);
    bytes[5 * PAGE + 1] = 9;
    assert.deepEqual(bytes.subarray(5 * PAGE, 5 * PAGE + 3), Uint8Array.of(0, 9, 0));
  },
  "by read and write": () => {
    const { memory } = lost(8, 2);
    assert.deepEqual(memory.read(2 * PAGE - 1, 2), Uint8Array.of(7, 0));
    memory.write(4 * PAGE - 1, Uint8Array.of(1, 2));
    assert.deepEqual(memory.read(4 * PAGE - 1, 3), Uint8Array.of(1, 2, 0));
    assert.equal(memory.isDamaged, true);
  },
  "by what Buffer does natively": () => {
    const buffers = ["fill", "copy", "compare", "search", "text", "swap"].map((name) => {
      const { bytes } = lost(3, 1);
      return [name, Buffer.from(bytes.buffer)];
    });
    const of = Object.fromEntries(buffers);
    assert.equal(of.fill.fill(3)[2 * PAGE], 3);
    assert.equal(Buffer.alloc(3 * PAGE).copy(of.copy), 3 * PAGE);
    assert.equal(Buffer.compare(of.compare, Buffer.alloc(3 * PAGE)), 1);
    assert.equal(of.search.indexOf(0), PAGE);
    assert.equal(of.text.toString("latin1", 2 * PAGE), "\0".repeat(PAGE));
    assert.equal(of.swap.swap64()[2 * PAGE], 0);
  },
  "by a job on another thread": async () => {
    const { memory, bytes } = lost(64);
    await promisify(randomFill)(bytes);
    assert.equal(memory.isDamaged, true);
    assert.ok(bytes.some((byte) => byte !== 0));
  },
  "by a system call, which returns EFAULT": () => {
    const { memory, bytes } = lost(3);
    const target = openSync(join(directory, "target"), "w+");
    assert.throws(() => writeSync(target, bytes), { code: "EFAULT" });
    writeSync(target, new Uint8Array(PAGE).fill(1));
    assert.throws(() => readSync(target, bytes, 0, PAGE, 0), { code: "EFAULT" });
    assert.equal(memory.isDamaged, false);
  },
  "in more places than the kernel has mappings for": () => {
    const { bytes } = lost(100_000);
    let sum = 0;
    // The loop accesses every other page first, so that no two replaced pages merge into one mapping.
    for (let page = 0; page < 100_000; page += 2) sum += bytes[page * PAGE];
    for (let page = 1; page < 100_000; page += 2) sum += bytes[page * PAGE];
    assert.equal(sum, 0);
    const mappings = readFileSync("/proc/self/maps", "latin1").split("\n").length;
    assert.ok(mappings < 10_000, String(mappings));
  },
  "and other written pages keep their content": () => {
    const { memory, bytes, cut: cutNow } = cut(8, 4);
    bytes.fill(1);
    cutNow();
    assert.equal(bytes[6 * PAGE], 0);
    bytes[6 * PAGE] = 2;
    assert.deepEqual(
      [0, 3, 4, 6, 7].map((page) => bytes[page * PAGE]),
      [1, 1, 0, 2, 0],
    );
    memory.close();
  },
  "and closes": async () => {
    const { memory, bytes } = lost(8);
    assert.equal(bytes[0], 0);
    memory.close();
    assert.throws(() => memory.isDamaged, { code: "ERR_CLOSED" });
    globalThis.gc();
    await turn();
    touch();
  },
  "where it was moved to": () => {
    const { memory } = lost(8);
    const moved = new Uint8Array(move(memory.bytes.buffer));
    assert.equal(moved[0], 0);
    memory.close();
    assert.equal(moved[PAGE], 0);
  },
  "of hundreds of mappings at once": () => {
    const all = Array.from({ length: 300 }, () => lost(2).bytes);
    for (const bytes of all) assert.equal(bytes[PAGE], 0);
  },
  "of huge pages that ran out": () => {
    for (const shared of [false, true]) {
      const memory = GuestMemory.allocate(6 * MIB, { hugePages: "2M", reserve: false, shared });
      memory.write(3 * MIB, Uint8Array.of(5));
      memory.bytes[6 * MIB - 1] = 6;
      assert.deepEqual(memory.read(3 * MIB, 2), Uint8Array.of(5, 0));
      assert.deepEqual(memory.read(6 * MIB - 2, 2), Uint8Array.of(0, 6));
      memory.close();
    }
  },
  "in workers, all at once": async () => {
    await Promise.all(Array.from({ length: 4 }, () => inWorker("churn")));
    touch();
  },
  churn: () => {
    for (let i = 0; i < 200; i += 1) touch();
  },
  "while a listener for SIGBUS comes and goes": () => {
    const { bytes } = lost(3);
    const listener = () => {};
    process.on(LISTENED, listener);
    assert.equal(bytes[0], 0);
    process.off(LISTENED, listener);
    assert.equal(bytes[PAGE], 0);
  },
  "with two copies of the addon": () => {
    const path = join(directory, "copy.node");
    copyFileSync(addon, path);
    const other = createRequire(import.meta.url)(path);
    for (let i = 0; i < 3; i += 1) {
      touch();
      writeFileSync(file, new Uint8Array(PAGE));
      const mapping = other.mapFile(file, 0);
      const bytes = new Uint8Array(mapping.window(0, PAGE));
      const { bytes: ours } = lost(3);
      truncateSync(file, 0);
      assert.deepEqual([bytes[0], ours[0]], [0, 0]);
    }
  },
  "while a VM has it": () => {
    const kvm = Kvm.open();
    // Ring 3 is used because KVM's emulator, which kvm_pvm uses for ring 0, reports an unreadable address as MMIO.
    const program = guest("user", (g) =>
      g.read(Number(DATA), 8).sync().read(Number(DATA), 8).sync().done(),
    );
    const cpuid = fromSupported(kvm.getSupportedCpuid());
    const box = new Sandbox(kvm, { program, cpuid });
    const { memory, bytes, cut: cutNow } = cut(2);
    box.vm.setUserMemoryRegion({ slot: 1, guestPhysAddr: DATA, memory });
    assert.deepEqual(box.next(), { kind: "sync", values: [7n] });
    cutNow();
    assert.equal(refusal(box.vcpu), "memory is not there");
    assert.equal(memory.isDamaged, false);
    assert.equal(bytes[0], 0);
    assert.deepEqual(box.next(), { kind: "sync", values: [0n] });
  },
  "sent by kill": () => process.kill(process.pid, LISTENED),
  "sent by kill, after a page was lost": () => {
    touch();
    process.kill(process.pid, LISTENED);
  },
  "sent by kill, when its worker's addon was unloaded": async () => {
    await inWorker("churn");
    process.kill(process.pid, LISTENED);
  },
  "sent by kill, with two copies of the addon": () => {
    ways["with two copies of the addon"]();
    process.kill(process.pid, LISTENED);
  },
  "from memory that is not ours": () => {
    touch();
    loadHalf();
  },
  "from memory that is not ours, with two copies of the addon": () => {
    ways["with two copies of the addon"]();
    loadHalf();
  },
  "to a listener": async () => {
    const awake = setInterval(() => {}, 1000);
    const heard = new Promise((resolve) => process.on(LISTENED, resolve));
    touch();
    process.kill(process.pid, LISTENED);
    assert.equal(await heard, LISTENED);
    clearInterval(awake);
  },
};

/** Returns the result of a run that accesses lost memory: an errno, or the kind of KVM's exit. */
function refusal(vcpu) {
  try {
    const { kind } = vcpu.runSync();
    return kind === "memory_fault" ? "memory is not there" : kind;
  } catch (error) {
    return error instanceof KvmError && error.code === "EFAULT" ? "memory is not there" : error;
  }
}

await ways[way]();
