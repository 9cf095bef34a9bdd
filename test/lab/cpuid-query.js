/**
 * Runs CPUID in guests with several tables. `node cpuid-query.js FILE` writes the table, the vCPU's state and the
 * results of each guest. FILE is gzipped JSON, because the serial port transfers only 30 kB per second. The test
 * cpuid-query.test.ts runs this program in the lab and compares the results with query().
 */
import { writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { fromSupported, Kvm } from "node-kvm";
import { decodeCpuid, guest } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";

const [file] = process.argv.slice(2);
const ABSENT = 500;
const CR4_OSXSAVE = 1n << 18n;
const WORD = 2 ** 32;

/** Leaves at the boundaries of the CPUID ranges. The guests read these leaves at sub-leaves that no table has. */
const EDGES = [
  0x2, 0xc, 0xe, 0x1a, 0x25, 0x100, 0x3fffffff, 0x40000000, 0x40000001, 0x40000002, 0x40000010,
  0x400000ff, 0x40000100, 0x40000103, 0x4000ff00, 0x40010000, 0x4fffffff, 0x50000000, 0x7fffffff,
  0x80000005, 0x80000009, 0x80000023, 0x8fffffff, 0x80860000, 0xbfffffff, 0xc0000000, 0xc0000001,
  0xc0000005, 0xffffffff,
];

/** Converts a vendor's name to the registers of leaf 0. */
function vendor(name) {
  const bytes = new DataView(new TextEncoder().encode(name).buffer);
  const [ebx, edx, ecx] = [0, 4, 8].map((at) => bytes.getUint32(at, true));
  return { ebx, ecx, edx };
}

/** Generates the numbers of a xorshift generator with a fixed seed. */
function* numbers() {
  let state = 0x2545f491;
  for (;;) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    yield state >>> 0;
  }
}

/** Lists the leaves of a table and {@link ABSENT} leaves that the table does not have. */
function inputsOf(table) {
  const own = table.map(({ function: leaf, index }) => ({ function: leaf, index }));
  const has = (leaf, index) => own.some((one) => one.function === leaf && one.index === index);
  const absent = [];
  const add = (leaf, index) => {
    if (absent.length < ABSENT && !has(leaf, index)) absent.push({ function: leaf, index });
  };
  for (const leaf of EDGES) for (const index of [0, 1, 0x105]) add(leaf, index);
  for (const { function: leaf } of own) for (const index of [3, 0xfe, WORD - 1]) add(leaf, index);
  const random = numbers();
  const bases = [0, 0, 0x40000000, 0x80000000, 0xc0000000];
  while (absent.length < ABSENT) {
    const [a, b, c] = [random.next().value, random.next().value, random.next().value];
    add(bases[a % bases.length] + (b % 0x200), c % 70);
    add(b, c % 4);
  }
  return [...own, ...absent];
}

const changeLeaf0 = (table, change) =>
  table.map((entry) => (entry.function === 0 ? { ...entry, ...change } : entry));

/** Functions that make a CPUID table from the entries that KVM supports, by the table's name. */
const TABLES = {
  supported: (entries) => entries,
  "highest-basic-leaf-b": (entries) => [
    ...changeLeaf0(entries, { eax: 0xb }).filter((entry) => entry.function !== 0xb),
    { function: 0xb, index: 1, flags: 1, eax: 4, ebx: 2, ecx: 0x201, edx: 0x1234 },
  ],
  "unflagged-and-doubled": (entries) => [
    { function: 7, index: 3, ebx: 0x20, ecx: 0x10 },
    ...entries.map((entry) => (entry.function === 4 ? { ...entry, flags: 0 } : entry)),
    { function: 0x2000, index: 5, eax: 1 },
    { function: 0x2001, index: 5, flags: 1, eax: 2 },
    { function: 1, eax: 0x1234 },
    { function: 0xc0000000, eax: 0xc0000003 },
  ],
  "without-leaf-0": (entries) => entries.filter((entry) => entry.function !== 0),
  "highest-basic-leaf-d": (entries) => changeLeaf0(entries, { eax: 0xd }),
};

/** Sets CR4.OSXSAVE and XCR0 of a vCPU. */
function setXcr0(vcpu, xcr0) {
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | CR4_OSXSAVE });
  const xcrs = vcpu.getXcrs();
  vcpu.setXcrs({ ...xcrs, nrXcrs: 1, xcrs: [{ ...xcrs.xcrs[0], xcr: 0, value: xcr0 }] });
}

const kvm = Kvm.open();
const supported = [...kvm.getSupportedCpuid()];
const guests = [];

/** Runs the loaded guest, and appends its results to `guests`. */
function run(box, { inputs, ...about }) {
  const { vcpu } = box;
  const { cr4, apicBase } = vcpu.getSregs();
  const [values] = box.syncs();
  const state = { cr4, apicBase, xcr0: vcpu.getXcrs().xcrs[0].value };
  guests.push({ ...about, stored: vcpu.getCpuid2(), state, results: decodeCpuid(inputs, values) });
}

for (const [table, make] of Object.entries(TABLES)) {
  // The vendor does not change the set of leaves, so the guests of both vendors have the same program.
  const inputs = inputsOf(make([...fromSupported(supported)]));
  const program = guest("long", (g) => g.cpuidAll(inputs).done());
  for (const name of ["AuthenticAMD", "GenuineIntel"]) {
    const cpuid = make(changeLeaf0([...fromSupported(supported)], vendor(name)));
    const box = new Sandbox(kvm, { program, cpuid });
    run(box, { name, table, cpuid, inputs });
    box.reset();
    setXcr0(box.vcpu, 7n);
    run(box, { name, table, cpuid, inputs });
    box.close();
  }
}
kvm.close();
const text = JSON.stringify({ supported, guests }, (_, it) =>
  typeof it === "bigint" ? Number(it) : it,
);
writeFileSync(file, gzipSync(text));
