/** Imports a CPU model from the files of libvirt's cpu_map, which the caller reads. formats/xml.ts parses the XML. */
import { describe, quoted, suggestion } from "../../options.ts";
import { CPUID_REGISTERS } from "../entry.ts";
import { type CpuidFieldName, field, fieldsOf } from "../field.ts";
import { parseXml, type XmlElement } from "../formats/xml.ts";
import { DEFAULT_PHYSICAL_BITS, type ImportedCpuidModel, reachable } from "./imported.ts";
import type { CpuidModelSignature } from "./model.ts";

/** The maximum length of a chain of inherited models. */
const DEEPEST = 16;

const inside = ({ children }: XmlElement, name: string): readonly XmlElement[] =>
  children.filter((child) => child.name === name);

/** The top-level elements of all XML files of the folder. */
class CpuMap {
  readonly #features = new Map<string, XmlElement>();
  readonly #models = new Map<string, XmlElement>();
  readonly #vendors = new Map<string, string>();

  constructor(files: Readonly<Record<string, string>>) {
    for (const [file, text] of Object.entries(files)) {
      const wrong = (what: string): SyntaxError => new SyntaxError(`${file}: ${what}`);
      if (typeof text !== "string") throw wrong(`expected its text, got ${describe(text)}`);
      const { root, problems } = parseXml(text);
      const [problem] = problems;
      if (problem) throw wrong(`${problem.line}:${problem.column}: ${problem.message}`);
      if (root?.name === "cpus") this.#add(root);
    }
  }

  #add(root: XmlElement): void {
    for (const child of root.children) {
      const name = child.attributes.get("name") ?? "";
      if (child.name === "feature") this.#features.set(name, child);
      if (child.name === "model") this.#models.set(name, child);
      if (child.name === "vendor") this.#vendors.set(name, child.attributes.get("string") ?? "");
    }
  }

  /** Returns a model, followed by the models from which it inherits. */
  chain(name: string): readonly XmlElement[] {
    const models: XmlElement[] = [];
    for (let next: string | undefined = name; next !== undefined; ) {
      const model = this.#models.get(next);
      if (!model) {
        const hint = suggestion(next, this.#models.keys());
        throw new TypeError(`unknown CPU model ${quoted(next)} in the files of libvirt${hint}`);
      }
      if (models.length === DEEPEST) {
        throw new SyntaxError(`model ${quoted(name)} inherits from more than ${DEEPEST} models`);
      }
      models.push(model);
      next = inside(model, "model")[0]?.attributes.get("name");
    }
    return models;
  }

  /** Returns the twelve characters of the vendor that a model names; undefined if the model names no vendor. */
  vendor(models: readonly XmlElement[]): string | undefined {
    const named = models.flatMap((model) => inside(model, "vendor"))[0];
    if (named === undefined) return undefined;
    const name = named.attributes.get("name") ?? "";
    const text = this.#vendors.get(name);
    if (text !== undefined && /^[\x20-\x7e]{12}$/.test(text)) return text;
    const fault =
      text === undefined
        ? `no file has the vendor ${quoted(name)}${suggestion(name, this.#vendors.keys())}`
        : `the string of the vendor ${quoted(name)} is not twelve characters`;
    throw new SyntaxError(`model ${quoted(models[0]?.attributes.get("name") ?? "")}: ${fault}`);
  }

  /**
   * Returns the fields of a feature; undefined if the feature is unknown, or has a bit of an MSR or a bit without a
   * field.
   */
  fieldsOf(name: string): readonly CpuidFieldName[] | undefined {
    const cpuids = inside(this.#features.get(name) ?? EMPTY, "cpuid");
    const found = cpuids.flatMap((cpuid) => {
      const number = (key: string): number => Number(cpuid.attributes.get(key) ?? 0) >>> 0;
      return CPUID_REGISTERS.flatMap((register) =>
        fieldsOf("native", number("eax_in"), number("ecx_in"), register).filter(
          ({ low, high }) => low === high && ((number(register) >>> low) & 1) === 1,
        ),
      );
    });
    return found.length > 0 ? found.map(({ name: own }) => own) : undefined;
  }
}

const EMPTY: XmlElement = {
  name: "",
  attributes: new Map(),
  children: [],
  text: "",
  line: 0,
  column: 0,
};

/** The vendor and the signature of kvm-base, which are the defaults for models without a vendor or a signature. */
const DEFAULTS: { readonly vendor: string; readonly signature: CpuidModelSignature } = {
  vendor: "GenuineIntel",
  signature: Object.freeze({ family: 15, model: 6, stepping: 1 }),
};

/**
 * Reads the first signature of a model; undefined if there is none. If a signature has a list or a range of steppings,
 * the first stepping is used; a signature without steppings gets stepping 0.
 */
function signatureOf(models: readonly XmlElement[]): CpuidModelSignature | undefined {
  const found = models.flatMap((model) => inside(model, "signature"))[0];
  if (found === undefined) return undefined;
  const read = (key: string, most: number, other?: string): number => {
    const text = found.attributes.get(key) ?? other;
    const value = /^\d{1,3}(?=$|[-,])/.exec(text ?? "")?.[0];
    if (value !== undefined && Number(value) <= most) return Number(value);
    const given = text === undefined ? "is missing" : `is ${quoted(text)}`;
    const name = models[0]?.attributes.get("name") ?? "";
    throw new SyntaxError(`model ${quoted(name)}: ${key} of its signature ${given}`);
  };
  return Object.freeze({
    family: read("family", 270),
    model: read("model", 255),
    stepping: read("stepping", 15, "0"),
  });
}

/**
 * Imports a CPU model from libvirt's cpu_map, including all inherited features. The files do not contain maxima, so the
 * maximum basic leaf is at least 0xD and the maximum extended leaf at least 0x80000008; both are higher if a feature is
 * in a higher leaf. A model without a vendor or a signature gets the vendor or the signature of kvm-base; `assumed`
 * lists the members with such a default.
 *
 * @param name - the name of the model in the files.
 * @param files - the text of each file of `/usr/share/libvirt/cpu_map` that begins with `x86_`, by file name.
 * @throws TypeError for an unknown model, with suggestions; SyntaxError for a damaged file, with its name and place.
 *   SyntaxError for a model with a vendor that no file defines, and for a signature that is not a number in range.
 */
export function importLibvirtModel(
  name: string,
  files: Readonly<Record<string, string>>,
): ImportedCpuidModel {
  const where = "importLibvirtModel()";
  if (typeof name !== "string") {
    throw new TypeError(`${where}: name: expected a string, got ${describe(name)}`);
  }
  const given: unknown = files;
  if (typeof given !== "object" || given === null) {
    throw new TypeError(`${where}: files: expected an object, got ${describe(given)}`);
  }
  const map = new CpuMap(files);
  const models = map.chain(name);
  const features = new Map<string, boolean>();
  for (const model of models.toReversed()) {
    for (const { attributes } of inside(model, "feature")) {
      features.set(attributes.get("name") ?? "", attributes.get("removed") !== "yes");
    }
  }
  const on = [...features].filter(([, isOn]) => isOn).map(([feature]) => feature);
  const found = on.flatMap((feature) => map.fieldsOf(feature) ?? []);
  const top = (least: number, from: number, to: number): number =>
    found
      .map((own) => field(own).function)
      .reduce((most, fn) => (fn >= from && fn < to ? Math.max(most, fn) : most), least);
  const maxLeaf = top(0xd, 0, 0x4000_0000);
  const maxExtended = top(0x8000_0008, 0x8000_0000, 0x8001_0000);
  const vendor = map.vendor(models);
  const signature = signatureOf(models);
  return Object.freeze({
    name,
    vendor: vendor ?? DEFAULTS.vendor,
    signature: signature ?? DEFAULTS.signature,
    maxLeaf,
    maxExtended,
    features: Object.freeze(reachable(found, maxLeaf, maxExtended)),
    unknown: Object.freeze(on.filter((feature) => map.fieldsOf(feature) === undefined)),
    brand: name.replaceAll(/[^\x20-\x7e]/g, "").slice(0, 47),
    physicalBits: DEFAULT_PHYSICAL_BITS,
    assumed: Object.freeze([
      ...(vendor === undefined ? (["vendor"] as const) : []),
      ...(signature === undefined ? (["signature"] as const) : []),
      "physicalBits" as const,
    ]),
  });
}
