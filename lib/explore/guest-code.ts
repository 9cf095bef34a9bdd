/**
 * The guest of the explorer: real-mode code at the reset vector, which needs no page tables. Each snippet ends with an
 * OUT at an address at which no snippet begins, because KVM completes a pending OUT by its address.
 */
import { GuestMemory, type Vm } from "../index.ts";

/** The address of each snippet, relative to the base of CS after reset (0xffff0000). */
export const SNIPPETS = {
  cpuid: 0xff00n,
  io: 0xff10n,
  movCr4: 0xff20n,
  wrmsr: 0xff30n,
  /** An address without memory. */
  nothing: 0n,
} as const;

/** The ports by which the guest reports. */
export const PORTS = { done: 0x80, gp: 0x81, otherException: 0x82 } as const;

const PAGE = 0x1000;
const out = (port: number): readonly number[] => [0xe6, port];
const [GP_HANDLER, OTHER_HANDLER] = [0xff60, 0xff70] as const;

/** The code by its address. */
const CODE: readonly (readonly [at: number, bytes: readonly number[]])[] = [
  [Number(SNIPPETS.cpuid), [0x0f, 0xa2, ...out(PORTS.done)]],
  // NOP; OUT.
  [Number(SNIPPETS.io), [0x90, ...out(PORTS.done)]],
  // MOV CR4, EAX.
  [Number(SNIPPETS.movCr4), [0x0f, 0x22, 0xe0, ...out(PORTS.done)]],
  [Number(SNIPPETS.wrmsr), [0x0f, 0x30, ...out(PORTS.done)]],
  [GP_HANDLER, out(PORTS.gp)],
  [OTHER_HANDLER, out(PORTS.otherException)],
];

const GP_VECTOR = 13;
const VECTORS = 256;
const HANDLER_SEGMENT = 0xf000;

/** The stack pointer, in the page of the interrupt vectors. */
export const STACK = 0x1000n;

/** The guest's memory: the page of the code, and the page of the interrupt vectors and the stack. */
export interface GuestPages {
  readonly code: GuestMemory;
  readonly vectors: GuestMemory;
}

/** Allocates the pages of the guest, and writes its code. */
export function guestPages(): GuestPages {
  const code = GuestMemory.allocate(PAGE);
  for (const [at, bytes] of CODE) code.write(at % PAGE, Uint8Array.from(bytes));
  const vectors = GuestMemory.allocate(PAGE);
  const table = new Uint16Array(2 * VECTORS);
  for (let vector = 0; vector < VECTORS; vector += 1) {
    table[2 * vector] = vector === GP_VECTOR ? GP_HANDLER : OTHER_HANDLER;
    table[2 * vector + 1] = HANDLER_SEGMENT;
  }
  vectors.write(0, new Uint8Array(table.buffer));
  return { code, vectors };
}

/** The addresses at which a VM has the pages. After an exception, the base of CS is 0xf0000 instead of 0xffff0000. */
const SLOTS = [
  { page: "code", guestPhysAddr: 0xffff_f000n },
  { page: "code", guestPhysAddr: 0xf_f000n },
  { page: "vectors", guestPhysAddr: 0n },
] as const;

/** Gives a VM the guest's memory. */
export function mapGuest(vm: Vm, pages: GuestPages): void {
  for (const [slot, { page, guestPhysAddr }] of SLOTS.entries()) {
    vm.setUserMemoryRegion({ slot, guestPhysAddr, memory: pages[page] });
  }
}
