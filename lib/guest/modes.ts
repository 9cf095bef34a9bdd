/**
 * The four modes in which a guest program can start: the special registers, the initial general registers, and the
 * tables in memory. program.ts builds the program.
 */
import { type Dtable, Regs, type Segment, type Sregs } from "../abi/generated/structs.ts";
import { read, sizeOf } from "../abi/struct.ts";
import { handlerAddresses, protectedHandlers, realHandlers, VECTORS } from "./faults.ts";
import {
  CODE_GPA,
  GDT_GPA,
  HANDLER_STACK_GPA,
  HANDLERS_GPA,
  IDT_GPA,
  PAGE_TABLES_GPA,
  STACK_GPA,
  TSS_GPA,
} from "./layout.ts";
import { identityMap } from "./paging.ts";
import {
  CR0_ET,
  CR0_NE,
  CR0_PE,
  CR0_PG,
  CR4_OSFXSR,
  CR4_PAE,
  EFER_LMA,
  EFER_LME,
  RFLAGS_FIXED,
  RFLAGS_IOPL3,
} from "./registers.ts";
import {
  codeSegment,
  dataSegment,
  encodeGdt,
  encodeIdt,
  encodeIvt,
  encodeTss32,
  encodeTss64,
  nullSegment,
  realSegment,
  TSS_SIZE,
  tssSegment,
} from "./segments.ts";

/**
 * A mode: `real` (16 bits), `protected` (32 bits, flat, no paging), `long` (64 bits, 4-level paging, CPL 0) or `user`.
 * The mode `user` is `long` at CPL 3, with IOPL 3 for IN and OUT; the exception handlers run at CPL 0.
 *
 * The vendor module kvm_pvm emulates all instructions at CPL 0. Observed on Linux 6.18: in all modes except `user`,
 * XGETBV, MONITOR and INT3 cause KVM_EXIT_INTERNAL_ERROR (emulation failed). In the mode `real`, UD2 causes the same
 * exit. The #GP of MOV CR4, WRMSR and XSETBV reaches the exception handlers in every mode. At CPL 3, kvm_pvm runs the
 * guest natively and does not keep IOPL, so only the TSS's I/O map allows IN and OUT. At CPL 3, some CPUID bits have
 * the values of the host CPU, not of the table: OSXSAVE is 1, independent of CR4.OSXSAVE.
 */
export type ModeName = "real" | "protected" | "long" | "user";

/**
 * The initial general registers of a program, for KVM_SET_REGS: all except RIP, RSP and RFLAGS are 0. In real mode, RIP
 * is the IP in CS 0x1000, and RSP is the SP in SS 0x7000.
 */
export type StartRegs = Regs;

const NO_REGS: Regs = read(Regs, new Uint8Array(sizeOf(Regs)));

/** Bytes for guest memory, and their gpa. */
export interface Piece {
  /** The gpa of the first byte. */
  readonly gpa: number;
  /** The bytes. */
  readonly bytes: Uint8Array;
}

/** The options of a mode. */
export interface ModeOptions {
  /** The size of a page: 4 KiB (4 MiB are mapped) or 2 MiB (4 GiB are mapped); 2 MiB if omitted. */
  readonly pageSize?: 0x1000 | 0x20_0000;
  /** Further EFER bits besides LME and LMA, such as EFER_NX; none if omitted. */
  readonly efer?: bigint;
  /** Further CR4 bits besides those that the mode sets; none if omitted. */
  readonly cr4?: bigint;
}

/** A mode: the registers of the vCPU, and the content of guest memory besides the program. */
export interface Mode {
  /** The mode's name. */
  readonly name: ModeName;
  /** The width of the mode's code in bits. */
  readonly bitness: 16 | 32 | 64;
  /** The general registers with which a program starts. */
  readonly regs: StartRegs;
  /**
   * Computes the special registers.
   *
   * @param base the value of KVM_GET_SREGS, from which the result takes the APIC base, CR8 and the pending interrupts
   */
  readonly sregs: (base: Sregs, options?: ModeOptions) => Sregs;
  /**
   * Returns the descriptor tables, the TSS, the page tables and the exception handlers. All programs of the mode share
   * the bytes.
   */
  readonly pieces: (options?: ModeOptions) => readonly Piece[];
}

// SYSCALL and SYSRET require this order of the selectors (Intel SDM Vol. 3A 6.8.8), with STAR = 0x0010_0008 << 32.
const KERNEL_CODE = 0x08;
const KERNEL_DATA = 0x10;
const USER_DATA = 0x18 | 3;
const USER_CODE = 0x20 | 3;
const TSS = 0x28;

const FLAGS_USER = RFLAGS_FIXED | RFLAGS_IOPL3;
const PAE_SPACE = 4 * 2 ** 30;
const SMALL_SPACE = 4 * 2 ** 20;

function descriptors(bits: 32 | 64): readonly Segment[] {
  return [
    codeSegment(KERNEL_CODE, bits),
    dataSegment(KERNEL_DATA),
    dataSegment(USER_DATA, 3),
    codeSegment(USER_CODE, bits, 3),
    tssSegment(TSS, TSS_GPA, TSS_SIZE),
  ];
}

function withData(base: Sregs, data: Segment): Sregs {
  return { ...base, ds: data, es: data, fs: data, gs: data, ss: data };
}

function tableAt(gpa: number, limit: number): Dtable {
  return { base: BigInt(gpa), limit, padding: [0, 0, 0] };
}

function withTables(base: Sregs, bits: 32 | 64): Sregs {
  return {
    ...base,
    tr: tssSegment(TSS, TSS_GPA, TSS_SIZE),
    ldt: nullSegment(),
    gdt: tableAt(GDT_GPA, encodeGdt(descriptors(bits), bits === 64).length - 1),
    idt: tableAt(IDT_GPA, VECTORS * (bits / 4) - 1),
  };
}

function tables(bits: 32 | 64): readonly Piece[] {
  const tss =
    bits === 64
      ? encodeTss64(BigInt(HANDLER_STACK_GPA))
      : encodeTss32(HANDLER_STACK_GPA, KERNEL_DATA);
  return [
    { gpa: GDT_GPA, bytes: encodeGdt(descriptors(bits), bits === 64) },
    { gpa: IDT_GPA, bytes: encodeIdt(handlerAddresses, KERNEL_CODE, bits) },
    { gpa: TSS_GPA, bytes: tss },
  ];
}

function pageTables(pageSize: 0x1000 | 0x20_0000, user: boolean): Piece {
  const size = pageSize === 0x1000 ? SMALL_SPACE : PAE_SPACE;
  return {
    gpa: PAGE_TABLES_GPA,
    bytes: identityMap({ gpa: PAGE_TABLES_GPA, size, pageSize, user }),
  };
}

function longSregs(base: Sregs, cpl: 0 | 3, options: ModeOptions): Sregs {
  return {
    ...withData(withTables(base, 64), dataSegment(cpl === 3 ? USER_DATA : KERNEL_DATA, cpl)),
    cs: codeSegment(cpl === 3 ? USER_CODE : KERNEL_CODE, 64, cpl),
    cr0: CR0_PE | CR0_ET | CR0_NE | CR0_PG,
    cr3: BigInt(PAGE_TABLES_GPA),
    cr4: CR4_PAE | CR4_OSFXSR | (options.cr4 ?? 0n),
    // KVM refuses LME if the CPUID table has no long mode, so KVM_SET_CPUID2 must be called first.
    efer: EFER_LME | EFER_LMA | (options.efer ?? 0n),
  };
}

const built = new Map<string, readonly Piece[]>();

// Caches the content of guest memory, because the content never changes, and building it takes longer than building the
// rest of a program.
function once(key: string, build: () => readonly Piece[]): readonly Piece[] {
  const known = built.get(key) ?? build();
  built.set(key, known);
  return known;
}

const flatRegs: StartRegs = {
  ...NO_REGS,
  rip: BigInt(CODE_GPA),
  rsp: BigInt(STACK_GPA),
  rflags: RFLAGS_FIXED,
};

const user = { cs: USER_CODE, ss: USER_DATA, rflags: FLAGS_USER };

/** The four modes by name. */
export const modes: Readonly<Record<ModeName, Mode>> = {
  real: {
    name: "real",
    bitness: 16,
    regs: { ...NO_REGS, rip: 0n, rsp: 0xfff0n, rflags: RFLAGS_FIXED },
    sregs: (base, options = {}) => ({
      ...withData(base, realSegment(0)),
      cs: realSegment(CODE_GPA >> 4, "code"),
      ss: realSegment((STACK_GPA >> 4) - 0x1000),
      idt: tableAt(0, VECTORS * 4 - 1),
      cr0: CR0_ET,
      cr3: 0n,
      cr4: options.cr4 ?? 0n,
      efer: options.efer ?? 0n,
    }),
    pieces: () =>
      once("real", () => [
        { gpa: 0, bytes: encodeIvt(handlerAddresses, 0) },
        { gpa: HANDLERS_GPA, bytes: realHandlers() },
      ]),
  },
  protected: {
    name: "protected",
    bitness: 32,
    regs: flatRegs,
    sregs: (base, options = {}) => ({
      ...withData(withTables(base, 32), dataSegment(KERNEL_DATA)),
      cs: codeSegment(KERNEL_CODE, 32),
      cr0: CR0_PE | CR0_ET | CR0_NE,
      cr3: 0n,
      cr4: CR4_OSFXSR | (options.cr4 ?? 0n),
      efer: options.efer ?? 0n,
    }),
    pieces: () =>
      once("protected", () => [...tables(32), { gpa: HANDLERS_GPA, bytes: protectedHandlers(32) }]),
  },
  long: {
    name: "long",
    bitness: 64,
    regs: flatRegs,
    sregs: (base, options = {}) => longSregs(base, 0, options),
    pieces: ({ pageSize = 0x20_0000 } = {}) =>
      once(`long ${pageSize}`, () => [
        ...tables(64),
        pageTables(pageSize, false),
        { gpa: HANDLERS_GPA, bytes: protectedHandlers(64) },
      ]),
  },
  user: {
    name: "user",
    bitness: 64,
    regs: { ...flatRegs, rflags: FLAGS_USER },
    sregs: (base, options = {}) => longSregs(base, 3, options),
    pieces: ({ pageSize = 0x20_0000 } = {}) =>
      once(`user ${pageSize}`, () => [
        ...tables(64),
        pageTables(pageSize, true),
        { gpa: HANDLERS_GPA, bytes: protectedHandlers(64, user) },
      ]),
  },
};
