/**
 * Makes the table of a list of features: of a -cpu option, a domain of libvirt, or a reply of QEMU. cpuid-source.ts
 * reads the files.
 */
import { decodeText } from "../cpuid/formats/lines.ts";
import { TextPlaces } from "../cpuid/formats/problems.ts";
import {
  CPUID_FORMATS,
  type CpuidBuilder,
  type CpuidDump,
  type CpuidSignatureInput,
  type CpuidTable,
  type CpuidTopologyInput,
  cpuid,
  type ImportedCpuidModel,
  importedModelTable,
  resolveFeatures,
  vendorOf,
} from "../cpuid/index.ts";
import { importQemuFeatures } from "../cpuid/models/qemu.ts";
import { isQemuHyperv, QEMU_HYPERV_VALUES, withQemuHyperv } from "../cpuid/models/qemu-hyperv.ts";
import { quoted } from "../options.ts";
import { CommandError, reasonOf } from "./failure.ts";

/** Returns the reason of a failed call, with the terms of the command line instead of the terms of the API. */
export function plainReason(cause: unknown): string {
  return reasonOf(cause)
    .replace(/^\w+\(\): /, "")
    .replace("models() lists the names", "`node-kvm cpuid model` lists the names");
}

/** Returns the title of the format of a file, for messages. */
export const formatTitle = ({ format }: Pick<CpuidDump, "format">): string =>
  CPUID_FORMATS.find(({ name }) => name === format)?.title ?? format;

/** The source of the feature names in each format with feature lists. */
const NAME_SOURCES: Readonly<Record<string, "qemu" | "libvirt" | "linux">> = {
  "qemu-cpu": "qemu",
  "qemu-qmp": "qemu",
  "libvirt-cpu": "libvirt",
  cpuinfo: "linux",
};

type FeatureDump = CpuidDump & { readonly kind: "features" };

/** The meaning of the modes of a libvirt domain that names no CPU model. */
const MODES: Readonly<Record<string, string>> = {
  "host-passthrough": "the domain uses the host's CPU",
  "host-model": "the domain uses the host's CPU",
  maximum: "the domain uses every feature that the host can give",
};

/** Rejects a list of features without a model. */
function refuseModelless(file: string, dump: FeatureDump): never {
  const properties: Readonly<Record<string, string | undefined>> = dump.features.properties;
  const { mode = "" } = properties;
  const meaning = Object.hasOwn(MODES, mode) ? MODES[mode] : undefined;
  if (dump.format === "libvirt-cpu" && meaning !== undefined) {
    throw new CommandError(
      `${file}: ${meaning} (mode ${mode}), so the file names no CPU model; the table host is this CPU`,
    );
  }
  throw new CommandError(
    `${file} is a list of features without a model (${formatTitle(dump)}), and a table needs one: write a model and ` +
      'its changes as "EPYC,+avx2,-rtm" to a file, or use resolveFeatures() and cpuid.model() of node-kvm/cpuid',
  );
}

/** QEMU's model without features; a reply with this name lists all facts in its properties. */
const BASE = "base";

/** Makes the table of QEMU's model "base" with the properties of a reply to query-cpu-model-expansion. */
function baseTable(
  file: string,
  bytes: Uint8Array,
  { features }: FeatureDump,
  note: Note,
): CpuidTable {
  const meaning = `${BASE} is QEMU's model without features`;
  let model: ImportedCpuidModel;
  try {
    model = importQemuFeatures("base()", features);
  } catch (cause) {
    const text = decodeText(bytes);
    const name = /"name"\s*:\s*(?="base")/.exec(text);
    const { line, column } = new TextPlaces(text).at(name ? name.index + name[0].length : 0);
    throw new CommandError(
      `${file}:${line}:${column}: ${meaning}, so a table needs every property: ${plainReason(cause)}`,
      { cause },
    );
  }
  const bits = model.assumed.includes("physicalBits")
    ? `${model.physicalBits} physical address bits, which the file lacks, and `
    : "and ";
  note(
    `${file}: ${meaning}; the table has the file's properties, ${bits}no caches, topology or hypervisor leaves`,
  );
  return importedModelTable(model);
}

/** Prints a sentence on standard error. */
type Note = (text: string) => void;

type Properties = Readonly<Record<string, string>>;

/**
 * Properties that have no effect on the CPUID table of a named model: they decide about checks, warnings, migration and
 * the choice of the model.
 */
const WITHOUT_EFFECT: ReadonlySet<string> = new Set([
  ...["check", "enforce", "migratable", "mode", "match", "fallback"],
]);

/** Values of properties that the table has without a change. */
const DEFAULTS: Properties = { "phys-bits": "0", "topology.clusters": "1", kvm: "off" };

/** Reads a number, decimal or hexadecimal. */
function toNumber(name: string, text: string): number {
  if (/^(?:0x[0-9a-f]{1,8}|\d{1,10})$/i.test(text)) return Number(text);
  throw new RangeError(`${name}: expected a number, got ${quoted(text)}`);
}

/** The members of the builder's arguments by the property that sets them, of QEMU and of libvirt. */
const SIGNATURE = {
  ...({ family: "family", model: "model", stepping: "stepping" } as const),
  ...({ "signature.family": "family", "signature.model": "model" } as const),
  "signature.stepping": "stepping",
} as const satisfies Record<string, keyof CpuidSignatureInput>;
const TOPOLOGY = {
  ...({ "topology.sockets": "packages", "topology.dies": "dies" } as const),
  ...({ "topology.cores": "cores", "topology.threads": "threads" } as const),
} as const satisfies Record<string, keyof CpuidTopologyInput>;

/** Collects the given members of an argument, and removes their properties from `left`. */
function take<Member extends string>(
  left: Map<string, string>,
  members: Readonly<Record<string, Member>>,
): { readonly [M in Member]?: number } | undefined {
  const found = Object.entries(members).flatMap(([name, member]) => {
    const text = left.get(name);
    left.delete(name);
    return text === undefined ? [] : [[member, toNumber(name, text)] as const];
  });
  return found.length === 0
    ? undefined
    : (Object.fromEntries(found) as { readonly [M in Member]?: number });
}

/** Returns the width of physical addresses that the properties name; the property is removed from `left`. */
function takePhysicalBits(left: Map<string, string>): number | undefined {
  const isEmulated = left.get("maxphysaddr.mode") === "emulate" && left.has("maxphysaddr.bits");
  if (isEmulated) left.delete("maxphysaddr.mode");
  for (const name of ["phys-bits", ...(isEmulated ? ["maxphysaddr.bits"] : [])]) {
    const text = left.get(name);
    left.delete(name);
    if (text !== undefined) return toNumber(name, text);
  }
  return undefined;
}

/** Applies the properties that the builder has, and reports each other property. */
function withProperties(
  builder: CpuidBuilder,
  { format, features }: FeatureDump,
  report: Note,
): CpuidBuilder {
  const { on, vendor } = features;
  const left = new Map(
    Object.entries(features.properties).map(([name, value]) => [
      format === "libvirt-cpu" ? name : name.replaceAll("_", "-"),
      value,
    ]),
  );
  for (const name of [...left.keys()]) {
    const isDefault = DEFAULTS[name] === left.get(name);
    if (WITHOUT_EFFECT.has(name) || name.startsWith("policy.") || isDefault) left.delete(name);
  }
  let made = builder;
  const signature = take(left, SIGNATURE);
  if (signature !== undefined) made = made.signature(signature);
  const bits = takePhysicalBits(left);
  if (bits !== undefined) made = made.physicalBits(bits);
  const brand = left.get("model-id");
  left.delete("model-id");
  if (brand !== undefined) made = made.brand(brand);
  const topology = take(left, TOPOLOGY);
  if (topology !== undefined) made = made.topology(topology);
  const hyperv = Object.fromEntries(
    [...left].filter(([name]) => QEMU_HYPERV_VALUES.includes(name)),
  );
  const before = made.table;
  const table = withQemuHyperv(before, on, hyperv);
  // Without another property of Hyper-V, the vendor's name has no leaf, and hv-spinlocks has its default.
  for (const name of QEMU_HYPERV_VALUES) {
    if (table !== before || name === "hv-spinlocks") left.delete(name);
  }
  const own = vendorOf(table);
  const vendors = [vendor, left.get("vendor_id")].filter((one) => one !== undefined);
  left.delete("vendor_id");
  for (const other of vendors.filter((one) => one !== own)) {
    report(`vendor=${other} is not applied; the vendor of the model is ${own ?? "unknown"}`);
  }
  reportLeft(format, left, report);
  return table === before ? made : cpuid.from(table);
}

/** Adds KVM's interface behind Hyper-V's, as QEMU does. */
function withKvm(builder: CpuidBuilder): CpuidBuilder {
  const hasHyperv = builder.table.base("hyperv") !== undefined;
  return hasHyperv ? builder.hypervisor("hyperv", "kvm") : builder.hypervisor("kvm");
}

/** Reports the properties that are not applied. QEMU's reply has each property, so they are reported together. */
function reportLeft(format: string, left: ReadonlyMap<string, string>, report: Note): void {
  if (format === "qemu-qmp") {
    const names = [...left.keys()];
    if (names.length > 0) report(`these properties are not applied: ${names.join(", ")}`);
    return;
  }
  for (const [name, value] of left) report(`${name}=${value} is not applied`);
}

/**
 * Makes a table from a list of features: the table of the model, with the features turned on and off and the properties
 * that the builder can express.
 *
 * @param note - called for each name and each property that has no effect on the table.
 */
export function featureTable(
  file: string,
  bytes: Uint8Array,
  dump: FeatureDump,
  note: Note,
): CpuidTable {
  const { features } = dump;
  if (features.model === undefined) return refuseModelless(file, dump);
  const isBase = dump.format === "qemu-qmp" && features.model === BASE;
  // withQemuHyperv() turns the features of Hyper-V on, because most of them are several fields.
  const others = (names: readonly string[]): readonly string[] =>
    names.filter((name) => !isQemuHyperv(name));
  const named = { on: others(features.on), off: others(features.off) };
  const { on, off, unknown } = resolveFeatures(named, NAME_SOURCES[dump.format]);
  for (const { name, suggestions } of unknown) {
    const near = suggestions.length > 0 ? `; near names are ${suggestions.join(", ")}` : "";
    note(`${file}: ${name} is not a CPUID field, so it is left out${near}`);
  }
  if (isBase) return baseTable(file, bytes, dump, note);
  const edits = [
    ...on.map(({ name }) => `+${name}` as const),
    ...off.map(({ name }) => `-${name}` as const),
  ];
  try {
    const built = withProperties(cpuid.model(features.model), dump, (text) =>
      note(`${file}: ${text}`),
    );
    const hasKvm = on.some(({ space }) => space === "kvm");
    return (hasKvm ? withKvm(built) : built).features(...edits).xsave().table;
  } catch (cause) {
    throw new CommandError(`${file}: ${plainReason(cause)}`, { cause });
  }
}
