/**
 * Sends kicks at random moments around the entry of KVM_RUN and the guest's own exit. `node kicks.js
 * '{"kicks":1000000}'` sends a million kicks to two vCPUs. The program throws when a kick is lost or when a run ends
 * without a kick, and prints statistics. The same `seed` gives the same moments, `mode` is `real` or `user`, and
 * `every` is the number of kicks between two messages about the progress. kicks.test.ts sends fewer kicks.
 */
import { GuestMemory, Kvm } from "node-kvm";
import { guest, mem } from "node-kvm/guest";

const VCPUS = 2;
const COUNTERS = 0x800;
/** A counter that starts at 0 needs 2^32 steps to reach 0 again, so only a kick can end the run. */
const FOREVER = 0;

/** Emits a loop that counts down to 0 and exits. */
const countdown = (register) => (g) =>
  g.asm((a) =>
    a
      .label("again")
      .dec(mem(32, { base: register }))
      .jcc("ne", "again")
      .out(8, 0x10)
      .jmp("again"),
  );

const PROGRAMS = {
  real: guest("real", countdown("di")),
  user: guest("user", countdown("rdi")),
};

const {
  kicks: wanted,
  mode = "real",
  seed = Date.now() % 2 ** 32,
  every = Number.POSITIVE_INFINITY,
} = JSON.parse(process.argv[2]);

/**
 * Returns pseudorandom numbers from 0 to 1 (xorshift32): a failing seed fails again, as far as thread scheduling
 * allows.
 */
let state = seed + 1;
function random() {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) / 2 ** 32;
}

const choose = (list) => list[Math.floor(random() * list.length)];
/** Returns a number from 1 to 2 to the power of `bits`; every order of magnitude is equally frequent. */
const magnitude = (bits) => 2 ** (random() * bits);

const turn = () => new Promise((resolve) => setImmediate(resolve));
function wait() {
  const until = performance.now() + magnitude(10) / 1000;
  while (performance.now() < until);
}

/** The moments at which a kick is sent after run(); they differ because run() only wakes the other thread. */
const MOMENTS = {
  "at once": (kick) => kick(),
  "after a while": (kick) => {
    wait();
    kick();
  },
  "a turn later": async (kick) => {
    await turn();
    kick();
  },
  "a turn and a while later": async (kick) => {
    await turn();
    wait();
    kick();
  },
  twice: (kick) => {
    kick();
    wait();
    kick();
  },
};
const moments = Object.keys(MOMENTS);

const done = { kicks: 0, spinning: 0, racing: { intr: 0, io: 0 }, alone: 0, aloneSync: 0 };

const kvm = Kvm.open();
const vm = kvm.createVm();
const program = PROGRAMS[mode];
const memory = GuestMemory.allocate(program.memorySize);
vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory });
program.load(memory);
const counters = new Uint32Array(memory.bytes.buffer, COUNTERS, VCPUS * 16);

function makeVcpu(id) {
  const vcpu = vm.createVcpu(id);
  vcpu.setCpuid2(kvm.getSupportedCpuid());
  vcpu.setSregs(program.sregs(vcpu.getSregs()));
  vcpu.setRegs({ ...program.regs, rdi: BigInt(COUNTERS + id * 64) });
  return vcpu;
}

/** Sets the guest's count, runs the guest, and kicks it; `kind` is the kind of the exit. */
async function kicked(vcpu, count, moment) {
  counters[vcpu.id * 16] = count;
  const ended = vcpu.run();
  await MOMENTS[moment](() => vcpu.kick());
  done.kicks += 1;
  if (done.kicks % every === 0) process.stderr.write(`${done.kicks}\n`);
  return (await ended).kind;
}

/** Runs the vCPU without a kick, directly after a kicked run. */
async function alone(vcpu, moment) {
  counters[vcpu.id * 16] = magnitude(12);
  const isSync = random() < 0.25;
  const { kind } = isSync ? vcpu.runSync() : await vcpu.run();
  done[isSync ? "aloneSync" : "alone"] += 1;
  if (kind === "io") return;
  const how = isSync ? "runSync()" : "run()";
  throw new Error(`${how} ended with ${kind} although only the previous run was kicked, ${moment}`);
}

/** Runs a guest that only a kick can end. */
async function spin(vcpu) {
  const moment = choose(moments);
  const kind = await kicked(vcpu, FOREVER, moment);
  done.spinning += 1;
  if (kind !== "intr") throw new Error(`a kick was lost, ${moment}: the run ended with ${kind}`);
  if (random() < 0.25) await alone(vcpu, moment);
}

/** Runs a guest that exits at about the time of the kick: either the exit or the kick may be first. */
async function race(vcpu) {
  const moment = choose(moments);
  const kind = await kicked(vcpu, magnitude(16), moment);
  done.racing[kind] += 1;
  // The guest may have counted to 0 but not yet exited, so the end of this run does not show whether the kick was lost.
  await alone(vcpu, moment);
}

async function live(vcpu) {
  while (done.kicks < wanted) {
    await (random() < 0.5 ? spin(vcpu) : race(vcpu));
  }
}

// The program runs each vCPU on several threads on purpose.
process.removeAllListeners("warning");
process.on("warning", (warning) => {
  if (warning.code !== "NODE_KVM_THREADS") throw warning;
});

const began = performance.now();
await Promise.all(Array.from({ length: VCPUS }, (_, id) => live(makeVcpu(id))));
const seconds = (performance.now() - began) / 1000;
process.stdout.write(`${JSON.stringify({ ...done, mode, seed, seconds })}\n`);
