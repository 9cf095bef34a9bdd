/**
 * The arguments of the explorer's ioctls as bytes. An exploration makes the same few calls many thousand times in an
 * emulated machine, so each struct is encoded once, and only the fields that change are written again.
 */
import {
  Cpuid,
  Cpuid2,
  CpuidEntry,
  type CpuidEntry2,
  CpuidEntry2 as CpuidEntry2Layout,
  encode,
  KVM_GET_SREGS,
  KVM_SET_SREGS,
  KVM_SET_SREGS2,
  type Layout,
  MsrEntry,
  Msrs,
  offsetOf,
  Regs,
  read,
  Sregs,
  Sregs2,
  sizeOf,
  Xcr,
  Xcrs,
} from "../abi/index.ts";
import type { Vcpu } from "../index.ts";
import type { LifecycleAnswer } from "../oracle/index.ts";
import { STACK } from "./guest-code.ts";

const ENTRIES = offsetOf(Cpuid2, "entries");
const NENT = offsetOf(Cpuid2, "nent");
const ENTRY_BYTES = sizeOf(CpuidEntry2Layout);
const V1_ENTRIES = offsetOf(Cpuid, "entries");
const V1_ENTRY_BYTES = sizeOf(CpuidEntry);
const V1_NENT = offsetOf(Cpuid, "nent");
const XCR0_VALUE = offsetOf(Xcrs, "xcrs") + offsetOf(Xcr, "value");

/** A byte in the room for entries that KVM_GET_CPUID2 has not written. */
const FILLER = 0x5a;

/** Each entry is encoded once: the tables of the model share their entries. */
const encoded = new WeakMap<CpuidEntry2, Uint8Array>();

function entryBytes(entry: CpuidEntry2): Uint8Array {
  const known = encoded.get(entry);
  if (known !== undefined) return known;
  const made = encode(CpuidEntry2Layout, entry);
  encoded.set(entry, made);
  return made;
}

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Encodes a table for KVM_SET_CPUID2. */
export function cpuid2Bytes(entries: readonly CpuidEntry2[]): Uint8Array {
  const bytes = new Uint8Array(ENTRIES + entries.length * ENTRY_BYTES);
  viewOf(bytes).setUint32(NENT, entries.length, true);
  for (const [i, entry] of entries.entries())
    bytes.set(entryBytes(entry), ENTRIES + i * ENTRY_BYTES);
  return bytes;
}

/** Encodes a table for KVM_SET_CPUID, whose entries have no index, flags and padding. */
export function cpuidBytes(entries: readonly CpuidEntry2[]): Uint8Array {
  const bytes = new Uint8Array(V1_ENTRIES + entries.length * V1_ENTRY_BYTES);
  viewOf(bytes).setUint32(V1_NENT, entries.length, true);
  for (const [i, { function: fn, eax, ebx, ecx, edx }] of entries.entries()) {
    const one = encode(CpuidEntry, { function: fn, eax, ebx, ecx, edx });
    bytes.set(one, V1_ENTRIES + i * V1_ENTRY_BYTES);
  }
  return bytes;
}

/** Makes the argument of KVM_GET_CPUID2 with room for this number of entries. */
export function roomFor(room: number): Uint8Array {
  const bytes = new Uint8Array(ENTRIES + room * ENTRY_BYTES).fill(FILLER, ENTRIES);
  viewOf(bytes).setUint32(NENT, room, true);
  return bytes;
}

/**
 * Reads the table of KVM_GET_CPUID2. If the kernel left nent unchanged, the table has the entries before the first one
 * that was not written.
 */
export function readTable(bytes: Uint8Array, room: number): LifecycleAnswer {
  const view = viewOf(bytes);
  const nent = view.getUint32(NENT, true);
  const isWritten = (i: number): boolean => {
    const at = ENTRIES + i * ENTRY_BYTES;
    return bytes.subarray(at, at + ENTRY_BYTES).some((byte) => byte !== FILLER);
  };
  let count = Math.min(nent, room);
  if (nent === room) for (count = 0; count < room && isWritten(count); ) count += 1;
  view.setUint32(NENT, count, true);
  const { entries } = read(Cpuid2, bytes.subarray(0, ENTRIES + count * ENTRY_BYTES));
  return { kind: "table", nent, entries };
}

const regs = encode(Regs, { rflags: 2n, rsp: STACK });
const regsView = viewOf(regs);
const [RIP, RAX, RCX, RDX] = (["rip", "rax", "rcx", "rdx"] as const).map((name) =>
  offsetOf(Regs, name),
) as [number, number, number, number];

/** Encodes the registers for a run; those that are not given are 0. The bytes are valid until the next call. */
export function regsBytes(rip: bigint, rax: bigint, rcx: bigint, rdx: bigint): Uint8Array {
  regsView.setBigUint64(RIP, rip, true);
  regsView.setBigUint64(RAX, rax, true);
  regsView.setBigUint64(RCX, rcx, true);
  regsView.setBigUint64(RDX, rdx, true);
  return regs;
}

const xcrs = encode(Xcrs, { nrXcrs: 1 });
const xcrsView = viewOf(xcrs);

/** Encodes XCR0 for KVM_SET_XCRS. The bytes are valid until the next call. */
export function xcrsBytes(xcr0: bigint): Uint8Array {
  xcrsView.setBigUint64(XCR0_VALUE, xcr0, true);
  return xcrs;
}

const msr = encode(Msrs, { nmsrs: 1, entries: [{}] });
const msrView = viewOf(msr);
const MSR_ENTRY = offsetOf(Msrs, "entries");

/** Encodes one MSR for KVM_SET_MSRS. The bytes are valid until the next call. */
export function msrBytes(index: number, data: bigint): Uint8Array {
  msrView.setUint32(MSR_ENTRY + offsetOf(MsrEntry, "index"), index, true);
  msrView.setBigUint64(MSR_ENTRY + offsetOf(MsrEntry, "data"), data, true);
  return msr;
}

const placesIn = (layout: Layout): { readonly cr4: number; readonly apicBase: number } => ({
  cr4: offsetOf(layout, "cr4"),
  apicBase: offsetOf(layout, "apicBase"),
});
const [SREGS, SREGS2] = [placesIn(Sregs), placesIn(Sregs2)];

/** The special registers of a vCPU, of which the explorer changes CR4 and the APIC base. */
export class SpecialRegisters {
  readonly #vcpu: Vcpu;
  readonly #bytes: Uint8Array = new Uint8Array(sizeOf(Sregs));
  #sregs2: Uint8Array | undefined;
  cr4: bigint;
  apicBase: bigint;

  /** Reads the registers of a new vCPU. */
  constructor(vcpu: Vcpu) {
    this.#vcpu = vcpu;
    vcpu.ioctl(KVM_GET_SREGS, this.#bytes);
    const view = viewOf(this.#bytes);
    this.cr4 = view.getBigUint64(SREGS.cr4, true);
    this.apicBase = view.getBigUint64(SREGS.apicBase, true);
  }

  /** Returns all special registers. */
  toSregs(): Sregs {
    this.#write(SREGS, this.#bytes);
    return read(Sregs, this.#bytes);
  }

  /** Writes all special registers. */
  set(by: "sregs" | "sregs2"): void {
    if (by === "sregs") {
      this.#write(SREGS, this.#bytes);
      this.#vcpu.ioctl(KVM_SET_SREGS, this.#bytes);
      return;
    }
    if (this.#sregs2 === undefined) {
      // The member that only KVM_SET_SREGS has is ignored.
      const { interruptBitmap: _, ...common } = read(Sregs, this.#bytes);
      this.#sregs2 = encode(Sregs2, common);
    }
    this.#write(SREGS2, this.#sregs2);
    this.#vcpu.ioctl(KVM_SET_SREGS2, this.#sregs2);
  }

  #write(places: typeof SREGS, bytes: Uint8Array): void {
    const view = viewOf(bytes);
    view.setBigUint64(places.cr4, this.cr4, true);
    view.setBigUint64(places.apicBase, this.apicBase, true);
  }
}
