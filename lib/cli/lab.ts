/** `node-kvm lab`: the commands of the lab, and their options. lab-*.ts implement them. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { DEFAULT_START, type LaneStart } from "../lab/campaign.ts";
import { LabError } from "../lab/error.ts";
import { type ModuleParam, parseModuleParams } from "../lab/kernels/module-params.ts";
import { guestFolder } from "../lab/machine/guest.ts";
import { DEFAULTS } from "../lab/machine/machine.ts";
import { CLAIM_WORDS, splitWords } from "./claim-files.ts";
import {
  commonStatuses,
  reportStatus,
  reportStatuses,
  STATUS,
  type StatusRow,
  statusHelp,
} from "./exit-status.ts";
import { setTroubleStatus, setUsageHint } from "./failure.ts";
import { labBisect, labBisectStep } from "./lab-bisect.ts";
import { labBuildBochs } from "./lab-build-bochs.ts";
import { labCache } from "./lab-cache.ts";
import { PATTERN_NOTES } from "./lab-claims.ts";
import { EMULATORS, type EmulatorFlags } from "./lab-emulator.ts";
import { EXEC_STATUS, EXEC_STATUSES, labExec } from "./lab-exec.ts";
import { labKernels } from "./lab-kernels.ts";
import { labRun, MATRIX_REPORTERS } from "./lab-run.ts";
import { MOST_STDIN } from "./lab-stdin.ts";
import { type DocumentName, EVIDENCE_HELP, ORIGIN_HELP, toOrigin } from "./report-document.ts";
import { wholeNumber } from "./whole-number.ts";

/** The limits of numeric options; a timeout is a number of milliseconds that fits a signed 32-bit integer. */
const RANGES = {
  parallel: [1, 256],
  memory: [256, 1_048_576],
  smp: [1, 255],
  timeout: [1, 2_147_483],
  prune: [0, 999_999_999],
} as const;

/** The argument of `--kernel` in --help. */
export const KERNEL =
  "the name of a kernel (6.12, 6.17.13), or the path, with a slash, of your own bzImage or built tree";
const OTHER = "bochs:ryzen belongs to the other emulator";
/** The default CPU models in --help. */
export const CPU: string = `${DEFAULTS.qemu.cpu}, or ${DEFAULTS.bochs.cpu} in Bochs`;
const TIMEOUT = `${DEFAULTS.qemu.timeout / 1000}, or ${DEFAULTS.bochs.timeout / 1000} in Bochs`;
const RUN_FINDING = "a claim fails, a kernel logs a warning, or a machine did not report";

/** Adds the lab's commands to the program. */
export function addLab(program: Command): void {
  const lab = program
    .command("lab")
    .description(
      "the suite on other kernels, in emulated machines: no hardware virtualisation needed",
    );
  addKernels(lab);
  addRun(lab);
  addExec(lab);
  addBisect(lab);
  addBuildBochs(lab);
  addCache(lab);
}

const STARTS: readonly LaneStart[] = ["saved", "boot", "warm"];

/**
 * Makes the option for the start of QEMU's machines; `lab exec` has no warm start. Only `lab run` restores machines by
 * default, because a bisection uses most kernels only once.
 */
function startOption(usual: LaneStart, ...starts: readonly LaneStart[]): Option {
  const warm = starts.includes("warm")
    ? "; warm: restore a machine that has judged claims before, so the result is not a valid judgement"
    : "";
  const how = `saved: restore a machine that was saved after its boot; boot: always boot${warm}`;
  return new Option("--start <how>", how).choices(starts).default(usual);
}

/** Adds the options of commands that start machines. */
export function addEmulator(command: Command): Command {
  return command
    .addOption(
      new Option("--emulator <name>", "the emulator; bochs can also run kvm_intel")
        .choices(EMULATORS)
        .default("qemu"),
    )
    .option(
      "--bochs <path>",
      "the path of your own Bochs (default: $NODE_KVM_BOCHS, else the one that build-bochs built)",
    );
}

function addBuildBochs(lab: Command): void {
  lab
    .command("build-bochs")
    .description("build Bochs into the cache, for kvm_intel without VMX; about two minutes")
    .option("--rebuild", "build Bochs even if the cache has it")
    .option("--mirror <url>", "the package archive (default: apt's)")
    .addHelpText("after", statusHelp(commonStatuses("Bochs is in the cache")))
    .action(async (options: Parameters<typeof labBuildBochs>[0]) => {
      process.exitCode = await labBuildBochs(options);
    });
}

function addCache(lab: Command): void {
  lab
    .command("cache")
    .description("list the cache's entries, or remove some")
    .option("--verify", "compare every file with its checksum")
    .option(
      "--prune <MB>",
      "remove the least recently used entries until the others take at most this size",
      number("prune"),
    )
    .option("--empty", "remove everything")
    .option("--json", "as JSON")
    .addHelpText("after", statusHelp(commonStatuses("no entry is damaged", "an entry is damaged")))
    .action(async (options: Parameters<typeof labCache>[0]) => {
      process.exitCode = await labCache(options);
    });
}

function addKernels(lab: Command): void {
  lab
    .command("kernels")
    .description("list the available and the cached kernels")
    .option("--fetch <names>", "download these kernels into the cache (comma separated)", list)
    .option("--refetch", "with --fetch: replace cached or damaged kernels")
    .option("--mirror <url>", "the package archive (default: apt's)")
    .option("--json", "as JSON")
    .addHelpText("after", statusHelp(commonStatuses("the kernels were fetched and listed")))
    .action(async (options: Parameters<typeof labKernels>[0], command: Command) => {
      if (options?.refetch === true && options.fetch === undefined) {
        command.error("error: --refetch needs --fetch");
      }
      process.exitCode = await labKernels(options);
    });
}

/** The value of `--params` for modules without parameters. */
const NO_PARAMS = "default";

/** Parses one setting of module parameters, and appends it to the previous ones. */
function addParams(
  text: string,
  before: readonly (readonly ModuleParam[])[] = [],
): readonly (readonly ModuleParam[])[] {
  try {
    return [...before, text === NO_PARAMS ? [] : refuseNone(text, parseModuleParams(text))];
  } catch (error) {
    if (!(error instanceof LabError)) throw error;
    throw new InvalidArgumentError(error.message);
  }
}

function refuseNone(text: string, params: readonly ModuleParam[]): readonly ModuleParam[] {
  if (params.length > 0) return params;
  throw new InvalidArgumentError(`"${text}" names no parameter; ${NO_PARAMS} stands for none`);
}

interface RunFlags extends EmulatorFlags {
  readonly kernel: readonly string[];
  readonly params?: readonly (readonly ModuleParam[])[];
  readonly modules?: string;
  readonly cpu?: readonly string[];
  readonly parallel: number | undefined;
  readonly start: LaneStart;
  readonly host?: boolean;
  readonly reporter: "text" | DocumentName;
  readonly origin?: string;
  readonly evidence?: boolean;
  readonly output?: string;
}

function addRun(lab: Command): void {
  const run = addEmulator(lab.command("run"))
    .description("run the suite, or your own claims, on kernels x CPU models; compare the verdicts")
    .argument("[words...]", CLAIM_WORDS)
    .requiredOption("--kernel <names>", `${KERNEL}; comma separated`, list)
    .option("--modules <folder>", "the folder of the modules of your own kernel")
    .option("--cpu <models>", `CPU models (default: ${CPU}); max,-la57 is one; ${OTHER}`, cpus)
    .option(
      "--params <settings>",
      `parameters of KVM's modules: kvm.ignore_msrs=1,kvm_amd.npt=0; each further --params adds machines with other parameters; ${NO_PARAMS} stands for none`,
      addParams,
    )
    .addOption(
      new Option(
        "--parallel <n>",
        `the number of machines that run at the same time, ${rangeOf("parallel")}`,
      )
        .argParser(number("parallel"))
        .default(undefined, "the number of CPUs plus one, if the memory suffices"),
    )
    .addOption(startOption("saved", ...STARTS))
    .option("--host", "add a column for this host's own KVM")
    .addOption(
      new Option("--reporter <name>", "how to report").choices(MATRIX_REPORTERS).default("text"),
    )
    .addOption(new Option("--origin <name>", ORIGIN_HELP).argParser(toOrigin))
    .option("--evidence", EVIDENCE_HELP)
    .option("--output <file>", "the file for the report (default: standard output)")
    .addHelpText(
      "after",
      PATTERN_NOTES +
        statusHelp(reportStatuses("no claim fails, and no kernel logs a warning", RUN_FINDING)),
    )
    .action(async (words: readonly string[], flags: RunFlags) => {
      const { pattern, paths } = splitWords(words);
      const status = await labRun({
        paths,
        kernels: flags.kernel,
        modules: flags.modules,
        cpus: flags.cpu ?? [],
        params: flags.params ?? [],
        emulator: flags.emulator,
        bochs: flags.bochs,
        pattern,
        parallel: flags.parallel,
        start: flags.start,
        host: flags.host === true,
        reporter: flags.reporter,
        origin: flags.origin,
        evidence: flags.evidence === true,
        output: flags.output,
      });
      process.exitCode = reportStatus(flags.reporter, status);
    });
  setTroubleStatus(run, () => reportStatus(run.opts<RunFlags>().reporter, STATUS.trouble));
}

interface ExecFlags extends EmulatorFlags {
  readonly kernel: string;
  readonly params?: readonly (readonly ModuleParam[])[];
  readonly modules?: string;
  readonly cpu?: string;
  readonly memory?: number;
  readonly smp?: number;
  readonly timeout?: number;
  readonly file?: readonly string[];
  readonly out?: readonly string[];
  readonly log?: string;
  readonly start: LaneStart;
}

function addExec(lab: Command): void {
  const exec = addEmulator(lab.command("exec"))
    .description(
      "run a command in a disposable machine with a working KVM; exit with the command's status",
    )
    .argument("<command...>", "the program and its arguments, after --")
    .requiredOption("--kernel <name>", KERNEL)
    .option("--modules <folder>", "the folder of the modules of your own kernel")
    .option("--cpu <model>", `a CPU model of the emulator (default: ${CPU})`)
    .option(
      "--params <settings>",
      "parameters of KVM's modules: kvm.ignore_msrs=1,kvm_amd.npt=0",
      addParams,
    )
    .option(
      "--memory <MiB>",
      `the machine's memory, ${rangeOf("memory")} (default: 1024)`,
      number("memory"),
    )
    .option(
      "--smp <CPUs>",
      `the number of CPUs of QEMU's machine, ${rangeOf("smp")} (default: 1)`,
      number("smp"),
    )
    .option(
      "--timeout <seconds>",
      `the limit for boot and command together (default: ${TIMEOUT})`,
      number("timeout"),
    )
    .option("--file <host:guest...>", "files or folders to copy into the guest")
    .option("--out <guest:host...>", "files or folders to copy back")
    .option("--log <file>", "write the kernel's log to this file, control characters escaped")
    .addOption(startOption(DEFAULT_START, "saved", "boot"))
    .addHelpText("after", `${EXEC_NOTES}\n${statusHelp(EXEC_STATUSES)}`)
    .action(async (command: readonly string[], { file, params = [], ...flags }: ExecFlags) => {
      if (params.length > 1)
        exec.error("error: --params is given twice; separate parameters by commas");
      process.exitCode = await labExec({ ...flags, params: params[0], files: file, command });
    });
  setTroubleStatus(exec, () => EXEC_STATUS.lab);
  setUsageHint(exec, (line) =>
    /^(unknown option|missing required argument)/.test(line)
      ? "the command with its options comes after --, as in: lab exec --kernel 6.12 -- ls -l /"
      : undefined,
  );
}

/** Notes on the machine of `lab exec`; at most 80 columns wide. */
const EXEC_NOTES = `
The command starts in ${guestFolder()}, which holds this package:
a script that imports "node-kvm" must be in that folder or below it:
  node-kvm lab exec --kernel 6.12 \\
    --file mine.mjs:${guestFolder()}/mine.mjs -- node mine.mjs
A --file path without a colon is the same in the guest; an --out path without
one is written to the same path below the current folder. Standard input is
passed if it is a file or a pipe that ends (at most ${MOST_STDIN / 2 ** 20} MiB, read before
the boot); a terminal is not passed: the command then reads an empty one.`;

interface BisectFlags extends EmulatorFlags {
  readonly good?: string;
  readonly bad?: string;
  readonly file?: readonly string[];
  readonly cpu?: string;
  readonly start: LaneStart;
  readonly script?: boolean;
  readonly kernel?: string;
  readonly modules?: string;
}

function addBisect(lab: Command): void {
  const bisect = addEmulator(lab.command("bisect"))
    .description("find the catalogue's kernels between which a claim's verdict changes")
    .argument("<claim>", "a claim's short name: silent-cr4")
    .option(
      "--file <paths...>",
      "files or folders of your own claims, judged instead of the suite's",
    )
    .option("--good <name>", "a kernel on which the claim holds; older or newer than the bad one")
    .option("--bad <name>", "a kernel on which the claim does not hold")
    .option("--cpu <model>", "a CPU model of the emulator")
    .addOption(startOption(DEFAULT_START, ...STARTS))
    .option("--script", "judge one kernel, with the exit status that `git bisect run` expects")
    .option("--kernel <path>", "with --script: the path of your own bzImage or built tree")
    .option("--modules <folder>", "with --script: its modules")
    .addHelpText("after", statusHelp(BISECT_STATUSES))
    .action(async (claim: string, flags: BisectFlags, command: Command) => {
      if (flags.script === true) {
        if (flags.kernel === undefined) command.error("error: --script needs --kernel");
        const options = { ...flags, claim, paths: flags.file ?? [] };
        process.exitCode = await labBisectStep(flags.kernel, flags.modules, options);
        return;
      }
      if (flags.good === undefined || flags.bad === undefined) {
        command.error("error: needs --good and --bad, or --script");
      }
      const { good, bad } = flags;
      process.exitCode = await labBisect({ ...flags, claim, good, bad, paths: flags.file ?? [] });
    });
  setTroubleStatus(bisect, () =>
    bisect.opts<BisectFlags>().script === true ? GIT_STOPS : STATUS.trouble,
  );
}

/** `git bisect run` considers any status below 128 except 125 a bad commit; this status stops it. */
const GIT_STOPS = 128;

const BISECT_STATUSES: readonly StatusRow[] = [
  ...commonStatuses("the two kernels were found"),
  ["", `with --script: 0 holds, 1 does not, 125 cannot be judged; ${GIT_STOPS} error`],
];

/** Splits a list at its commas. */
export function list(text: string): readonly string[] {
  const names = text.split(",").map((name) => name.trim());
  if (names.includes("")) throw new InvalidArgumentError("an empty name");
  return names;
}

/** Splits at commas, except before a feature: `max,-la57,EPYC-Milan` are two models. */
function cpus(text: string): readonly string[] {
  return text.split(/,(?![-+])/).filter((model) => model !== "");
}

/** Makes the parser of a whole number in an option's range. */
function number(option: keyof typeof RANGES): (text: string) => number {
  const [least, most] = RANGES[option];
  return wholeNumber(least, most);
}

function rangeOf(option: keyof typeof RANGES): string {
  return RANGES[option].join(" to ");
}
