/**
 * Finds a model by its name here, in QEMU or in libvirt, and computes all its features, including inherited features.
 */
import { describe, nearestName, quoted } from "../../options.ts";
import { type CpuidFieldName, fields } from "../field.ts";
import { AMD } from "./amd.ts";
import { INTEL } from "./intel.ts";
import { LEVELS } from "./levels.ts";
import type { CpuidModel, CpuidModelAliases, CpuidModelVariant } from "./model.ts";

/** A model or one of its variants, including all inherited features. */
export interface NamedCpuidModel {
  /** The name of the variant, or of the model. */
  readonly name: string;
  readonly model: CpuidModel;
  /** The variant; undefined for the model itself. */
  readonly variant: CpuidModelVariant | undefined;
  /** Every one-bit field that is 1, ordered by leaf, sub-leaf, register and bit. */
  readonly features: readonly CpuidFieldName[];
  /** The names of this model or variant in other programs. */
  readonly aliases: CpuidModelAliases;
}

const ALL: readonly CpuidModel[] = Object.freeze([...LEVELS, ...INTEL, ...AMD]);

interface Index {
  readonly all: readonly NamedCpuidModel[];
  readonly byKey: ReadonlyMap<string, NamedCpuidModel>;
  /** Every name and alias, in its original spelling. */
  readonly spellings: readonly string[];
}

let index: Index | undefined;

const keyOf = (name: string): string => name.toLowerCase().replace(/[-_]/g, "");

function spellingsOf({ name, aliases }: NamedCpuidModel): readonly string[] {
  return [...new Set([name, ...aliases.qemu, ...aliases.libvirt])];
}

/** Resolves every model once. One pass is enough, because each model follows the model that its `from` names. */
function open(): Index {
  if (index) return index;
  const order = new Map(fields().map(({ name }, i) => [name, i]));
  const sorted = (names: Iterable<CpuidFieldName>): readonly CpuidFieldName[] =>
    Object.freeze([...names].sort((a, b) => (order.get(a) ?? 0) - (order.get(b) ?? 0)));
  const changed = (
    base: Iterable<CpuidFieldName>,
    { add, remove }: Pick<CpuidModelVariant, "add" | "remove">,
  ): ReadonlySet<CpuidFieldName> => {
    const gone = new Set(remove);
    return new Set([...base, ...add].filter((name) => !gone.has(name)));
  };
  const features = new Map<string, ReadonlySet<CpuidFieldName>>();
  const all: NamedCpuidModel[] = [];
  for (const model of ALL) {
    const own = changed(model.from === undefined ? [] : (features.get(model.from) ?? []), model);
    features.set(model.name, own);
    const { name, aliases } = model;
    all.push(Object.freeze({ name, model, variant: undefined, features: sorted(own), aliases }));
    for (const variant of model.variants) {
      const bits = sorted(changed(own, variant));
      const { name: called, aliases: others } = variant;
      all.push(Object.freeze({ name: called, model, variant, features: bits, aliases: others }));
    }
  }
  const byKey = new Map(all.flatMap((m) => spellingsOf(m).map((s) => [keyOf(s), m] as const)));
  index = { all: Object.freeze(all), byKey, spellings: all.flatMap(spellingsOf) };
  return index;
}

/**
 * Lists every model, each after the model that it inherits from: the levels, then Intel's, AMD's and Hygon's models.
 */
export function models(): readonly CpuidModel[] {
  return ALL;
}

/** Lists every model and every variant, in the order of {@link models}, each model before its variants. */
export function namedModels(): readonly NamedCpuidModel[] {
  return open().all;
}

/** The meaning of QEMU's names of models that have no fixed features. */
const WITHOUT_FEATURES: Readonly<Record<string, string>> = {
  host: "stands for the CPU of the host in QEMU, so it has no fixed features",
  max: "stands for every feature that the host can give in QEMU, so it has no fixed features",
  base: "is QEMU's model without features",
};

/** Returns the known names that differ from a name only in the version at its end, as `-v4`. */
function versionsOf(name: string, spellings: readonly string[]): readonly string[] {
  const [, stem] = /^(.+)[-_]v\d+$/i.exec(name) ?? [];
  if (stem === undefined) return [];
  const key = keyOf(stem);
  return spellings.filter((one) => {
    const [, own] = /^(.+)-v\d+$/.exec(one) ?? [];
    return own !== undefined && keyOf(own) === key;
  });
}

/** Lists the known versions of the model, or suggests the name with the nearest spelling, or up to five names that contain the word. */
function hintFor(name: string, spellings: readonly string[]): string {
  const versions = versionsOf(name, spellings);
  if (versions.length > 0) return `; the known versions are ${versions.join(", ")}`;
  const nearest = nearestName(name, spellings);
  if (nearest !== undefined) return `; did you mean ${nearest}?`;
  const key = keyOf(name);
  const around = key === "" ? [] : spellings.filter((s) => keyOf(s).includes(key)).slice(0, 5);
  return around.length > 0 ? `; did you mean ${around.join(", ")}?` : "; models() lists the names";
}

/**
 * Finds a model or a variant by its name, or by its name in QEMU or libvirt. Case, `-` and `_` do not matter:
 * `x86_64_v3` and `EPYC-milan` are found. A name with a version, such as `Haswell-v4`, is a name of QEMU.
 *
 * @throws TypeError for an unknown name: `unknown CPU model "Hasswell"; did you mean Haswell?`
 */
export function findModel(name: string): NamedCpuidModel {
  if (typeof name !== "string") {
    throw new TypeError(`findModel(): name: expected a string, got ${describe(name)}`);
  }
  const { byKey, spellings } = open();
  const found = byKey.get(keyOf(name));
  if (found) return found;
  const meaning = Object.hasOwn(WITHOUT_FEATURES, name) ? WITHOUT_FEATURES[name] : undefined;
  if (meaning !== undefined) throw new TypeError(`the CPU model ${quoted(name)} ${meaning}`);
  throw new TypeError(`unknown CPU model ${quoted(name)}${hintFor(name, spellings)}`);
}
