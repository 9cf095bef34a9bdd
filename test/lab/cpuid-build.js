/**
 * Sets the table of each CPU model on a vCPU, then runs guests that execute CPUID with tables of the builder. Usage:
 * `node cpuid-build.js PLAN FILE`. PLAN is a JSON list of guests. FILE receives gzipped JSON, because the serial port
 * transfers only 30 kB per second. The test cpuid-build.test.ts runs this program in the lab and builds the same tables
 * itself.
 */
import { writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { Kvm } from "node-kvm";
import { CpuidTable, cpuid, namedModels } from "node-kvm/cpuid";
import { CR4_OSXSAVE, decodeCpuid, guest } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";

const [plan, file] = process.argv.slice(2);
const CR4_PKE = 1n << 22n;

const kvm = Kvm.open();
const supported = CpuidTable.from(kvm.getSupportedCpuid());

/** Sets a table on a vCPU that has not run; returns the error's message or "accepted". */
function outcome(vcpu, table) {
  try {
    vcpu.setCpuid2(table);
    return "accepted";
  } catch (error) {
    return error.message;
  }
}

/** Sets each model's table twice: unchanged, and reduced to the supported entries. */
function setModels() {
  const vm = kvm.createVm();
  const vcpu = vm.createVcpu(0);
  const outcomes = namedModels().map(({ name }) => {
    const built = cpuid.model(name);
    const within = outcome(vcpu, built.within(supported).table);
    return { name, unfiltered: outcome(vcpu, built.table), within };
  });
  vcpu.close();
  vm.close();
  return outcomes;
}

/** Enables features that both the table and the CPU have: AVX state in XCR0, and CR4.PKE. */
function enableState(vcpu, table) {
  const has = (name) => table.has(name) && supported.has(name);
  if (!has("xsave")) return;
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | CR4_OSXSAVE | (has("pku") ? CR4_PKE : 0n) });
  const xcrs = vcpu.getXcrs();
  const value = has("avx") ? 7n : 3n;
  vcpu.setXcrs({ ...xcrs, nrXcrs: 1, xcrs: [{ ...xcrs.xcrs[0], xcr: 0, value }] });
}

/** Runs a vCPU until the guest program ends, and returns the values that the program sent. */
function valuesOf(box, vcpu) {
  const all = [];
  for (;;) {
    const ucall = box.ucall(vcpu.runSync({ throughSignals: true }));
    if (ucall?.kind === "done") return all;
    if (ucall?.kind !== "sync") throw new Error(`unexpected exit: ${ucall?.kind}`);
    all.push(...ucall.values);
  }
}

/** Runs one vCPU per APIC id in one VM, and returns the guest's CPUID for each entry of the vCPU's table. */
function runGuest({ model, topology, caches, isWithin, ids }) {
  const whole = cpuid.model(model).topology(topology).caches(caches).hypervisor("kvm").xsave();
  const built = isWithin ? whole.within(supported) : whole;
  const inputs = [...built.table].map(({ function: leaf, index }) => ({ function: leaf, index }));
  const program = guest("long", (g) => g.cpuidAll(inputs).done());
  const box = new Sandbox(kvm, { program, cpuid: built.forVcpu(0) });
  const results = ids.map((id) => {
    const vcpu = id === 0 ? box.vcpu : box.vm.createVcpu(id);
    const table = built.forVcpu(id);
    vcpu.setCpuid2(table);
    vcpu.setSregs(program.sregs(vcpu.getSregs()));
    vcpu.setRegs(program.regs);
    enableState(vcpu, table);
    const { cr4, apicBase } = vcpu.getSregs();
    const state = { cr4, apicBase, xcr0: vcpu.getXcrs().xcrs[0]?.value ?? 1n };
    const read = decodeCpuid(inputs, valuesOf(box, vcpu));
    if (vcpu !== box.vcpu) vcpu.close();
    return { id, state, read };
  });
  box.close();
  return results;
}

const outcomes = setModels();
const guests = JSON.parse(plan).map(runGuest);
kvm.close();
const text = JSON.stringify({ supported: [...supported], outcomes, guests }, (_, it) =>
  typeof it === "bigint" ? Number(it) : it,
);
writeFileSync(file, gzipSync(text));
