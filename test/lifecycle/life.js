/**
 * Opens, uses and closes handles in a given order in a process or a worker: `node life.js '["kvm","vm","close kvm"]'`.
 * This file defines the stages; orders.test.ts and spins.test.ts define the orders and the expected results.
 */
import assert from "node:assert/strict";
import { execFileSync, fork } from "node:child_process";
import { randomFill } from "node:crypto";
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { GuestMemory, Kvm, kickVcpu } from "node-kvm";
import { KVM_RUN } from "node-kvm/abi";

// out 0x10, al; jmp to the out
const CODE = Uint8Array.of(0xe6, 0x10, 0xeb, 0xfc);
const RELEASE = 0x800;
// cmp byte [0x800], 0; je to the cmp; then CODE
const SPIN = Uint8Array.of(0x80, 0x3e, 0x00, 0x08, 0x00, 0x74, 0xf9, ...CODE);
const SIZE = 0x10000;

/** Returns the program of SPIN for ring 3; the import is dynamic so that other orders do not load the assembler. */
async function userProgram() {
  const { guest, mem } = await import("node-kvm/guest");
  return guest("user", (g) =>
    g.asm((a) =>
      a.label("again").cmp(mem(8, RELEASE), 0).jcc("e", "again").out(8, 0x10).jmp("again"),
    ),
  );
}

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

/** Detaches a buffer from its memory with transfer(); Node 20 copies the bytes instead. */
const move = (buffer) =>
  buffer.transfer === undefined
    ? structuredClone(buffer, { transfer: [buffer] })
    : buffer.transfer();

const closed = { name: "StateError", code: "ERR_CLOSED" };

/** Lists the process's descriptors whose link target names KVM, such as anon_inode:kvm-vm and /dev/kvm. */
const kvmLinks = () =>
  readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes("kvm");
    } catch {
      return false; // the descriptor of the directory listing is closed by now
    }
  });

/** Opens /dev/null until no descriptor is left. */
function takeDescriptors() {
  const taken = [];
  for (;;) {
    try {
      taken.push(openSync("/dev/null"));
    } catch (error) {
      assert.equal(error.code, "EMFILE");
      return taken;
    }
  }
}

/** Makes a vCPU whose guest begins at address 0 in real mode. */
function makeVcpu(s, id) {
  s.vcpu = s.vm.createVcpu(id);
  const sregs = s.vcpu.getSregs();
  s.vcpu.setSregs({ ...sregs, cs: { ...sregs.cs, base: 0n, selector: 0 } });
  s.vcpu.updateRegs({ rip: 0n, rflags: 2n });
}

const stages = {
  kvm: (s) => {
    s.kvm = Kvm.open();
  },
  vm: (s) => {
    s.vm = s.kvm.createVm();
  },
  vcpu: (s) => makeVcpu(s, 0),
  "another vcpu": (s) => makeVcpu(s, 1),
  "vcpu is refused without an epoll": (s) => {
    const taken = takeDescriptors();
    closeSync(taken.pop());
    assert.throws(() => makeVcpu(s, 0), {
      name: "KvmError",
      call: "epoll_create1",
      code: "EMFILE",
    });
    for (const fd of taken) closeSync(fd);
  },
  "the signal queue has no room": () =>
    assert.match(readFileSync("/proc/self/limits", "latin1"), /^Max pending signals +0 +0 /m),
  memory: (s) => {
    s.memory = GuestMemory.allocate(SIZE);
    s.memory.write(0, CODE);
  },
  slot: (s) => s.vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory: s.memory }),
  "delete slot": (s) => s.vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n }),
  run: (s) => assert.equal(s.vcpu.runSync().kind, "io"),
  "run through ioctl": (s) => s.vcpu.ioctl(KVM_RUN),
  "run without memory": (s) => assert.notEqual(s.vcpu.runSync().kind, "io"),
  "run closed": (s) => assert.throws(() => s.vcpu.runSync(), closed),
  spin: (s) => s.memory.write(0, SPIN),
  "user program": async (s) => {
    s.program = await userProgram();
  },
  "user memory": (s) => {
    s.memory = GuestMemory.allocate(s.program.memorySize);
    s.program.load(s.memory);
  },
  "user vcpu": (s) => {
    s.vcpu = s.vm.createVcpu(0);
    s.vcpu.setCpuid2(s.kvm.getSupportedCpuid());
    s.vcpu.setSregs(s.program.sregs(s.vcpu.getSregs()));
    s.vcpu.setRegs(s.program.regs);
  },
  "run beside": (s) => {
    s.ended = s.vcpu.run();
  },
  "run with signal": (s) => {
    s.controller = new AbortController();
    s.ended = s.vcpu.run({ signal: s.controller.signal });
  },
  kick: (s) => s.vcpu.kick(),
  "kick by token": (s) => assert.equal(kickVcpu(s.vcpu.kickToken), true),
  pause: (s) => s.vm.pause(),
  resume: (s) => s.vm.resume(),
  abort: (s) => s.controller.abort(),
  release: (s) => {
    s.view[RELEASE] = 1;
  },
  "run has exited": async (s) => assert.equal((await s.ended).kind, "io"),
  "run has ended": async (s) => assert.deepEqual(await s.ended, { kind: "intr" }),
  "close kvm": (s) => s.kvm.close(),
  "close vm": (s) => s.vm.close(),
  "close vcpu": (s) => s.vcpu.close(),
  "close memory": (s) => s.memory.close(),
  "use closed kvm": (s) => assert.throws(() => s.kvm.createVm(), closed),
  "use closed vm": (s) => {
    assert.throws(() => s.vm.createVcpu(1), closed);
    assert.throws(() => stages["slot"](s), closed);
  },
  "use closed vcpu": (s) => {
    assert.throws(() => s.vcpu.getRegs(), closed);
    assert.throws(() => s.vcpu.immediateExit, closed);
  },
  "use closed memory": (s) => {
    assert.throws(() => s.memory.bytes, closed);
    assert.throws(() => s.memory.write(0, CODE), closed);
    assert.throws(() => s.memory.read(0, 1), closed);
  },
  view: (s) => {
    s.view = s.memory.bytes;
  },
  "view is live": (s) => assert.deepEqual(s.view.slice(0, 4), CODE),
  "view is empty": (s) => assert.equal(s.view.length, 0),
  move: (s) => {
    s.moved = new Uint8Array(move(s.memory.bytes.buffer));
  },
  "moved can be touched": (s) => {
    assert.equal(s.moved.length, SIZE);
    for (let at = 0; at < SIZE; at += 4096) s.moved[at] = (s.moved[at] ?? 0) + 1;
  },
  "post moved": (s) => {
    const buffer = move(s.memory.bytes.buffer);
    parentPort.postMessage(buffer, [buffer]);
  },
  job: (s) => {
    s.job = promisify(randomFill)(s.memory.bytes.subarray(4096));
  },
  "job ends": (s) => s.job,
  "slot refused": (s) => assert.throws(() => stages["slot"](s), { name: "KvmError" }),
  fork: async () => {
    const child = fork(fileURLToPath(import.meta.url), [JSON.stringify(["no descriptors"])]);
    const end = await new Promise((resolve) => child.once("exit", (...how) => resolve(how)));
    assert.deepEqual(end, [0, null]);
  },
  exec: () => {
    assert.notEqual(kvmLinks().length, 0);
    // ls prints an error for the descriptor of its own directory listing, which is closed by then.
    const options = { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] };
    assert.doesNotMatch(execFileSync("ls", ["-l", "/proc/self/fd"], options), /kvm/);
  },
  "no descriptors": () => assert.deepEqual(kvmLinks(), []),
  "drop kvm": (s) => delete s.kvm,
  "drop vm": (s) => delete s.vm,
  "drop vcpu": (s) => delete s.vcpu,
  "drop memory": (s) => delete s.memory,
  gc: collect,
  turn,
  ready: () => parentPort.postMessage("ready"),
  exit: () => process.exit(7),
  "exit later": () => process.once("exit", () => process.exit(7)),
  "SIGINT exits": () => process.once("SIGINT", () => process.exit(7)),
  "SIGTERM exits": () => process.once("SIGTERM", () => process.exit(7)),
  SIGINT: () => signal("SIGINT"),
  SIGTERM: () => signal("SIGTERM"),
  throw: () => {
    throw new Error("thrown on purpose");
  },
};

/** Sends this process a signal that ends it. */
function signal(name) {
  process.kill(process.pid, name);
  return new Promise(() => undefined);
}

/** Starts a worker that runs an order of stages. */
function start(order) {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: order });
  const ended = new Promise((resolve, reject) => {
    worker.once("error", reject);
    worker.once("exit", resolve);
  });
  return { worker, ended };
}

/**
 * A worker that blocks after it posted "ready" (such as in KVM_RUN) cannot report the block, so the test waits a
 * moment.
 */
const isReady = ({ worker }) =>
  new Promise((resolve) => {
    worker.on("message", (message) => message === "ready" && setTimeout(resolve, 100));
  });

/** The ways in which the workers of a stage may end. */
const ends = {
  naturally: ({ ended }) => ended,
  throwing: ({ ended }) => assert.rejects(ended, { message: "thrown on purpose" }),
  terminated: async ({ worker, ended }) => {
    await isReady({ worker });
    await worker.terminate();
    await ended;
  },
  abandoned: isReady,
};

/** Runs a stage that consists of concurrent workers, each with an order of stages. */
async function runWorkers(s, { workers, end }) {
  const started = workers.map(start);
  for (const { worker } of started) {
    worker.on("message", (message) => {
      if (message !== "ready") s.moved = new Uint8Array(message);
    });
  }
  await Promise.all(started.map(ends[end]));
}

async function live(order) {
  const handles = {};
  for (const stage of order) {
    if (typeof stage !== "string") await runWorkers(handles, stage);
    else if (stage === "forever") for (;;) churn(handles);
    else if (stage === "kicked forever") for (;;) await churnBeside(handles);
    else await stages[stage](handles);
  }
}

/** Runs one round of a loop that only terminate() ends, possibly in the middle of a call. */
function churn(handles) {
  parentPort.postMessage("ready");
  for (const stage of ["vm", "memory", "slot", "vcpu", "run", "close vm", "close vcpu"]) {
    stages[stage](handles);
  }
  handles.memory.close();
}

/** Runs one round of a loop like churn(), but with runs on other threads. */
async function churnBeside(handles) {
  parentPort.postMessage("ready");
  for (const stage of ["run beside", "turn", "kick", "run has ended"]) {
    await stages[stage](handles);
  }
}

await live(isMainThread ? JSON.parse(process.argv[2]) : workerData);
