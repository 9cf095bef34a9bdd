/** Claims about KVM's hypercalls in a guest whose CPUID table lacks their features. */
import { guest, type Program } from "node-kvm/guest";
import { claim, expect, type Kit } from "node-kvm/test";

const PV_FEATURES = 0x4000_0001;
const INTEL = 0x756e_6547;
/** -KVM_ENOSYS (include/uapi/linux/kvm_para.h). */
const ENOSYS = BigInt.asUintN(64, -1000n);

const HYPERCALLS = [
  ["kick-cpu", "KVM_HC_KICK_CPU", 5],
  ["send-ipi", "KVM_HC_SEND_IPI", 10],
  ["sched-yield", "KVM_HC_SCHED_YIELD", 11],
] as const;

/** A guest that makes a hypercall without arguments, and sends the result. */
const call = (kit: Kit, number: number): Program => {
  const isIntel = kit.supported.get("cpu_vendorid_0") === INTEL;
  return guest("long", (g) =>
    g
      .asm((a) => {
        for (const register of ["rbx", "rcx", "rdx", "rsi"] as const) a.mov(register, 0);
        a.mov("rax", number);
        return isIntel ? a.vmcall() : a.vmmcall();
      })
      .record("rax")
      .sync()
      .done(),
  );
};

for (const [id, name, number] of HYPERCALLS) {
  claim(
    `pv-hypercall-${id}`,
    `with enforcement, ${name} returns -KVM_ENOSYS to a guest whose table lacks the feature`,
    { number: 147 },
    (kit) => {
      kit.requireCapability("KVM_CAP_ENFORCE_PV_FEATURE_CPUID");
      const leaf = kit.supported.find(PV_FEATURES) ?? { function: PV_FEATURES };
      const { box, vcpu } = kit.configured({
        table: kit.supported.withEntry({ ...leaf, eax: 0, edx: 0 }),
        program: call(kit, number),
      });
      vcpu.enableCap({ cap: "KVM_CAP_ENFORCE_PV_FEATURE_CPUID", args: [1n] });
      expect(box.next()).toEqual({ kind: "sync", values: [ENOSYS] });
    },
  );
}
