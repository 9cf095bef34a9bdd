/** The values that the guests of counting.js must write before and after a save, on this host and in the lab. */

/** The result that a process of counting.js prints for one guest. */
export interface Counted {
  readonly guest: string;
  /** The form from which the state was restored, `bytes` or `json`; absent when saving. */
  readonly form?: string;
  /** The values that the guest wrote to its port. */
  readonly said: readonly number[];
  /** The values that the guest wrote after a second restore, into a vCPU that had run since the first restore. */
  readonly again?: readonly number[];
  /**
   * After a save: the names of the saved parts. After a restore: the VM's state is saved again, and these are the names
   * of the parts that differ.
   */
  readonly parts?: readonly string[];
  readonly different?: readonly string[];
  /** The saved TSC, and the TSC of a state that was saved directly after restoring. */
  readonly tsc?: readonly [number, number];
}

/** Parses the output of a process of counting.js. */
export function countedIn(stdout: string): readonly Counted[] {
  const lines = stdout.split("\n").filter((line) => line !== "");
  return lines.map((line) => JSON.parse(line) as Counted);
}

type Values = readonly (readonly number[])[];

const PLAIN: Values = [
  [1, 2, 3, 4, 5, 6],
  [7, 8, 9, 10, 11, 12],
];

const three = (a: number, b: number): Values => [
  [1, a, b, 2, a, b],
  [3, a, b, 4, a, b],
];

/** The guests, each with a description and the values that it writes before and after the save. */
export const GUESTS: readonly (readonly [guest: string, about: string, values: Values])[] = [
  ["long", "that counts in 64 bits", PLAIN],
  ["protected", "that counts in 32 bits", PLAIN],
  ["real", "that counts in 16 bits", PLAIN],
  ["user", "that counts at CPL 3", PLAIN],
  ["echo", "whose question was answered, and that has not read the answer", PLAIN],
  ["msrs", "that has set STAR and KERNEL_GS_BASE", three(0x0123_4567, 0x1234_5678)],
  ["ymm", "that has YMM7, both halves", three(0x1111_1111, 0x2222_2222)],
  ["pit", "that counts the 8254's ticks, through the 8259A", PLAIN],
  ["deadline", "whose local APIC waits for a TSC deadline", PLAIN],
];

/** The parts that change while a guest is stopped: clocks, the 8254's count, and Hyper-V's copies of the clocks. */
export const MOVES: readonly string[] = [
  ...["clock", "pit2", "picMaster", "msr 0x10", "msr 0x40000010", "msr 0x40000020"],
];

/** A number of TSC cycles: more than any test takes, and far fewer than the error of a wrong TSC. */
export const LONG: number = 2 ** 44;
