/**
 * A program that closes no handle and returns to the event loop after each iteration: `node dropped.js '["populated
 * memory",200]'`. The program does not force a garbage collection. The program prints the maxima as JSON.
 */
import { readdirSync, readFileSync } from "node:fs";
import { EventFd, GuestMemory, Kvm } from "node-kvm";

const MIB = 2 ** 20;
const EVERY = 20;

/** @param {string} file @param {RegExp} pattern */
const field = (file, pattern) => Number(pattern.exec(readFileSync(file, "latin1"))?.[1]);

const lives = {
  "populated memory": () => GuestMemory.allocate(32 * MIB, { populate: true }),
  eventfd: () => EventFd.create(),
  "vm and vcpu": () => {
    const vm = Kvm.open().createVm();
    const memory = GuestMemory.allocate(MIB, { populate: true });
    vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory });
    vm.createVcpu(0);
  },
};

const [name, times] = JSON.parse(process.argv[2]);
const most = { residentMib: 0, descriptors: 0 };
for (let done = 0; done < times; done += 1) {
  lives[name]();
  await new Promise((resolve) => setImmediate(resolve));
  // Counting itself creates garbage, which would cause collections.
  if (done % EVERY !== 0) continue;
  const resident = field("/proc/self/status", /^VmRSS:\s+(\d+) kB/m) / 1024;
  most.residentMib = Math.max(most.residentMib, Math.round(resident));
  most.descriptors = Math.max(most.descriptors, readdirSync("/proc/self/fd").length);
}
process.stdout.write(JSON.stringify(most));
