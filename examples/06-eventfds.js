// A device without exits: a guest's write signals an ioeventfd, and the host injects an interrupt with an irqfd.
// Needs: KVM_CAP_IRQCHIP, KVM_CAP_IOEVENTFD, KVM_CAP_IRQFD
import { EventFd, Kvm } from "node-kvm";
import { KVM_IOEVENTFD_FLAG_PIO } from "node-kvm/abi";
import { guest, mem } from "node-kvm/guest";
import { Sandbox } from "node-kvm/machine";

const [DOORBELL, REPORT, IRQ, VECTOR] = [0x510, 0x80, 5, 0x20];
const [PIC, PIC_DATA, END_OF_INTERRUPT] = [0x20, 0x21, 0x20];

/**
 * The guest installs an interrupt handler, writes to the port of the doorbell, and halts until the interrupt arrives.
 */
const program = guest("real", (g) =>
  g.asm((a) => {
    /** @param {number} port @param {number} value */
    const out = (port, value) => a.mov("dx", port).mov("al", value).out(8, "dx");
    a.cli().call("main"); // pushes the address of the handler, which follows
    out(PIC, END_OF_INTERRUPT);
    out(REPORT, IRQ);
    a.iret()
      .label("main")
      .pop("ax")
      .mov(mem(16, (VECTOR + IRQ) * 4), "ax");
    a.mov("ax", "cs").mov(mem(16, (VECTOR + IRQ) * 4 + 2), "ax");
    out(PIC, 0x11); // ICW1: three more words follow
    for (const word of [VECTOR, 4, 1, 0xff & ~(1 << IRQ)]) out(PIC_DATA, word);
    out(DOORBELL, 1);
    a.sti().label("idle").hlt().jmp("idle");
  }),
);

const kvm = Kvm.open();
const box = new Sandbox(kvm, { program, prepare: (vm) => vm.createIrqchip() });
const { vm, vcpu } = box;
const sregs = vcpu.getSregs();
vcpu.setSregs({ ...sregs, idt: { ...sregs.idt, limit: 0x3ff } }); // all 256 vectors

const doorbell = EventFd.create();
const interrupt = EventFd.create();
vm.ioeventfd({ fd: doorbell, addr: DOORBELL, len: 1, flags: KVM_IOEVENTFD_FLAG_PIO });
vm.irqfd({ fd: interrupt, gsi: IRQ });

const run = vcpu.run({ signal: AbortSignal.timeout(10_000) });
console.log("the guest signalled the doorbell, count", await doorbell.wait());
interrupt.write();
const exit = await run;
const values = exit.kind === "io" && exit.direction === "out" ? exit.values : [];
console.log("the guest handled interrupt", ...values);

for (const handle of [doorbell, interrupt, box, kvm]) handle.close();

// Prints:
// the guest signalled the doorbell, count 1n
// the guest handled interrupt 5
