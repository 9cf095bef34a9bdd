/** The layout of a guest program in guest memory. modes.ts, faults.ts and program.ts produce the content. */

/** The number of bytes of guest memory, from gpa 0, that a program needs: 2 MiB. */
export const MEMORY_SIZE = 0x20_0000;

/** The gpa of the GDT, one page; in real mode, the interrupt vector table is at gpa 0. */
export const GDT_GPA = 0x1000;

/** The gpa of the IDT, one page; in real mode, the interrupt vector table at gpa 0 replaces it. */
export const IDT_GPA = 0x2000;

/** The gpa of the mailbox, the page for data from the guest to the host; ucall.ts defines its content. */
export const MAILBOX_GPA = 0x4000;

/** The gpa of the exception handlers, one page; faults.ts assembles the handlers. */
export const HANDLERS_GPA = 0x5000;

/** The gpa of the page tables, at most 8 pages (6 pages for 4 levels and 2 MiB pages). */
export const PAGE_TABLES_GPA = 0x8000;

/** The gpa of the program's code and of its first instruction. */
export const CODE_GPA = 0x1_0000;

/** The maximum size of the code in bytes: 64 KiB, one real mode segment. */
export const CODE_SIZE = 0x1_0000;

/** The gpa of the results of `cpuidAll`, 64 KiB. */
export const RESULTS_GPA = 0x2_0000;

/** The gpa of the inputs of `cpuidAll`, 64 KiB. */
export const TABLE_GPA = 0x3_0000;

/** The maximum size of the results in bytes, and also of the inputs: 64 KiB each. */
export const TABLE_SIZE = 0x1_0000;

/** The gpa of the TSS with its I/O map, three pages. */
export const TSS_GPA = 0x6_0000;

/**
 * The gpa after the end of the exception handlers' stack (`TSS.rsp0`). The CPU uses this stack for an exception in ring
 * 3.
 */
export const HANDLER_STACK_GPA = 0x7_0000;

/** The gpa after the end of the program's stack. */
export const STACK_GPA = 0x8_0000;
