/**
 * Compares the spellings of field names, finds the field for a name of another program, and suggests names that are
 * similar to an unknown name. field.ts contains the fields.
 */
import { CPUID_ALIASES } from "./generated/aliases.ts";
import { CPUID_FIELDS, type CpuidFieldName } from "./generated/fields.ts";

/** Lists the sources of names, in the order in which `findField()` tries them after the field's own name. */
export const CPUID_NAME_SOURCES = ["linux", "qemu", "libvirt", "manual", "kernel"] as const;

/**
 * A source of names. `linux`: flags of /proc/cpuinfo. `qemu`: properties of QEMU's -cpu. `libvirt`: features of
 * libvirt's cpu_map. `manual`: mnemonics of Intel's and AMD's manuals, the TLFS and kvm_para.h. `kernel`: X86_FEATURE_
 * constants without the prefix.
 */
export type CpuidNameSource = (typeof CPUID_NAME_SOURCES)[number];

/** The names of one field by source; an empty list if the source has none. The main name is first. */
export type CpuidFieldAliases = { readonly [source in CpuidNameSource]: readonly string[] };

/** The maximum length of a name that is compared. No field has a longer name, and comparing long names takes time. */
const LONGEST = 64;

/** Turns a name into the form in which spellings are compared: lower case, without `-`, `_`, `.` and spaces. */
export function normalize(name: string): string {
  return name.toLowerCase().replaceAll(/[-_. ]/g, "");
}

interface Names {
  readonly own: readonly CpuidFieldName[];
  readonly aliases: ReadonlyMap<CpuidFieldName, CpuidFieldAliases>;
  /** The field of each normalized name, by source; "own" for the names of the database. */
  readonly bySource: ReadonlyMap<CpuidNameSource | "own", ReadonlyMap<string, CpuidFieldName>>;
}

let names: Names | undefined;

/** Adds a name; if two fields have the same name, the name finds the first field. */
function add(to: Map<string, CpuidFieldName>, alias: string, name: CpuidFieldName): void {
  const key = normalize(alias);
  if (!to.has(key)) to.set(key, name);
}

const linesOf = (text: string): readonly string[] => text.trim().split("\n");

const firstWord = (line: string): CpuidFieldName =>
  line.slice(0, line.indexOf(" ")) as CpuidFieldName;

/** Builds the maps at first use, to keep importing fast. */
function open(): Names {
  if (names) return names;
  const own = Object.values(CPUID_FIELDS).flatMap((text) => linesOf(text).map(firstWord));
  const bySource = new Map<CpuidNameSource | "own", Map<string, CpuidFieldName>>();
  const mapOf = (source: CpuidNameSource | "own"): Map<string, CpuidFieldName> => {
    const map = bySource.get(source) ?? new Map<string, CpuidFieldName>();
    bySource.set(source, map);
    return map;
  };
  for (const name of own) add(mapOf("own"), name, name);
  const aliases = new Map<CpuidFieldName, CpuidFieldAliases>();
  for (const line of linesOf(CPUID_ALIASES)) {
    const [first, ...cells] = line.split(";");
    const name = first as CpuidFieldName;
    const lists = CPUID_NAME_SOURCES.map((source, i) => {
      const list = Object.freeze((cells[i] ?? "").split(" ").filter((word) => word !== ""));
      for (const alias of list) add(mapOf(source), alias, name);
      return [source, list] as const;
    });
    aliases.set(name, Object.freeze(Object.fromEntries(lists)) as CpuidFieldAliases);
  }
  names = { own, aliases, bySource };
  return names;
}

const NO_ALIASES: CpuidFieldAliases = Object.freeze({
  linux: [],
  qemu: [],
  libvirt: [],
  manual: [],
  kernel: [],
});

/** Returns the names of a field in other sources. */
export function namesOf(name: CpuidFieldName): CpuidFieldAliases {
  return open().aliases.get(name) ?? NO_ALIASES;
}

/** Finds the field for a name, in one source or in all: first among the database's names, then in each source. */
export function lookUp(name: string, source?: CpuidNameSource): CpuidFieldName | undefined {
  if (name.length > LONGEST) return undefined;
  const isConstant = source === undefined || source === "kernel";
  const key = normalize(isConstant ? name.replace(/^X86_FEATURE_/i, "") : name);
  const order = source === undefined ? (["own", ...CPUID_NAME_SOURCES] as const) : [source];
  for (const each of order) {
    const found = open().bySource.get(each)?.get(key);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Counts the edits (insert, delete, replace a letter) that turn one word into another. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...b].entries()) {
      const replaced = (row[j] ?? 0) + (letter === other ? 0 : 1);
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** The maximum number of edits between a name and a suggestion. */
const MOST_EDITS = 2;

/** The maximum number of suggestions. */
const MOST_NAMES = 5;

/** Finds the fields whose names are the fewest edits away, at most {@link MOST_EDITS}. */
function nearest(
  word: string,
  known: Iterable<readonly [string, CpuidFieldName]>,
): readonly CpuidFieldName[] {
  const near = new Set<CpuidFieldName>();
  let least = MOST_EDITS;
  for (const [other, name] of known) {
    if (Math.abs(other.length - word.length) > least) continue;
    const edits = distance(word, other);
    if (edits < least) near.clear();
    if (edits <= least) near.add(name);
    least = Math.min(least, edits);
  }
  return [...near];
}

/** Shorter words are not searched, because too many names contain them. */
const SHORTEST_PART = 3;

/** Lists the fields whose name contains a word; names in which underscores delimit the word come first. */
function containing(word: string, own: readonly CpuidFieldName[]): readonly CpuidFieldName[] {
  if (word.length < SHORTEST_PART) return [];
  const found = own.filter((each) => each.includes(word));
  const isPart = (each: string): boolean => each.split("_").includes(word);
  return [...found.filter(isPart), ...found.filter((each) => !isPart(each))];
}

/**
 * Suggests up to five fields for an unknown name. For an alias, the function suggests the field of the alias. For any
 * other name, the function suggests fields in this order: names one edit away, names that contain the word, names two
 * edits away. If no name is near, the function suggests the fields of the nearest aliases.
 */
export function suggest(name: string): readonly CpuidFieldName[] {
  if (name === "" || name.length > LONGEST) return [];
  const { own, bySource } = open();
  const meant = lookUp(name);
  if (meant !== undefined) return [meant];
  const word = name.toLowerCase();
  const near = nearest(
    word,
    own.map((each) => [each, each] as const),
  );
  const isOneAway = near.some((each) => distance(word, each) === 1);
  const parts = containing(word, own);
  const found = isOneAway ? [...near, ...parts] : [...parts, ...near];
  if (found.length > 0) return [...new Set(found)].slice(0, MOST_NAMES);
  const key = normalize(name);
  // Short aliases allow fewer edits, because two edits turn a short alias into too many other names.
  const aliases = key.length > 2 * MOST_EDITS ? CPUID_NAME_SOURCES : [];
  const known = aliases.flatMap((source) => [...(bySource.get(source) ?? [])]);
  return nearest(key, known).slice(0, MOST_NAMES);
}
