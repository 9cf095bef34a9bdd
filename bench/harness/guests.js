// The measured guest programs, by name. The JavaScript side and the C side execute the same bytes.
import { guest, mem } from "node-kvm/guest";

/** A port without a device in KVM. */
export const PORT = 0x80;

/** A guest physical address outside of all memory slots. */
export const HOLE = 0xd000_0000;

/** The endless loop of each guest. */
const bodies = {
  port: (a) => a.label("again").out(8, PORT).inc("eax").jmp("again"),
  hole: (a) =>
    a
      .mov("edi", HOLE)
      .label("again")
      .mov(mem(8, { base: "rdi" }), "al")
      .inc("eax")
      .jmp("again"),
  hlt: (a) => a.label("again").hlt().inc("eax").jmp("again"),
  spin: (a) => a.label("again").inc("eax").jmp("again"),
};

/** For each setting, the guest's mode. */
export const modes = { "ring 0": "long", "ring 3": "user" };

/** @param {keyof typeof bodies} body @param {keyof typeof modes} ring */
export function program(body, ring) {
  return guest(modes[ring], (g) => g.asm(bodies[body]));
}
