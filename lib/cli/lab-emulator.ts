/** The emulator and the CPU models of a lab command. */
import { DEFAULTS, type EmulatorName } from "../lab/machine/machine.ts";

/** The emulators' names. */
export const EMULATORS: readonly EmulatorName[] = ["qemu", "bochs"];

/** The options of every command that starts machines. */
export interface EmulatorFlags {
  readonly emulator: EmulatorName;
  /** The path of the user's own Bochs. */
  readonly bochs?: string;
}

/** A CPU model and its emulator. */
export interface CpuModel {
  readonly emulator: EmulatorName;
  readonly cpu: string;
}

/**
 * Parses CPU models: `bochs:ryzen` is a model of the emulator Bochs, and `ryzen` is a model of the selected emulator.
 *
 * @returns the emulator's default model if no model is named.
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
