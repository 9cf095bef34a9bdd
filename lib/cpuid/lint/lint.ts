/**
 * Checks CPUID tables against all lint rules. rules.ts lists the rules, fix.ts applies their fixes, and text.ts and
 * sarif.ts format the findings.
 */
import {
  describe,
  quoted,
  refuseNonBooleans,
  refuseUnknown,
  suggestion,
  toList,
  toU32,
} from "../../options.ts";
import { type CpuidEntry2Input, entry, formatLeaf } from "../entry.ts";
import { type CpuidFieldName, formatBits } from "../field.ts";
import { CpuidTable } from "../table.ts";
import { LINT_PROFILES } from "./profiles.ts";
import type {
  CpuidLintEdit,
  CpuidLintNeed,
  CpuidLintProfile,
  CpuidLintRuleId,
  CpuidLintSeverity,
  CpuidLintVm,
  LintFault,
  LintInput,
  LintRule,
} from "./rule.ts";
import { LINT_RULES } from "./rules.ts";
import { LintTable } from "./table.ts";

/**
 * The further inputs of {@link lint}; the tables are a separate argument. A rule whose input is missing is not judged,
 * and the result lists this rule.
 */
export interface CpuidLintOptions {
  /** The kind of table; `guest` by default. */
  readonly profile?: CpuidLintProfile;
  /** Whether the tables have every sub-leaf up to its terminator; true by default. */
  readonly isComplete?: boolean;
  /** For each table, the line of each entry in a file, by position; 0 for an entry without a line. */
  readonly lines?: readonly (readonly number[])[];
  /** The entries of KVM_GET_SUPPORTED_CPUID. */
  readonly supported?: Iterable<CpuidEntry2Input>;
  /** The entries of KVM_GET_EMULATED_CPUID. */
  readonly emulated?: Iterable<CpuidEntry2Input>;
  /** The CPUID table of the host's CPU. */
  readonly host?: Iterable<CpuidEntry2Input>;
  /** The table that the vCPU already runs with. */
  readonly before?: Iterable<CpuidEntry2Input>;
  /** The APIC id of each vCPU, in the order of the tables. */
  readonly apicIds?: readonly number[];
  /** The number of each table's CPU, in the order of the tables; by default, the positions of the tables. */
  readonly cpus?: readonly number[];
  /** Facts about the VM that the tables do not contain. */
  readonly vm?: CpuidLintVm;
  /** Rules that are not judged. */
  readonly ignore?: readonly CpuidLintRuleId[];
}

/** One fault that {@link lint} found. */
export interface CpuidLintFinding {
  /** The rule's id. */
  readonly rule: CpuidLintRuleId;
  readonly severity: CpuidLintSeverity;
  /** The place: an entry as `0x7.0`, or bits as `0x7.0:ebx[5]`. */
  readonly where: string;
  /** The field; undefined for a whole entry, and for bits that no field covers exactly. */
  readonly name: CpuidFieldName | undefined;
  /** The leaf, absolute. */
  readonly function: number;
  /** The sub-leaf. */
  readonly index: number;
  /** The position of the entry in the table of the first of `cpus`; -1 if the table lacks the entry. */
  readonly position: number;
  /** The line of the entry in the file; undefined if it has none. */
  readonly line: number | undefined;
  /**
   * The CPUs of the tables with this fault, in the order of the tables: the numbers of the option `cpus`, or by default
   * the positions of the tables.
   */
  readonly cpus: readonly number[];
  /** The fault, in a sentence that begins with the place. */
  readonly message: string;
  /** A sentence that describes how to remove the fault. */
  readonly remedy: string;
  /**
   * The edits that remove the fault from the table of the first of `cpus`, for {@link fixTable}; undefined if a person must
   * decide.
   */
  readonly fix: readonly CpuidLintEdit[] | undefined;
}

/** A rule that was not judged. */
export interface CpuidLintNotJudged {
  readonly rule: CpuidLintRuleId;
  /** The reason, without a full stop. */
  readonly reason: string;
}

/** The result of {@link lint}. */
export interface CpuidLintResult {
  readonly profile: CpuidLintProfile;
  /** The findings, ordered by table, position and rule. */
  readonly findings: readonly CpuidLintFinding[];
  /** The number of findings that the list does not contain, because it is full. */
  readonly omitted: number;
  /** The rules that were judged. */
  readonly judged: readonly CpuidLintRuleId[];
  /** The rules that were not judged. */
  readonly notJudged: readonly CpuidLintNotJudged[];
  /** `clean` only if at least one rule was judged and no rule found a fault. */
  readonly verdict: "clean" | "findings" | "nothing judged";
}

/** The maximum number of tables: KVM's limit of vCPUs on x86 (KVM_MAX_VCPUS). */
const MOST_TABLES = 4096;
/** The maximum number of entries that all rules judge; only S12 judges a table with more. KVM accepts 256. */
const MOST_ENTRIES = 1024;
/** The maximum number of findings of one rule in one table. */
const MOST_PER_RULE = 64;
/** The maximum number of findings in a result. */
const MOST_FINDINGS = 4096;

const OPTIONS: readonly (keyof CpuidLintOptions)[] = [
  ...(["profile", "isComplete", "lines", "supported", "emulated", "host", "before"] as const),
  ...(["apicIds", "cpus", "vm", "ignore"] as const),
];
const VM: readonly (keyof CpuidLintVm)[] = [
  ...(["hasKernelApic", "hasExtendedDestinations", "handlesMapGpaRange"] as const),
  ...(["hasMigrationControl", "disabledExits", "hasMwaitQuirk", "xcompPermission"] as const),
  ...(["hasFixedTsc", "tscKhz"] as const),
];
const VM_FLAGS: readonly (keyof CpuidLintVm)[] = [
  ...(["hasKernelApic", "hasExtendedDestinations", "handlesMapGpaRange"] as const),
  ...(["hasMigrationControl", "hasMwaitQuirk", "hasFixedTsc"] as const),
];
const EXITS: readonly string[] = ["mwait", "hlt", "pause", "cstate"];

const MISSING: Readonly<Record<Exclude<CpuidLintNeed, `vm.${string}`>, string>> = {
  complete: "the table may lack sub-leaves (isComplete is false)",
  supported: "no supported table is given",
  emulated: "no emulated table is given",
  host: "no table of the host is given",
  before: "no earlier table of the vCPU is given",
  apicIds: "no APIC ids are given",
  several: "one table is given, and the rule compares vCPUs",
};

function missingReason(need: CpuidLintNeed): string {
  return need in MISSING ? MISSING[need as keyof typeof MISSING] : `${need} is not given`;
}

function isGiven(need: CpuidLintNeed, input: LintInput): boolean {
  switch (need) {
    case "complete":
      return input.isComplete;
    case "several":
      return input.tables.length > 1;
    case "supported":
    case "emulated":
    case "host":
    case "before":
    case "apicIds":
      return input[need] !== undefined;
    default:
      return input.vm[need.slice("vm.".length) as keyof CpuidLintVm] !== undefined;
  }
}

/** Returns the reason why a rule is not judged; undefined for a rule that is judged. */
function obstacle(
  rule: LintRule,
  input: LintInput,
  profile: CpuidLintProfile,
  ignored: ReadonlySet<string>,
): string | undefined {
  if (ignored.has(rule.id)) return "the caller ignores it";
  const reason = LINT_PROFILES[profile].off[rule.id];
  if (reason !== undefined) return `profile ${profile}: ${reason}`;
  const missing = (rule.needs ?? []).find((need) => !isGiven(need, input));
  if (missing !== undefined) return missingReason(missing);
  const anyOf = rule.needsOneOf ?? [];
  const hasNone = anyOf.length > 0 && !anyOf.some((need) => isGiven(need, input));
  return hasNone ? anyOf.map(missingReason).join("; ") : undefined;
}

function toTables(
  tables: Iterable<CpuidEntry2Input> | readonly CpuidTable[],
): readonly LintTable[] {
  if (tables instanceof CpuidTable) return [new LintTable(Array.from(tables))];
  const list: readonly unknown[] = toList<unknown>("lint()", tables);
  if (!(list[0] instanceof CpuidTable)) return [toTable("lint()", list as CpuidEntry2Input[])];
  if (list.length > MOST_TABLES) {
    throw new RangeError(
      `lint(): ${list.length} tables are given, and a VM has at most ${MOST_TABLES} vCPUs`,
    );
  }
  return list.map((one, i) => {
    if (one instanceof CpuidTable) return new LintTable(Array.from(one));
    throw new TypeError(`lint(): [${i}]: expected a CpuidTable, got ${describe(one)}`);
  });
}

function toTable(where: string, entries: Iterable<CpuidEntry2Input>): LintTable {
  if (entries instanceof CpuidTable) return new LintTable(Array.from(entries));
  return new LintTable(toList(where, entries).map(entry));
}

function toVm(vm: CpuidLintVm): CpuidLintVm {
  refuseUnknown("lint(): vm", vm, VM, "fact");
  refuseNonBooleans("lint(): vm", vm, VM_FLAGS);
  const { disabledExits, tscKhz, xcompPermission } = vm;
  for (const name of disabledExits === undefined
    ? []
    : toList("lint(): vm.disabledExits", disabledExits)) {
    if (EXITS.includes(name)) continue;
    const hint = typeof name === "string" ? suggestion(name, EXITS) : "";
    throw new TypeError(`lint(): vm.disabledExits: unknown exit ${describe(name)}${hint}`);
  }
  if (tscKhz !== undefined) toU32("lint(): vm.tscKhz", tscKhz);
  if (xcompPermission !== undefined && typeof xcompPermission !== "bigint") {
    throw new TypeError(
      `lint(): vm.xcompPermission: expected a bigint, got ${describe(xcompPermission)}`,
    );
  }
  return vm;
}

function toProfile(profile: unknown): CpuidLintProfile {
  const known = Object.keys(LINT_PROFILES);
  if (typeof profile === "string" && known.includes(profile)) return profile as CpuidLintProfile;
  const hint =
    typeof profile === "string" ? suggestion(profile, known) : `; known are ${known.join(", ")}`;
  throw new TypeError(`lint(): unknown profile ${describe(profile)}${hint}`);
}

function toIgnored(ignore: readonly CpuidLintRuleId[]): ReadonlySet<string> {
  const known = new Set<string>(LINT_RULES.map(({ id }) => id));
  const given = toList("lint(): ignore", ignore);
  for (const id of given) {
    if (known.has(id)) continue;
    throw new TypeError(
      `lint(): ignore: unknown rule ${typeof id === "string" ? quoted(id) : describe(id)}`,
    );
  }
  return new Set(given);
}

function toLines(
  lines: readonly (readonly number[])[] | undefined,
  count: number,
): readonly (readonly number[])[] {
  if (lines === undefined) return [];
  const lists = toList("lint(): lines", lines).map((list, i) =>
    toList(`lint(): lines[${i}]`, list),
  );
  if (lists.length === count) return lists;
  throw new RangeError(`lint(): lines has ${lists.length} lists for ${count} tables`);
}

/** Checks a list with one number for each table. */
function toNumbers(
  name: "apicIds" | "cpus",
  given: readonly number[],
  count: number,
): readonly number[] {
  const list = toList(`lint(): ${name}`, given).map((id, i) => toU32(`lint(): ${name}[${i}]`, id));
  if (list.length === count) return list;
  const noun = name === "apicIds" ? "ids" : "numbers";
  throw new RangeError(`lint(): ${name} has ${list.length} ${noun} for ${count} tables`);
}

/** Describes a fault of one table. */
function findingOf(
  rule: LintRule,
  fault: LintFault,
  cpu: number,
  severity: CpuidLintSeverity,
  lines: readonly number[] | undefined,
): CpuidLintFinding {
  const { function: fn, index, position, bits } = fault.place;
  const place = { function: fn, index };
  const where = bits === undefined ? formatLeaf(fn, index) : formatBits({ ...place, ...bits });
  const subject = bits?.name === undefined ? where : `${where} ${bits.name}`;
  const line = lines?.[position];
  return {
    rule: rule.id,
    severity,
    where,
    name: bits?.name,
    ...place,
    position,
    line: line === undefined || line === 0 ? undefined : line,
    cpus: [cpu],
    message: `${subject}: ${fault.words}`,
    remedy: rule.remedy,
    fix: fault.fix,
  };
}

/** Merges equal faults of several tables, and counts the findings that do not fit into the list. */
class Findings {
  readonly #byKey = new Map<
    string,
    { readonly finding: CpuidLintFinding; readonly cpus: number[] }
  >();
  omitted = 0;

  add(finding: CpuidLintFinding): void {
    const key = `${finding.rule} ${finding.message}`;
    const known = this.#byKey.get(key);
    const [cpu = 0] = finding.cpus;
    if (known === undefined) {
      if (this.#byKey.size >= MOST_FINDINGS) this.omitted += 1;
      else this.#byKey.set(key, { finding, cpus: [cpu] });
    } else if (known.cpus.at(-1) !== cpu) {
      known.cpus.push(cpu);
    }
  }

  list(order: ReadonlyMap<string, number>): readonly CpuidLintFinding[] {
    const all = Array.from(this.#byKey.values(), ({ finding, cpus }) => ({ ...finding, cpus }));
    const rank = ({ rule }: CpuidLintFinding): number => order.get(rule) ?? 0;
    return all.sort(
      (a, b) => (a.cpus[0] ?? 0) - (b.cpus[0] ?? 0) || a.position - b.position || rank(a) - rank(b),
    );
  }
}

const ORDER: ReadonlyMap<string, number> = new Map(LINT_RULES.map(({ id }, i) => [id, i]));

/**
 * Checks one table, or one table per vCPU, against every rule of docs/cpuid-lint.md. The tables are not changed. A rule
 * whose input is missing is listed in `notJudged`, so pass all known tables and facts. Equal faults of several tables
 * become one finding.
 *
 * @throws TypeError for an unknown option, profile, fact or rule; RangeError for a number that is not a u32, and if
 *   `lines`, `apicIds` or `cpus` has another length than the list of tables.
 *
 * @example
 * ```ts run
 * import { CpuidTable, lint } from "node-kvm/cpuid";
 *
 * const table = CpuidTable.from([{ function: 0x0, eax: 0x7 }, { function: 0x7, ebx: 0x20 }]);
 * const { findings } = lint(table);
 * console.log(findings.find(({ rule }) => rule === "S09")?.message);
 * ```
 *
 * ```text output
 * 0x7.0: has no KVM_CPUID_FLAG_SIGNIFCANT_INDEX, so KVM uses it for every sub-leaf
 * ```
 */
export function lint(
  tables: Iterable<CpuidEntry2Input> | readonly CpuidTable[],
  options: CpuidLintOptions = {},
): CpuidLintResult {
  refuseUnknown("lint()", options, OPTIONS);
  refuseNonBooleans("lint()", options, ["isComplete"]);
  const { profile: name = "guest", isComplete = true, vm = {}, ignore = [] } = options;
  const profile = toProfile(name);
  const ignored = toIgnored(ignore);
  const own = toTables(tables);
  const lines = toLines(options.lines, own.length);
  const { apicIds, cpus = [...own.keys()] } = options;
  const optional = (key: "supported" | "emulated" | "host" | "before"): LintTable | undefined => {
    const given = options[key];
    return given === undefined ? undefined : toTable(`lint(): ${key}`, given);
  };
  const input: LintInput = {
    tables: own,
    isComplete,
    supported: optional("supported"),
    emulated: optional("emulated"),
    host: optional("host"),
    before: optional("before"),
    apicIds: apicIds === undefined ? undefined : toNumbers("apicIds", apicIds, own.length),
    cpus: toNumbers("cpus", cpus, own.length),
    vm: toVm(vm),
  };
  const tooLong = own.some(({ entries }) => entries.length > MOST_ENTRIES);
  const judged: CpuidLintRuleId[] = [];
  const notJudged: CpuidLintNotJudged[] = [];
  const found = new Findings();
  for (const rule of LINT_RULES) {
    const reason =
      obstacle(rule, input, profile, ignored) ??
      (tooLong && rule.id !== "S12" ? `a table has more than ${MOST_ENTRIES} entries` : undefined);
    if (reason !== undefined) {
      notJudged.push({ rule: rule.id, reason });
      continue;
    }
    judged.push(rule.id);
    const severity = LINT_PROFILES[profile].severity[rule.id];
    for (const [cpu, table] of own.entries()) {
      const faults = rule.check(table, input);
      found.omitted += Math.max(0, faults.length - MOST_PER_RULE);
      for (const fault of faults.slice(0, MOST_PER_RULE)) {
        const weight = severity ?? fault.severity ?? rule.severity;
        found.add(findingOf(rule, fault, cpu, weight, lines[cpu]));
      }
    }
  }
  const findings = found
    .list(ORDER)
    .map((finding) => ({ ...finding, cpus: finding.cpus.map((cpu) => input.cpus[cpu] ?? cpu) }));
  const faulty = findings.length > 0 ? "findings" : "clean";
  const verdict = judged.length === 0 ? "nothing judged" : faulty;
  return { profile, findings, omitted: found.omitted, judged, notJudged, verdict };
}
