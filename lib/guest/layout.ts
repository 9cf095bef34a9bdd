/** The layout of a guest program in guest memory. modes.ts, faults.ts and program.ts write the content. */

/** The number of bytes of guest memory, from gpa 0, that a program needs: 2 MiB. */
export const MEMORY_SIZE = 0x20_0000;

/** The gpa of the GDT, one page. (The real mode interrupt vector table is at gpa 0.) */
export const GDT_GPA = 0x1000;

/** The gpa of the IDT, one page; in real mode the interrupt vector table is at 0 instead. */
export const IDT_GPA = 0x2000;

/** The gpa of the mailbox, the page for data from the guest to the host; ucall.ts defines its content. */
export const MAILBOX_GPA = 0x4000;

/** The gpa of the fault handlers, one page; faults.ts writes them. */
export const HANDLERS_GPA = 0x5000;

/** The gpa of the page tables, 8 pages at most (6 for 4 levels and 2 MiB pages). */
export const PAGE_TABLES_GPA = 0x8000;

/** The gpa of the program's code, which is also its entry. */
export const CODE_GPA = 0x1_0000;

/** The maximum size of the code in bytes: 64 KiB, one real mode segment. */
export const CODE_SIZE = 0x1_0000;

/** The gpa of the results of `cpuidAll`, 64 KiB. */
export const RESULTS_GPA = 0x2_0000;

/** The gpa of the inputs of `cpuidAll`, 64 KiB. */
export const TABLE_GPA = 0x3_0000;

/** The maximal size of the results, and of the inputs, in bytes: 64 KiB each. */
export const TABLE_SIZE = 0x1_0000;

/** The gpa of the TSS with its I/O map, three pages. */
export const TSS_GPA = 0x6_0000;

/** The gpa just above the stack of the fault handlers (`TSS.rsp0`), used when a fault leaves ring 3. */
export const HANDLER_STACK_GPA = 0x7_0000;

/** The gpa just above the program's stack. */
export const STACK_GPA = 0x8_0000;
