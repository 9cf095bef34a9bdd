/**
 * Builds a table in steps from a model, another table or nothing. Each step is immutable and lists its changes.
 * feature-edits.ts, topology.ts, caches.ts, xsave.ts, hypervisor.ts and within.ts contain the code of the steps.
 */
import { inspectAs } from "../inspect.ts";
import { describe, nearestName, quoted, refuseMissing, refuseUnknown, toList } from "../options.ts";
import { findField, suggestFields } from "./aliases.ts";
import { type CpuidBuildChange, type CpuidBuildDifference, differences } from "./build-change.ts";
import { type CpuidCacheInput, withCaches, writeCaches } from "./caches.ts";
import { closeFeatures } from "./dependencies.ts";
import type { CpuidEntry2Input, CpuidRegister } from "./entry.ts";
import { leafDependents, leafFeature, withFeatures, withField } from "./feature-edits.ts";
import { type CpuidFieldName, field, formatBits } from "./field.ts";
import { type CpuidHypervisor, writeHypervisors } from "./hypervisor.ts";
import { layoutOf, packed, withAddressSizes, withLeaf, withMaximum } from "./leaf.ts";
import { findModel } from "./models/lookup.ts";
import { modelTable } from "./models/table.ts";
import { type CpuidFieldValuesInput, CpuidTable } from "./table.ts";
import {
  apicIds,
  type CpuidTopologyInput,
  forVcpu,
  withTopology,
  writeTopology,
} from "./topology.ts";
import { LEAST_EXTENDED_FAMILY } from "./values.ts";
import { withinSupported } from "./within.ts";
import { type WithXsaveOptions, writeXsave, xsaveFeatures } from "./xsave.ts";

/** A feature to turn on ("+avx2") or off ("-rtm"), by the database's name. */
export type CpuidFeatureEdit = `${"+" | "-"}${CpuidFieldName}`;

/** The last argument of {@link CpuidBuilder.features}. */
export interface CpuidFeaturesOptions {
  /**
   * The treatment of features that depend on each other. With "close", the default, turning a feature on also turns on
   * all features that it needs. Turning a feature off also turns off all features that need it. With "refuse", a call
   * that would change further features throws a RangeError.
   */
  readonly dependencies?: "close" | "refuse";
}

/** The signature of a CPU, as software displays it. Omitted members keep their values. */
export interface CpuidSignatureInput {
  /** Base plus extended family, 0 to 270. */
  readonly family?: number;
  /** Extended and base model, 0 to 255; values above 15 need family 6, or family 15 or later. */
  readonly model?: number;
  /** 0 to 15. */
  readonly stepping?: number;
}

/** The vendor strings of leaf 0 for which KVM's behaviour is known. */
export type CpuidBuildVendor = "GenuineIntel" | "AuthenticAMD" | "HygonGenuine" | "CentaurHauls";

const VENDORS: readonly CpuidBuildVendor[] = [
  "GenuineIntel",
  "AuthenticAMD",
  "HygonGenuine",
  "CentaurHauls",
];

/** Returns the bytes of a text as little-endian words, with zeros after its end. */
function wordsOf(text: string, count: number): readonly number[] {
  const byte = (at: number): number => (at < text.length ? text.charCodeAt(at) : 0);
  return Array.from({ length: count }, (_, i) =>
    packed([0, 1, 2, 3].map((j) => [8 * j + 7, 8 * j, byte(4 * i + j)] as const)),
  );
}

/** Parses and resolves the edits of a call. */
function parseEdits(edits: readonly unknown[]): {
  readonly add: readonly CpuidFieldName[];
  readonly remove: readonly CpuidFieldName[];
} {
  const add: CpuidFieldName[] = [];
  const remove: CpuidFieldName[] = [];
  for (const edit of edits) {
    if (typeof edit !== "string") {
      throw new TypeError(`features(): expected a text as "+avx2", got ${describe(edit)}`);
    }
    if (!edit.startsWith("+") && !edit.startsWith("-")) {
      throw new RangeError(`features(): ${quoted(edit)} does not begin with "+" or "-"`);
    }
    (edit.startsWith("+") ? add : remove).push(featureOf(edit.slice(1)));
  }
  return { add, remove };
}

/** Whether a register describes XSAVE components, which follow from the features: leaf 0xD except for 0xD.1:eax. */
const describesComponents = (fn: number, index: number, register: CpuidRegister): boolean =>
  fn === 0xd && (index !== 1 || register !== "eax");

function featureOf(word: string): CpuidFieldName {
  const found = findField(word);
  if (found === undefined) {
    const near = suggestFields(word);
    const hint = near.length > 0 ? `; did you mean ${near.join(", ")}?` : "";
    throw new RangeError(`features(): unknown feature ${quoted(word)}${hint}`);
  }
  const { name, low, high, function: fn, register, index } = found;
  const at = typeof index === "number" ? index : index.first;
  const place = formatBits({ function: fn, index: at, register, low, high });
  if (low === high && found.space === "native" && describesComponents(fn, at, register)) {
    throw new RangeError(
      `features(): ${name} (${place}) describes XSAVE components, which follow from the features; set() writes it alone`,
    );
  }
  if (low === high) return name;
  throw new RangeError(`features(): ${name} (${place}) is a number, not a feature; use set()`);
}

/** The features to change, each with the reason. */
type Reasons = ReadonlyMap<CpuidFieldName, string>;

const ASKED = "it was asked for";
const FROM_XSAVE = "it follows from the features with XSAVE state";

/**
 * Adds the features that the requested features need or that depend on them; the reason names the requested feature.
 */
function following(
  asked: readonly CpuidFieldName[],
  reach: (names: readonly CpuidFieldName[]) => readonly CpuidFieldName[],
  words: (cause: CpuidFieldName) => string,
): Map<CpuidFieldName, string> {
  const reasons = new Map<CpuidFieldName, string>(asked.map((name) => [name, ASKED]));
  for (const cause of asked) {
    for (const name of reach([cause])) if (!reasons.has(name)) reasons.set(name, words(cause));
  }
  return reasons;
}

/**
 * Adds the features that the given features need: those of dependencies.ts, and the feature whose leaf contains a given
 * feature, such as amx_tile for a bit of leaf 0x1e.
 */
function closeWithLeaves(
  table: CpuidTable,
  names: readonly CpuidFieldName[],
): readonly CpuidFieldName[] {
  const closed = closeFeatures(names);
  const missing = closed.flatMap(
    (name) => leafFeature(name, (one) => closed.includes(one) || table.has(one)) ?? [],
  );
  return missing.length === 0 ? closed : closeWithLeaves(table, [...closed, ...missing]);
}

function refuseConflict(add: Reasons, remove: readonly CpuidFieldName[]): void {
  for (const name of remove) {
    const reason = add.get(name);
    if (reason === undefined) continue;
    const why = reason === ASKED ? `"+${name}" turns on` : `is turned on, because ${reason}`;
    throw new RangeError(`features(): "-${name}" turns off what ${why}`);
  }
}

function refuseUnclosed(table: CpuidTable, add: Reasons, remove: Reasons): void {
  const advice = 'or use { dependencies: "close" }';
  for (const [name, reason] of add) {
    if (reason === ASKED || table.has(name)) continue;
    throw new RangeError(
      `features(): ${reason.replace(/ it$/, "")} ${name}, which the table lacks; add "+${name}" ${advice}`,
    );
  }
  for (const [name, reason] of remove) {
    if (reason === ASKED || !table.has(name)) continue;
    const cause = reason.replace(/^it needs /, "");
    throw new RangeError(
      `features(): ${name} needs ${cause}, which "-${cause}" turns off; add "-${name}" ${advice}`,
    );
  }
}

/** The reasons for changes of fields that the arguments of features() do not name. */
function consequence({ name, where }: CpuidBuildDifference): string {
  if (where.startsWith("0xd.")) return FROM_XSAVE;
  if (name === "virt_addr_bits") return "it follows from la57";
  if (where.startsWith("0x80000001.0:edx")) return "AMD repeats 0x1:edx there";
  if (
    /^(0x0|0x80000000|0x7|0x[0-9a-f]+)\.0:eax/.test(where) &&
    name !== undefined &&
    /max|n_sub/.test(name)
  )
    return "the leaf of a feature is within it";
  return "it belongs to a feature that changed";
}

function packSignature(where: string, wanted: Required<CpuidSignatureInput>): number {
  const { family, model, stepping } = wanted;
  const most = { family: 270, model: 255, stepping: 15 } as const;
  for (const name of ["family", "model", "stepping"] as const) {
    const value = wanted[name];
    if (Number.isInteger(value) && value >= 0 && value <= most[name]) continue;
    throw new RangeError(
      `${where}: ${name}: expected an integer from 0 to ${most[name]}, got ${describe(value)}`,
    );
  }
  const base = Math.min(15, family);
  if (model > 15 && base < LEAST_EXTENDED_FAMILY) {
    throw new RangeError(
      `${where}: model ${model} is above 15, which only families from ${LEAST_EXTENDED_FAMILY} on have`,
    );
  }
  return packed([
    [3, 0, stepping],
    [7, 4, model & 15],
    [11, 8, base],
    [19, 16, model >> 4],
    [27, 20, family - base],
  ]);
}

/** Formats rising ids as ranges: `0-5, 8-13`. */
function rangesOf(ids: readonly number[]): string {
  const found: { first: number; last: number }[] = [];
  for (const id of ids) {
    const range = found.at(-1);
    if (range?.last === id - 1) range.last = id;
    else found.push({ first: id, last: id });
  }
  const shown = found
    .slice(0, MOST_RANGES)
    .map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`));
  const more = found.length - MOST_RANGES;
  return `${shown.join(", ")}${more > 0 ? ` and ${more} more ranges` : ""}`;
}

/** The maximum number of ranges that a message lists. */
const MOST_RANGES = 8;

const LONGEST_BRAND = 47;

/**
 * A table that is built in steps. Each method returns a new builder and leaves the old builder unchanged. Entries keep
 * their order; a new entry is placed after the last entry with a lower function and index.
 */
export class CpuidBuilder {
  readonly #table: CpuidTable;
  #changes: readonly CpuidBuildChange[] = [];
  /** The APIC ids of the topology, if it was set. */
  #ids: readonly number[] | undefined;

  /** Starts with the given entries, unchanged; callers usually start with a function of {@link cpuid}. */
  constructor(entries: Iterable<CpuidEntry2Input>) {
    this.#table =
      entries instanceof CpuidTable
        ? entries
        : CpuidTable.from(toList("new CpuidBuilder()", entries));
    Object.freeze(this);
  }

  /** The table that is built so far; if a topology was set, it is the table of the vCPU with APIC id 0. */
  get table(): CpuidTable {
    return this.#table;
  }

  /** The changes of all steps, in order, each with its reason. */
  get changes(): readonly CpuidBuildChange[] {
    return this.#changes;
  }

  #next(
    step: string,
    table: CpuidTable,
    reasonOf: (change: CpuidBuildDifference) => string,
  ): CpuidBuilder {
    const made = new CpuidBuilder(table);
    const changes = differences(this.#table, table).map((change) =>
      Object.freeze({ step, ...change, reason: reasonOf(change) }),
    );
    made.#changes = Object.freeze([...this.#changes, ...changes]);
    made.#ids = this.#ids;
    return made;
  }

  /**
   * Turns features on ("+avx2") and off ("-rtm"). Any name that findField() knows is accepted at run time. Turning a
   * feature on or off also updates its leaf, the maxima, and AMD's repeated bits in 0x80000001:edx. For la57, the width
   * of virtual addresses changes as well. If the XSAVE components change, leaf 0xD is recomputed as {@link xsave} does.
   *
   * @param edits - the features; the last argument may be options.
   * @throws RangeError for an unknown name, with suggestions; for a field of several bits; for a feature that is both
   *   turned on and off; with `{ dependencies: "refuse" }` for a missing dependency; if the components of the features
   *   overlap, such as those of MPX and APX: turn one off in the same call. TypeError for anything but a text.
   */
  features(...edits: readonly (CpuidFeatureEdit | CpuidFeaturesOptions)[]): CpuidBuilder {
    const last = edits.at(-1);
    const hasOptions = typeof last === "object" && last !== null;
    const options: CpuidFeaturesOptions = hasOptions ? last : {};
    refuseUnknown("features()", options, ["dependencies"]);
    const { dependencies = "close" } = options;
    if (dependencies !== "close" && dependencies !== "refuse") {
      throw new TypeError(
        `features(): dependencies is "close" or "refuse", not ${describe(dependencies)}`,
      );
    }
    const asked = parseEdits(hasOptions ? edits.slice(0, -1) : edits);
    const close = (names: readonly CpuidFieldName[]): readonly CpuidFieldName[] =>
      closeWithLeaves(this.#table, names);
    const add = following(asked.add, close, (cause) => `${cause} needs it`);
    refuseConflict(add, asked.remove);
    const remove = following(asked.remove, leafDependents, (cause) => `it needs ${cause}`);
    if (dependencies === "refuse") refuseUnclosed(this.#table, add, remove);
    const changed = withFeatures(this.#table, add.keys(), remove.keys());
    const isSameXsave = xsaveFeatures(this.#table) === xsaveFeatures(changed);
    const made = isSameXsave ? changed : writeXsave("features()", changed, {});
    return this.#next("features", made, (change) => {
      const own = change.name && (add.get(change.name) ?? remove.get(change.name));
      return own ?? consequence(change);
    });
  }

  /**
   * Sets fields to values. If the table lacks the entry, the entry is added, and the maxima are raised to include it.
   * Nothing else follows the values: use {@link features} for features, or call {@link xsave} afterwards for a feature
   * with XSAVE state.
   *
   * @param index - selects the sub-leaf for fields that several sub-leaves have; the sub-leaf must exist.
   * @throws RangeError for a value that does not fit; TypeError for an unknown field, with suggestions.
   */
  set(values: CpuidFieldValuesInput, index?: number): CpuidBuilder {
    refuseMissing("set(): values", values, []);
    const names = (Object.keys(values) as CpuidFieldName[]).map((name) => field(name).name);
    const made =
      index === undefined
        ? names.reduce(
            (table, name) => withField(table, name, values[name] ?? Number.NaN),
            this.#table,
          )
        : this.#table.with(values, index);
    return this.#next("set", made, ({ name }) =>
      name !== undefined && names.includes(name) ? ASKED : "the field is within it",
    );
  }

  /** Writes a topology; see {@link withTopology} for the leaves and the errors. */
  topology(topology: CpuidTopologyInput): CpuidBuilder {
    const made = writeTopology("topology()", this.#table, topology);
    const next = this.#next("topology", made, () => "it follows from the topology");
    next.#ids = apicIds(topology);
    return next;
  }

  /**
   * Writes the caches. Set the topology first, because it determines which CPUs share a cache. The result of cachesOf()
   * is accepted. See {@link withCaches} for the leaves and the errors.
   */
  caches(caches: Iterable<CpuidCacheInput>): CpuidBuilder {
    const made = writeCaches("caches()", this.#table, caches);
    return this.#next("caches", made, () => "it describes the caches");
  }

  /**
   * Sets the brand string, leaves 0x80000002 to 0x80000004.
   *
   * @param text - 1 to 47 printable ASCII characters; a NUL follows.
   * @throws RangeError for any other text.
   */
  brand(text: string): CpuidBuilder {
    if (typeof text !== "string") {
      throw new TypeError(`brand(): expected a text, got ${describe(text)}`);
    }
    if (text.length > LONGEST_BRAND || !/^[\x20-\x7e]*[\x21-\x7e][\x20-\x7e]*$/.test(text)) {
      throw new RangeError(
        `brand(): expected 1 to ${LONGEST_BRAND} printable ASCII characters, got ${describe(text)}`,
      );
    }
    const words = wordsOf(text, 12);
    const made = [0, 1, 2].reduce(
      (table, i) => {
        const [eax = 0, ebx = 0, ecx = 0, edx = 0] = words.slice(4 * i, 4 * i + 4);
        return withLeaf(table, 0x80000002 + i, [{ eax, ebx, ecx, edx }]);
      },
      withMaximum(this.#table, 0x80000004),
    );
    return this.#next("brand", made, () => ASKED);
  }

  /**
   * Sets the width of physical addresses, 0x80000008:eax[7:0]. If the width for nested guests is larger, it is reduced
   * to the same number.
   *
   * @param bits - 32 to 52.
   * @throws RangeError for any other number.
   */
  physicalBits(bits: number): CpuidBuilder {
    if (!Number.isInteger(bits) || bits < 32 || bits > 52) {
      throw new RangeError(
        `physicalBits(): expected an integer from 32 to 52, got ${describe(bits)}`,
      );
    }
    const sized = withAddressSizes(withField(this.#table, "phys_addr_bits", bits));
    const isWider = (sized.get("guest_phys_addr_bits") ?? 0) > bits;
    const made = isWider ? sized.with({ guest_phys_addr_bits: bits }) : sized;
    return this.#next("physicalBits", made, ({ name }) =>
      name === "phys_addr_bits" ? ASKED : "it goes with the width of physical addresses",
    );
  }

  /**
   * Sets the width of virtual addresses, 0x80000008:eax[15:8], and sets la57 if the width is 57. KVM rejects other
   * widths. If the table has no width of physical addresses, it becomes 36, which KVM assumes for such a table.
   *
   * @throws RangeError for anything but 48 and 57.
   */
  virtualBits(bits: 48 | 57): CpuidBuilder {
    if (bits !== 48 && bits !== 57) {
      throw new RangeError(`virtualBits(): expected 48 or 57, got ${describe(bits)}`);
    }
    const wide = withField(this.#table, "virt_addr_bits", bits);
    const sized = withAddressSizes(wide);
    const made =
      bits === 57
        ? withFeatures(sized, closeFeatures(["la57"]), [])
        : withFeatures(sized, [], ["la57"]);
    return this.#next("virtualBits", made, ({ name }) =>
      name === "virt_addr_bits" ? ASKED : "it goes with the width of virtual addresses",
    );
  }

  /**
   * Sets family, model and stepping in 0x1:eax, and on AMD in 0x80000001:eax. Omitted members keep their values.
   *
   * @throws RangeError for a number that does not fit the fields; TypeError for an unknown member.
   */
  signature(signature: CpuidSignatureInput): CpuidBuilder {
    refuseUnknown("signature()", signature, ["family", "model", "stepping"], "member");
    const get = (name: CpuidFieldName): number => this.#table.get(name) ?? 0;
    const eax = packSignature("signature()", {
      family: signature.family ?? get("base_family_id") + get("ext_family"),
      model: signature.model ?? (get("ext_model") << 4) + get("base_model"),
      stepping: signature.stepping ?? get("stepping"),
    });
    const made = withLeaf(this.#table, 1, [{ eax }]);
    const isRepeated = layoutOf(made) === "amd" && made.find(0x80000001, 0) !== undefined;
    return this.#next(
      "signature",
      isRepeated ? withLeaf(made, 0x80000001, [{ eax }]) : made,
      ({ where }) => (where.startsWith("0x1.") ? ASKED : "AMD repeats 0x1:eax there"),
    );
  }

  /** Recomputes leaf 0xD from the features; see {@link withXsave} for the rules and the errors. */
  xsave(options: WithXsaveOptions = {}): CpuidBuilder {
    const made = writeXsave("xsave()", this.#table, options);
    return this.#next("xsave", made, () => FROM_XSAVE);
  }

  /**
   * Replaces all hypervisor interfaces with the given ones; see {@link withHypervisors} for their contents and the
   * errors.
   *
   * @param kinds - the interfaces in the order of their bases, or "none" to remove all and clear the hypervisor bit.
   */
  hypervisor(...kinds: readonly CpuidHypervisor[] | readonly ["none"]): CpuidBuilder {
    if (kinds.length === 0) {
      throw new TypeError('hypervisor(): expected names of interfaces, or "none", got none');
    }
    const isNone = kinds.length === 1 && kinds[0] === "none";
    const made = writeHypervisors(
      "hypervisor()",
      this.#table,
      isNone ? [] : kinds.filter((kind): kind is CpuidHypervisor => kind !== "none" || !isNone),
    );
    return this.#next("hypervisor", made, ({ where }) =>
      where.startsWith("0x1.")
        ? "it is 1 if and only if there is a hypervisor leaf"
        : "it belongs to the hypervisor interfaces",
    );
  }

  /**
   * Removes each feature that KVM_GET_SUPPORTED_CPUID on the host does not report, and each feature that needs a
   * removed feature. The widths of addresses are limited to the host's widths, and leaf 0xD gets the host's sizes and
   * offsets. {@link changes} lists each removed bit. Hyper-V's and Xen's leaves are not checked, because
   * KVM_GET_SUPPORTED_CPUID does not report them. osxsave, ospke, ht and tsc_deadline_timer are not checked, because
   * this ioctl may omit them.
   */
  within(supported: Iterable<CpuidEntry2Input>): CpuidBuilder {
    const host = CpuidTable.from(toList("within()", supported));
    const { table, dropped } = withinSupported(this.#table, host);
    return this.#next("within", table, ({ name, where, before, after }) => {
      const reason = name && dropped.get(name);
      if (reason !== undefined) return reason;
      if (where.startsWith("0xd.")) return "it follows from the features and the CPU's XSAVE";
      if (where.startsWith("0x80000008.0:eax")) return "KVM supports no wider addresses";
      if ((before ?? 0) !== 0 && after === 0) return "KVM does not support it";
      return "it has to be the CPU's";
    });
  }

  /**
   * Returns the table of one vCPU; see {@link forVcpu} for the fields that differ between vCPUs.
   *
   * @param apicId - one of the ids of the topology, if it was set; {@link apicIds} lists them.
   * @throws RangeError for an id outside of the topology, and for a number that is not a u32.
   */
  forVcpu(apicId: number): CpuidTable {
    const made = forVcpu(this.#table, apicId);
    const ids = this.#ids;
    if (ids !== undefined && !ids.includes(apicId)) {
      throw new RangeError(
        `forVcpu(): apicId ${apicId} is not an id of the topology; apicIds() lists them: ${rangesOf(ids)}`,
      );
    }
    return made;
  }

  static {
    inspectAs(CpuidBuilder, (it) => ({ table: it.#table, changes: it.#changes }));
  }
}

/** The ways to start a builder. */
export interface CpuidStart {
  /**
   * Starts with a model or a variant, by any of its names; models() lists the models. The table has one CPU with one
   * thread, the model's caches, and no hypervisor leaves.
   *
   * @throws TypeError for an unknown name, with suggestions.
   */
  readonly model: (name: string) => CpuidBuilder;
  /** Starts with the unchanged entries of a table, such as the result of KVM_GET_SUPPORTED_CPUID or a dump. */
  readonly from: (entries: Iterable<CpuidEntry2Input>) => CpuidBuilder;
  /**
   * Starts with leaves 0, 1 and 0x80000000, which contain only a vendor, "GenuineIntel" by default.
   *
   * @throws TypeError for an unknown vendor.
   */
  readonly empty: (vendor?: CpuidBuildVendor) => CpuidBuilder;
}

function emptyTable(vendor: CpuidBuildVendor): CpuidTable {
  if (!VENDORS.includes(vendor)) {
    const near = typeof vendor === "string" ? nearestName(vendor, VENDORS) : undefined;
    const hint = near === undefined ? `known are ${VENDORS.join(", ")}` : `did you mean "${near}"?`;
    throw new TypeError(`empty(): unknown vendor ${describe(vendor)}; ${hint}`);
  }
  const [ebx = 0, edx = 0, ecx = 0] = wordsOf(vendor, 3);
  const isAmd = vendor === "AuthenticAMD" || vendor === "HygonGenuine";
  return CpuidTable.from([
    { function: 0, eax: 1, ebx, ecx, edx },
    { function: 1 },
    { function: 0x80000000, eax: 0x80000000, ...(isAmd ? { ebx, ecx, edx } : {}) },
  ]);
}

/** Returns the table of a model with a topology of one logical CPU and with its caches. */
function wholeModel(name: string): CpuidTable {
  const { caches } = findModel(name).model;
  const single = withTopology(modelTable(name), {});
  const inputs = caches.map(({ kib, ...cache }) => ({ ...cache, size: kib * 1024 }));
  return inputs.length === 0 ? single : withCaches(single, inputs);
}

/**
 * Starts a {@link CpuidBuilder}.
 *
 * @example
 * ```ts run
 * import { cpuid, formatBuildChange } from "node-kvm/cpuid";
 *
 * const guest = cpuid.empty("AuthenticAMD").features("+avx2").xsave().hypervisor("kvm");
 * const [first, ...rest] = guest.topology({ cores: 2, threads: 2 }).changes;
 * if (first) console.log(formatBuildChange(first));
 * console.log(rest.length > 0, guest.forVcpu(3).get("local_apic_id"));
 * ```
 *
 * ```text output
 * features: 0x0.0:eax[31:0] max_std_leaf: 1 -> 0xd, because the leaf of a feature is within it
 * true 3
 * ```
 */
export const cpuid: CpuidStart = Object.freeze({
  model: (name: string): CpuidBuilder => new CpuidBuilder(wholeModel(name)),
  from: (entries: Iterable<CpuidEntry2Input>): CpuidBuilder => new CpuidBuilder(entries),
  empty: (vendor: CpuidBuildVendor = "GenuineIntel"): CpuidBuilder =>
    new CpuidBuilder(emptyTable(vendor)),
});
