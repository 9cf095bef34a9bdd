/**
 * Reads C initialisers of `struct kvm_cpuid_entry2`: arrays, single structs, and `struct kvm_cpuid2` around an array.
 */
import { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } from "../../abi/generated/constants.ts";
import { quoted, suggestion } from "../../options.ts";
import { CPUID_REGISTERS, type CpuidEntry2, type CpuidEntry2Input } from "../entry.ts";
import { type CToken, tokensOf } from "./c-tokens.ts";
import { TableCollector } from "./collect.ts";
import type { CpuidDump, CpuidFileTable, CpuidFormat } from "./dump.ts";
import { MOST_PROBLEMS } from "./limits.ts";
import { decodeText, headText } from "./lines.ts";
import { cpuNumber, encodeLines, hexDigits, likelihoodOfRows } from "./text-rows.ts";

/** The members of struct kvm_cpuid_entry2 in their order (include/uapi/asm/kvm.h). */
const MEMBERS: readonly string[] = ["function", "index", "flags", ...CPUID_REGISTERS, "padding"];

/** The types whose initialisers are read. In a text without these types, every initialiser is read. */
const TYPE = /^kvm_cpuid(?:2|_entry2)$/;

/** The constants that a value may contain (arch/x86/include/uapi/asm/kvm.h). */
const CONSTANTS: ReadonlyMap<string, number> = new Map([
  ["KVM_CPUID_FLAG_SIGNIFCANT_INDEX", KVM_CPUID_FLAG_SIGNIFCANT_INDEX],
  ["KVM_CPUID_FLAG_STATEFUL_FUNC", 2],
  ["KVM_CPUID_FLAG_STATE_READ_NEXT", 4],
]);

/** The maximum depth of braces: kvm_cpuid2, its entries, and one entry. The braces of the padding do not count. */
const DEEPEST = 3;
/** The maximum number of tokens that are skipped after faults, because a faulty array may have no closing brace. */
const MOST_SKIPPED = 200_000;

/** A fault at a token; the parser skips the innermost braced element around it. */
class Fault extends Error {
  readonly token: CToken;

  constructor(token: CToken, message: string) {
    super(message);
    this.token = token;
  }
}

/** Whether the text contains a name of these types outside of comments. */
function hasTypes(text: string): boolean {
  if (!/\bkvm_cpuid(?:2|_entry2)\b/.test(text)) return false;
  for (const { kind, text: word } of tokensOf(text)) {
    if (kind === "word" && TYPE.test(word)) return true;
  }
  return false;
}

/** Reads the initialisers of one file. */
class Reader {
  readonly #tokens: Iterator<CToken>;
  readonly #into: TableCollector;
  readonly #hasTypes: boolean;
  #token: CToken = { kind: "end", text: "", line: 1, column: 1 };
  #before = "";
  /** The number of open braces before the current token. */
  #depth = 0;
  /** Whether the list of faults already contains that the file ends too early. */
  #hasEnd = false;
  /** The number of tokens that were skipped after faults. */
  #skipped = 0;
  /** Whether the parser has stopped before the end of the file. */
  #isStopped: boolean = false;
  /** Whether a table was begun for the entries outside of an array. */
  #hasLoose = false;

  constructor(text: string, into: TableCollector) {
    this.#tokens = tokensOf(text);
    this.#into = into;
    this.#hasTypes = hasTypes(text);
    this.#next();
  }

  file(): CpuidDump {
    let [name, isTyped, isAssigned] = ["", false, false];
    while (this.#token.kind !== "end") {
      const { kind, text } = this.#token;
      if (text === "{" && this.#isInitialiser(isTyped, isAssigned)) {
        this.#initialiser(name);
        continue;
      }
      if (kind === "fault") this.#problem(this.#token, text);
      if (kind === "word") {
        isTyped ||= TYPE.test(text);
        if (!isAssigned && !TYPE.test(text)) name = text;
      }
      isAssigned ||= text === "=";
      if (text === ";" || text === "{" || text === "}") {
        [name, isTyped, isAssigned] = ["", false, false];
      }
      this.#next();
    }
    return this.#into.finish();
  }

  #isInitialiser(isTyped: boolean, isAssigned: boolean): boolean {
    if (this.#hasTypes) return isTyped && isAssigned;
    return ["", "=", ","].includes(this.#before);
  }

  /** Reads the outermost braces of an initialiser. */
  #initialiser(name: string): void {
    const depth = this.#depth;
    try {
      this.#braces(1, name);
    } catch (error) {
      this.#recover(error, depth);
    }
  }

  /** Reads braces: a list of entries, a struct kvm_cpuid2, or one entry. */
  #braces(level: number, name: string | undefined): void {
    const open = this.#token;
    if (level > DEEPEST) throw new Fault(open, `braces nested more than ${DEEPEST} deep`);
    this.#next();
    const isElement = name === undefined;
    if (this.#is("{", "[", "(") || (this.#is("}") && !isElement)) {
      if (!isElement) this.#startCpu(open, name);
      this.#list(level);
    } else {
      this.#members(open, level, name);
    }
    this.#take("}");
  }

  #startCpu({ line }: CToken, name: string): void {
    const [, digits] = /cpu_?(\d{1,6})$/i.exec(name) ?? [];
    this.#into.startCpu(digits === undefined ? undefined : Number(digits), line);
    this.#hasLoose = false;
  }

  /** Reads the elements of an array, up to the closing brace. */
  #list(level: number): void {
    for (let position = 0; !this.#is("}"); position += 1) {
      const depth = this.#depth;
      try {
        position = this.#designator(position);
        this.#cast();
        if (!this.#is("{")) throw this.#expected("the braces of an entry");
        this.#braces(level + 1, undefined);
      } catch (error) {
        if (error instanceof Fault && this.#depth <= depth) throw error;
        this.#recover(error, depth);
      }
      if (!this.#skips(",") && !this.#is("}")) throw this.#expected('"," or "}"');
    }
  }

  /** Reads `[3] =`. An array with a gap, or with indexes in another order, is a fault. */
  #designator(position: number): number {
    if (!this.#skips("[")) return position;
    const at = this.#token;
    const given = this.#value();
    this.#take("]");
    this.#take("=");
    if (given === position) return position;
    throw new Fault(at, `element ${given} is at position ${position}; gaps are not read`);
  }

  /** Reads `(struct kvm_cpuid_entry2)`. */
  #cast(): void {
    if (!this.#skips("(")) return;
    while (this.#token.kind === "word" || this.#is("[", "]")) this.#next();
    this.#take(")");
  }

  /** Reads the members of an entry, or of a struct kvm_cpuid2, up to the closing brace. */
  #members(open: CToken, level: number, name: string | undefined): void {
    const numbers = new Map<string, number>();
    let padding: readonly number[] | undefined;
    let isOuter = false;
    for (let position = 0; !this.#is("}"); position += 1) {
      const at = this.#token;
      const member = this.#memberName(position);
      const isArray = member === "entries" || (member === "flags" && this.#is("{"));
      if (isArray && name !== undefined) {
        this.#outer(at, level, name, [...numbers.values()][0]);
        isOuter = true;
        continue;
      }
      if (!MEMBERS.includes(member) && !(member === "nent" && name !== undefined)) {
        throw new Fault(at, `unknown member ${quoted(member)}${suggestion(member, MEMBERS)}`);
      }
      if (numbers.has(member) || (member === "padding" && padding)) {
        throw new Fault(at, `the member ${member} occurs twice`);
      }
      if (member === "padding" && this.#is("{")) padding = this.#padding();
      else numbers.set(member, this.#value());
      if (!this.#skips(",") && !this.#is("}")) throw this.#expected('"," or "}"');
    }
    if (isOuter) return;
    if (numbers.has("nent")) throw new Fault(open, "the struct has a count but no entries");
    if (numbers.has("padding")) throw new Fault(open, "the padding needs braces");
    if (name !== undefined && !this.#hasLoose) {
      this.#startCpu(open, name);
      this.#hasLoose = true;
    }
    const input: CpuidEntry2Input = { function: 0, ...Object.fromEntries(numbers) };
    this.#into.add(padding === undefined ? input : { ...input, padding }, open.line);
  }

  /** Reads the array in a struct kvm_cpuid2, and compares its length with `nent`. */
  #outer(at: CToken, level: number, name: string, nent: number | undefined): void {
    const problems = this.#into.problems;
    if (!this.#is("{")) throw this.#expected("the braces of the entries");
    this.#braces(level + 1, name);
    this.#skips(",");
    const count = this.#into.entries;
    if (nent === undefined || nent === count || this.#into.problems > problems) return;
    this.#problem(at, `nent is ${nent}, and the array has ${count} entries`);
  }

  /** Reads the name of a member, `.eax =` or the older `eax:`; if there is no name, the position selects the member. */
  #memberName(position: number): string {
    if (this.#token.kind === "word" && MEMBERS.includes(this.#token.text)) {
      const { text } = this.#token;
      this.#next();
      this.#take(":");
      return text;
    }
    if (this.#skips(".")) {
      const { text } = this.#token;
      this.#next();
      this.#take("=");
      return text;
    }
    const member = MEMBERS[position];
    if (member === undefined) throw new Fault(this.#token, "more values than an entry has members");
    return member;
  }

  #padding(): readonly number[] {
    const words: number[] = [];
    this.#take("{");
    while (!this.#is("}")) {
      if (words.length === 3) throw new Fault(this.#token, "the padding has more than 3 words");
      words.push(this.#value());
      if (!this.#skips(",") && !this.#is("}")) throw this.#expected('"," or "}"');
    }
    this.#take("}");
    return [...words, 0, 0, 0].slice(0, 3);
  }

  /** Reads a number, a constant, or an expression of several with | and <<; the value must fit 32 bits. */
  #value(): number {
    const at = this.#token;
    let value = this.#shifted();
    while (this.#skips("|")) value |= this.#shifted();
    if (value >= 0n && value <= 0xffff_ffffn) return Number(value);
    throw new Fault(at, `${at.text} does not fit 32 bits`);
  }

  #shifted(): bigint {
    let value = this.#operand();
    while (this.#skips("<<")) {
      const at = this.#token;
      const bits = this.#operand();
      if (bits > 31n) throw new Fault(at, "a shift by more than 31 bits");
      value <<= bits;
    }
    return value;
  }

  #operand(): bigint {
    const { kind, text } = this.#token;
    if (this.#skips("(")) {
      const value = BigInt(this.#value());
      this.#take(")");
      return value;
    }
    const constant = kind === "word" ? CONSTANTS.get(text) : undefined;
    const number = kind === "number" ? integerFrom(text) : constant;
    if (number === undefined) throw this.#expected("a number");
    this.#next();
    return BigInt(number);
  }

  #problem({ line, column }: CToken, message: string): void {
    this.#into.problem(line, column, message);
  }

  /** Adds a fault, and skips the rest of the braces around it. */
  #recover(error: unknown, depth: number): void {
    if (!(error instanceof Fault)) throw error;
    const isEnd = error.token.kind === "end";
    if (!(isEnd && this.#hasEnd)) this.#problem(error.token, error.message);
    this.#hasEnd ||= isEnd;
    while (this.#depth > depth && this.#token.kind !== "end") {
      this.#skipped += 1;
      if (this.#skipped > MOST_SKIPPED) this.#stop(this.#token, "long faulty parts");
      else this.#next();
    }
  }

  #expected(thing: string): Fault {
    const { kind, text } = this.#token;
    if (kind === "end") return new Fault(this.#token, `the file ends, and ${thing} is missing`);
    if (kind === "fault") return new Fault(this.#token, text);
    const found = kind === "directive" ? "a line of the preprocessor" : quoted(text.slice(0, 60));
    return new Fault(this.#token, `expected ${thing}, found ${found}`);
  }

  #is(...texts: readonly string[]): boolean {
    return this.#token.kind === "sign" && texts.includes(this.#token.text);
  }

  #skips(text: string): boolean {
    if (!this.#is(text)) return false;
    this.#next();
    return true;
  }

  #take(text: string): void {
    if (!this.#skips(text)) throw this.#expected(quoted(text));
  }

  #next(): void {
    if (this.#is("{")) this.#depth += 1;
    if (this.#is("}")) this.#depth -= 1;
    this.#before = this.#token.text;
    const { value } = this.#tokens.next();
    if (value !== undefined) this.#token = value;
    if (this.#into.problems > MOST_PROBLEMS) this.#stop(this.#token, "many faults");
  }

  /** Stops the parser at a token, because each further fault costs as much time as many entries. */
  #stop({ line, column }: CToken, why: string): void {
    this.#token = { kind: "end", text: "", line, column };
    if (this.#isStopped) return;
    this.#into.note(`the file has ${why}, and is read up to line ${line}`);
    this.#isStopped = true;
    this.#hasEnd = true;
  }
}

/** Reads an integer constant of C, decimal, octal or hexadecimal; undefined for anything else, such as 1.5. */
function integerFrom(text: string): bigint | undefined {
  const [, digits = ""] = /^(0x[0-9a-f]{1,16}|\d{1,20})(?:u?l{0,2}|l{1,2}u)$/i.exec(text) ?? [];
  if (digits === "") return undefined;
  if (!/^0\d/.test(digits)) return BigInt(digits);
  return /^[0-7]+$/.test(digits) ? BigInt(`0o${digits}`) : undefined;
}

function parse(bytes: Uint8Array): CpuidDump {
  const into = new TableCollector(cArray.name, { contents: "exact", canBeComplete: true });
  return new Reader(decodeText(bytes), into).file();
}

function initialiser(entry: CpuidEntry2): string {
  const { function: fn, index, flags, padding } = entry;
  const registers = CPUID_REGISTERS.map((name) => `.${name} = 0x${hexDigits(entry[name])}`);
  const members = [
    ...[`.function = 0x${hexDigits(fn)}`, `.index = ${index}`, `.flags = ${flags}`],
    ...registers,
    ...(padding.some((word) => word !== 0) ? [`.padding = { ${padding.join(", ")} }`] : []),
  ];
  return `\t{ ${members.join(", ")} },`;
}

function format(tables: readonly CpuidFileTable[]): Uint8Array {
  const lines = tables.flatMap((one, position) => {
    const cpu = cpuNumber(one, position, tables.length);
    const name = cpu === undefined ? "cpuid_entries" : `cpuid_cpu${cpu}`;
    const entries = [...one.table].map(initialiser);
    return [`static const struct kvm_cpuid_entry2 ${name}[] = {`, ...entries, "};"];
  });
  return encodeLines(lines);
}

/** `{ 0x1, 0, 0, 0x000906ea, … },` */
const POSITIONAL =
  /^\s*\{\s*(?:0x)?[0-9a-f]{1,8}U?\s*(?:,\s*(?:0x)?[0-9a-f]{1,8}U?\s*){3,10},?\s*\},?\s*$/i;

function likelihood(head: Uint8Array): number {
  const text = headText(head);
  if (/\bkvm_cpuid(?:2|_entry2)\b/.test(text) && text.includes("{")) return 0.9;
  if (/\{\s*\.function\s*=/.test(text)) return 0.85;
  return Math.min(likelihoodOfRows(head, POSITIONAL, 0.3), 0.7);
}

/**
 * The format of C arrays of `struct kvm_cpuid_entry2`, with or without the names of members. Each array is the table of
 * one CPU.
 */
export const cArray: CpuidFormat = {
  name: "c",
  title: "C array of struct kvm_cpuid_entry2",
  kind: "tables",
  isLossless: true,
  likelihood,
  parse,
  format,
};
