/**
 * Turns features of a table on and off, and updates the rest of the table: the leaves of the features, the maxima,
 * AMD's repeated bits, and the width of virtual addresses. dependencies.ts lists the dependencies between features.
 */
import { dependentFeatures } from "./dependencies.ts";
import { type CpuidFieldName, field, fields } from "./field.ts";
import { layoutOf, withAddressSizes, withLeaf, withMaximum, withSubleaf } from "./leaf.ts";
import type { CpuidFieldValuesInput, CpuidTable } from "./table.ts";

/** A leaf that describes features. */
interface FeatureLeaf {
  readonly function: number;
  /** The leaf contains data only if one of these features is 1. */
  readonly features: readonly CpuidFieldName[];
  /** The values for fields of the leaf that are 0 when the feature is turned on. */
  readonly values?: CpuidFieldValuesInput;
  /** Whether the leaf also contains other data; such a leaf stays when the features are turned off. */
  readonly isShared?: true;
}

/** Source: SDM volume 2, CPUID; APM volume 3, appendix E; the tiles: SDM volume 1, 18.2. */
const FEATURE_LEAVES: readonly FeatureLeaf[] = [
  { function: 0x5, features: ["monitor"] },
  { function: 0x9, features: ["dca"] },
  { function: 0xd, features: ["xsave"], isShared: true },
  { function: 0xf, features: ["cqm"] },
  { function: 0x10, features: ["rdt_a"] },
  { function: 0x12, features: ["sgx"] },
  { function: 0x14, features: ["intel_pt"] },
  { function: 0x19, features: ["key_locker"] },
  { function: 0x1a, features: ["hybrid_cpu"] },
  { function: 0x1c, features: ["arch_lbr"] },
  {
    function: 0x1d,
    features: ["amx_tile"],
    values: {
      amx_max_palette: 1,
      amx_palette_size: 8192,
      amx_tile_size: 1024,
      amx_tile_row_size: 64,
      amx_palette_nr_tiles: 8,
      amx_tile_nr_rows: 16,
    },
  },
  { function: 0x1e, features: ["amx_tile"], values: { tmul_maxk: 16, tmul_maxn: 64 } },
  { function: 0x20, features: ["hreset"] },
  { function: 0x23, features: ["arch_perfmon_ext"] },
  // AVX10 version 1 with vectors of 128, 256 and 512 bits.
  {
    function: 0x24,
    features: ["avx10"],
    values: { avx10_version: 1, avx10_128: 1, avx10_256: 1, avx10_512: 1 },
  },
  { function: 0x29, features: ["apx_f"] },
  { function: 0x80000008, features: ["lm"], isShared: true },
  { function: 0x8000000a, features: ["svm"] },
  { function: 0x8000001b, features: ["ibs"] },
  { function: 0x8000001c, features: ["lwp"] },
  { function: 0x8000001d, features: ["topoext"] },
  { function: 0x8000001e, features: ["topoext"] },
  { function: 0x8000001f, features: ["sme", "sev"] },
  { function: 0x80000022, features: ["perfmon_v2"] },
];

/**
 * Returns the feature that a table needs for the leaf of a field; undefined if the leaf needs no feature, or if
 * `isOn` returns true for one of its features. Of several features, the last is returned: most bits of leaf 0x8000001f
 * belong to sev.
 */
export function leafFeature(
  name: CpuidFieldName,
  isOn: (feature: CpuidFieldName) => boolean,
): CpuidFieldName | undefined {
  const { space, function: fn } = field(name);
  if (space !== "native") return undefined;
  const leaf = FEATURE_LEAVES.find((one) => one.function === fn && one.isShared === undefined);
  return leaf === undefined || leaf.features.some(isOn) ? undefined : leaf.features.at(-1);
}

/** The one-bit fields of each leaf that describes one feature, by this feature. */
let contents: ReadonlyMap<CpuidFieldName, readonly CpuidFieldName[]> | undefined;

function contentsOf(feature: CpuidFieldName): readonly CpuidFieldName[] {
  contents ??= new Map(
    FEATURE_LEAVES.filter((leaf) => leaf.features.length === 1 && leaf.isShared === undefined).map(
      ({ function: fn, features: [one = feature] }) => [
        one,
        fields()
          .filter((it) => it.space === "native" && it.function === fn && it.low === it.high)
          .map(({ name }) => name),
      ],
    ),
  );
  return contents.get(feature) ?? [];
}

/**
 * Adds every feature that needs one of the given features, as dependentFeatures() does, and every feature that needs a
 * bit of a leaf that is cleared with them: without rdt_a, leaf 0x10 is zeros, and sdciae needs cat_l3 of this leaf. The
 * bits of these leaves are not in the list.
 */
export function leafDependents(off: Iterable<CpuidFieldName>): readonly CpuidFieldName[] {
  const found = new Set(dependentFeatures(off));
  // The iteration of a Set includes elements that are added during the iteration.
  for (const name of found) {
    const inside = contentsOf(name);
    for (const one of dependentFeatures(inside)) if (!inside.includes(one)) found.add(one);
  }
  return [...found];
}

/** Leaves whose highest sub-leaf is EAX of sub-leaf 0 (SDM volume 2). */
const COUNTED: ReadonlySet<number> = new Set([0x7, 0x14, 0x1d, 0x1e, 0x24]);

/** The bits of 1.edx that AMD repeats in 0x80000001.edx (APM volume 3, appendix E). */
const AMD_REPEATS = 0x0183f3ff;

/** Adds an entry of zeros if the table does not have it, and raises the maxima to include the entry. */
function withEntryFor(table: CpuidTable, fn: number, index: number): CpuidTable {
  const isHypervisor = fn >>> 28 === 4;
  const made = withSubleaf(isHypervisor ? table : withMaximum(table, fn), fn, index);
  if (!COUNTED.has(fn) || index === 0) return made;
  const whole = withSubleaf(made, fn, 0);
  const position = [...whole].findIndex((e) => e.function === fn && e.index === 0);
  const last = whole.at(position)?.eax ?? 0;
  return last >= index ? whole : whole.replace(position, { eax: index });
}

/**
 * Sets one field. The entry is added if it is absent and the value is not 0; the maxima are raised.
 *
 * @throws RangeError for a value that does not fit, and for a field of a hypervisor interface that the table lacks.
 */
export function withField(table: CpuidTable, name: CpuidFieldName, value: number): CpuidTable {
  const { space, function: relative, index } = field(name);
  const base = table.base(space);
  if (base === undefined) {
    if (value === 0) return table;
    throw new RangeError(`${name}: the table has no ${space} interface; add it with hypervisor()`);
  }
  if (table.get(name) === undefined) {
    if (value === 0) return table;
    const at = typeof index === "number" ? index : index.first;
    const made = withEntryFor(table, base + relative, at);
    return withHypervisorMaximum(made, base, base + relative).with({ [name]: value });
  }
  return table.with({ [name]: value });
}

/** Raises the maximum of a hypervisor's block; has no effect for the CPU's own leaves (base 0). */
function withHypervisorMaximum(table: CpuidTable, base: number, fn: number): CpuidTable {
  const first = base === 0 ? undefined : table.find(base, 0);
  return first === undefined || first.eax >= fn ? table : withLeaf(table, base, [{ eax: fn }]);
}

const on = (table: CpuidTable, names: readonly CpuidFieldName[]): boolean =>
  names.some((name) => table.has(name));

/** Sets each field of a list to its given value, unless the field is already nonzero. */
function filled(table: CpuidTable, values: CpuidFieldValuesInput): CpuidTable {
  const names = (Object.keys(values) as CpuidFieldName[]).filter((name) => !table.get(name));
  return names.reduce((made, name) => withField(made, name, values[name] ?? 0), table);
}

/**
 * Adds the leaves of features that `made` has and `before` lacks, and clears the leaves of features that only `before`
 * has.
 */
function withFeatureLeaves(before: CpuidTable, made: CpuidTable): CpuidTable {
  return FEATURE_LEAVES.reduce((table, { function: fn, features, values = {}, isShared }) => {
    const [was, is] = [on(before, features), on(table, features)];
    if (!was && is) return filled(withEntryFor(table, fn, 0), values);
    if (was && !is && isShared === undefined) {
      const zero = { eax: 0, ebx: 0, ecx: 0, edx: 0 };
      return table.map((e) => (e.function === fn ? { ...e, ...zero } : e));
    }
    return table;
  }, made);
}

/** Copies the changed bits of 1.edx, or all bits to a new leaf, to 0x80000001.edx, if the vendor is AMD or Hygon. */
function withRepeats(before: CpuidTable, made: CpuidTable): CpuidTable {
  const [old, now] = [before.find(1, 0)?.edx ?? 0, made.find(1, 0)?.edx ?? 0];
  const isNew = before.find(0x80000001, 0) === undefined;
  const changed = (isNew ? AMD_REPEATS : (old ^ now) & AMD_REPEATS) >>> 0;
  const ext = made.find(0x80000001, 0);
  if (changed === 0 || ext === undefined || layoutOf(made) !== "amd") return made;
  const edx = ((ext.edx & ~changed) | (now & changed)) >>> 0;
  return withLeaf(made, 0x80000001, [{ edx }]);
}

/** Sets the width of virtual addresses if la57 changed: 57 with la57, 48 without it. */
function withVirtualBits(before: CpuidTable, made: CpuidTable): CpuidTable {
  const isSame = before.has("la57") === made.has("la57");
  if (isSame || made.get("virt_addr_bits") === undefined) return made;
  return made.with({ virt_addr_bits: made.has("la57") ? 57 : 48 });
}

/**
 * Sets one-bit fields to 1 or 0, and updates the rest of the table: the leaves that describe a feature, the maxima,
 * AMD's repeated bits, and the width of virtual addresses. A new leaf 0x80000008 gets the widths 36 and 48.
 */
export function withFeatures(
  table: CpuidTable,
  add: Iterable<CpuidFieldName>,
  remove: Iterable<CpuidFieldName>,
): CpuidTable {
  let made = table;
  for (const name of add) made = withField(made, name, 1);
  for (const name of remove) made = withField(made, name, 0);
  made = withVirtualBits(table, withRepeats(table, withFeatureLeaves(table, made)));
  return table.get("phys_addr_bits") === undefined ? withAddressSizes(made) : made;
}
