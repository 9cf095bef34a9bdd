#!/usr/bin/env node
/** The command `node-kvm`: which commands there are. What each does is its own file. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, Option } from "commander";
import { packageFolder } from "../package.ts";
import { CLAIM_WORDS, splitWords } from "./claim-files.ts";
import { cpuidDiff, cpuidShow, TABLE_SOURCES } from "./cpuid.ts";
import { commonStatuses, statusHelp } from "./exit-status.ts";
import { CommandError, reasonOf, reportFailure, wordUsageErrors } from "./failure.ts";
import { info } from "./info.ts";
import { addLab } from "./lab.ts";
import { listClaims } from "./lab-claims.ts";
import { isCutShort, isInterruptible } from "./lab-kernel.ts";
import { REPORTERS, runSuite } from "./test.ts";

const manifest: unknown = JSON.parse(readFileSync(join(packageFolder(), "package.json"), "utf8"));
const { version } = manifest as { version: string };

const program = new Command("node-kvm")
  .description("Drive Linux KVM, and ask whether a kernel's KVM keeps its promises")
  .version(version);

program
  .command("info")
  .description("say what KVM this host has: kernel, vendor module, every capability")
  .option("--json", "as JSON")
  .addHelpText(
    "after",
    statusHelp(commonStatuses("KVM can be used", "it cannot; the output says why")),
  )
  .action((options: { json?: boolean }) => {
    process.exitCode = info(options.json === true);
  });

program
  .command("test")
  .description("run the regression suite, or your own claims, on this host's KVM")
  .argument("[words...]", CLAIM_WORDS)
  .addOption(
    new Option("--reporter <name>", "how to report").choices(REPORTERS).default(REPORTERS[0]),
  )
  .option("--list", "print the claims, a line each, and judge none")
  .option("--progress", "tell of each claim on standard error")
  .option("--or-lab", "where this host has no usable device, judge a cached kernel in the lab")
  .option(
    "--repro <dir>",
    "write a C file for each claim that fails, which asks the kernel the same",
  )
  .option("--repro-all", "with --repro: for each claim, whatever came out")
  .option("--require-kvm", "fail, instead of skipping, when there is no usable device")
  .addHelpText("after", statusHelp(commonStatuses("no claim fails", "a claim fails")))
  .action(async (words: readonly string[], options: SuiteFlags) => {
    const { pattern, paths } = splitWords(words);
    if (options.list === true) {
      process.exitCode = await listClaims(pattern, paths);
      return;
    }
    process.exitCode = await runSuite({
      pattern,
      paths,
      reporter: options.reporter,
      requireKvm: options.requireKvm === true,
      orLab: options.orLab === true,
      progress: options.progress === true,
      repro: options.repro,
      reproAll: options.reproAll === true,
    });
  });

interface SuiteFlags {
  readonly reporter: (typeof REPORTERS)[number];
  readonly list?: boolean;
  readonly requireKvm?: boolean;
  readonly orLab?: boolean;
  readonly progress?: boolean;
  readonly repro?: string;
  readonly reproAll?: boolean;
}

const cpuid = program.command("cpuid").description("CPUID tables: show one, compare two");
cpuid
  .command("show")
  .description("print a table by field name")
  .argument("[table]", TABLE_SOURCES, "supported")
  .option("--raw", "entries in hexadecimal instead of fields")
  .option("--json", "as JSON")
  .addHelpText("after", statusHelp(commonStatuses("the table was printed")))
  .action((table: string, options: { raw?: boolean; json?: boolean }) => {
    cpuidShow(table, options.json === true ? "json" : options.raw === true ? "raw" : "fields");
  });
cpuid
  .command("diff")
  .description("name the fields in which two tables differ")
  .argument("<before>", "as in `cpuid show`")
  .argument("<after>", "as in `cpuid show`")
  .addHelpText("after", statusHelp(commonStatuses("the tables are equal", "they differ")))
  .action((before: string, after: string) => {
    process.exitCode = cpuidDiff(before, after);
  });

addLab(program);
wordUsageErrors(program);

let running: Command | undefined;
program.hook("preAction", (_, command) => {
  running = command;
});

/** How long output may take to be written after a command was cut short, ms. */
const FLUSH_MS = 1000;

/** Ends the process by an error that no command has caught. */
function end(error: unknown): never {
  process.exit(reportFailure(error, running));
}

// A reader may stop reading (`node-kvm info | head`). Commands that start machines end them then:
// interruptible() of lab-kernel.ts.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE" || isInterruptible()) return;
  end(new CommandError(`standard output cannot be written: ${reasonOf(error)}`));
});
process.stderr.on("error", () => {
  // There is no place left to report it.
});
process.on("uncaughtException", (error) => {
  // Ctrl-C in a terminal ends vitest's worker too, which vitest throws from an event.
  if (!isCutShort()) end(error);
});

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = reportFailure(error, running);
}
if (isCutShort()) {
  // Neither a reader that has stopped reading nor vitest's own timeouts keep the process alive.
  process.stdout.write("", () => process.exit());
  setTimeout(() => process.exit(), FLUSH_MS);
}
