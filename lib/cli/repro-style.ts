/** The option --repro-style: the style of the C files that --repro writes. */
import { Option } from "commander";
import { CommandError } from "./failure.ts";

const STYLES = ["program", "selftest"] as const;

/** The style of C files; `exportC()` of node-kvm/trace describes the styles. */
export type ReproStyle = (typeof STYLES)[number];

/** Creates the option. */
export function reproStyleOption(): Option {
  const help =
    "with --repro: self-contained C programs (program, the default), or tests in the idiom of the kernel's selftests (selftest)";
  return new Option("--repro-style <style>", help).choices(STYLES);
}

/**
 * Checks that --repro-style is used with --repro.
 *
 * @throws {@link CommandError}
 */
export function checkReproStyle(options: {
  readonly repro: string | undefined;
  readonly reproStyle?: ReproStyle | undefined;
}): void {
  if (options.repro !== undefined || options.reproStyle === undefined) return;
  throw new CommandError("--repro-style needs --repro, which names the folder");
}
