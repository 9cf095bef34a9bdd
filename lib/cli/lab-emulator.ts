/** Which emulator, and which of its CPU models, a lab command means. */
import { DEFAULTS, type EmulatorName } from "../lab/machine/machine.ts";

/** The emulators' names. */
export const EMULATORS: readonly EmulatorName[] = ["qemu", "bochs"];

/** The options of every command that starts machines. */
export interface EmulatorFlags {
  readonly emulator: EmulatorName;
  /** The user's own Bochs. */
  readonly bochs?: string;
}

/** A CPU model and what emulates it. */
export interface CpuModel {
  readonly emulator: EmulatorName;
  readonly cpu: string;
}

/**
 * Reads CPU models: `bochs:ryzen` says whose it is, `ryzen` is one of the emulator's that was named.
 *
 * @returns the emulator's default model when there is none.
 */
export function cpuModels(words: readonly string[], named: EmulatorName): readonly CpuModel[] {
  if (words.length === 0) return [{ emulator: named, cpu: DEFAULTS[named].cpu }];
  return words.map((word) => {
    const other = EMULATORS.find((name) => word.startsWith(`${name}:`));
    return other === undefined
      ? { emulator: named, cpu: word }
      : { emulator: other, cpu: word.slice(other.length + 1) };
  });
}
