/**
 * `node-kvm cpuid`: prints, compares, checks and converts CPUID tables. cpuid-source.ts loads tables; cpuid-options.ts
 * contains the options of each command.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { IGNORED_GROUPS } from "../cpuid/diff.ts";
import { isFieldName } from "../cpuid/field.ts";
import {
  addressSizesOf,
  baseline,
  brandOf,
  type CpuidFieldKind,
  type CpuidFormatName,
  type CpuidIgnore,
  type CpuidLintProfile,
  type CpuidLintRuleId,
  type CpuidPortability,
  type CpuidTable,
  cachesOf,
  compare,
  diff,
  elfCode,
  findModel,
  formatBaseline,
  formatChange,
  formatCpuid,
  formatDifference,
  formatLint,
  formatLintAnnotations,
  formatLintSarif,
  formatNeed,
  formatQuery,
  lint,
  namedModels,
  needs,
  type PortableOptions,
  portable,
  printTable,
  query,
  readCpuid,
  sameEntry,
  signatureOf,
  suggestFields,
  topologyOf,
  vendorOf,
} from "../cpuid/index.ts";
import { instructionDecoder } from "../guest/index.ts";
import { nearestName, quoted } from "../options.ts";
import { packageFolder } from "../package.ts";
import { wrap } from "../report/lines.ts";
import { printable, printableLines } from "../report/printable.ts";
import { plainReason } from "./cpuid-features.ts";
import {
  type LoadedTable,
  loadEach,
  loadPair,
  loadTable,
  loadTables,
  masked,
  note,
  readProgram,
  toFormatName,
} from "./cpuid-source.ts";
import { STATUS } from "./exit-status.ts";
import { CommandError } from "./failure.ts";
import { OutputFile } from "./output-file.ts";
import { lineWidth } from "./terminal.ts";

/** The destination and the form of a result. */
export interface PrintedAs {
  /** Whether the result is printed as JSON instead of text. */
  readonly json?: boolean;
}

/** Prints lines, wrapped to the terminal; continuation lines are indented. */
function print(text: string, indent: number): void {
  const width = lineWidth(process.stdout);
  const lines = printableLines(text)
    .trimEnd()
    .split("\n")
    .flatMap((line) => wrap(line, width, { rest: " ".repeat(indent) }));
  process.stdout.write(`${lines.join("\n")}\n`);
}

function printJson(value: unknown): void {
  const text = JSON.stringify(
    value,
    (_, member: unknown) => (typeof member === "bigint" ? `0x${member.toString(16)}` : member),
    2,
  );
  process.stdout.write(`${text}\n`);
}

/** Rejects options that exclude each other, of which the command would ignore all but one. */
function refuseTogether(options: Readonly<Record<string, unknown>>): void {
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  if (given.length < 2) return;
  throw new CommandError(`${given.map(([name]) => name).join(" and ")} exclude each other`);
}

/** Rejects words of which more than one names standard input. loadEach() does this for the tables that it loads. */
function refuseStdinTwice(...words: readonly (string | undefined)[]): void {
  if (words.filter((word) => word === "-").length < 2) return;
  throw new CommandError('standard input contains one file: name "-" only once');
}

/** The options of {@link cpuidShow}. */
export interface ShowOptions extends PrintedAs {
  readonly raw?: boolean;
  readonly mask?: string;
}

/** Prints the table that `source` names. */
export function cpuidShow(source: string, { raw, json, mask }: ShowOptions): void {
  refuseTogether({ "--json": json, "--raw": raw });
  refuseStdinTwice(source, mask);
  const loaded = loadTable(source);
  const { table } = mask === undefined ? loaded : masked(loaded, mask);
  if (json === true) printJson(table);
  else if (raw === true) process.stdout.write(`${printTable(table)}\n`);
  // The continuation lines of a register start below its fields.
  else print([...summaryOf(table), printTable(table, { format: "fields" })].join("\n"), 18);
}

/** Describes the CPU of a table in a few lines: vendor, model, addresses, caches and topology. */
function summaryOf(table: CpuidTable): readonly string[] {
  const [vendor, brand, signature] = [vendorOf(table), brandOf(table), signatureOf(table)];
  const sizes = addressSizesOf(table);
  const topology = topologyOf(table);
  const caches = cachesOf(table).map(
    ({ level, type, size, ways, sharedBy }) =>
      `L${level} ${type} ${size / 1024} KiB${typeof ways === "number" ? ` ${ways}-way` : ""}${sharedBy === undefined ? "" : ` shared by ${sharedBy}`}`,
  );
  const lines: readonly (readonly [label: string, text: string | undefined])[] = [
    ["vendor", vendor],
    [
      "signature",
      signature &&
        `family ${signature.family}, model ${signature.model}, stepping ${signature.stepping}`,
    ],
    ["brand", brand],
    ["addresses", sizes && `${sizes.physical} bits physical, ${sizes.virtual} bits virtual`],
    ["caches", caches.length === 0 ? undefined : caches.join(", ")],
    [
      "topology",
      topology &&
        `APIC id ${topology.apicId}, threads per core ${topology.threadsPerCore}, cores per package ${topology.coresPerPackage}`,
    ],
  ];
  return lines.flatMap(([label, text]) => (text === undefined ? [] : [`${label}: ${text}`]));
}

/** The options of commands that write tables. */
export interface WriteOptions {
  readonly to: string;
  readonly output?: string;
}

/** Rejects an output file without a format, because the file would not be written. */
function refuseOutputAlone(to: string | undefined, output: string | undefined): void {
  if (output !== undefined && to === undefined)
    throw new CommandError("--output needs --to FORMAT");
}

/** Writes tables in a format to a file or to standard output. */
function writeTables(
  tables: readonly (CpuidTable | LoadedTable)[],
  { to, output }: WriteOptions,
): void {
  const name = toFormatName(to);
  const bytes = attempt(() => formatCpuid(tables, name));
  noteLosses(tables, name, bytes);
  if (output === undefined) {
    process.stdout.write(bytes);
    return;
  }
  const file = OutputFile.open("--output", output);
  file.write(bytes);
  file.commit();
}

/** Reads the written bytes again, and reports the entries that the format cannot represent. */
function noteLosses(
  tables: readonly (CpuidTable | LoadedTable)[],
  format: CpuidFormatName,
  bytes: Uint8Array,
): void {
  const written = readCpuid(bytes, { format });
  if (written.kind !== "tables") return;
  const given = tables.flatMap((one) => [...("table" in one ? one.table : one)]);
  const kept = written.tables.flatMap(({ table }) => [...table]);
  const lost = given.filter(
    (one) => !kept.some((e) => sameEntry({ ...e, flags: one.flags }, one)),
  ).length;
  if (lost > 0) note(`the format ${format} does not contain ${lost} of ${given.length} entries`);
}

/** Reports an error that the user's values caused, in one line after the name of the user's file. */
function attempt<Result>(call: () => Result, about?: string): Result {
  try {
    return call();
  } catch (cause) {
    if (cause instanceof TypeError || cause instanceof RangeError) {
      const start = about === undefined ? "" : `${about}: `;
      throw new CommandError(`${start}${plainReason(cause)}`, { cause });
    }
    throw cause;
  }
}

/** Writes the tables of a source in a format: `cpuid dump` and `cpuid convert`. */
export function cpuidConvert(source: string, options: WriteOptions & { mask?: string }): void {
  const { mask } = options;
  refuseStdinTwice(source, mask);
  const tables = loadTables(source);
  writeTables(mask === undefined ? tables : tables.map((table) => masked(table, mask)), options);
}

/** The kinds of fields. `--ignore` accepts kinds, names of fields, and groups. */
const KINDS: ReadonlySet<string> = new Set<CpuidFieldKind>([
  ...(["feature", "negated", "size", "topology", "id", "runtime-owned"] as const),
]);

/** The words that `--ignore` accepts beside the names of fields, for --help and messages. */
export const IGNORED_WORDS: readonly string[] = [...new Set([...KINDS, ...IGNORED_GROUPS])];

/** Returns the names of `--ignore`. @throws CommandError for a word that is neither accepted nor a field's name. */
function ignoredNames(words: string | undefined): readonly string[] {
  const names = words?.split(",") ?? [];
  for (const name of names) {
    if (IGNORED_WORDS.includes(name) || isFieldName(name)) continue;
    const near = nearestName(name, IGNORED_WORDS) ?? suggestFields(name)[0];
    const hint = near === undefined ? "" : `; did you mean ${near}?`;
    throw new CommandError(
      `--ignore: ${quoted(name)} is neither one of ${IGNORED_WORDS.join(", ")} nor a field's name${hint}`,
    );
  }
  return names;
}

/** The options of {@link cpuidDiff}. */
export interface DiffOptions extends PrintedAs {
  /** Names of fields, kinds or groups to ignore, separated by commas. */
  readonly ignore?: string;
}

/** Prints the fields in which two tables differ; returns 1 if there are any. */
export function cpuidDiff(before: string, after: string, { ignore, json }: DiffOptions): number {
  const ignored = ignoredNames(ignore);
  const [first, second] = loadPair(before, after);
  const names = ignored.filter((name) => !KINDS.has(name)) as CpuidIgnore[];
  const changes = diff(first, second, { ignore: names }).filter(
    (change) => change.kind !== "field" || !ignored.includes(change.fieldKind),
  );
  if (json === true) printJson(changes);
  else if (changes.length > 0) {
    print(
      changes
        .map((change) => {
          const kind = change.kind === "field" ? ` [${change.fieldKind}]` : "";
          return `${formatChange(change)}${kind}`;
        })
        .join("\n"),
      4,
    );
  }
  return changes.length === 0 ? STATUS.ok : STATUS.finding;
}

/** Prints the relation of two tables with the reasons; returns 0 if they are identical or the first is a subset. */
export function cpuidCompare(first: string, second: string, { json }: PrintedAs): number {
  const result = compare(...loadPair(first, second));
  if (json === true) printJson(result);
  else print([result.relation, ...result.reasons.map(formatDifference)].join("\n"), 4);
  const isUsable = result.relation === "identical" || result.relation === "subset";
  return isUsable ? STATUS.ok : STATUS.finding;
}

/** The first line about a guest that moves. If only the TSC frequency is unknown, the line states this condition. */
function portableHead({ isPortable, reasons }: CpuidPortability): string {
  if (isPortable) return "portable";
  if (reasons.every(({ kind }) => kind === "tsc"))
    return "portable, if the TSC frequency is the same";
  return `not portable: ${reasons.length} reason${reasons.length === 1 ? "" : "s"}`;
}

/** Prints whether a guest with one table can continue with another; returns 1 if it cannot, or if a condition is open. */
export function cpuidPortable(
  from: string,
  to: string,
  { json, tsc }: PrintedAs & PortableOptions,
): number {
  const result = portable(...loadPair(from, to), tsc === undefined ? {} : { tsc });
  if (json === true) printJson(result);
  else {
    print(
      [portableHead(result), ...result.reasons.map(({ message }) => message), ...result.notes].join(
        "\n",
      ),
      4,
    );
  }
  return result.isPortable ? STATUS.ok : STATUS.finding;
}

/** Prints the baseline of several tables, and the features that each host loses; returns 1 if there is no baseline. */
export function cpuidBaseline(
  sources: readonly string[],
  { to, output, json }: PrintedAs & { readonly to?: string; readonly output?: string },
): number {
  refuseOutputAlone(to, output);
  refuseTogether({ "--json": json, "--to": to });
  const result = baseline(loadEach(sources).map(({ table }) => table));
  if (json === true) printJson(result);
  else if (to === undefined) {
    const names = sources.map((source, i) => `host ${i + 1} is ${printable(source)}`);
    print([...names, formatBaseline(result)].join("\n"), 4);
  }
  if (result.kind === "vendors") {
    if (to !== undefined) throw new CommandError(`there is no baseline: ${result.why}`);
    return STATUS.finding;
  }
  if (to !== undefined)
    writeTables([result.table], { to, ...(output !== undefined && { output }) });
  return STATUS.ok;
}

/** The forms in which findings are printed. */
export const LINT_FORMS = ["text", "sarif", "github", "json"] as const;

/** The options of {@link cpuidLint}. */
export interface LintOptions {
  readonly profile: CpuidLintProfile;
  /** The form; `text` by default. */
  readonly form?: (typeof LINT_FORMS)[number];
  readonly mask?: string;
  readonly supported?: string;
  /** Ids of rules that are not judged, separated by commas. */
  readonly ignore?: string;
  readonly json?: boolean;
}

/** Prints the faults of tables; returns 1 if there are errors or warnings, and 2 if nothing was judged. */
export function cpuidLint(source: string, options: LintOptions): number {
  const { profile, mask, supported, ignore } = options;
  const { form = options.json === true ? "json" : "text" } = options;
  if (form !== "json") refuseTogether({ "--json": options.json, "--form": options.form });
  refuseStdinTwice(source, supported, mask);
  const loaded = loadTables(source).map((one) => (mask === undefined ? one : masked(one, mask)));
  const result = attempt(() =>
    lint(
      loaded.map(({ table }) => table),
      {
        profile,
        isComplete: loaded.every(({ isComplete }) => isComplete),
        lines: loaded.map(({ lines }) => lines),
        cpus: loaded.map(({ cpu }, i) => cpu ?? i),
        ...(supported !== undefined && { supported: loadTable(supported).table }),
        ...(ignore !== undefined && { ignore: ignore.split(",") as CpuidLintRuleId[] }),
      },
    ),
  );
  const file = loaded[0]?.file ?? source;
  if (form === "json") printJson(result);
  else if (form === "sarif") process.stdout.write(`${formatLintSarif(result, { file })}\n`);
  else if (form === "github") process.stdout.write(`${formatLintAnnotations(result, { file })}\n`);
  else print(formatLint(result, { file }), 4);
  if (result.verdict === "nothing judged") return STATUS.trouble;
  const isBad = result.findings.some(({ severity }) => severity !== "info");
  return isBad ? STATUS.finding : STATUS.ok;
}

/** Reads a number of the command line, decimal or hexadecimal. */
export function toNumber(word: string, what: string): number {
  if (/^(0x[0-9a-f]{1,8}|\d{1,10})$/i.test(word) && Number(word) <= 0xffffffff) return Number(word);
  throw new CommandError(`${what}: expected a 32-bit number such as 7 or 0x80000008, got ${word}`);
}

/** The options of {@link cpuidQuery}. */
export interface QueryOptions extends PrintedAs {
  readonly vendor?: string;
  readonly cr4?: string;
  readonly xcr0?: string;
}

/** Prints the result of a guest's CPUID instruction. */
export function cpuidQuery(
  source: string,
  leaf: string,
  index: string,
  options: QueryOptions,
): void {
  const { vendor, cr4, xcr0, json } = options;
  const wide = (word: string, what: string): bigint => {
    const isNumber = /^(0x[0-9a-f]{1,16}|\d{1,20})$/i.test(word);
    if (isNumber && BigInt(word) < 1n << 64n) return BigInt(word);
    throw new CommandError(`${what}: expected a 64-bit number such as 0x40000, got ${word}`);
  };
  const [fn, at] = [toNumber(leaf, "leaf"), toNumber(index, "index")];
  const result = attempt(() =>
    query(loadTable(source).table, fn, at, {
      ...(vendor !== undefined && { vendor }),
      ...(cr4 !== undefined && { cr4: wide(cr4, "--cr4") }),
      ...(xcr0 !== undefined && { xcr0: wide(xcr0, "--xcr0") }),
    }),
  );
  if (json === true) printJson(result);
  else print(formatQuery(result), 4);
}

/** Lists the models, or prints the facts or the table of one model. */
export function cpuidModel(
  name: string | undefined,
  options: { readonly to?: string; readonly output?: string },
): void {
  const { to, output } = options;
  if (name === undefined) {
    if (to !== undefined || output !== undefined) {
      throw new CommandError("--to and --output need the NAME of a model");
    }
    const lines = namedModels().map(({ name: one, model: { vendor, signature }, aliases }) => {
      const others = [...new Set([...aliases.qemu, ...aliases.libvirt])].filter((it) => it !== one);
      const { family, model, stepping } = signature;
      const also = others.length === 0 ? "" : `, also ${others.join(", ")}`;
      return `${one}: ${vendor} ${family}/${model}/${stepping}${also}`;
    });
    print(lines.join("\n"), 4);
    return;
  }
  refuseOutputAlone(to, output);
  if (to !== undefined) {
    writeTables([loadTable(`model:${name}`).table], {
      to,
      ...(output !== undefined && { output }),
    });
    return;
  }
  const { model, variant, features } = attempt(() => findModel(name));
  const { vendor, signature, sources } = model;
  const { family, model: number, stepping } = signature;
  print(
    [
      `${variant?.name ?? model.name}: ${vendor} family ${family}, model ${number}, stepping ${stepping}`,
      ...(model.from === undefined ? [] : [`inherits from ${model.from}`]),
      `features: ${features.join(" ")}`,
      `sources: ${JSON.stringify(sources)}`,
    ].join("\n"),
    4,
  );
}

/** Prints the instruction sets that a program needs and a table lacks; returns 1 if there are any. */
export function cpuidNeeds(
  program: string,
  source: string,
  { section, json }: PrintedAs & { readonly section?: string },
): number {
  refuseStdinTwice(program, source);
  const bytes = readProgram(program);
  const all = attempt(() => elfCode(bytes), program);
  const parts = section === undefined ? all : all.filter(({ name }) => name === section);
  if (parts.length === 0) {
    const names = all.map(({ name }) => name).join(", ");
    throw new CommandError(
      `${program} has no executable section ${section ?? ""}; it has ${names || "none"}`,
    );
  }
  const decoder = instructionDecoder();
  const result = attempt(() => needs(parts, loadTable(source).table, { decoder }));
  if (result.instructions === 0) throw new CommandError(`${program} has no instruction`);
  if (json === true) printJson(result);
  else {
    const head = `${program}: ${result.instructions} instructions, ${result.missing.length} missing instruction sets`;
    const unknown = result.unknown.length > 0 ? [`not judged: ${result.unknown.join(", ")}`] : [];
    print([head, ...result.missing.map(formatNeed), ...unknown, NEEDS_LIMITS].join("\n"), 4);
  }
  return result.missing.length === 0 ? STATUS.ok : STATUS.finding;
}

/** The limits of the result of `cpuid needs`. */
const NEEDS_LIMITS =
  "code that the program selects by CPUID at run time is counted; shared libraries are not read";

/** Prints the page for browsers. */
export function cpuidPage({ output }: { readonly output?: string }): void {
  const path = join(packageFolder(), "dist", "cpuid.html");
  if (!existsSync(path)) throw new CommandError(`${path} is missing; install node-kvm again`);
  const page = readFileSync(path);
  if (output === undefined) {
    process.stdout.write(page);
    return;
  }
  const file = OutputFile.open("--output", output);
  file.write(page);
  file.commit();
}
