// The host handles accesses to an MSR: KVM's filter denies the access, and the access becomes an exit instead of #GP.
// Needs: KVM_CAP_X86_USER_SPACE_MSR, KVM_CAP_X86_MSR_FILTER
import { fromSupported, Kvm } from "node-kvm";
import * as abi from "node-kvm/abi";
import { guest } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";

const [EMULATED, REFUSED] = [0xc000_0103, 0xc000_0102]; // IA32_TSC_AUX, IA32_KERNEL_GS_BASE
const program = guest("long", (g) =>
  g
    .wrmsr(EMULATED, 0x1234n)
    .rdmsr(EMULATED)
    .attempt((inner) => inner.wrmsr(REFUSED, 1n))
    .sync()
    .done(),
);

const kvm = Kvm.open();
const box = new Sandbox(kvm, { program, cpuid: fromSupported(kvm.getSupportedCpuid()) });
const { vm, vcpu } = box;
const reasons = BigInt(abi.KVM_MSR_EXIT_REASON_FILTER);
vm.enableCap({ cap: "KVM_CAP_X86_USER_SPACE_MSR", args: [reasons] });
const flags = abi.KVM_MSR_FILTER_READ | abi.KVM_MSR_FILTER_WRITE;
// The bitmap has one bit for each MSR, starting at `base`; 0 denies the access, here to both MSRs.
vm.x86SetMsrFilter({ ranges: [{ flags, base: REFUSED, bitmap: Uint8Array.of(0b1111_1100) }] });

for (let isDone = false; !isDone; ) {
  const exit = vcpu.runSync();
  if (exit.kind === "x86_wrmsr") {
    console.log(`write 0x${exit.data.toString(16)} to MSR 0x${exit.index.toString(16)}`);
    if (exit.index === REFUSED) exit.fail();
    else exit.reply();
  } else if (exit.kind === "x86_rdmsr") {
    console.log(`read MSR 0x${exit.index.toString(16)}`);
    exit.reply(0x5678n);
  } else {
    const ucall = box.ucall(exit);
    if (ucall?.kind === "sync") {
      const [value = 0n, vector] = ucall.values;
      console.log(`the guest read 0x${value.toString(16)}; the refused write raised`, vector);
    }
    isDone = ucall?.kind !== "sync";
  }
}
box.close();
kvm.close();

// Prints:
// write 0x1234 to MSR 0xc0000103
// read MSR 0xc0000103
// write 0x1 to MSR 0xc0000102
// the guest read 0x5678; the refused write raised 13n
