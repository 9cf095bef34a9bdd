/**
 * Reads and writes QEMU's CPU models with features: the `-cpu` option of a command line, and the JSON of
 * query-cpu-model-expansion. The rules come from x86_cpu_parse_featurestr (target/i386/cpu.c).
 */
import { quoted } from "../../options.ts";
import type { CpuidDump, CpuidFeatureList, CpuidFormat } from "./dump.ts";
import { JsonFields, type JsonMembers } from "./json-fields.ts";
import { describeJson, type JsonValue, readJson } from "./json-text.ts";
import { decodeText, headText, linesOf, type TextLine } from "./lines.ts";
import { ProblemList, TextPlaces } from "./problems.ts";
import { readShellWord, type ShellWord } from "./shell-word.ts";

const STRING = "qemu-cpu";
const QMP = "qemu-qmp";

/**
 * Properties that are on or off but are not features of the CPU (QEMU 11.1). All other properties that begin with `x-`
 * are not features either.
 */
const NOT_FEATURES: ReadonlySet<string> = new Set([
  ...["check", "enforce", "migratable", "host-phys-bits", "host-cache-info", "l3-cache"],
  ...["legacy-cache", "fill-mtrr-mask", "tcg-cpuid", "kvm", "hv-passthrough", "hv-enforce-cpuid"],
  ...["hotplugged", "realized", "start-powered-off", "full-cpuid-auto-level", "cpuid-0xb"],
  ...["vmware-cpuid-freq", "kvm-no-smi-migration", "kvm-pv-enforce-cpuid", "xen-vapic", "lmce"],
  ...["legacy-instance", "legacy-multi-node", "vendor-cpuid-only", "vendor-cpuid-only-v2"],
  ...["force-features", "static", "base", "hotpluggable", "arch-cap-always-on"],
]);

const isNotFeature = (name: string): boolean => NOT_FEATURES.has(name) || name.startsWith("x-");

/** The words that QEMU accepts for true and false (qapi_bool_parse). */
const BOOLEANS: ReadonlyMap<string, "on" | "off"> = new Map([
  ...["on", "yes", "true", "y"].map((word) => [word, "on"] as const),
  ...["off", "no", "false", "n"].map((word) => [word, "off"] as const),
]);

const NAME = /^[A-Za-z0-9_][\w.-]*$/;

/** Collects features and properties; `_` and `-` in a name are equivalent. */
class FeatureCollector {
  readonly #states = new Map<string, { readonly name: string; state: "on" | "off" }>();
  readonly #properties = new Map<string, string>();
  model: string | undefined;
  #vendor: string | undefined;

  /** Sets a property to a text; a word of {@link BOOLEANS} switches a feature on or off. */
  set(spelled: string, value: string): void {
    const key = spelled.replaceAll("_", "-");
    const state = BOOLEANS.get(value);
    if (key === "vendor") this.#vendor = value;
    else if (state === undefined || isNotFeature(key)) this.#properties.set(spelled, value);
    else this.switch(spelled, state);
  }

  /** Switches a feature on or off. */
  switch(spelled: string, state: "on" | "off"): void {
    const key = spelled.replaceAll("_", "-");
    const known = this.#states.get(key);
    if (known) known.state = state;
    else this.#states.set(key, { name: spelled, state });
  }

  list(): CpuidFeatureList {
    const withState = (wanted: "on" | "off"): readonly string[] =>
      [...this.#states.values()].flatMap(({ name, state }) => (state === wanted ? [name] : []));
    return {
      model: this.model,
      vendor: this.#vendor,
      on: withState("on"),
      off: withState("off"),
      properties: Object.fromEntries(this.#properties),
    };
  }
}

/**
 * The `-cpu` option in a command line: white space, or a backslash at the end of a line, and then a word or a quoted
 * text.
 */
const OPTION =
  /(?:^|[\s"'[,])--?cpu(?:["',]*(?:[ \t]|\\\r?\n)+["']?|["']\s*,\s*["'])(?=[A-Za-z0-9_])/g;
/** A file that contains only the value of the option, with the quotes of a shell. */
const BARE =
  /^\s*["']?[A-Za-z0-9_](?:[^\s"'\\]|'[^'\r\n]*'|"(?:[^"\\\r\n]|\\.)*"|\\(?:\r?\n|.))*["']?\s*$/;

/** A place where the value of `-cpu` begins. */
interface ValueStart {
  readonly offset: number;
  /** Whether the option is in a list of texts, as in JSON or Python; otherwise, it is in a shell's command. */
  readonly isList: boolean;
  readonly isBare: boolean;
}

/** Finds the values of `-cpu`; a file of one value without the option is read as the value. */
function valuesIn(text: string): readonly ValueStart[] {
  const found = Array.from(text.matchAll(OPTION), (match) => ({
    offset: match.index + match[0].length,
    isList: match[0].includes(",", 1),
    isBare: false,
  }));
  if (found.length > 0 || text.length > 65_536 || !BARE.test(text)) return found;
  return [{ offset: text.search(/[A-Za-z0-9_]/), isList: false, isBare: true }];
}

function parseString(bytes: Uint8Array): CpuidDump {
  const text = decodeText(bytes);
  const places = new TextPlaces(text);
  const problems = new ProblemList();
  const notes: string[] = [];
  const complain = (offset: number, message: string): void => {
    const { line, column } = places.at(offset);
    problems.add(line, column, message);
  };
  const [first, ...others] = valuesIn(text);
  const collector = new FeatureCollector();
  if (first) {
    const word = readShellWord(text, first.offset, first.isList);
    if (word.fault) complain(word.fault.offset, word.fault.message);
    readValue(word, collector, complain, notes);
    if (!first.isBare && !first.isList && word.text.endsWith(",")) {
      notes.push(
        "the value of -cpu ends with a comma; a word behind it is another argument of the command",
      );
    }
  } else problems.add(0, 1, "there is no -cpu option");
  if (first && others.length > 0) {
    const { line } = places.at(first.offset);
    notes.push(`the -cpu option of line ${line} is read; there are ${others.length} others`);
  }
  return {
    kind: "features",
    format: STRING,
    features: collector.list(),
    problems: problems.toArray(),
    notes,
    msrs: [],
  };
}

/** Reads the value of `-cpu`. `+name` takes effect after all `name=value`, and `-name` after all `+name`. */
function readValue(
  { text, offsetOf }: ShellWord,
  collector: FeatureCollector,
  complain: (offset: number, message: string) => void,
  notes: string[],
): void {
  const plus: string[] = [];
  const minus: string[] = [];
  let position = 0;
  for (const [i, part] of text.split(",").entries()) {
    const at = position;
    position += part.length + 1;
    // Empty items are skipped, because QEMU splits the text at commas with strtok().
    if (part === "") continue;
    const sign = /^[+-]/.exec(part)?.[0];
    const equals = part.indexOf("=");
    const name = sign ? part.slice(1) : equals < 0 ? part : part.slice(0, equals);
    if (!NAME.test(name) || (sign && equals >= 0)) {
      complain(offsetOf(at), `${quoted(part)} is not a feature: write +name, -name or name=value`);
    } else if (i === 0 && sign === undefined && equals < 0) {
      collector.model = part;
    } else if (sign) {
      (sign === "+" ? plus : minus).push(name);
    } else {
      collector.set(name, equals < 0 ? "on" : part.slice(equals + 1));
    }
  }
  const last = new Set(minus);
  const both = plus.find((name) => last.has(name));
  if (both !== undefined) notes.push(`${both} is there with + and with -, so QEMU switches it off`);
  for (const name of plus) collector.switch(name, "on");
  for (const name of minus) collector.switch(name, "off");
}

/** The properties of libvirt's <cpu> that no property of QEMU's CPUs has as its name. */
const LIBVIRT: ReadonlySet<string> = new Set(["mode", "match", "fallback", "vendor_id"]);

/** Whether a property is from libvirt's <cpu>; QEMU's properties have no dots, except for names of features. */
const isLibvirts = ([name, value]: readonly [string, string]): boolean =>
  LIBVIRT.has(name) ||
  (name === "check" && !BOOLEANS.has(value)) ||
  /^(?:topology|maxphysaddr|cache|signature|policy)\./.test(name);

/** Writes the value of `-cpu` with a line break. */
function formatString(features: CpuidFeatureList): Uint8Array {
  const { model, vendor, on, off, properties } = features;
  const wrong = (what: string): RangeError => new RangeError(`a -cpu option: ${what}`);
  if (model === undefined) throw wrong("it has a model, and the features have none");
  for (const name of [model, ...on, ...off, ...Object.keys(properties)]) {
    if (!NAME.test(name)) throw wrong(`${quoted(name)} is not a name`);
  }
  const values = Object.entries(properties);
  if (vendor !== undefined) values.unshift(["vendor", vendor]);
  const [foreign] = Object.entries(properties).find(isLibvirts) ?? [];
  if (foreign !== undefined) throw wrong(`it has no place for the property ${quoted(foreign)}`);
  for (const [name, value] of values) {
    if (/[,\s"'\\]/.test(value)) throw wrong(`${name}: ${quoted(value)} has a comma or a space`);
  }
  const parts = [
    model,
    ...on.map((name) => `+${name}`),
    ...off.map((name) => `-${name}`),
    ...values.map(([name, value]) => `${name}=${value}`),
  ];
  return new TextEncoder().encode(`${parts.join(",")}\n`);
}

/** Finds the model in QEMU's reply, or in a command that names a model. */
function modelIn(fields: JsonFields, value: JsonValue): JsonMembers | undefined {
  let members = fields.object(value, "", []);
  for (const name of ["return", "arguments", "model"]) {
    const inner = members?.get(name);
    if (inner?.kind === "object") members = fields.object(inner, name, []);
  }
  return members?.has("props") || members?.has("name") ? members : undefined;
}

/** Returns the JSON text that contains a model: the whole file, or one message of a log. */
function modelText(text: string): { readonly text: string; readonly messages: number } {
  if (!readJson(text).fault) return { text, messages: 1 };
  const models = messagesIn(text).filter(
    (message) => /"model"\s*:\s*\{/.test(message.text) && !readJson(jsonOf(message)).fault,
  );
  // QEMU's reply contains more properties than the command, so the reply is preferred.
  const best = models.find((message) => message.text.includes('"return"')) ?? models[0];
  if (best === undefined) return { text, messages: 1 };
  // The padding before the message leaves the line and the column of each value unchanged.
  const json = jsonOf(best);
  const padding = "\n".repeat(best.number - 1) + " ".repeat(best.text.length - json.length);
  return { text: padding + json, messages: models.length };
}

/**
 * Returns the messages of a log. Each message begins at a line with a brace that is not indented; a message may have
 * several lines.
 */
function messagesIn(text: string): readonly TextLine[] {
  const messages: { number: number; lines: string[] }[] = [];
  for (const line of linesOf(text)) {
    const begins = /^(?:(?:->|<-|\(QEMU\))\s*)?\{/.test(line.text);
    if (begins) messages.push({ number: line.number, lines: [line.text] });
    else messages.at(-1)?.lines.push(line.text);
  }
  return messages.map(({ number, lines }) => ({
    number,
    text: lines.join("\n"),
    isTerminated: true,
  }));
}

/** Returns the text of a message from its first brace on. */
const jsonOf = ({ text }: TextLine): string => text.slice(text.indexOf("{"));

function parseQmp(bytes: Uint8Array): CpuidDump {
  const { text, messages } = modelText(decodeText(bytes));
  const problems = new ProblemList();
  const fields = new JsonFields(text, problems);
  const value = fields.document();
  const model = value && modelIn(fields, value);
  if (value && !model) fields.problem(value.offset, "there is no model with a name and props");
  const collector = new FeatureCollector();
  const name = fields.text(model?.get("name"), "model.name");
  if (name !== undefined) collector.model = name;
  const props = model?.get("props");
  const members = props && fields.object(props, "model.props", []);
  for (const [key, prop] of members ?? []) {
    if (prop.kind === "literal" && prop.value !== null)
      collector.set(key, prop.value ? "on" : "off");
    else if (prop.kind === "number") collector.set(key, prop.text);
    else if (prop.kind === "string") collector.set(key, prop.text);
    else fields.problem(prop.offset, `model.props.${key}: ${describeJson(prop)} is not a value`);
  }
  return {
    kind: "features",
    format: QMP,
    features: collector.list(),
    problems: problems.toArray(),
    notes: messages > 1 ? [`one of ${messages} messages with a model is read`] : [],
    msrs: [],
  };
}

/** The format of the `-cpu` option: the value alone, or a command line with the option. */
export const qemuCpu: CpuidFormat = {
  name: STRING,
  title: "QEMU's -cpu option",
  kind: "features",
  isLossless: true,
  likelihood: (head) => {
    const text = headText(head);
    if (/^\s*[{<]/.test(text)) return 0;
    const isOption = text.search(OPTION) >= 0;
    if (isOption) return /qemu|kvm|-machine|-M /.test(text) ? 0.85 : 0.7;
    const value = text.trim();
    const [only] = value.length > 16_384 ? [] : valuesIn(value);
    if (only === undefined) return 0;
    const word = readShellWord(value, only.offset, only.isList).text;
    return /^[A-Za-z0-9_][\w.-]*(?:,\+?[\w.-]+(?:=[^,]*)?)+$/.test(word) ? 0.75 : 0;
  },
  parse: parseString,
  format: undefined,
  formatFeatures: formatString,
};

/** The format of QEMU's reply to query-cpu-model-expansion, or of a log that contains the reply. */
export const qemuQmp: CpuidFormat = {
  name: QMP,
  title: "QEMU's query-cpu-model-expansion (QMP, JSON)",
  kind: "features",
  isLossless: false,
  likelihood: (head) => {
    const text = headText(head);
    if (!/^\s*(?:\{|->|<-)/.test(text)) return 0;
    return /"model"\s*:\s*\{/.test(text) && /"(?:props|query-cpu-model-expansion)"/.test(text)
      ? 0.9
      : 0;
  },
  parse: parseQmp,
  format: undefined,
};
