/**
 * Closes linked objects that own memory or descriptors, in every order: `node --expose-gc owners.js '["guest_memfd
 * mapped"]'`. The program prints, as JSON, the first order after which the process has more mappings or descriptors
 * than before. owners.test.ts judges the result.
 */
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EventFd, GuestMemory, Kvm } from "node-kvm";
import * as abi from "node-kvm/abi";

const PAGE = 4096;
/** No other mapping of the process has this size. */
const SIZE = 0x7f_3000;
const FILTER_RING = 0x1_0000;
const FILE = join(tmpdir(), `node-kvm-owners-${process.pid}`);

/** Ends a case because this kernel does not support its objects. */
class Missing extends Error {}

/** @param {unknown} wanted @param {string} reason */
function need(wanted, reason) {
  if (!wanted) throw new Missing(reason);
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

/**
 * Collects garbage repeatedly: a finalizer runs in a later turn, and the next collection frees the objects that the
 * finalizer releases.
 */
async function collect() {
  for (let i = 0; i < 6; i += 1) {
    globalThis.gc();
    await turn();
  }
}

function linkOf(number) {
  try {
    return readlinkSync(`/proc/self/fd/${number}`);
  } catch {
    return "closed"; // the descriptor of the directory listing
  }
}

/** Returns whether a mapping has one of the sizes above, or maps a file that only this package maps. */
const isOurs = ({ size, name }) =>
  size === SIZE || size === FILTER_RING || /kvm|node-kvm-owners/.test(name);

function mappings() {
  const lines = readFileSync("/proc/self/maps", "latin1").trim().split("\n");
  return lines.map((line) => {
    const [range = "", , , , , name = ""] = line.split(/\s+/);
    const [start = 0, end = 0] = range.split("-").map((address) => Number.parseInt(address, 16));
    return { size: end - start, name };
  });
}

/** Counts the mappings and the descriptors of this package. */
const count = () => {
  const mapped = mappings().filter(isOurs);
  const files = readdirSync("/proc/self/fd").map(linkOf);
  return {
    mappings: mapped.filter(({ name }) => !name.endsWith(".node")).length,
    descriptors: files.filter((file) => /kvm|eventfd/.test(file)).length,
  };
};

function plain(memory, kvm) {
  const vm = kvm.createVm();
  vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory });
  const vcpu = vm.createVcpu(0);
  return { memory, vm, vcpu };
}

const anonymous = (kvm, options) => plain(GuestMemory.allocate(SIZE, options), kvm);

function memfdOf(vm, flags) {
  const allowed = BigInt(vm.checkExtension("KVM_CAP_GUEST_MEMFD_FLAGS"));
  need(vm.checkExtension("KVM_CAP_GUEST_MEMFD") > 0, "no guest_memfd");
  need((allowed & flags) === flags, "no guest_memfd that can be mapped");
  return vm.createGuestMemfd({ size: BigInt(SIZE), flags });
}

const SHARED = BigInt(abi.GUEST_MEMFD_FLAG_MMAP | abi.GUEST_MEMFD_FLAG_INIT_SHARED);

/**
 * Maps each kind of memory or link to a function. The function creates objects and returns those that can be closed, in
 * the order of creation.
 */
const KINDS = {
  anonymous: (kvm) => anonymous(kvm, { populate: true }),
  memfd: (kvm) => anonymous(kvm, { shared: true, populate: true }),
  file: (kvm) => {
    writeFileSync(FILE, new Uint8Array(SIZE));
    return plain(GuestMemory.mapFile(FILE, { populate: true }), kvm);
  },
  "windows of memory": (kvm) => {
    const made = anonymous(kvm);
    made.memory.bytes.fill(1);
    return made;
  },
  "guest_memfd mapped": (kvm) => {
    const vm = kvm.createVm();
    const file = memfdOf(vm, SHARED);
    const memory = file.map();
    memory.bytes.fill(1);
    vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory });
    return { vm, file, memory, vcpu: vm.createVcpu(0) };
  },
  "guest_memfd in a slot": (kvm) => {
    const vm = kvm.createVm();
    const guestMemfd = memfdOf(vm, SHARED);
    const memory = GuestMemory.allocate(SIZE, { populate: true });
    const flags = abi.KVM_MEM_GUEST_MEMFD;
    vm.setUserMemoryRegion2({ slot: 0, flags, guestPhysAddr: 0n, memory, guestMemfd });
    return { vm, guestMemfd, memory, vcpu: vm.createVcpu(0) };
  },
  "guest_memfds of two VMs, each a slot of the other": (kvm) => {
    const [one, other] = [kvm.createVm(), kvm.createVm()];
    const [first, second] = [one, other].map((vm) => memfdOf(vm, SHARED).map());
    one.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory: second });
    other.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory: first });
    return { one, other, first, second };
  },
  "dirty ring": (kvm) => {
    const vm = kvm.createVm();
    const cap = "KVM_CAP_DIRTY_LOG_RING_ACQ_REL";
    need(vm.checkExtension(cap) > 0, `no ${cap}`);
    vm.enableCap({ cap, args: [65536n] });
    const memory = GuestMemory.allocate(SIZE);
    vm.setUserMemoryRegion({ slot: 0, flags: 1, guestPhysAddr: 0n, memory });
    const vcpu = vm.createVcpu(0);
    vcpu.dirtyRing();
    return { vm, memory, vcpu };
  },
  "kvm_run of a vCPU that has run": (kvm) => {
    const made = anonymous(kvm);
    const rom = GuestMemory.allocate(PAGE);
    rom.write(0xff0, Uint8Array.of(0xf4));
    made.vm.setUserMemoryRegion({ slot: 1, guestPhysAddr: 0xffff_f000n, memory: rom });
    made.vcpu.runSync();
    return { ...made, rom };
  },
  "exit filter's ring": (kvm) => {
    const made = anonymous(kvm);
    made.vcpu.setExitFilter([{ pio: 0x80, write: "collect" }]);
    return made;
  },
  "irqfd and ioeventfd": (kvm) => {
    const vm = kvm.createVm();
    vm.createIrqchip();
    const memory = GuestMemory.allocate(SIZE);
    vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memory });
    const [raise, ring] = [EventFd.create(), EventFd.create()];
    vm.irqfd({ fd: raise, gsi: 5 });
    vm.ioeventfd({ fd: ring, addr: 0x80n, len: 1, flags: abi.KVM_IOEVENTFD_FLAG_PIO });
    return { vm, memory, raise, ring };
  },
  "memory that Xen's shared info is in": (kvm) => {
    const made = anonymous(kvm);
    const offered = made.vm.checkExtension("KVM_CAP_XEN_HVM");
    need(offered & abi.KVM_XEN_HVM_CONFIG_SHARED_INFO_HVA, "no shared info by address");
    const held = GuestMemory.allocate(SIZE);
    const type = abi.KVM_XEN_ATTR_TYPE_SHARED_INFO_HVA;
    made.vm.xenHvmSetAttr({ type }, { sharedInfo: { memory: held } });
    return { ...made, held };
  },
  statistics: (kvm) => {
    const { vm, vcpu } = anonymous(kvm);
    return { vm, vcpu, ofVm: vm.getStatsFd(), ofVcpu: vcpu.getStatsFd() };
  },
};

/** Returns every permutation of some names. @param {readonly string[]} names @returns {readonly string[][]} */
const orders = (names) =>
  names.length === 0
    ? [[]]
    : names.flatMap((name) => orders(names.filter((n) => n !== name)).map((o) => [name, ...o]));

/**
 * Creates the objects of a kind and closes those that `order` names. The function keeps no reference to the objects.
 */
function live(kind, kvm, order) {
  const made = KINDS[kind](kvm);
  for (const name of order) made[name].close();
  return Object.keys(made);
}

async function judge(kind) {
  const kvm = Kvm.open();
  try {
    const before = count();
    const names = live(kind, kvm, []);
    const all = orders(names);
    // The program tests every permutation, each object closed with the others dropped, and all objects dropped.
    const left = [];
    for (const order of [...all, ...names.map((name) => [name]), []]) {
      live(kind, kvm, order);
      await collect();
      const after = count();
      if (after.mappings !== before.mappings || after.descriptors !== before.descriptors) {
        left.push({ order, before, after });
        break;
      }
    }
    return { kind, orders: all.length, left };
  } catch (error) {
    if (error instanceof Missing) return { kind, missing: error.message };
    throw error;
  } finally {
    kvm.close();
  }
}

const kinds = JSON.parse(process.argv[2]);
const results = [];
for (const kind of kinds.length === 0 ? Object.keys(KINDS) : kinds) {
  results.push(await judge(kind));
}
process.stdout.write(JSON.stringify(results));
