/** The subcommands of `node-kvm cpuid`, with their arguments and options. cpuid.ts implements them. */
import { type Command, Option } from "commander";
import type { CpuidLintProfile, PortableOptions } from "../cpuid/index.ts";
import { LINT_PROFILES } from "../cpuid/lint/profiles.ts";
import { wrap } from "../report/lines.ts";
import {
  cpuidBaseline,
  cpuidCompare,
  cpuidConvert,
  cpuidDiff,
  cpuidLint,
  cpuidModel,
  cpuidNeeds,
  cpuidPage,
  cpuidPortable,
  cpuidQuery,
  cpuidShow,
  type DiffOptions,
  IGNORED_WORDS,
  LINT_FORMS,
  type LintOptions,
  type PrintedAs,
  type QueryOptions,
  type ShowOptions,
  type WriteOptions,
} from "./cpuid.ts";
import { acceptPartial, FORMAT_NAMES, TABLE_SOURCES, WRITTEN_NAMES } from "./cpuid-source.ts";
import { commonStatuses, type StatusRow, statusHelp } from "./exit-status.ts";

const TO = `the format that is written: ${WRITTEN_NAMES}`;
const MASK = "apply the mask of a file (a Firecracker template, a Xen mask, a profile) first";

/** Adds `cpuid` and its commands to a program. */
export function addCpuid(program: Command): void {
  const cpuid = program
    .command("cpuid")
    .description("CPUID tables: print, build, compare, check and convert them")
    .addHelpText(
      "after",
      ["", ...wrap(`Tables: ${TABLE_SOURCES}.`, 80), ...wrap(`Formats: ${FORMAT_NAMES}.`, 80)].join(
        "\n",
      ),
    );
  cpuid.hook("preAction", (_, command) => {
    acceptPartial(command.opts<{ partial?: boolean }>().partial === true);
  });
  const add = (
    name: string,
    description: string,
    statuses: readonly StatusRow[],
    summary: string = description,
  ): Command =>
    cpuid
      .command(name)
      .description(description)
      .summary(summary)
      .option("--partial", "use a damaged file as far as it can be read")
      .addHelpText("after", statusHelp(statuses));

  add("dump", "write a table, by default of this CPU", commonStatuses("the table was written"))
    .argument("[table]", TABLE_SOURCES, "host")
    .option("--to <format>", TO, "json")
    .option("--output <file>", "the file that is written, instead of standard output")
    .action((table: string, options: WriteOptions) => cpuidConvert(table, options));
  add("show", "print a table by field name", commonStatuses("the table was printed"))
    .argument("[table]", TABLE_SOURCES, "supported")
    .option("--raw", "entries in hexadecimal instead of fields")
    .option("--json", "as JSON")
    .option("--mask <file>", MASK)
    .action((table: string, options: ShowOptions) => cpuidShow(table, options));
  add(
    "diff",
    "print the fields in which two tables differ",
    commonStatuses("the tables are equal", "they differ"),
    "print the differences of two tables",
  )
    .argument("<before>", "a table, as in `cpuid show`")
    .argument("<after>", "a table, as in `cpuid show`")
    .option(
      "--ignore <names>",
      `what may differ, separated by commas: names of fields, ${IGNORED_WORDS.join(", ")}`,
    )
    .option("--json", "as JSON")
    .action((before: string, after: string, options: DiffOptions) => {
      process.exitCode = cpuidDiff(before, after, options);
    });
  add(
    "compare",
    "print whether a table is identical to, a subset or a superset of another",
    commonStatuses("the tables are identical, or the first is a subset", "they are not"),
    "print the relation of two tables",
  )
    .argument("<first>", "a table, as in `cpuid show`")
    .argument("<second>", "a table, as in `cpuid show`")
    .option("--json", "as JSON")
    .action((first: string, second: string, options: PrintedAs) => {
      process.exitCode = cpuidCompare(first, second, options);
    });
  add(
    "baseline",
    "print the richest table that all hosts can run, and what each host loses",
    commonStatuses("there is a baseline", "the hosts have no baseline in common"),
    "print a table that all hosts can run",
  )
    .argument("<tables...>", "one table for each host, as in `cpuid show`")
    .option("--to <format>", "write the table in this format instead")
    .option("--output <file>", "with --to: the file that is written")
    .option("--json", "as JSON")
    .action((tables: string[], options: PrintedAs & Partial<WriteOptions>) => {
      process.exitCode = cpuidBaseline(tables, options);
    });
  add(
    "portable",
    "print whether a guest that started with a table can continue on another host",
    commonStatuses("it can", "it cannot, or it depends on the TSC; the output has the reasons"),
    "print whether a guest can move",
  )
    .argument("<from>", "the guest's table, as in `cpuid show`")
    .argument("<to>", "the other host's table")
    .addOption(
      new Option(
        "--tsc <how>",
        "the guest's TSC frequency on the other host, which tables do not contain: the same, scaled by KVM, or unknown (the default)",
      ).choices(["same", "scaled", "unknown"]),
    )
    .option("--json", "as JSON")
    .action((from: string, to: string, options: PrintedAs & PortableOptions) => {
      process.exitCode = cpuidPortable(from, to, options);
    });
  add(
    "lint",
    "print the faults of a table",
    commonStatuses("no error and no warning was found", "there are errors or warnings"),
  )
    .argument("<table>", TABLE_SOURCES)
    .addOption(
      new Option("--profile <name>", "the kind of table")
        .choices(Object.keys(LINT_PROFILES) as CpuidLintProfile[])
        .default("guest"),
    )
    .addOption(
      new Option("--form <name>", "how findings are printed; text by default").choices(LINT_FORMS),
    )
    .option("--supported <table>", "the host's supported table, for the rules that need it")
    .option("--ignore <rules>", "ids of rules that are not judged, separated by commas")
    .option("--json", "as JSON, like --form json")
    .option("--mask <file>", MASK)
    .action((table: string, options: LintOptions) => {
      process.exitCode = cpuidLint(table, options);
    });
  add(
    "convert",
    "write a table in another format: the tables of all CPUs of a dump, and of tables with labels only the first, or the one that FILE#LABEL names",
    commonStatuses("the table was written"),
    "write a table in another format",
  )
    .argument("<table>", TABLE_SOURCES)
    .requiredOption("--to <format>", TO)
    .option("--output <file>", "the file that is written, instead of standard output")
    .option("--mask <file>", MASK)
    .action((table: string, options: WriteOptions & { mask?: string }) =>
      cpuidConvert(table, options),
    );
  add(
    "query",
    "print what a guest's CPUID instruction returns under KVM",
    commonStatuses("the result was printed"),
    "print what a guest's CPUID returns",
  )
    .argument("<table>", TABLE_SOURCES)
    .argument("<leaf>", "EAX, as 7 or 0x80000008")
    .argument("[index]", "ECX", "0")
    .option("--vendor <text>", "the vendor's 12 characters, instead of the table's")
    .option("--cr4 <value>", "the vCPU's CR4, which decides OSXSAVE and OSPKE")
    .option("--xcr0 <value>", "the vCPU's XCR0, which decides the sizes of leaf 0xD")
    .option("--json", "as JSON")
    .action((table: string, leaf: string, index: string, options: QueryOptions) =>
      cpuidQuery(table, leaf, index, options),
    );
  add(
    "model",
    "list the CPU models, or print one",
    commonStatuses("the models were listed or printed"),
  )
    .argument("[name]", "a model's name, or its name in QEMU or libvirt")
    .option("--to <format>", "write its table in this format")
    .option("--output <file>", "with --to: the file that is written")
    .action((name: string | undefined, options: Partial<WriteOptions>) =>
      cpuidModel(name, options),
    );
  add(
    "needs",
    "print the instruction sets that a program needs and a table lacks",
    commonStatuses("the table has all instruction sets", "it lacks some"),
    "print what a program needs",
  )
    .argument("<program>", "an ELF file")
    .argument("[table]", TABLE_SOURCES, "host")
    .option("--section <name>", "one section instead of all that are executable")
    .option("--json", "as JSON")
    .action((file: string, table: string, options: PrintedAs & { section?: string }) => {
      process.exitCode = cpuidNeeds(file, table, options);
    });
  add(
    "page",
    "print the page for browsers, which decodes, checks, compares and converts without a network",
    commonStatuses("the page was printed"),
    "print the page for browsers",
  )
    .option("--output <file>", "the file that is written, instead of standard output")
    .action((options: { output?: string }) => cpuidPage(options));
}
