#!/usr/bin/env node
/** The command `node-kvm`: which commands there are. What each does is its own file. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, Option } from "commander";
import { KvmError } from "../errors.ts";
import { LabError } from "../lab/error.ts";
import { packageFolder } from "../package.ts";
import { printableLines } from "../report/printable.ts";
import { cpuidDiff, cpuidShow } from "./cpuid.ts";
import { info } from "./info.ts";
import { addLab } from "./lab.ts";
import { REPORTERS, runSuite } from "./test.ts";

const manifest: unknown = JSON.parse(readFileSync(join(packageFolder(), "package.json"), "utf8"));
const { version } = manifest as { version: string };

const program = new Command("node-kvm")
  .description("Drive Linux KVM, and ask whether a kernel's KVM keeps its promises")
  .version(version)
  .showHelpAfterError();

program
  .command("info")
  .description("say what KVM this host has: kernel, vendor module, every capability")
  .option("--json", "as JSON")
  .action((options: { json?: boolean }) => {
    process.exitCode = info(options.json === true);
  });

program
  .command("test")
  .description("run the regression suite on this host's KVM")
  .argument("[pattern]", "only claims whose name or sentence contains this")
  .addOption(
    new Option("--reporter <name>", "how to report").choices(REPORTERS).default(REPORTERS[0]),
  )
  .option("--progress", "tell of each claim on standard error")
  .option("--or-lab", "where this host has no usable device, judge a cached kernel in the lab")
  .option(
    "--repro <dir>",
    "write a C file for each claim that fails, which asks the kernel the same",
  )
  .option("--repro-all", "with --repro: for each claim, whatever came out")
  .option(
    "--require-kvm",
    "when there is no usable device, fail at once instead of listing what was skipped",
  )
  .action(async (pattern: string | undefined, options: SuiteFlags) => {
    process.exitCode = await runSuite({
      pattern,
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
  .argument(
    "[table]",
    "supported, emulated, hyperv (of this host's KVM) or a JSON file",
    "supported",
  )
  .option("--raw", "entries in hexadecimal instead of fields")
  .option("--json", "as JSON, for a later diff")
  .action((table: string, options: { raw?: boolean; json?: boolean }) => {
    cpuidShow(table, options.json === true ? "json" : options.raw === true ? "raw" : "fields");
  });
cpuid
  .command("diff")
  .description("name the fields in which two tables differ; exit 1 when they do")
  .argument("<before>", "as in `cpuid show`")
  .argument("<after>", "as in `cpuid show`")
  .action((before: string, after: string) => {
    process.exitCode = cpuidDiff(before, after);
  });

addLab(program);

// Whoever reads our output may stop reading (`node-kvm ... | head`); that is no error of ours.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
});

try {
  await program.parseAsync();
} catch (error) {
  // A refusal of the kernel, or a file that is not a table, is an answer; anything else is a bug.
  if (!(error instanceof KvmError || error instanceof LabError || error instanceof SyntaxError)) {
    throw error;
  }
  process.stderr.write(`node-kvm: ${printableLines(error.message)}\n`);
  process.exitCode = 1;
}
