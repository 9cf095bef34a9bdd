/**
 * Saves a guest's vCPU, or restores a saved vCPU: `node cpuid-portable.js save FILE` and `node cpuid-portable.js
 * restore FILE`. The program prints one line of JSON: the entries that this KVM supports, and the guest's table or the
 * reason why the restore failed. The test cpuid-portable.test.ts runs this program on CPUs of different models and
 * compares the outcome with portable().
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fromSupported, Kvm } from "node-kvm";
import { guest } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";
import { stateFromBytes, stateToBytes } from "node-kvm/state";

const CR4_OSXSAVE = 1n << 18n;
const AVX = 7n;
const [act, file] = process.argv.slice(2);
const program = guest("long", (g) => g.rdtsc().sync().done());

const kvm = Kvm.open();
const supported = kvm.getSupportedCpuid();

/** Gives a vCPU the XCR0 of a guest that uses AVX, if the vCPU's CPUID table has AVX. */
function enableAvx(vcpu, table) {
  const leaf = table.find((entry) => entry.function === 1);
  if (leaf === undefined || (leaf.ecx & (1 << 28)) === 0) return;
  const sregs = vcpu.getSregs();
  vcpu.setSregs({ ...sregs, cr4: sregs.cr4 | CR4_OSXSAVE });
  const xcrs = vcpu.getXcrs();
  vcpu.setXcrs({ ...xcrs, nrXcrs: 1, xcrs: [{ ...xcrs.xcrs[0], xcr: 0, value: AVX }] });
}

function save() {
  const cpuid = [...fromSupported(supported)];
  const box = new Sandbox(kvm, { program, cpuid });
  enableAvx(box.vcpu, cpuid);
  box.next();
  writeFileSync(file, stateToBytes(box.vm.saveState([box.vcpu])));
  return { cpuid: box.vcpu.getCpuid2() };
}

function restore() {
  const state = stateFromBytes(readFileSync(file));
  // Long mode needs a CPUID table; restoring may replace the table because the guest has not run.
  const box = new Sandbox(kvm, { program, cpuid: fromSupported(supported) });
  try {
    box.vm.restoreState(state, [box.vcpu]);
    return { cpuid: box.vcpu.getCpuid2(), ended: box.next().kind };
  } catch (error) {
    return { error: error.message };
  }
}

console.log(JSON.stringify({ supported, ...(act === "save" ? save() : restore()) }));
