/** Bits of control registers, EFER and RFLAGS that guest programs use. modes.ts sets the bits of each mode. */

/** CR0.PE, which enables protected mode (Intel SDM Vol. 3A 2.5). */
export const CR0_PE: bigint = 1n << 0n;
/** CR0.ET, the extension type, which is always 1. */
export const CR0_ET: bigint = 1n << 4n;
/** CR0.NE, which enables numeric error exceptions. */
export const CR0_NE: bigint = 1n << 5n;
/** CR0.PG, which enables paging. */
export const CR0_PG: bigint = 1n << 31n;

/** CR4.TSD, time stamp disable: RDTSC is allowed only at CPL 0 (Intel SDM Vol. 3A 2.5). */
export const CR4_TSD: bigint = 1n << 2n;
/** CR4.PAE, which enables the physical address extension. */
export const CR4_PAE: bigint = 1n << 5n;
/** CR4.OSFXSR: the OS supports FXSAVE and FXRSTOR, and the CPU enables SSE. */
export const CR4_OSFXSR: bigint = 1n << 9n;
/** CR4.UMIP, user-mode instruction prevention: SGDT, SIDT, SLDT, SMSW and STR are allowed only at CPL 0. */
export const CR4_UMIP: bigint = 1n << 11n;
/** CR4.LA57, which enables 57-bit linear addresses. */
export const CR4_LA57: bigint = 1n << 12n;
/** CR4.FSGSBASE, which enables RDFSBASE, RDGSBASE, WRFSBASE and WRGSBASE. */
export const CR4_FSGSBASE: bigint = 1n << 16n;
/** CR4.OSXSAVE, which enables XSETBV; CPUID 0x1:ecx[27] has the same value. */
export const CR4_OSXSAVE: bigint = 1n << 18n;
/** CR4.SMEP, which enables supervisor mode execution prevention. */
export const CR4_SMEP: bigint = 1n << 20n;
/** CR4.SMAP, which enables supervisor mode access prevention. */
export const CR4_SMAP: bigint = 1n << 21n;
/** CR4.PKE, which enables protection keys; CPUID 0x7.0:ecx[4] has the same value. */
export const CR4_PKE: bigint = 1n << 22n;

/** EFER.LME, long mode enable (Intel SDM Vol. 3A 2.2.1). */
export const EFER_LME: bigint = 1n << 8n;
/** EFER.LMA, which is 1 while long mode is active. */
export const EFER_LMA: bigint = 1n << 10n;
/** EFER.NX, which enables no-execute pages. */
export const EFER_NX: bigint = 1n << 11n;

/** The bit of RFLAGS that is always one (Intel SDM Vol. 1 3.4.3). */
export const RFLAGS_FIXED: bigint = 1n << 1n;
/** RFLAGS.IOPL = 3: IN and OUT are allowed at CPL 3. */
export const RFLAGS_IOPL3: bigint = 3n << 12n;
