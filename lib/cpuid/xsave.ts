/**
 * The components of the XSAVE area. This file reads leaf 0xD, which describes the components, and recomputes the leaf
 * from a table's features. lib/oracle contains KVM's rules for XCR0.
 */
import { describe, refuseMissing, refuseUnknown, toList } from "../options.ts";
import type { CpuidEntry2Input } from "./entry.ts";
import { type CpuidFieldName, readField } from "./field.ts";
import { layoutOf, leafEntries, packed, withLeaf, withMaximum } from "./leaf.ts";
import { type CpuidTable, refuseNonTable } from "./table.ts";

/** Describes a component of the XSAVE area. */
export interface XsaveComponent {
  /** The bit in XCR0 or IA32_XSS, and the sub-leaf of leaf 0xD. */
  readonly number: number;
  /** The name in the manuals and in Linux, such as `ZMM_Hi256`. */
  readonly name: string;
  /** The register that enables the component: XCR0 for "user", IA32_XSS for "supervisor". */
  readonly kind: "user" | "supervisor";
  /** The size in bytes. */
  readonly size: number;
  /** Whether the component starts at a multiple of 64 bytes in the compacted format. */
  readonly isAligned: boolean;
  /**
   * The offset in the standard format; undefined for a supervisor component, which the standard format does not
   * contain.
   */
  readonly offset: { readonly intel: number; readonly amd: number } | undefined;
  /**
   * The features that use the component; if the component is enabled, at least one of them is 1. The list is empty for
   * x87 and SSE.
   */
  readonly features: readonly CpuidFieldName[];
  /** Whether IA32_XFD can disable the component. */
  readonly hasXfd: boolean;
  /**
   * Whether a feature alone enables the component. If no feature alone enables a component, it stays enabled only if
   * the table already enables it. KVM 7.2 does not allow a guest to enable such a component in IA32_XSS, although the
   * CPU has it.
   */
  readonly isGiven: boolean;
}

type Row = readonly [
  number: number,
  name: string,
  size: number,
  offset: readonly [intel: number, amd: number] | undefined,
  features: readonly CpuidFieldName[],
  marks?: readonly ("aligned" | "xfd" | "kept")[],
];

/**
 * Source: SDM volume 1, chapter 13, and volume 2, CPUID leaf 0xD; APM volume 2, chapter 11.5. For AMD's CPUs with
 * AVX-512, MPX, LWP or PKRU, the sizes and offsets come from leaf 0xD of these CPUs. Only Intel CPUs have MPX, AMX and
 * APX.
 */
const ROWS: readonly Row[] = [
  [0, "x87", 160, [0, 0], []],
  [1, "SSE", 256, [160, 160], []],
  [2, "AVX", 256, [576, 576], ["avx"]],
  [3, "BNDREGS", 64, [960, 960], ["mpx"]],
  [4, "BNDCSR", 64, [1024, 1024], ["mpx"]],
  [5, "opmask", 64, [1088, 832], ["avx512f", "avx10"]],
  [6, "ZMM_Hi256", 512, [1152, 896], ["avx512f", "avx10"]],
  [7, "Hi16_ZMM", 1024, [1664, 1408], ["avx512f", "avx10"]],
  [8, "PT", 128, undefined, ["intel_pt"], ["kept"]],
  [9, "PKRU", 8, [2688, 2432], ["pku"]],
  [10, "PASID", 8, undefined, ["enqcmd"], ["kept"]],
  [11, "CET_U", 16, undefined, ["cet_ss", "ibt"]],
  [12, "CET_S", 24, undefined, ["cet_ss", "ibt"]],
  [13, "HDC", 8, undefined, ["hdc_base_regs"], ["kept"]],
  [14, "UINTR", 48, undefined, ["uintr"], ["kept"]],
  [15, "LBR", 808, undefined, ["arch_lbr"], ["kept"]],
  [16, "HWP", 8, undefined, ["hwp"], ["kept"]],
  [17, "TILECFG", 64, [2752, 2752], ["amx_tile"], ["aligned"]],
  [18, "TILEDATA", 8192, [2816, 2816], ["amx_tile"], ["aligned", "xfd"]],
  [19, "APX", 128, [960, 960], ["apx_f"]],
  [62, "LWP", 128, [832, 832], ["lwp"]],
];

/** Lists every component that the manuals define, by number: 0 to 19, and 62 of AMD. */
export const XSAVE_COMPONENTS: readonly XsaveComponent[] = Object.freeze(
  ROWS.map(([number, name, size, offset, features, marks = []]) =>
    Object.freeze({
      number,
      name,
      kind: offset === undefined ? "supervisor" : "user",
      size,
      isAligned: marks.includes("aligned"),
      offset: offset && Object.freeze({ intel: offset[0], amd: offset[1] }),
      features: Object.freeze(features),
      hasXfd: marks.includes("xfd"),
      isGiven: !marks.includes("kept"),
    } as const),
  ),
);

/** The size of the legacy region and the header of an XSAVE area (SDM volume 1, 13.4). */
const FIRST_OFFSET = 576;
/** The first component that has a sub-leaf. */
const FIRST_EXTENDED = 2;
const LAST_COMPONENT = 62;

/** A component as a table describes it. */
export interface XsavePart {
  readonly number: number;
  /** The manuals' name; undefined for a component that they do not define. */
  readonly name: string | undefined;
  /** The size in bytes: eax of the component's sub-leaf. */
  readonly size: number;
  /** The offset in the standard format: ebx of the sub-leaf; 0 for a supervisor component. */
  readonly offset: number;
  /** The register that enables the component: IA32_XSS ("supervisor") if bit 0 of ecx is 1, otherwise XCR0 ("user"). */
  readonly kind: "user" | "supervisor";
  /** Whether the component is aligned in the compacted format: bit 1 of ecx. */
  readonly isAligned: boolean;
  /** Whether IA32_XFD can disable the component: bit 2 of ecx. */
  readonly hasXfd: boolean;
}

/** The decoded leaf 0xD: the masks of XCR0 and IA32_XSS, the sizes, and the components. */
export interface XsaveLayout {
  /** The bits that can be set in XCR0: edx and eax of sub-leaf 0. */
  readonly xcr0: bigint;
  /** The bits that can be set in IA32_XSS: edx and ecx of sub-leaf 1. */
  readonly xss: bigint;
  /** The size in bytes for the current XCR0: ebx of sub-leaf 0. KVM writes this size. */
  readonly currentSize: number;
  /** The size in bytes if all possible bits of XCR0 are set: ecx of sub-leaf 0. KVM does not write this size. */
  readonly size: number;
  /** The compacted size in bytes for the current XCR0 and IA32_XSS: ebx of sub-leaf 1. KVM writes this size. */
  readonly currentCompactedSize: number;
  /** The components 2 to 62 whose sub-leaf contains a size, by number; they may be disabled. */
  readonly parts: readonly XsavePart[];
}

const isIn = (mask: bigint, number: number): boolean => ((mask >> BigInt(number)) & 1n) === 1n;

/** Checks and returns a list of components. @throws TypeError for anything else. */
function partsIn<Part extends object>(
  where: string,
  parts: Iterable<Part>,
  last: keyof Part & string,
): readonly Part[] {
  const list = toList(where, parts);
  for (const [i, part] of list.entries()) {
    refuseMissing(`${where}: [${i}]`, part, ["number", "size", last]);
  }
  return list;
}

/**
 * Computes the size of an XSAVE area in the standard format: the end of the last user component of the mask, at least
 * 576.
 *
 * @param mask - the bits of XCR0.
 */
export function xsaveSize(
  parts: Iterable<Pick<XsavePart, "number" | "size" | "offset">>,
  mask: bigint,
): number {
  let end = FIRST_OFFSET;
  for (const { number, size, offset } of partsIn("xsaveSize()", parts, "offset")) {
    if (number >= FIRST_EXTENDED && isIn(mask, number)) end = Math.max(end, offset + size);
  }
  return end;
}

/**
 * Computes the size of an XSAVE area in the compacted format: 576, plus each component of the mask in the order of
 * their numbers; an aligned component starts at a multiple of 64 (SDM volume 1, 13.4.3).
 *
 * @param mask - the bits of XCR0 and IA32_XSS.
 */
export function xsaveCompactedSize(
  parts: Iterable<Pick<XsavePart, "number" | "size" | "isAligned">>,
  mask: bigint,
): number {
  const used = partsIn("xsaveCompactedSize()", parts, "isAligned").filter(
    ({ number }) => number >= FIRST_EXTENDED && isIn(mask, number),
  );
  return used
    .sort((a, b) => a.number - b.number)
    .reduce(
      (end, { size, isAligned }) => (isAligned ? Math.ceil(end / 64) * 64 : end) + size,
      FIRST_OFFSET,
    );
}

function partOf({ index = 0, eax = 0, ebx = 0, ecx = 0 }: CpuidEntry2Input): XsavePart {
  return {
    number: index,
    name: XSAVE_COMPONENTS.find(({ number }) => number === index)?.name,
    size: eax,
    offset: ebx,
    kind: readField(ecx, 0, 0) === 1 ? "supervisor" : "user",
    isAligned: readField(ecx, 1, 1) === 1,
    hasXfd: readField(ecx, 2, 2) === 1,
  };
}

const wide = (high = 0, low = 0): bigint => (BigInt(high) << 32n) | BigInt(low);

/** Reads leaf 0xD of a table; undefined if the table has no sub-leaf 0 of leaf 0xD. */
export function xsaveOf(table: CpuidTable): XsaveLayout | undefined {
  refuseNonTable("xsaveOf(): table", table);
  const main = table.find(0xd, 0);
  if (main === undefined) return undefined;
  const second = table.find(0xd, 1);
  const parts = leafEntries(table, 0xd)
    .filter(
      ({ index = 0, eax = 0 }) => index >= FIRST_EXTENDED && index <= LAST_COMPONENT && eax > 0,
    )
    .map(partOf)
    .sort((a, b) => a.number - b.number);
  return {
    xcr0: wide(main.edx, main.eax),
    xss: wide(second?.edx, second?.ecx),
    currentSize: main.ebx,
    size: main.ecx,
    currentCompactedSize: second?.ebx ?? 0,
    parts,
  };
}

/** The options of {@link withXsave}. */
export interface WithXsaveOptions {
  /**
   * The vendor that determines the offsets of all components. By default, a component keeps the size and offset that
   * its sub-leaf has, because the CPU's XSAVE instruction uses them; a component without a sub-leaf gets the size and
   * the offset of the table's vendor.
   */
  readonly vendor?: "intel" | "amd";
}

/** Selects the components that the features of a table enable. */
function enabledIn(table: CpuidTable): readonly XsaveComponent[] {
  const { xss = 0n } = xsaveOf(table) ?? {};
  return XSAVE_COMPONENTS.filter(
    ({ number, kind, features, isGiven }) =>
      (kind === "user" || table.has("xsaves")) &&
      (isGiven || isIn(xss, number)) &&
      (features.length === 0 || features.some((name) => table.has(name))),
  );
}

/** Chooses the size and the offset of a component. */
function laidOut(
  component: XsaveComponent,
  old: XsavePart | undefined,
  vendor: "intel" | "amd",
  tileBytes: number,
): XsavePart {
  const { number, name, kind, isAligned, hasXfd, offset } = component;
  const isUsable =
    old !== undefined && old.kind === kind && (kind !== "user" || old.offset >= FIRST_OFFSET);
  const size = number === 18 && tileBytes > 0 ? tileBytes : component.size;
  return {
    number,
    name,
    kind,
    size: isUsable && number !== 18 ? old.size : size,
    offset: kind === "supervisor" ? 0 : isUsable ? old.offset : (offset?.[vendor] ?? 0),
    isAligned: isUsable ? old.isAligned : isAligned,
    hasXfd,
  };
}

function refuseOverlap(where: string, parts: readonly XsavePart[]): void {
  const placed = parts
    .filter(({ kind, number }) => kind === "user" && number >= FIRST_EXTENDED)
    .sort((a, b) => a.offset - b.offset);
  for (const [i, part] of placed.entries()) {
    const next = placed[i + 1];
    if (next === undefined || part.offset + part.size <= next.offset) continue;
    const texts = [part, next].map(
      ({ name, offset, size }) => `${name} (${offset} to ${offset + size - 1})`,
    );
    throw new RangeError(`${where}: components ${texts.join(" and ")} overlap`);
  }
}

/**
 * Recomputes leaf 0xD from the features of a table: the bits of XCR0 and IA32_XSS, a sub-leaf for each enabled
 * component and for no other, and every size. All features, also the features in 0xD.1.eax, stay unchanged.
 *
 * The sizes that KVM writes, 0xD.0:ebx and 0xD.1:ebx, become 576, the size after reset, when XCR0 is 1 and IA32_XSS is
 * 0. Supervisor components need XSAVES. Except for CET, a supervisor component stays only if the table already enables
 * it. Without XSAVE, sub-leaves 0 and 1 are zeros, and there are no other sub-leaves. With XSAVE, the table's maximum
 * is at least 0xD.
 *
 * @throws RangeError if two components overlap, such as the components of MPX and APX; TypeError for an unknown option.
 */
export function withXsave(table: CpuidTable, options: WithXsaveOptions = {}): CpuidTable {
  return writeXsave("withXsave()", table, options);
}

/** Does what {@link withXsave} does; the messages begin with `where`, the name of the function that was called. */
export function writeXsave(
  where: string,
  table: CpuidTable,
  options: WithXsaveOptions,
): CpuidTable {
  refuseNonTable(`${where}: table`, table);
  refuseUnknown(where, options, ["vendor"]);
  const { vendor } = options;
  if (vendor !== undefined && vendor !== "intel" && vendor !== "amd") {
    throw new TypeError(`${where}: vendor is "intel" or "amd", not ${describe(vendor)}`);
  }
  if (!table.has("xsave")) return withoutXsave(table);
  const old = vendor === undefined ? (xsaveOf(table)?.parts ?? []) : [];
  const tileBytes = (table.get("amx_palette_nr_tiles") ?? 0) * (table.get("amx_tile_size") ?? 0);
  const parts = enabledIn(table).map((component) =>
    laidOut(
      component,
      old.find(({ number }) => number === component.number),
      vendor ?? layoutOf(table),
      tileBytes,
    ),
  );
  refuseOverlap(where, parts);
  return writeLeaf(withMaximum(table, 0xd), parts);
}

/**
 * Describes all that withXsave() computes from the features: if the texts of two tables are equal, the features do not
 * change leaf 0xD.
 */
export function xsaveFeatures(table: CpuidTable): string {
  if (!table.has("xsave")) return "";
  const names = ["xsavec", "xsaves", "xfd", "amx_palette_nr_tiles", "amx_tile_size"] as const;
  const numbers = enabledIn(table).map(({ number }) => number);
  return JSON.stringify([numbers, names.map((name) => table.get(name) ?? 0)]);
}

function withoutXsave(table: CpuidTable): CpuidTable {
  const zero = { eax: 0, ebx: 0, ecx: 0, edx: 0 };
  const stays = [0, 1].filter((index) => leafEntries(table, 0xd).some((e) => e.index === index));
  return withLeaf(
    table,
    0xd,
    stays.map((index) => ({ index, ...zero })),
  );
}

function writeLeaf(table: CpuidTable, parts: readonly XsavePart[]): CpuidTable {
  const maskOf = (kind: XsavePart["kind"]): bigint =>
    parts.reduce(
      (mask, part) => (part.kind === kind ? mask | (1n << BigInt(part.number)) : mask),
      0n,
    );
  const [xcr0, xss] = [maskOf("user"), maskOf("supervisor")];
  const low = (mask: bigint): number => Number(mask & 0xffffffffn);
  const high = (mask: bigint): number => Number(mask >> 32n);
  const isCompacted = table.has("xsavec") || table.has("xsaves");
  const hasXfd = table.has("xfd");
  return withLeaf(table, 0xd, [
    { index: 0, eax: low(xcr0), ebx: FIRST_OFFSET, ecx: xsaveSize(parts, xcr0), edx: high(xcr0) },
    { index: 1, ebx: isCompacted ? FIRST_OFFSET : 0, ecx: low(xss), edx: high(xss) },
    ...parts
      .filter(({ number }) => number >= FIRST_EXTENDED)
      .map((part) => ({
        index: part.number,
        eax: part.size,
        ebx: part.offset,
        ecx: packed([
          [0, 0, part.kind === "supervisor" ? 1 : 0],
          [1, 1, part.isAligned ? 1 : 0],
          [2, 2, part.hasXfd && hasXfd ? 1 : 0],
        ]),
        edx: 0,
      })),
  ]);
}
