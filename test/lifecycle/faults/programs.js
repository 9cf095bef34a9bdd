/**
 * Programs for fault injection: each program opens, uses and closes objects of the addon, and asserts each result.
 * `own(handle)` closes the handle when the program ends; the last handle is closed first. cases.js makes the calls
 * fail.
 */
import assert from "node:assert/strict";
import { rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { EventFd, GuestMemory, Kvm, kickVcpu } from "node-kvm";
import {
  DirtyLog,
  encode,
  KVM_GET_DIRTY_LOG,
  KVM_IOEVENTFD_FLAG_PIO,
  KVM_MEM_LOG_DIRTY_PAGES,
} from "node-kvm/abi";

const PORT = 0x10;
// out 0x10, al; jmp to the out
export const EXITS = Uint8Array.of(0xe6, PORT, 0xeb, 0xfc);
// jmp to the jmp itself
export const SPINS = Uint8Array.of(0xeb, 0xfe);
// mov al, 'a'; out 0x10, al; mov [0x2000], al; hlt
const WRITES = Uint8Array.of(0xb0, 0x61, 0xe6, PORT, 0xa2, 0x00, 0x20, 0xf4);
const SIZE = 0x10000;
const PAGE = 4096;

/** Creates a VM with one vCPU that starts at the first byte of `code`. */
export function machine(own, code, { prepare, flags = 0 } = {}) {
  const kvm = own(Kvm.open());
  const vm = own(kvm.createVm());
  prepare?.(vm);
  const memory = own(GuestMemory.allocate(SIZE));
  memory.write(0, code);
  vm.setUserMemoryRegion({ slot: 0, flags, guestPhysAddr: 0n, memory });
  const vcpu = own(vm.createVcpu(0));
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
  vcpu.setRegs({ ...vcpu.getRegs(), rip: 0n, rflags: 2n });
  return { kvm, vm, memory, vcpu };
}

/** Runs the guest until it exits; a signal may end a synchronous run earlier. */
function exitOf(vcpu) {
  for (let i = 0; i < 100; i += 1) {
    const exit = vcpu.runSync();
    if (exit.kind !== "intr") return exit.kind;
  }
  throw new Error("the guest does not exit");
}

/**
 * Starts a worker that runs a spinning guest synchronously; returns a promise for the worker's end, and the vCPU's
 * token.
 */
async function spinningWorker() {
  const worker = new Worker(new URL("spinning.js", import.meta.url));
  const ended = new Promise((resolve, reject) => {
    let failure;
    worker.once("error", (error) => {
      failure = error;
    });
    worker.once("exit", (code) => (failure === undefined ? resolve(code) : reject(failure)));
  });
  const told = new Promise((resolve) => worker.once("message", resolve));
  const token = await Promise.race([told, ended]);
  return { worker, ended, token };
}

/** Programs that need no device. */
export const HOST_PROGRAMS = {
  "guest memory: anonymous": (own) => {
    const memory = own(
      GuestMemory.allocate(SIZE, {
        hugePages: "transparent",
        populate: true,
        mergeable: true,
        dump: false,
      }),
    );
    memory.write(PAGE, EXITS);
    assert.deepEqual(memory.read(PAGE, 4), EXITS);
    assert.equal(memory.bytes.length, SIZE);
    assert.equal(memory.isDamaged, false);
    const moved = memory.window(0, PAGE);
    memory.close();
    assert.equal(moved.length, 0);
  },
  "guest memory: shared": (own) => {
    const memory = own(GuestMemory.allocate(SIZE, { shared: true, reserve: true }));
    memory.write(0, EXITS);
    assert.deepEqual(memory.read(0, 4), EXITS);
  },
  "guest memory: a file that is cut short": (own) => {
    const path = join(tmpdir(), `file-${process.pid}`);
    try {
      writeFileSync(path, new Uint8Array(4 * PAGE).fill(7));
      const memory = own(GuestMemory.mapFile(path, { offset: PAGE }));
      assert.equal(memory.read(0, 1)[0], 7);
      truncateSync(path, 2 * PAGE);
      assert.equal(memory.read(2 * PAGE, 1)[0], 0);
      assert.equal(memory.isDamaged, true);
    } finally {
      rmSync(path, { force: true });
    }
  },
  "an eventfd": async (own) => {
    const event = own(EventFd.create(2));
    assert.equal(event.read(), 2n);
    const signal = event.wait();
    event.write(3n);
    assert.equal(await signal, 3n);
    const again = event.wait();
    await turn();
    event.write(4n);
    assert.equal(await again, 4n);
  },
  "a permission": () => {
    // No CPU supports this component of the extended state.
    assert.throws(() => Kvm.reqXcompGuestPerm(63), { name: "KvmError" });
  },
};

/** Programs that need /dev/kvm. */
export const DEVICE_PROGRAMS = {
  "a run here and now": (own) => {
    const { vcpu } = machine(own, EXITS);
    assert.equal(exitOf(vcpu), "io");
    vcpu.completeExit();
    assert.equal(exitOf(vcpu), "io");
  },
  "a run on another thread": async (own) => {
    const { vcpu } = machine(own, EXITS);
    assert.equal((await vcpu.run()).kind, "io");
    assert.equal((await vcpu.run()).kind, "io");
  },
  "a run that is kicked": async (own) => {
    const { vcpu } = machine(own, SPINS);
    const first = vcpu.run();
    await sleep(5);
    vcpu.kick();
    assert.equal((await first).kind, "intr");
    const controller = new AbortController();
    const second = vcpu.run({ signal: controller.signal });
    await turn();
    controller.abort();
    assert.equal((await second).kind, "intr");
  },
  "a run whose vCPU is closed": async (own) => {
    const { vcpu } = machine(own, SPINS);
    const run = vcpu.run();
    await sleep(5);
    vcpu.close();
    assert.equal((await run).kind, "intr");
  },
  "a run that is paused": async (own) => {
    const { vm, vcpu } = machine(own, SPINS);
    const run = vcpu.run();
    await sleep(5);
    await vm.pause();
    assert.equal(vcpu.getRegs().rip, 0n);
    vm.resume();
    await turn();
    vcpu.kick();
    assert.equal((await run).kind, "intr");
  },
  "a worker in KVM_RUN that is terminated": async () => {
    const { worker, ended } = await spinningWorker();
    // The message stays in the worker's event loop, so the watch interrupts KVM_RUN, which then continues.
    worker.postMessage(null);
    await sleep(20);
    await worker.terminate();
    await ended;
  },
  "a worker in KVM_RUN that is kicked": async () => {
    const { token, ended } = await spinningWorker();
    // A signal of any kind may have ended the run earlier.
    kickVcpu(token);
    assert.equal(await ended, 0);
  },
  "an exit filter": (own) => {
    const { vcpu } = machine(own, WRITES);
    const ring = vcpu.setExitFilter([{ pio: PORT, write: "collect" }]);
    assert.equal(exitOf(vcpu), "hlt");
    assert.equal(
      ring.drain(() => undefined),
      1,
    );
    vcpu.setExitFilter([]);
  },
  "a dirty log": (own) => {
    const { vm, vcpu } = machine(own, WRITES, { flags: KVM_MEM_LOG_DIRTY_PAGES });
    assert.equal(exitOf(vcpu), "io");
    assert.equal(exitOf(vcpu), "hlt");
    assert.ok([...vm.dirtyPages(0)].includes(2));
    const memory = own(GuestMemory.allocate(PAGE));
    vm.ioctl(KVM_GET_DIRTY_LOG, encode(DirtyLog, { slot: 0 }), { links: [{ memory, offset: 8 }] });
    vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memorySize: 0n });
  },
  "a dirty ring": (own) => {
    const prepare = (vm) => vm.enableCap({ cap: "KVM_CAP_DIRTY_LOG_RING", bytes: 65536 });
    const { vm, vcpu } = machine(own, WRITES, { flags: KVM_MEM_LOG_DIRTY_PAGES, prepare });
    const ring = vcpu.dirtyRing();
    assert.equal(exitOf(vcpu), "io");
    assert.equal(exitOf(vcpu), "hlt");
    assert.ok([...ring.harvest()].some(({ offset }) => offset === 2n));
    vm.resetDirtyRings();
  },
  "a saved state": (own) => {
    const { vm, vcpu } = machine(own, EXITS);
    assert.equal(exitOf(vcpu), "io");
    vcpu.completeExit();
    const state = vm.saveState([vcpu]);
    vm.restoreState(state, [vcpu]);
    assert.equal(exitOf(vcpu), "io");
  },
  "a guest_memfd": (own) => {
    const { vm } = machine(own, EXITS);
    const file = own(vm.createGuestMemfd({ size: BigInt(SIZE), flags: 3n }));
    file.allocate(0n, BigInt(PAGE));
    const memory = own(file.map());
    memory.write(0, EXITS);
    file.punchHole(0n, BigInt(PAGE));
    assert.deepEqual(memory.read(0, 4), new Uint8Array(4));
  },
  statistics: (own) => {
    const { vm, vcpu } = machine(own, EXITS);
    vcpu.runSync();
    assert.ok(own(vm.getStatsFd()).read().size > 0);
    assert.ok(own(vcpu.getStatsFd()).read().has("exits"));
  },
  "interrupt and I/O eventfds": async (own) => {
    const { vm, vcpu } = machine(own, EXITS, { prepare: (made) => made.createIrqchip() });
    const interrupt = own(EventFd.create());
    const written = own(EventFd.create());
    vm.irqfd({ fd: interrupt, gsi: 5 });
    vm.ioeventfd({ fd: written, addr: BigInt(PORT), len: 1, flags: KVM_IOEVENTFD_FLAG_PIO });
    interrupt.write();
    const run = vcpu.run();
    const signal = written.wait();
    // If the run cannot start, the eventfd is not signalled.
    await Promise.race([signal, run]);
    assert.ok((await signal) > 0n);
    vcpu.kick();
    assert.equal((await run).kind, "intr");
  },
};
