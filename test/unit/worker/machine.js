/**
 * A worker with a real vCPU, whose guest writes to port 0x80 a thousand times, then to port 0x81, and then spins.
 */
import { fromSupported, Kvm } from "node-kvm";
import { guest } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";
import { serveVcpu } from "node-kvm/worker";

let handled = 0;

await serveVcpu(() => {
  const kvm = Kvm.open();
  const program = guest("long", (g) =>
    g.asm((a) =>
      a
        .mov("ecx", 1000)
        .label("next")
        .out(8, 0x80)
        .sub("ecx", 1)
        .jcc("ne", "next")
        .out(8, 0x81)
        .in(8, 0x82)
        .out(8, 0x83)
        .label("again")
        .jmp("again"),
    ),
  );
  const { vcpu } = new Sandbox(kvm, { cpuid: fromSupported(kvm.getSupportedCpuid()), program });
  const handle = ({ port }) => {
    if (port !== 0x80) return false;
    handled += 1;
    if (handled > 1000) throw new Error("a write too many");
    return true;
  };
  return { vcpu, handle };
});
