// Your own claims about KVM: each is a sentence and a check, which throws when the claim does not hold.
// Needs: CPU xsave
import assert from "node:assert/strict";
import { fromSupported, Kvm, KvmError } from "node-kvm";
import { CpuidTable } from "node-kvm/cpuid";
import { CR4_OSXSAVE, guest } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";

const kvm = Kvm.open();
const supported = CpuidTable.from(fromSupported(kvm.getSupportedCpuid()));

/**
 * Judges a claim in a VM of its own, whose guest runs CPUID before and after it sets CR4.OSXSAVE.
 *
 * @param {string} sentence
 * @param {(box: Sandbox) => void} check
 */
function claim(sentence, check) {
  const program = guest("long", (g) =>
    g.cpuid(1).sync().setCr4(CR4_OSXSAVE).cpuid(1).sync().done(),
  );
  const box = new Sandbox(kvm, { program, cpuid: supported });
  try {
    check(box);
    console.log("ok  ", sentence);
  } catch (error) {
    if (!(error instanceof assert.AssertionError || error instanceof KvmError)) throw error;
    console.log("FAIL", sentence, "\n    ", error.message);
    process.exitCode = 1;
  } finally {
    box.close();
  }
}

claim("a guest sees OSXSAVE in CPUID once it has set CR4.OSXSAVE", (box) => {
  const osxsave = box.syncs().map(([, , ecx = 0n]) => (ecx >> 27n) & 1n);
  assert.deepEqual(osxsave, [0n, 1n]);
});

claim("a vCPU that has run accepts the table that KVM_GET_CPUID2 returns", ({ vcpu }) => {
  vcpu.runSync({ throughSignals: true });
  vcpu.setCpuid2(vcpu.getCpuid2());
});

claim("a vCPU that has run refuses a table with another feature, by EINVAL", ({ vcpu }) => {
  vcpu.runSync({ throughSignals: true });
  const table = CpuidTable.from(vcpu.getCpuid2());
  const changed = table.with({ sse2: table.has("sse2") ? 0 : 1 });
  assert.throws(() => vcpu.setCpuid2(changed), { code: "EINVAL" });
  assert.ok(table.equals(vcpu.getCpuid2()), "the vCPU's table has changed");
});
kvm.close();

// Prints:
// ok   a guest sees OSXSAVE in CPUID once it has set CR4.OSXSAVE
// ok   a vCPU that has run accepts the table that KVM_GET_CPUID2 returns
// ok   a vCPU that has run refuses a table with another feature, by EINVAL
