/** `node-kvm lab`: which commands the lab has, and their options. What each does is lab-*.ts. */
import { type Command, InvalidArgumentError, Option } from "commander";
import type { Start } from "../lab/campaign.ts";
import { labBisect, labBisectStep } from "./lab-bisect.ts";
import { labBuildBochs } from "./lab-build-bochs.ts";
import { EMULATORS, type EmulatorFlags } from "./lab-emulator.ts";
import { labExec } from "./lab-exec.ts";
import { labKernels } from "./lab-kernels.ts";
import { labRun, MATRIX_REPORTERS } from "./lab-run.ts";

const KERNEL = "a kernel of the catalogue (6.12, 6.17.13), or the path of your own bzImage or tree";
const OTHER = "bochs:ryzen is one of the other emulator's";

/** Adds the lab's commands. */
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
}

const STARTS: readonly Start[] = ["saved", "boot", "warm"];

/** Makes the option that says how QEMU's machines start; `lab exec` has no warm ones. */
function startOption(...starts: readonly Start[]): Option {
  const warm = starts.includes("warm")
    ? "; warm: that has judged before, for quick loops only"
    : "";
  const how = `saved: from a machine that was saved after its boot; boot: always by a boot${warm}`;
  return new Option("--start <how>", how).choices(starts).default("saved");
}

/** Adds the options of commands that start machines. */
function addEmulator(command: Command): Command {
  return command
    .addOption(
      new Option("--emulator <name>", "what emulates: bochs has kvm_intel too")
        .choices(EMULATORS)
        .default("qemu"),
    )
    .option("--bochs <path>", "your own Bochs; else $NODE_KVM_BOCHS, else the one built here");
}

function addBuildBochs(lab: Command): void {
  lab
    .command("build-bochs")
    .description("build Bochs into the cache, for kvm_intel without VMX; about two minutes")
    .option("--rebuild", "also when it is there")
    .option("--mirror <url>", "the package archive; else apt's own")
    .action(async (options: Parameters<typeof labBuildBochs>[0]) => {
      process.exitCode = await labBuildBochs(options);
    });
}

function addKernels(lab: Command): void {
  lab
    .command("kernels")
    .description("list the kernels that can be had, and those that are cached")
    .option("--fetch <names>", "fetch these into the cache (comma separated)", list)
    .option("--refetch", "fetch again what is cached, or damaged")
    .option("--mirror <url>", "the package archive; else apt's own")
    .option("--json", "as JSON")
    .action(async (options: Parameters<typeof labKernels>[0]) => {
      process.exitCode = await labKernels(options);
    });
}

interface RunFlags extends EmulatorFlags {
  readonly kernel: readonly string[];
  readonly modules?: string;
  readonly cpu?: readonly string[];
  readonly parallel: number;
  readonly start: Start;
  readonly host?: boolean;
  readonly reporter: (typeof MATRIX_REPORTERS)[number];
  readonly output?: string;
}

function addRun(lab: Command): void {
  addEmulator(lab.command("run"))
    .description("run the suite on kernels x CPU models; exit status 0 when nothing unexpected was")
    .argument("[pattern]", "only claims whose name or sentence contains this")
    .requiredOption("--kernel <names>", `${KERNEL}; comma separated`, list)
    .option("--modules <folder>", "the modules of your own kernel")
    .option("--cpu <models>", `CPU models; max,-la57 is one; ${OTHER}`, cpus)
    .option("--parallel <n>", "how many machines at a time", count, 2)
    .addOption(startOption(...STARTS))
    .option("--host", "this host's own KVM as one more column")
    .addOption(
      new Option("--reporter <name>", "how to report").choices(MATRIX_REPORTERS).default("text"),
    )
    .option("--output <file>", "where the report goes")
    .action(async (pattern: string | undefined, flags: RunFlags) => {
      process.exitCode = await labRun({
        kernels: flags.kernel,
        modules: flags.modules,
        cpus: flags.cpu ?? [],
        emulator: flags.emulator,
        bochs: flags.bochs,
        pattern,
        parallel: flags.parallel,
        start: flags.start,
        host: flags.host === true,
        reporter: flags.reporter,
        output: flags.output,
      });
    });
}

interface ExecFlags extends EmulatorFlags {
  readonly kernel: string;
  readonly modules?: string;
  readonly cpu?: string;
  readonly memory?: number;
  readonly smp?: number;
  readonly timeout?: number;
  readonly file?: readonly string[];
  readonly out?: readonly string[];
  readonly log?: string;
  readonly start: Start;
}

function addExec(lab: Command): void {
  addEmulator(lab.command("exec"))
    .description(
      "run a command in a disposable machine with a working KVM; its exit status is the command's",
    )
    .argument("<command...>", "after --")
    .requiredOption("--kernel <name>", KERNEL)
    .option("--modules <folder>", "the modules of your own kernel")
    .option("--cpu <model>", "a CPU model of the emulator's")
    .option("--memory <MiB>", "the machine's memory", count)
    .option("--smp <CPUs>", "how many CPUs QEMU's machine has", count)
    .option("--timeout <seconds>", "for boot and command together", count)
    .option("--file <host:guest...>", "files to bring along")
    .option("--out <guest:host...>", "files or folders to bring back")
    .option("--log <file>", "write the kernel's log to this file")
    .addOption(startOption("saved", "boot"))
    .action(async (command: readonly string[], { file, ...flags }: ExecFlags) => {
      process.exitCode = await labExec({ ...flags, files: file, command });
    });
}

interface BisectFlags extends EmulatorFlags {
  readonly good?: string;
  readonly bad?: string;
  readonly cpu?: string;
  readonly start: Start;
  readonly script?: boolean;
  readonly kernel?: string;
  readonly modules?: string;
}

function addBisect(lab: Command): void {
  addEmulator(lab.command("bisect"))
    .description("find the catalogue's kernels between which a claim's verdict changes")
    .argument("<claim>", "a claim's short name: silent-cr4")
    .option("--good <name>", "a kernel on which it holds; older or newer than the bad one")
    .option("--bad <name>", "a kernel on which it does not")
    .option("--cpu <model>", "a CPU model of the emulator's")
    .addOption(startOption(...STARTS))
    .option("--script", "judge one kernel, with the exit status that `git bisect run` wants")
    .option("--kernel <path>", "with --script: your own bzImage or built tree")
    .option("--modules <folder>", "with --script: its modules")
    .action(async (claim: string, flags: BisectFlags, command: Command) => {
      if (flags.script === true) {
        if (flags.kernel === undefined) command.error("error: --script needs --kernel");
        process.exitCode = await labBisectStep(flags.kernel, flags.modules, { ...flags, claim });
        return;
      }
      if (flags.good === undefined || flags.bad === undefined) {
        command.error("error: needs --good and --bad, or --script");
      }
      const { good, bad } = flags;
      process.exitCode = await labBisect({ ...flags, claim, good, bad });
    });
}

function list(text: string): readonly string[] {
  const names = text.split(",").map((name) => name.trim());
  if (names.includes("")) throw new InvalidArgumentError("an empty name");
  return names;
}

/** Splits at commas, but not before a feature: `max,-la57,EPYC-Milan` are two models. */
function cpus(text: string): readonly string[] {
  return text.split(/,(?![-+])/).filter((model) => model !== "");
}

function count(text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1) throw new InvalidArgumentError("not a count");
  return number;
}
