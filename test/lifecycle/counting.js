/**
 * Guests that count. One process saves the guests: `node counting.js
 * '{"act":"save","guests":["long"],"folder":"/tmp/x"}'`. With `"act":"restore"`, another process restores the guests
 * from bytes and from JSON. The program prints the values that each guest wrote; state.test.ts and, on other kernels,
 * test/lab/state.test.ts compare the values.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { inspect } from "node:util";
import { gunzipSync, gzipSync } from "node:zlib";
import { fromSupported, GuestMemory, Kvm } from "node-kvm";
import * as abi from "node-kvm/abi";
import { decodeUcall, guest, IDT_GPA, isUcall, mem } from "node-kvm/guest";
import { stateFromBytes, stateFromJson, stateToBytes, stateToJson } from "node-kvm/state";

const PORT = 0x80;
const QUESTION = 0x60;
/** The number of values that each process awaits. */
const VALUES = 6;
const CR4_OSXSAVE = 1n << 18n;
const [TSC, TSC_DEADLINE, STAR, KERNEL_GS_BASE] = [0x10, 0x6e0, 0xc000_0081, 0xc000_0102];
const DEADLINE_CYCLES = 2 ** 28;
const VECTOR = 0x20;
const LAPIC = 0xfee0_0000;

/** Writes EAX to the port. */
const say = (a) => a.mov("dx", PORT).out(32, "dx");
const count = (a) => say(a.inc("ebx").mov("eax", "ebx"));
const outb = (a, port, value) => a.mov("al", value).out(8, port);
const loop = (inner) => (g) => g.asm((a) => inner(a.label("again")).jmp("again"));

/** Emits a call that jumps over an interrupt handler. The call pushes the handler's address, which (E/R)AX can pop. */
const handler = (a, inner) => inner(a.call("after")).iret().label("after");

/** Sets XCR0 to 7 and both halves of YMM7; the guest writes the halves to the port. */
function setYmm(vcpu) {
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | CR4_OSXSAVE });
  const xcrs = vcpu.getXcrs();
  vcpu.setXcrs({ ...xcrs, xcrs: [{ ...xcrs.xcrs[0], value: 7n }, ...xcrs.xcrs.slice(1)] });
  const state = vcpu.saveState();
  const view = new DataView(state.xsave.buffer);
  // Offsets in the standard format: XMM0 is at 160, XSTATE_BV at 512, the upper halves of YMM at 576.
  view.setUint32(160 + 7 * 16, 0x1111_1111, true);
  view.setBigUint64(512, view.getBigUint64(512, true) | 7n, true);
  view.setUint32(576 + 7 * 16, 0x2222_2222, true);
  vcpu.restoreState(state);
}

/** Raises the limit of the IDT, so that the IDT has entries for vectors above the exceptions. */
function takeInterrupts({ vcpu }) {
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, idt: { ...sregs.idt, limit: 0xfff } });
}

const MOVD_EAX_XMM7 = [0x66, 0x0f, 0x7e, 0xf8];
const MOVD_EAX_XMM0 = [0x66, 0x0f, 0x7e, 0xc0];
const VEXTRACTF128_XMM0_YMM7_1 = [0xc4, 0xe3, 0x7d, 0x19, 0xf8, 0x01];

/** Each guest: its mode and program, the additional parts of its VM, and its state before it runs. */
const GUESTS = {
  long: { mode: "long", program: loop(count) },
  protected: { mode: "protected", program: loop(count) },
  real: { mode: "real", program: loop(count) },
  user: { mode: "user", program: loop(count) },
  echo: {
    mode: "long",
    program: loop((a) => say(a.mov("dx", QUESTION).in(32, "dx"))),
    // KVM has the value of the port read, but has not yet written this value to EAX.
    leave: ({ vcpu, answer }) => vcpu.runSync().reply([answer()]),
  },
  msrs: {
    mode: "long",
    program: (g) =>
      g
        .wrmsr(STAR, 0x0123_4567_0000_0000n)
        .wrmsr(KERNEL_GS_BASE, 0x1234_5678n)
        .asm((a) => a.label("again"))
        .asm(count)
        .asm((a) => say(a.mov("ecx", STAR).rdmsr().mov("eax", "edx")))
        .asm((a) => say(a.mov("ecx", KERNEL_GS_BASE).rdmsr()))
        .asm((a) => a.jmp("again")),
  },
  ymm: {
    mode: "user",
    prepare: ({ vcpu }) => setYmm(vcpu),
    program: loop((a) => {
      say(count(a).db(...MOVD_EAX_XMM7));
      return say(a.db(...VEXTRACTF128_XMM0_YMM7_1, ...MOVD_EAX_XMM0));
    }),
  },
  pit: {
    mode: "real",
    chips: true,
    prepare: takeInterrupts,
    program: (g) =>
      g.asm((a) => {
        handler(a.cli(), () => outb(count(a), 0x20, 0x20));
        a.pop("ax")
          .mov(mem(16, VECTOR * 4), "ax")
          .mov("ax", "cs")
          .mov(mem(16, VECTOR * 4 + 2), "ax");
        for (const [port, value] of [
          ...[
            [0x20, 0x11],
            [0x21, VECTOR],
            [0x21, 4],
            [0x21, 1],
            [0x21, 0xfe],
          ],
          ...[
            [0x43, 0x34],
            [0x40, 0x00],
            [0x40, 0x40],
          ], // 14 ms
        ]) {
          outb(a, port, value);
        }
        a.sti().label("idle").hlt().jmp("idle");
      }),
  },
  deadline: {
    mode: "long",
    chips: true,
    cpuid: { tsc_deadline_timer: 1 },
    prepare: takeInterrupts,
    program: (g) =>
      g.asm((a) => {
        const gate = (at, size) => mem(size, IDT_GPA + VECTOR * 16 + at);
        const register = (at) => mem(32, { base: "rdi", displacement: at });
        a.cli()
          .mov("rdi", LAPIC)
          .mov(register(0xf0), 0x1ff)
          .mov(register(0x320), 0x4_0000 | VECTOR);
        handler(a, () => a.mov(register(0xb0), 0));
        a.pop("rax").mov(gate(0, 16), "ax").mov(gate(2, 16), 8).mov(gate(4, 16), 0x8e00);
        a.shr("rax", 16).mov(gate(6, 16), "ax").mov(gate(8, 32), 0).mov(gate(12, 32), 0);
        a.label("again").rdtsc().shl("rdx", 32).or("rax", "rdx").add("rax", DEADLINE_CYCLES);
        a.mov("rdx", "rax").shr("rdx", 32).mov("ecx", TSC_DEADLINE).wrmsr();
        count(a).sti().hlt().cli().jmp("again");
      }),
  },
};

/** Creates a VM with its vCPU; the saving and the restoring process call this function. */
function machine(name) {
  const kvm = Kvm.open();
  const vm = kvm.createVm();
  const program = guest(GUESTS[name].mode, GUESTS[name].program);
  const memory = GuestMemory.allocate(program.memorySize);
  vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory });
  if (GUESTS[name].chips) {
    vm.createIrqchip();
    vm.ioctl(abi.KVM_CREATE_PIT2, abi.encode(abi.PitConfig, {}));
  }
  return { kvm, vm, memory, program, vcpu: vm.createVcpu(0) };
}

/** Runs the guest until it has written this many values; a read of the question port gets the next number. */
function rounds({ vcpu, memory, answer }, values) {
  const said = [];
  while (said.length < values) {
    const exit = vcpu.runSync();
    if (exit.kind === "io" && exit.port === PORT) said.push(...exit.values);
    else if (exit.kind === "io" && exit.port === QUESTION) exit.reply([answer()]);
    else throw new Error(`the guest stopped: ${inspect(stopped(exit, memory))}`);
  }
  return said;
}

const stopped = (exit, memory) =>
  exit.kind === "io" && isUcall(exit) ? decodeUcall(memory, exit.values[0]) : exit;

function counter(from) {
  let last = from;
  return () => {
    last += 1;
    return last;
  };
}

function save(name, folder) {
  const { prepare, leave, cpuid = {} } = GUESTS[name];
  const box = { ...machine(name), answer: counter(0) };
  const { kvm, vm, vcpu, memory, program } = box;
  vcpu.setCpuid2(fromSupported(kvm.getSupportedCpuid()).with(cpuid));
  program.load(memory);
  vcpu.setSregs(program.sregs(vcpu.getSregs()));
  vcpu.setRegs(program.regs);
  prepare?.(box);
  const said = rounds(box, VALUES);
  leave?.(box);
  const state = vm.saveState([vcpu]);
  writeFileSync(`${folder}/${name}.bytes`, stateToBytes(state));
  writeFileSync(`${folder}/${name}.json`, stateToJson(state));
  // The memory is compressed because nearly all bytes are zero and the lab sends the file through a serial port.
  writeFileSync(`${folder}/${name}.memory`, gzipSync(memory.read(0, memory.byteLength)));
  return { guest: name, said, parts: [...Object.keys(state), ...Object.keys(state.vcpus[0])] };
}

const msrOf = ({ msrs }, wanted) => msrs.find(({ index }) => index === wanted).data;

/** Returns the names of the parts in which two states differ; an MSR is named by its number. */
function differences(before, after) {
  const [a, b] = [before, after].map(({ vcpus: [vcpu], source: _, ...vm }) => {
    const msrs = vcpu.msrs.map(({ index, data }) => [`msr 0x${index.toString(16)}`, data]);
    return { ...vm, ...vcpu, msrs: vcpu.msrs.length, ...Object.fromEntries(msrs) };
  });
  const text = (value) => JSON.stringify(value, (_, v) => (typeof v === "bigint" ? `${v}` : v));
  return Object.keys({ ...a, ...b }).filter((name) => text(a[name]) !== text(b[name]));
}

function restore(name, folder, form) {
  const document = readFileSync(`${folder}/${name}.${form}`);
  const state = form === "json" ? stateFromJson(document.toString()) : stateFromBytes(document);
  const memory = gunzipSync(readFileSync(`${folder}/${name}.memory`));
  const made = machine(name);
  const goOn = () => {
    made.memory.write(0, memory);
    made.vm.restoreState(state, [made.vcpu]);
    return rounds({ ...made, answer: counter(VALUES + 1) }, VALUES);
  };
  made.memory.write(0, memory);
  made.vm.restoreState(state, [made.vcpu]);
  const resaved = made.vm.saveState([made.vcpu]);
  const tsc = [state, resaved].map(({ vcpus }) => Number(msrOf(vcpus[0], TSC)));
  // At the second restore, the vCPU has already run, and its last exit is not completed.
  const [said, again] = [goOn(), goOn()];
  return { guest: name, form, said, again, different: differences(state, resaved), tsc };
}

const { act, guests, folder } = JSON.parse(process.argv[2]);
const print = (result) => console.log(JSON.stringify(result));
for (const name of guests) {
  if (act === "save") print(save(name, folder));
  else for (const form of ["bytes", "json"]) print(restore(name, folder, form));
}
