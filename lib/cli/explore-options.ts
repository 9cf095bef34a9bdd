/** The command `explore` and its options. explore.ts runs it. */
import type { Command } from "commander";
import { KERNEL_ROW_NAMES } from "../oracle/index.ts";
import { commonStatuses, statusHelp } from "./exit-status.ts";
import { exploreKernel } from "./explore.ts";
import { addEmulator, CPU, KERNEL, list } from "./lab.ts";
import type { EmulatorFlags } from "./lab-emulator.ts";
import { type ReproStyle, reproStyleOption } from "./repro-style.ts";
import { wholeNumber } from "./whole-number.ts";

const STEPS = 5000;
const MOST_STEPS = 10_000_000;
const MOST_SEED = 2 ** 31 - 1;
/** The default time limit in seconds; the lab executes some hundred steps per second. */
const TIMEOUT = 900;
const MOST_TIMEOUT = 2_147_483;

interface ExploreFlags extends EmulatorFlags {
  readonly kernel?: string;
  readonly modules?: string;
  readonly cpu?: string;
  readonly seed?: number;
  readonly steps: number;
  readonly without?: readonly string[];
  readonly replay?: string;
  readonly repro?: string;
  readonly reproStyle?: ReproStyle;
  readonly timeout: number;
  readonly json?: boolean;
  readonly onThisHostIMeanIt?: boolean;
}

/** Notes on the command, at most 80 columns wide. */
const NOTES = `
The model predicts KVM's answer to each call; generated lists of calls are run on
a kernel in the lab until an answer differs. The list is then shortened. What
differs between kernels is probed first; the rows are:
  ${KERNEL_ROW_NAMES.slice(0, 6).join(", ")},
  ${KERNEL_ROW_NAMES.slice(6, 11).join(", ")},
  ${KERNEL_ROW_NAMES.slice(11).join(", ")}
`;

/** Adds the command to the program. */
export function addExplore(program: Command): void {
  addEmulator(program.command("explore"))
    .description("compare a kernel's KVM with the model of its CPUID life cycle, by random calls")
    .option("--kernel <name>", KERNEL)
    .option("--modules <folder>", "the folder of the modules of your own kernel")
    .option("--cpu <model>", `a CPU model of the emulator (default: ${CPU})`)
    .option("--seed <n>", "the seed of the first list (default: random)", wholeNumber(0, MOST_SEED))
    .option("--steps <n>", "the number of calls", wholeNumber(1, MOST_STEPS), STEPS)
    .option("--without <rows>", "leave these rows out of the model (comma separated)", list)
    .option("--replay <file>", "run the list in this file, as printed for a disagreement")
    .option("--repro <dir>", "write the list, a TypeScript and a C program of a disagreement")
    .addOption(reproStyleOption())
    .option(
      "--timeout <seconds>",
      "the limit for boot and exploration together",
      wholeNumber(1, MOST_TIMEOUT),
      TIMEOUT,
    )
    .option("--json", "print the result as JSON")
    .option("--on-this-host-i-mean-it", "explore this host's own KVM, which may crash the host")
    .addHelpText(
      "after",
      NOTES + statusHelp(commonStatuses("KVM answers as the model predicts", "an answer differs")),
    )
    .action(async (flags: ExploreFlags) => {
      process.exitCode = await exploreKernel({
        kernel: flags.kernel,
        modules: flags.modules,
        emulator: flags.emulator,
        bochs: flags.bochs,
        cpu: flags.cpu,
        seed: flags.seed,
        steps: flags.steps,
        without: flags.without ?? [],
        replay: flags.replay,
        repro: flags.repro,
        reproStyle: flags.reproStyle,
        timeout: flags.timeout,
        json: flags.json === true,
        onThisHost: flags.onThisHostIMeanIt === true,
      });
    });
}
