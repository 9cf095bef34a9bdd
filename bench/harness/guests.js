// The guest programs that are measured, by name. Both sides run the bytes that are made here.
import { guest, mem } from "node-kvm/guest";

/** A port that no device of KVM's has. */
export const PORT = 0x80;

/** A gpa where no memory is. */
export const HOLE = 0xd000_0000;

/** What each guest does for ever. */
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

/** In which mode a setting's guest runs. */
export const modes = { "ring 0": "long", "ring 3": "user" };

/** @param {keyof typeof bodies} body @param {keyof typeof modes} ring */
export function program(body, ring) {
  return guest(modes[ring], (g) => g.asm(bodies[body]));
}
