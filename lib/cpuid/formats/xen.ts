/**
 * Reads and writes the `cpuid` setting of xl.cfg(5): a list of `"leaf,subleaf:register=bits"`, which is a mask, or the
 * short form `"host,name=value"`, which contains feature names.
 */
import { quoted } from "../../options.ts";
import { CPUID_REGISTERS } from "../entry.ts";
import type {
  CpuidDump,
  CpuidFeatureList,
  CpuidFormat,
  CpuidMask,
  CpuidMaskEntry,
} from "./dump.ts";
import { MOST_MASK_ENTRIES } from "./limits.ts";
import { decodeText, headText } from "./lines.ts";
import { ProblemList, TextPlaces } from "./problems.ts";

const MASK = "xen-cpuid";
const FEATURES = "xen-features";

const SETTING = /^[ \t]*cpuid[ \t]*=[ \t]*/m;
/** A file that contains only the value of the setting. */
const BARE_MASK =
  /^\s*\[?\s*["']?(?:0x[0-9a-f]+|\d+)(?:\s*,\s*(?:0x[0-9a-f]+|\d+))?\s*:\s*e[a-d]x\s*=/i;
const BARE_HOST = /^\s*["']host,/;

/** A text in quotes, with the offset of its first character. */
interface Literal {
  readonly text: string;
  readonly offset: number;
}

type Complain = (offset: number, message: string) => void;

/** Skips white space and comments. */
function skipSpace(text: string, from: number): number {
  const space = /(?:\s+|#[^\n]*)*/y;
  space.lastIndex = from;
  return from + (space.exec(text)?.[0].length ?? 0);
}

/** Reads a text in quotes; undefined if there is no such text, or if the text does not end on the same line. */
function literalAt(text: string, at: number): Literal | undefined {
  const quote = text.charAt(at);
  if (quote !== '"' && quote !== "'") return undefined;
  const end = new RegExp(`[${quote}\\n]`, "g");
  end.lastIndex = at + 1;
  const to = end.exec(text)?.index;
  if (to === undefined || text.charAt(to) !== quote) return undefined;
  return { text: text.slice(at + 1, to), offset: at + 1 };
}

/** Reads the value of the setting: one text, or a list of texts. */
function literalsAt(text: string, from: number, complain: Complain): readonly Literal[] {
  let at = skipSpace(text, from);
  const isList = text.charAt(at) === "[";
  if (isList) at += 1;
  const found: Literal[] = [];
  for (;;) {
    at = skipSpace(text, at);
    if (isList && text.charAt(at) === "]") return found;
    const literal = literalAt(text, at);
    if (literal === undefined) {
      complain(at, isList ? 'expected a text in quotes or "]"' : "expected a text in quotes");
      return found;
    }
    found.push(literal);
    at = skipSpace(text, literal.offset + literal.text.length + 1);
    if (text.charAt(at) === ",") at += 1;
    else if (isList && text.charAt(at) !== "]") complain(at, 'expected "," or "]"');
    if (!isList) return found;
  }
}

/** Finds the value of the setting in a file; a file may also contain only the value. */
function valueIn(text: string, complain: Complain): readonly Literal[] {
  const setting = SETTING.exec(text);
  if (setting) return literalsAt(text, setting.index + setting[0].length, complain);
  if (/^\s*[["']/.test(text)) return literalsAt(text, 0, complain);
  const lines: Literal[] = [];
  let offset = 0;
  for (const line of text.split("\n")) {
    const literal = line.trim();
    if (literal !== "") lines.push({ text: literal, offset: offset + line.indexOf(literal) });
    offset += line.length + 1;
  }
  return lines;
}

const NUMBER = /^\s*(0x[0-9a-f]{1,16}|\d{1,16})\s*$/i;

function numberOf(text: string | undefined): number | undefined {
  const value = NUMBER.test(text ?? "") ? Number(text) : Number.NaN;
  return value <= 0xffffffff ? value : undefined;
}

/** The bits that 32 characters describe: `mask` and `value` for 0 and 1, `host` for k and s. */
function bitsOf(text: string): {
  readonly mask: number;
  readonly value: number;
  readonly host: number;
} {
  let [mask, value, host] = [0, 0, 0];
  for (const [i, character] of [...text].entries()) {
    const bit = 2 ** (31 - i);
    if (character === "0" || character === "1") mask += bit;
    if (character === "1") value += bit;
    if (character === "k" || character === "s") host += bit;
  }
  return { mask, value, host };
}

/** Reads `leaf[,subleaf]:register=bits[,register=bits...]`. */
function changesOf(literal: Literal, line: number, complain: Complain): readonly CpuidMaskEntry[] {
  const colon = literal.text.indexOf(":");
  const [leaf, subleaf, ...more] = literal.text.slice(0, Math.max(colon, 0)).split(",");
  const fn = numberOf(leaf);
  const index = subleaf === undefined ? undefined : numberOf(subleaf);
  if (fn === undefined || more.length > 0 || (subleaf !== undefined && index === undefined)) {
    complain(
      literal.offset,
      `${quoted(literal.text)} does not begin with "leaf:" or "leaf,subleaf:"`,
    );
    return [];
  }
  const indexes = index === undefined ? undefined : { first: index, last: index };
  const changes: CpuidMaskEntry[] = [];
  let offset = literal.offset + colon + 1;
  for (const part of literal.text.slice(colon + 1).split(",")) {
    const at = offset;
    offset += part.length + 1;
    const [, name, bits = ""] = /^\s*(e[a-d]x)\s*=\s*(\S*)\s*$/.exec(part) ?? [];
    const register = CPUID_REGISTERS.find((known) => known === name);
    if (register === undefined) {
      complain(at, `${quoted(part)} is not register=bits`);
    } else if (!/^[01xks]{32}$/.test(bits)) {
      complain(at, `${register}: ${quoted(bits)} is not 32 characters of 0, 1, x, k and s`);
    } else {
      const { host, ...set } = bitsOf(bits);
      const change = { function: fn, indexes, register, ...set, flags: undefined, line };
      changes.push(host === 0 ? change : { ...change, host });
    }
  }
  return changes;
}

function parseMask(bytes: Uint8Array): CpuidDump {
  const text = decodeText(bytes);
  const places = new TextPlaces(text);
  const problems = new ProblemList();
  const complain: Complain = (offset, message) => {
    const { line, column } = places.at(offset);
    problems.add(line, column, message);
  };
  const literals = valueIn(text, complain);
  if (literals.length === 0 && problems.length === 0)
    problems.add(0, 1, "there is no cpuid setting");
  const mask: CpuidMaskEntry[] = [];
  for (const literal of literals) {
    if (mask.length >= MOST_MASK_ENTRIES) {
      complain(literal.offset, `more than ${MOST_MASK_ENTRIES} changes`);
      break;
    }
    mask.push(...changesOf(literal, places.at(literal.offset).line, complain));
  }
  const hasHost = mask.some(({ host = 0 }) => host !== 0);
  const notes = hasHost
    ? ["k and s are bits of the host; s stays on migration, and k does not"]
    : [];
  const contents: CpuidMask = { mask, unlisted: "keep", capabilities: [] };
  return { kind: "mask", format: MASK, ...contents, problems: problems.toArray(), notes, msrs: [] };
}

function formatMask(contents: CpuidMask): Uint8Array {
  const wrong = (what: string): RangeError => new RangeError(`Xen's cpuid setting ${what}`);
  if (contents.unlisted !== "keep") throw wrong("keeps the registers that it does not name");
  if (contents.capabilities.length > 0) throw wrong("has no KVM capabilities");
  const lines = contents.mask.map((change) => {
    const { function: fn, indexes, register, mask, value, host = 0 } = change;
    if (indexes !== undefined && indexes.first !== indexes.last) {
      throw wrong(`names one sub-leaf, not a range (leaf 0x${fn.toString(16)})`);
    }
    const digits = Array.from({ length: 32 }, (_, i) => {
      const bit = (1 << (31 - i)) >>> 0;
      if ((host & bit) !== 0) return "k";
      return (mask & bit) === 0 ? "x" : (value & bit) === 0 ? "0" : "1";
    });
    const subleaf = indexes === undefined ? "" : `,0x${indexes.first.toString(16)}`;
    return `  "0x${fn.toString(16)}${subleaf}:${register}=${digits.join("")}"`;
  });
  return new TextEncoder().encode(`cpuid = [\n${lines.join(",\n")}\n]\n`);
}

/** The names of the short form that have a number as their value (libxl_cpuid.c). */
const NUMERIC: ReadonlySet<string> = new Set([
  ...["maxleaf", "family", "model", "stepping", "localapicid", "proccount", "procpkg", "clflush"],
  ...["brandid", "nc", "apicidsize", "maxhvleaf", "hypervisorleaf"],
]);

const FEATURE_NAME = /^[a-z0-9][\w.+-]{0,63}$/i;

function parseFeatures(bytes: Uint8Array): CpuidDump {
  const text = decodeText(bytes);
  const places = new TextPlaces(text);
  const problems = new ProblemList();
  const complain: Complain = (offset, message) => {
    const { line, column } = places.at(offset);
    problems.add(line, column, message);
  };
  const literal = valueIn(text, complain).at(0);
  const states = new Map<string, "on" | "off">();
  const properties = new Map<string, string>();
  let model: string | undefined;
  let offset = literal?.offset ?? 0;
  if (!literal && problems.length === 0) problems.add(0, 1, "there is no cpuid setting");
  for (const [i, part] of (literal?.text.split(",") ?? []).entries()) {
    const at = offset;
    offset += part.length + 1;
    if (i === 0) {
      if (part.trim() === "host") model = "host";
      else complain(at, `the short form begins with "host", not with ${quoted(part)}`);
      continue;
    }
    const [, name = "", value = ""] = /^\s*([^=\s]*)\s*=\s*(\S*)\s*$/.exec(part) ?? [];
    const isNumeric = NUMERIC.has(name);
    if (!FEATURE_NAME.test(name)) {
      complain(at, `${quoted(part)} is not name=value`);
    } else if (
      isNumeric ? numberOf(value) === undefined && !/^[xks]$/.test(value) : !/^[01xks]$/.test(value)
    ) {
      complain(
        at,
        `${name}: ${quoted(value)} is not ${isNumeric ? "a number, " : "0, 1, "}x, k or s`,
      );
    } else if (states.has(name) || properties.has(name)) {
      complain(at, `${quoted(name)} is there twice`);
    } else if (isNumeric || !/^[01]$/.test(value)) {
      properties.set(name, value);
    } else {
      states.set(name, value === "1" ? "on" : "off");
    }
  }
  const withState = (wanted: "on" | "off"): readonly string[] =>
    [...states].flatMap(([name, state]) => (state === wanted ? [name] : []));
  return {
    kind: "features",
    format: FEATURES,
    features: {
      model,
      vendor: undefined,
      on: withState("on"),
      off: withState("off"),
      properties: Object.fromEntries(properties),
    },
    problems: problems.toArray(),
    notes: [],
    msrs: [],
  };
}

function formatFeatures(features: CpuidFeatureList): Uint8Array {
  const wrong = (what: string): RangeError => new RangeError(`Xen's short form ${what}`);
  if (features.vendor !== undefined) throw wrong("has no vendor");
  if (features.model !== undefined && features.model !== "host") {
    throw wrong(`has no model but "host", not ${quoted(features.model)}`);
  }
  const parts = [
    ...features.on.map((name) => [name, "1"] as const),
    ...features.off.map((name) => [name, "0"] as const),
    ...Object.entries(features.properties),
  ];
  for (const [name, value] of parts) {
    if (!FEATURE_NAME.test(name)) throw wrong(`cannot contain the name ${quoted(name)}`);
    if (!/^(?:[xks]|0x[0-9a-f]+|\d+)$/i.test(value)) {
      throw wrong(`cannot contain the value ${quoted(value)} of ${name}`);
    }
  }
  const text = ["host", ...parts.map(([name, value]) => `${name}=${value}`)].join(",");
  return new TextEncoder().encode(`cpuid = "${text}"\n`);
}

/** Returns the text behind `cpuid =`, or undefined. */
function settingIn(head: Uint8Array): string | undefined {
  const text = headText(head);
  const setting = SETTING.exec(text);
  return setting ? text.slice(setting.index + setting[0].length).slice(0, 200) : undefined;
}

/** The format of the setting as a list of masks. */
export const xenMask: CpuidFormat = {
  name: MASK,
  title: "Xen's cpuid list of xl.cfg (masks)",
  kind: "mask",
  // The bits k and s are both written as k.
  isLossless: false,
  likelihood: (head) => {
    const setting = settingIn(head);
    if (setting !== undefined) return /^\[/.test(setting) ? 0.9 : 0;
    return BARE_MASK.test(headText(head).slice(0, 1000)) ? 0.85 : 0;
  },
  parse: parseMask,
  format: undefined,
  formatMask,
};

/** The format of the setting's short form, which contains feature names. */
export const xenFeatures: CpuidFormat = {
  name: FEATURES,
  title: "Xen's cpuid text of xl.cfg (feature names)",
  kind: "features",
  isLossless: true,
  likelihood: (head) => {
    const setting = settingIn(head);
    if (setting !== undefined) return /^["']host\b/.test(setting) ? 0.9 : 0;
    return BARE_HOST.test(headText(head).slice(0, 1000)) ? 0.85 : 0;
  },
  parse: parseFeatures,
  format: undefined,
  formatFeatures,
};
