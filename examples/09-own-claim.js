// Four claims of a user about KVM, each with a separate VM. Run: npx node-kvm test examples/09-own-claim.js
// Needs: CPU xsave
import { CR4_OSXSAVE, guest } from "node-kvm/guest";
import { claim, expect, tableOf } from "node-kvm/test";

const sets = guest("long", (g) => g.cpuid(1).sync().setCr4(CR4_OSXSAVE).cpuid(1).sync().done());

claim("osxsave", "a guest reads OSXSAVE in CPUID once it has set CR4.OSXSAVE", (kit) => {
  kit.requireVcpuHas("xsave");
  const { box } = kit.configured({ program: sets });
  const osxsave = box.syncs().map(([, , ecx = 0n]) => (ecx >> 27n) & 1n);
  expect(osxsave).toEqual([0n, 1n]);
});

claim("resend", "a vCPU that has run accepts the table that KVM_GET_CPUID2 returns", (kit) => {
  const { vcpu } = kit.ran();
  expect(() => vcpu.setCpuid2(tableOf(vcpu))).toBeAccepted();
});

claim("change", "a vCPU that has run rejects a table with another feature", (kit) => {
  const { vcpu, stored } = kit.ran();
  const changed = stored.with({ sse2: stored.has("sse2") ? 0 : 1 });
  expect(() => vcpu.setCpuid2(changed)).toFailWith("EINVAL");
  expect(tableOf(vcpu)).toEqualTable(stored);
});

claim("exit", "an asynchronous run ends with the guest's write to a port", async (kit) => {
  const { vcpu } = kit.configured();
  expect(await vcpu.run()).toMatchObject({ kind: "io", direction: "out" });
});

// Prints:
// ok osxsave: a guest reads OSXSAVE in CPUID once it has set CR4.OSXSAVE
// ok resend: a vCPU that has run accepts the table that KVM_GET_CPUID2 returns
// ok change: a vCPU that has run rejects a table with another feature
// ok exit: an asynchronous run ends with the guest's write to a port
