/**
 * Repeats an order of stages in one process and counts resources: `node --expose-gc many.js '["vm closed",2000]'`
 * prints samples.
 */
import { readdirSync, readFileSync } from "node:fs";
import { GuestMemory, Kvm } from "node-kvm";
import { guest } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";

const EVERY = 100;
const PROGRAM = guest("long", (g) => g.done());
const SPIN = guest("long", (g) => g.loopForever());
const kvm = Kvm.open();

function makeVm() {
  const box = new Sandbox(kvm, { program: PROGRAM });
  box.next();
  return box;
}

function makeMemory() {
  const memory = GuestMemory.allocate(1 << 20);
  memory.bytes.fill(1);
  return memory;
}

/**
 * Runs the vCPU twice: a kick ends the first run. Closing the vCPU ends the second run, often before its thread starts.
 */
async function runTwice() {
  const box = new Sandbox(kvm, { program: SPIN });
  const { vcpu } = box;
  const kicked = vcpu.run();
  vcpu.kick();
  await kicked;
  const ended = vcpu.run();
  vcpu.close();
  await ended;
  box.close();
}

const lives = {
  "vm closed": () => makeVm().close(),
  "vm dropped": () => void makeVm(),
  "vcpu kicked and closed": runTwice,
  "memory closed": () => makeMemory().close(),
  "memory dropped": () => void makeMemory(),
};

const turn = () => new Promise((resolve) => setImmediate(resolve));

/**
 * Collects garbage repeatedly: a finalizer runs in a later turn, and the next collection frees the objects that the
 * finalizer releases.
 */
async function collect() {
  for (let i = 0; i < 4; i += 1) {
    globalThis.gc();
    await turn();
  }
}

const count = () => ({
  descriptors: readdirSync("/proc/self/fd").length,
  mappings: readFileSync("/proc/self/maps", "latin1").split("\n").length,
  residentBytes: process.memoryUsage.rss(),
});

const [name, times] = JSON.parse(process.argv[2]);
const samples = [];
for (let done = 1; done <= times; done += 1) {
  await lives[name]();
  await turn();
  if (done % EVERY === 0) {
    await collect();
    samples.push(count());
  }
}
process.stdout.write(JSON.stringify(samples));
