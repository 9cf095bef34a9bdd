/** Where everything of a guest program lies in guest memory. What is put there is written by modes.ts, faults.ts and program.ts. */

/** States how many bytes of guest memory, from gpa 0, a program needs: 2 MiB. */
export const MEMORY_SIZE = 0x20_0000;

/** Names the gpa of the GDT, one page. (The real mode interrupt vector table is at gpa 0.) */
export const GDT_GPA = 0x1000;

/** Names the gpa of the IDT, one page; in real mode the interrupt vector table is at 0 instead. */
export const IDT_GPA = 0x2000;

/** Names the gpa of the mailbox, the page through which a guest speaks; ucall.ts says what is in it. */
export const MAILBOX_GPA = 0x4000;

/** Names the gpa of the fault handlers, one page; faults.ts writes them. */
export const HANDLERS_GPA = 0x5000;

/** Names the gpa of the page tables, 8 pages at most (6 for 4 levels and 2 MiB pages). */
export const PAGE_TABLES_GPA = 0x8000;

/** Names the gpa of the program's code, which is also its entry. */
export const CODE_GPA = 0x1_0000;

/** States how many bytes the code may have: 64 KiB, one real mode segment. */
export const CODE_SIZE = 0x1_0000;

/** Names the gpa of the results of `cpuidAll`, 64 KiB. */
export const RESULTS_GPA = 0x2_0000;

/** Names the gpa of the inputs of `cpuidAll`, 64 KiB. */
export const TABLE_GPA = 0x3_0000;

/** States how many bytes the results, and the inputs, may have: 64 KiB each. */
export const TABLE_SIZE = 0x1_0000;

/** Names the gpa of the TSS with its I/O map, three pages. */
export const TSS_GPA = 0x6_0000;

/** Names the gpa just above the stack of the fault handlers (`TSS.rsp0`), used when a fault leaves ring 3. */
export const HANDLER_STACK_GPA = 0x7_0000;

/** Names the gpa just above the program's stack. */
export const STACK_GPA = 0x8_0000;
