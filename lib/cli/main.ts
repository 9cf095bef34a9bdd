#!/usr/bin/env node
/** The command `node-kvm`: its commands and their options. Each command has its own file. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Argument, Command, Option } from "commander";
import { packageFolder } from "../package.ts";
import { KSFT_SKIP } from "../report/ktap.ts";
import { CLAIM_WORDS, splitWords } from "./claim-files.ts";
import { completion, SHELLS, type Shell } from "./completion.ts";
import { addCpuid } from "./cpuid-options.ts";
import { commonStatuses, reportStatus, reportStatuses, STATUS, statusHelp } from "./exit-status.ts";
import { addExplore } from "./explore-options.ts";
import {
  CommandError,
  reasonOf,
  reportFailure,
  setTroubleStatus,
  wordUsageErrors,
} from "./failure.ts";
import { info } from "./info.ts";
import { isCutShort, isInterruptible, signalsHandled } from "./interrupt.ts";
import { addLab } from "./lab.ts";
import { listClaims, PATTERN_NOTES } from "./lab-claims.ts";
import { type DocumentName, EVIDENCE_HELP, ORIGIN_HELP, toOrigin } from "./report-document.ts";
import { type ReproStyle, reproStyleOption } from "./repro-style.ts";
import { REPORTERS, runSuite } from "./test.ts";

const manifest: unknown = JSON.parse(readFileSync(join(packageFolder(), "package.json"), "utf8"));
const { version } = manifest as { version: string };

const program = new Command("node-kvm")
  .description("Use Linux KVM, and test whether a kernel's KVM behaves as documented")
  .version(version);

program
  .command("info")
  .description(
    "print this host's KVM: kernel, vendor module, stage of the CPUID code, every capability",
  )
  .option("--json", "as JSON")
  .addHelpText(
    "after",
    statusHelp(commonStatuses("KVM can be used", "KVM cannot be used; the output has the reason")),
  )
  .action((options: { json?: boolean }) => {
    process.exitCode = info(options.json === true);
  });

const test = program
  .command("test")
  .description("run the regression suite, or your own claims, on this host's KVM")
  .argument("[words...]", CLAIM_WORDS)
  .addOption(new Option("--reporter <name>", "how to report").choices(REPORTERS).default("text"))
  .addOption(new Option("--origin <name>", ORIGIN_HELP).argParser(toOrigin))
  .option("--evidence", EVIDENCE_HELP)
  .option("--list", "print the claims, one per line, and judge none")
  .option("--progress", "print a line for each claim on standard error")
  .option("--or-lab", "if this host has no usable device, judge a cached kernel in the lab")
  .option("--repro <dir>", "for each failed claim, write a C file that makes the same calls")
  .option("--repro-all", "with --repro: write a C file for every claim")
  .addOption(reproStyleOption())
  .option("--require-kvm", "fail, instead of skipping, if there is no usable device")
  .addHelpText(
    "after",
    PATTERN_NOTES +
      statusHelp([
        ...reportStatuses("a claim was judged, and none fails", "a claim fails"),
        [KSFT_SKIP, "with --reporter ktap: all claims were skipped, as of a selftest"],
      ]),
  )
  .action(async (words: readonly string[], options: SuiteFlags) => {
    const { pattern, paths } = splitWords(words);
    if (options.list === true) {
      process.exitCode = await listClaims(pattern, paths);
      return;
    }
    const status = await runSuite({
      pattern,
      paths,
      reporter: options.reporter,
      origin: options.origin,
      evidence: options.evidence === true,
      requireKvm: options.requireKvm === true,
      orLab: options.orLab === true,
      progress: options.progress === true,
      repro: options.repro,
      reproAll: options.reproAll === true,
      reproStyle: options.reproStyle,
    });
    process.exitCode = reportStatus(options.reporter, status);
  });
setTroubleStatus(test, () => reportStatus(test.opts<SuiteFlags>().reporter, STATUS.trouble));

interface SuiteFlags {
  readonly reporter: "text" | DocumentName;
  readonly origin?: string;
  readonly evidence?: boolean;
  readonly list?: boolean;
  readonly requireKvm?: boolean;
  readonly orLab?: boolean;
  readonly progress?: boolean;
  readonly repro?: string;
  readonly reproAll?: boolean;
  readonly reproStyle?: ReproStyle;
}

addCpuid(program);
addLab(program);
addExplore(program);

program
  .command("completion")
  .description("print a script that completes commands and options in a shell")
  .addArgument(new Argument("<shell>", "the shell").choices(SHELLS))
  .addHelpText("after", statusHelp(commonStatuses("the script was printed")))
  .action((shell: Shell) => {
    process.stdout.write(completion(program, shell));
  });

wordUsageErrors(program);

let running: Command | undefined;
program.hook("preAction", (_, command) => {
  running = command;
});

/** The time in milliseconds that remains for writing output after a command was ended early. */
const FLUSH_MS = 1000;

/** Ends the process after an uncaught error. */
function end(error: unknown): never {
  process.exit(reportFailure(error, running));
}

// The reader may close standard output, as in `node-kvm info | head`. If a command has started machines,
// interruptible() of interrupt.ts then ends the machines.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE" || isInterruptible()) return;
  end(new CommandError(`standard output cannot be written: ${reasonOf(error)}`));
});
process.stderr.on("error", () => {
  // The error is ignored, because standard error is closed.
});
process.on("uncaughtException", (error) => {
  if (isCutShort()) return;
  if (!isInterruptible()) end(error);
  // Ctrl-C in a terminal also ends vitest's worker, and vitest then throws an exception in an event handler.
  void signalsHandled().then(() => {
    if (!isCutShort()) end(error);
  });
});

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = reportFailure(error, running);
}
if (isCutShort()) {
  // The process waits neither for a reader that has stopped reading nor for vitest's timers.
  process.stdout.write("", () => process.exit());
  setTimeout(() => process.exit(), FLUSH_MS);
}
