/**
 * Reads and writes libvirt's XML: `<cpudata>`, which contains registers, and the `<cpu>` of a domain, a host or a
 * baseline, which contains a model and features. models/libvirt.ts reads libvirt's own models.
 */
import { quoted, suggestion } from "../../options.ts";
import { CPUID_REGISTERS } from "../entry.ts";
import { TableCollector } from "./collect.ts";
import type {
  CpuidDump,
  CpuidFeatureList,
  CpuidFileMsr,
  CpuidFileTable,
  CpuidFormat,
} from "./dump.ts";
import { decodeText, headText } from "./lines.ts";
import { ProblemList } from "./problems.ts";
import { isPadded, shortLeaf, shortRegister } from "./text-rows.ts";
import { escapeXml, parseXml, type XmlElement, xmlElements } from "./xml.ts";

const CPUDATA = "libvirt-cpudata";
const CPU = "libvirt-cpu";

/** Libvirt's vendor names, and the vendor strings of CPUID leaf 0. */
const VENDORS: readonly (readonly [libvirt: string, cpuid: string])[] = [
  ["Intel", "GenuineIntel"],
  ["AMD", "AuthenticAMD"],
  ["Hygon", "HygonGenuine"],
  ["Zhaoxin", "  Shanghai  "],
];

/** Reads a numeric attribute: decimal, or hexadecimal with the prefix 0x. */
function numberOf(text: string): number | undefined {
  if (!/^(?:0x[0-9a-f]{1,16}|\d{1,16})$/i.test(text)) return undefined;
  const value = Number(text);
  return value <= 0xffffffff ? value : undefined;
}

/** Returns the fault of a hexadecimal leaf or register with a missing digit, or undefined. */
function lostDigit(name: string, text: string, hasPadding: boolean): string | undefined {
  const [, digits] = /^0x(.+)$/i.exec(text) ?? [];
  if (digits === undefined) return undefined;
  const shown = `${name} ${quoted(text)}`;
  if (name === "eax_in") return shortLeaf(shown, digits);
  const isRegister = hasPadding && CPUID_REGISTERS.some((register) => register === name);
  return isRegister ? shortRegister(shown, digits) : undefined;
}

/** The attributes of an element with numbers. */
interface NumberAttributes {
  readonly required: readonly string[];
  readonly optional: readonly string[];
  /** Whether the registers of the file have 8 digits. */
  readonly hasPadding: boolean;
}

/**
 * Reads the attributes of an element as numbers; adds a fault and returns undefined if an attribute is unknown, missing
 * or not a u32, or lacks a digit.
 */
function numbersOf(
  element: XmlElement,
  { required, optional, hasPadding }: NumberAttributes,
  complain: (message: string) => void,
): ReadonlyMap<string, number> | undefined {
  const known = [...required, ...optional];
  const numbers = new Map<string, number>();
  let isGood = true;
  const wrong = (message: string): void => {
    isGood = false;
    complain(`<${element.name}>: ${message}`);
  };
  for (const name of required) {
    if (!element.attributes.has(name)) wrong(`there is no attribute ${name}`);
  }
  for (const [name, text] of element.attributes) {
    const value = numberOf(text);
    if (!known.includes(name)) {
      wrong(`unknown attribute ${quoted(name)}${suggestion(name, known)}`);
    } else if (value === undefined) {
      wrong(`${name} ${quoted(text)} is not a number of 32 bits`);
    } else {
      const lost = lostDigit(name, text, hasPadding);
      if (lost === undefined) numbers.set(name, value);
      else wrong(lost);
    }
  }
  return isGood ? numbers : undefined;
}

function parseCpudata(bytes: Uint8Array): CpuidDump {
  const into = new TableCollector(CPUDATA, {
    ...({ contents: "dump", canBeComplete: true, isOneCpu: true } as const),
  });
  const text = decodeText(bytes);
  // libvirt and its scripts pad every register and leaf (x86CPUDataFormat; cpu-cpuid.py of its tests).
  const hasPadding = isPadded(text);
  const { root, problems } = parseXml(text);
  for (const { line, column, message } of problems) into.problem(line, column, message);
  const msrs: CpuidFileMsr[] = [];
  const all = root ? xmlElements(root) : [];
  const data = all.find((element) => element.name === "cpudata");
  if (root && !data) into.problem(root.line, root.column, "there is no <cpudata>");
  const arch = data?.attributes.get("arch") ?? "x86";
  if (data && arch !== "x86") {
    into.problem(data.line, data.column, `the architecture is ${quoted(arch)}, not x86`);
  }
  for (const element of arch === "x86" ? (data?.children ?? []) : []) {
    const complain = (message: string): void => into.problem(element.line, element.column, message);
    if (element.name === "cpuid") {
      const optional = ["ecx_in", ...CPUID_REGISTERS];
      const numbers = numbersOf(element, { required: ["eax_in"], optional, hasPadding }, complain);
      if (!numbers) continue;
      const values = CPUID_REGISTERS.map((name) => [name, numbers.get(name) ?? 0]);
      const place = { function: numbers.get("eax_in") ?? 0, index: numbers.get("ecx_in") ?? 0 };
      const fault = into.addOnce({ ...place, ...Object.fromEntries(values) }, element.line);
      if (fault !== undefined) complain(`<cpuid>: ${fault}`);
    } else if (element.name === "msr") {
      const allowed = { required: ["index"], optional: ["eax", "edx"], hasPadding };
      const numbers = numbersOf(element, allowed, complain);
      if (!numbers) continue;
      const value = (BigInt(numbers.get("edx") ?? 0) << 32n) | BigInt(numbers.get("eax") ?? 0);
      msrs.push({ index: numbers.get("index") ?? 0, mask: 0xffff_ffff_ffff_ffffn, value });
    } else {
      complain(`unknown element <${element.name}>; known are <cpuid> and <msr>`);
    }
  }
  if (into.entries === 0 && msrs.length > 0) into.note("the file has MSRs only");
  return { ...into.finish(), msrs };
}

const hex = (value: number, digits: number): string =>
  `0x${value.toString(16).padStart(digits, "0")}`;

function formatCpudata(tables: readonly CpuidFileTable[]): Uint8Array {
  const [only] = tables;
  if (only === undefined || tables.length !== 1) {
    throw new RangeError(`<cpudata> is of one table, not of ${tables.length}`);
  }
  const lines = [...only.table].map((e) => {
    const registers = CPUID_REGISTERS.map((name) => `${name}='${hex(e[name], 8)}'`).join(" ");
    return `  <cpuid eax_in='${hex(e.function, 8)}' ecx_in='${hex(e.index, 2)}' ${registers}/>`;
  });
  const text = ["<cpudata arch='x86'>", ...lines, "</cpudata>", ""].join("\n");
  return new TextEncoder().encode(text);
}

/** The policies of a feature (libvirt's domain format), and whether the guest has it. */
const POLICIES: ReadonlyMap<string, "on" | "off"> = new Map([
  ["require", "on"],
  ["force", "on"],
  ["optional", "on"],
  ["disable", "off"],
  ["forbid", "off"],
]);

/** The attributes of `<cpu>` that become properties. */
const CPU_ATTRIBUTES: readonly string[] = ["mode", "match", "check", "migratable"];
/** The attributes of `<model>` that become properties. */
const MODEL_ATTRIBUTES: readonly string[] = ["fallback", "vendor_id"];
/** The elements whose attributes become properties, such as `topology.cores`. */
const PARTS: readonly string[] = ["topology", "maxphysaddr", "cache", "signature"];
/** The elements that other code reads. */
const READ: readonly string[] = ["model", "vendor", "feature", "arch"];

/** The prefix of the properties that contain a feature's policy, if the policy is neither require nor disable. */
const POLICY = "policy.";

/** Whether an element describes a CPU: it has a model, features or a mode. */
const isCpu = ({ name, attributes, children }: XmlElement): boolean =>
  (name === "cpu" || (name === "mode" && attributes.get("name") === "host-model")) &&
  (attributes.has("mode") || children.some((child) => READ.includes(child.name)));

/** Returns the elements that describe a CPU, in the order of the file. */
const cpusOf = (root: XmlElement): readonly XmlElement[] => xmlElements(root).filter(isCpu);

const X86: readonly string[] = ["x86_64", "i686", "i586", "i486", "i386", "x86"];

/** Returns the first architecture that the file names: `<arch>` with text, or `<type arch=…>` of a domain. */
function archOf(root: XmlElement): readonly [at: XmlElement, arch: string] | undefined {
  for (const element of xmlElements(root)) {
    const { name, attributes, text } = element;
    const arch = name === "arch" ? text : name === "type" ? attributes.get("arch") : undefined;
    if (arch !== undefined && arch !== "") return [element, arch];
  }
  return undefined;
}

/** Reads the features and properties of one element. */
function featuresOf(
  cpu: XmlElement,
  complain: (at: XmlElement, message: string) => void,
  note: (sentence: string) => void,
): CpuidFeatureList {
  const properties = new Map<string, string>();
  const states = new Map<string, "on" | "off">();
  let [model, vendor]: (string | undefined)[] = [];
  for (const name of CPU_ATTRIBUTES) {
    const value = cpu.attributes.get(name);
    if (value !== undefined) properties.set(name, value);
  }
  for (const child of cpu.children) {
    if (child.name === "model") {
      model = child.text === "" ? undefined : child.text;
      for (const name of MODEL_ATTRIBUTES) {
        const value = child.attributes.get(name);
        if (value !== undefined) properties.set(name, value);
      }
    } else if (child.name === "vendor") {
      vendor = VENDORS.find(([libvirt]) => libvirt === child.text)?.[1] ?? child.text;
    } else if (PARTS.includes(child.name)) {
      for (const [name, value] of child.attributes) properties.set(`${child.name}.${name}`, value);
    } else if (child.name === "feature") {
      const name = child.attributes.get("name");
      const policy = child.attributes.get("policy") ?? "require";
      const state = POLICIES.get(policy);
      if (name === undefined || name === "") {
        complain(child, "<feature>: there is no name");
      } else if (state === undefined) {
        const known = suggestion(policy, POLICIES.keys());
        complain(child, `<feature>: unknown policy ${quoted(policy)}${known}`);
      } else if (states.has(name)) {
        complain(child, `<feature>: ${quoted(name)} is there twice`);
      } else {
        states.set(name, state);
        if (policy !== "require" && policy !== "disable")
          properties.set(`${POLICY}${name}`, policy);
      }
    } else if (!READ.includes(child.name)) {
      note(`<${child.name}> of line ${child.line} is not read`);
    }
  }
  const withState = (wanted: "on" | "off"): readonly string[] =>
    [...states].flatMap(([name, state]) => (state === wanted ? [name] : []));
  return {
    model,
    vendor,
    on: withState("on"),
    off: withState("off"),
    properties: Object.fromEntries(properties),
  };
}

const NO_FEATURES: CpuidFeatureList = {
  model: undefined,
  vendor: undefined,
  on: [],
  off: [],
  properties: {},
};

/** The maximum number of notes of a file. */
const MOST_NOTES = 20;

function parseCpu(bytes: Uint8Array): CpuidDump {
  const { root, problems: faults } = parseXml(decodeText(bytes));
  const problems = new ProblemList();
  const notes: string[] = [];
  const note = (sentence: string): void => {
    if (notes.length < MOST_NOTES) notes.push(sentence);
  };
  for (const { line, column, message } of faults) problems.add(line, column, message);
  const cpus = root ? cpusOf(root) : [];
  const [cpu, ...others] = cpus;
  if (root && !cpu)
    problems.add(root.line, root.column, "there is no <cpu> with a model or features");
  const [at, arch = ""] = (root && archOf(root)) ?? [];
  const isOther = at !== undefined && !X86.includes(arch);
  if (isOther) problems.add(at.line, at.column, `the architecture is ${quoted(arch)}, not x86`);
  const features =
    cpu && !isOther
      ? featuresOf(cpu, (at, message) => problems.add(at.line, at.column, message), note)
      : NO_FEATURES;
  const hyperv = root && xmlElements(root).find(({ name }) => name === "hyperv");
  if (cpu && hyperv) note(`<hyperv> of line ${hyperv.line} is outside of <cpu>, so it is not read`);
  if (cpu && others.length > 0) {
    const lines = others.slice(0, MOST_NOTES).map(({ line }) => line);
    note(`the <cpu> of line ${cpu.line} is read; others are in line ${lines.join(", ")}`);
  }
  return {
    kind: "features",
    format: CPU,
    features,
    problems: problems.toArray(),
    notes,
    msrs: [],
  };
}

const attribute = (name: string, value: string | undefined): string =>
  value === undefined ? "" : ` ${name}='${escapeXml(value)}'`;

/** Refuses control characters, and the other characters that XML cannot contain. */
function refuseUnprintable(features: CpuidFeatureList): void {
  const { model = "", vendor = "", on, off, properties } = features;
  for (const text of [model, vendor, ...on, ...off, ...Object.entries(properties).flat()]) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: no name has control characters
    if (!/[\0-\x1f\ufffe\uffff\ud800-\udfff]/u.test(text)) continue;
    throw new RangeError(
      `<cpu>: ${quoted(text)} has a control character, or a character that XML cannot contain`,
    );
  }
}

function formatCpu(features: CpuidFeatureList): Uint8Array {
  refuseUnprintable(features);
  const { model, vendor, on, off } = features;
  const properties = new Map(Object.entries(features.properties));
  const take = (name: string): string | undefined => {
    const value = properties.get(name);
    properties.delete(name);
    return value;
  };
  const attributes = CPU_ATTRIBUTES.map((name) => attribute(name, take(name))).join("");
  const ofModel = MODEL_ATTRIBUTES.map((name) => attribute(name, take(name))).join("");
  const lines = [`<cpu${attributes}>`];
  if (model !== undefined || ofModel !== "") {
    lines.push(`  <model${ofModel}>${escapeXml(model ?? "")}</model>`);
  }
  if (vendor !== undefined) {
    const name = VENDORS.find(([, cpuid]) => cpuid === vendor)?.[0] ?? vendor;
    lines.push(`  <vendor>${escapeXml(name)}</vendor>`);
  }
  for (const part of PARTS) {
    const names = [...properties.keys()].filter((name) => name.startsWith(`${part}.`));
    const values = names.map((name) => attribute(name.slice(part.length + 1), take(name)));
    if (values.length > 0) lines.push(`  <${part}${values.join("")}/>`);
  }
  for (const [names, usual] of [
    [on, "require"],
    [off, "disable"],
  ] as const) {
    for (const name of names) {
      const policy = take(`${POLICY}${name}`) ?? usual;
      lines.push(`  <feature${attribute("policy", policy)}${attribute("name", name)}/>`);
    }
  }
  const [left] = properties.keys();
  if (left !== undefined)
    throw new RangeError(`<cpu> has no place for the property ${quoted(left)}`);
  return new TextEncoder().encode([...lines, "</cpu>", ""].join("\n"));
}

/** Whether the beginning of a file is XML with an element of this name. */
const hasElement = (head: Uint8Array, element: RegExp): boolean =>
  /^\s*</.test(headText(head)) && element.test(headText(head));

/** The format of a CPU's registers in libvirt's tests and in `virsh`. */
export const libvirtCpudata: CpuidFormat = {
  name: CPUDATA,
  title: "libvirt's <cpudata> (XML)",
  kind: "tables",
  // The file does not contain the flags of the entries.
  isLossless: false,
  likelihood: (head) => (hasElement(head, /<cpudata[\s>]/) ? 0.95 : 0),
  parse: parseCpudata,
  format: formatCpudata,
};

/** The format of a model with features: the `<cpu>` of a domain, of a host's capabilities, or of a baseline. */
export const libvirtCpu: CpuidFormat = {
  name: CPU,
  title: "libvirt's <cpu> of a domain, a host or a baseline (XML)",
  kind: "features",
  isLossless: true,
  likelihood: (head) => {
    if (hasElement(head, /<cpudata[\s>]/) || !hasElement(head, /<cpu[\s>]/)) return 0;
    return /<feature\s|<model[\s>]|<cpu\s[^>]*mode=/.test(headText(head)) ? 0.9 : 0.4;
  },
  parse: parseCpu,
  format: undefined,
  formatFeatures: formatCpu,
};
