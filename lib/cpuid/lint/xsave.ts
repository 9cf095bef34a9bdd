/**
 * Lint rules about leaf 0xD, which describes the XSAVE area. lib/cpuid/xsave.ts lists the components and their sizes.
 */
import { XSAVE_COMPONENTS, type XsavePart, xsaveCompactedSize, xsaveSize } from "../xsave.ts";
import { pairFaults } from "./dependencies.ts";
import type {
  CpuidLintEdit,
  CpuidLintRuleId,
  LintFault,
  LintInput,
  LintPlace,
  LintRule,
} from "./rule.ts";
import { isZero, type LintTable, setBits } from "./table.ts";

const FIRST_OFFSET = 576;
const LAST_COMPONENT = 63;

/** The sub-leaf of a component, with its position in the table. */
interface Part extends XsavePart {
  readonly position: number;
}

/** Leaf 0xD of a table that has XSAVE. */
interface View {
  readonly xcr0: bigint;
  readonly xss: bigint;
  /** The positions of sub-leaves 0 and 1; -1 if absent. */
  readonly main: number;
  readonly second: number;
  /** The sub-leaves 2 to 63, by number, each once. */
  readonly parts: readonly Part[];
}

const bit = (number: number): bigint => 1n << BigInt(number);
const isIn = (mask: bigint, number: number): boolean => (mask & bit(number)) !== 0n;
const wide = (high: number, low: number): bigint => (BigInt(high) << 32n) | BigInt(low);

function partsOf(table: LintTable): readonly Part[] {
  const found = new Map<number, Part>();
  for (const position of table.positions(0xd)) {
    const e = table.entries[position];
    if (e === undefined || e.index < 2 || e.index > LAST_COMPONENT || found.has(e.index)) continue;
    found.set(e.index, {
      number: e.index,
      name: XSAVE_COMPONENTS.find(({ number }) => number === e.index)?.name,
      size: e.eax,
      offset: e.ebx,
      kind: (e.ecx & 1) === 1 ? "supervisor" : "user",
      isAligned: (e.ecx & 2) !== 0,
      hasXfd: (e.ecx & 4) !== 0,
      position,
    });
  }
  return Array.from(found.values()).sort((a, b) => a.number - b.number);
}

/** Reads leaf 0xD; undefined if the table does not have XSAVE, or software does not reach the leaf. */
function viewOf(table: LintTable): View | undefined {
  return table.keep("xsave", () => {
    const main = table.find(0xd);
    const e = table.entries[main];
    if (e === undefined || !table.has("xsave") || (table.maxBasic ?? 0xd) < 0xd) return undefined;
    const second = table.find(0xd, 1);
    const s = table.entries[second];
    return {
      xcr0: wide(e.edx, e.eax),
      xss: s === undefined ? 0n : wide(s.edx, s.ecx),
      main,
      second,
      parts: partsOf(table),
    };
  });
}

type Judge = (view: View, table: LintTable, input: LintInput) => readonly LintFault[];

/** Returns a check of leaf 0xD that calls `judge`. A table without XSAVE has no faults. */
const withView =
  (judge: Judge): LintRule["check"] =>
  (table, input) => {
    const view = viewOf(table);
    return view === undefined ? [] : judge(view, table, input);
  };

const partPlace = (table: LintTable, part: Part, register: "eax" | "ebx" | "ecx"): LintPlace =>
  table.bitsPlace(
    part.position,
    register,
    0,
    31,
    register === "eax" ? "xsave_sz" : register === "ebx" ? "xsave_offset" : undefined,
  );

/** Returns the place of a component's bit in the mask of XCR0 (sub-leaf 0) or of IA32_XSS (sub-leaf 1). */
function bitPlace(table: LintTable, view: View, number: number, mask: "xcr0" | "xss"): LintPlace {
  const position = mask === "xcr0" ? view.main : view.second;
  const low = mask === "xcr0" ? ("eax" as const) : ("ecx" as const);
  const index = mask === "xcr0" ? 0 : 1;
  const [register, at] = number < 32 ? [low, number] : ["edx" as const, number - 32];
  if (position < 0) return table.absentPlace(0xd, index);
  return table.bitsPlace(position, register, at, at);
}

/** Formats a component as its number and its name in the manuals. */
function nameOf(number: number): string {
  const known = XSAVE_COMPONENTS.find((one) => one.number === number);
  return known === undefined ? `component ${number}` : `component ${number} (${known.name})`;
}

/** Components that a feature enables together, and the register that contains their bits. */
interface Group {
  readonly id: CpuidLintRuleId;
  readonly components: readonly number[];
  readonly mask: "xcr0" | "xss";
  /** Whether the features also need the components; the components always need the features. */
  readonly isMutual: boolean;
}

const GROUPS = {
  X03: { id: "X03", components: [2], mask: "xcr0", isMutual: true },
  X04: { id: "X04", components: [3, 4], mask: "xcr0", isMutual: true },
  X05: { id: "X05", components: [5, 6, 7], mask: "xcr0", isMutual: true },
  X06: { id: "X06", components: [9], mask: "xcr0", isMutual: true },
  X07: { id: "X07", components: [17, 18], mask: "xcr0", isMutual: true },
  X08: { id: "X08", components: [19], mask: "xcr0", isMutual: true },
  X09: { id: "X09", components: [11, 12], mask: "xss", isMutual: false },
  X10: { id: "X10", components: [8, 10, 13, 14, 15, 16], mask: "xss", isMutual: false },
} as const satisfies Record<string, Group>;

function groupFaults(view: View, table: LintTable, group: Group): readonly LintFault[] {
  const { components, mask, isMutual } = group;
  const enabled = components.filter((number) => isIn(view[mask], number));
  const faults: LintFault[] = [];
  const isTogether = isMutual && components.length > 1;
  const absent = components.find((number) => !enabled.includes(number));
  if (isTogether && enabled.length > 0 && absent !== undefined) {
    const words = `is 0, but ${enabled.map(nameOf).join(" and ")} ${enabled.length === 1 ? "needs" : "need"} it`;
    return [{ place: bitPlace(table, view, absent, mask), words }];
  }
  for (const number of components) {
    const known = XSAVE_COMPONENTS.find((one) => one.number === number);
    const features = known?.features ?? [];
    const feature = features.find((name) => table.has(name));
    const place = bitPlace(table, view, number, mask);
    if (enabled.includes(number) && feature === undefined) {
      faults.push({ place, words: `enables ${nameOf(number)} without ${features.join(" or ")}` });
    } else if (isMutual && !enabled.includes(number) && feature !== undefined) {
      faults.push({ place, words: `is 0, but ${feature} needs ${nameOf(number)}` });
    }
  }
  return isTogether ? faults.slice(0, 1) : faults;
}

const byGroup = (key: keyof typeof GROUPS): LintRule["check"] =>
  withView((view, table) => groupFaults(view, table, GROUPS[key]));

/** Returns the size that sub-leaf 0's ECX should have. */
const wantedSize = (view: View): number => xsaveSize(view.parts, view.xcr0);

/** Whether every enabled component has its sub-leaf; only then can sizes be computed. */
function isKnown(view: View, mask: bigint): boolean {
  const sizes = new Set(view.parts.filter(({ size }) => size > 0).map(({ number }) => number));
  for (let number = 2; number <= LAST_COMPONENT; number += 1) {
    if (isIn(mask, number) && !sizes.has(number)) return false;
  }
  return true;
}

/**
 * Finds a size in ECX of sub-leaf 0 that is too small or too large. Rule X17 reports a size that is too small, because
 * XSAVE writes past the area. Rule K12 reports a size that is too large, which remains if components are removed.
 */
export function sizeFaults(table: LintTable, side: "small" | "large"): readonly LintFault[] {
  const view = viewOf(table);
  const e = view && table.entries[view.main];
  if (view === undefined || e === undefined || !isKnown(view, view.xcr0)) return [];
  const wanted = wantedSize(view);
  const isFault = side === "small" ? e.ecx < wanted : e.ecx > wanted;
  if (!isFault) return [];
  const words = `is ${e.ecx}, but the components of XCR0 end at ${wanted}`;
  const fix = [setBits(view.main, "ecx", 0, 31, wanted)];
  return [{ place: table.place("xsave_sz_max"), words, fix }];
}

const removal = (position: number): readonly CpuidLintEdit[] => [{ kind: "remove", position }];

/** The rules about leaf 0xD. */
export const XSAVE_RULES: readonly LintRule[] = [
  {
    id: "X01",
    severity: "error",
    title: "Leaf 0xd has data only with XSAVE",
    source: "SDM volume 1, 13.2: the leaf describes XSAVE",
    remedy: "Set xsave, or clear leaf 0xd",
    check: (table) => {
      if (table.has("xsave") || !table.hasData(0xd) || table.leaf(1) === undefined) return [];
      const position = table.positions(0xd).find((at) => {
        const e = table.entries[at];
        return e !== undefined && !isZero(e) && !table.isRedirected(at);
      });
      if (position === undefined) return [];
      const fix = table.positions(0xd).flatMap((at): readonly CpuidLintEdit[] => {
        const isKept = (table.entries[at]?.index ?? 0) < 2;
        if (!isKept) return removal(at);
        return (["eax", "ebx", "ecx", "edx"] as const).map((register) =>
          setBits(at, register, 0, 31, 0),
        );
      });
      return [{ place: table.entryPlace(position), words: "has data, but xsave is clear", fix }];
    },
  },
  {
    id: "X02",
    severity: "error",
    title: "XCR0 can have x87 and SSE",
    source: "SDM volume 1, 13.3; Linux disables XSAVE without both (fpu__init_system_xstate)",
    remedy: "Set bits 0 and 1 of 0xd.0:eax",
    check: withView(({ xcr0, main }, table) =>
      (xcr0 & 3n) === 3n
        ? []
        : [
            {
              place: table.bitsPlace(main, "eax", 0, 1),
              words: `is ${xcr0 & 3n}, but XSAVE needs x87 and SSE`,
              fix: [setBits(main, "eax", 0, 1, 3)],
            },
          ],
    ),
  },
  {
    id: "X03",
    severity: "error",
    title: "XCR0 can have the AVX component if and only if avx is set",
    source: "SDM volume 1, 13.3 and 14.3",
    remedy: "Recompute leaf 0xd with withXsave(), or correct avx",
    check: byGroup("X03"),
  },
  {
    id: "X04",
    severity: "error",
    title: "XCR0 can have both MPX components if and only if mpx is set",
    source: "SDM volume 1, 13.3",
    remedy: "Recompute leaf 0xd with withXsave(), or correct mpx",
    check: byGroup("X04"),
  },
  {
    id: "X05",
    severity: "error",
    title:
      "XCR0 can have all three AVX-512 components, with AVX, if and only if avx512f or avx10 is set",
    source: "SDM volume 1, 13.3 and 15.2",
    remedy: "Recompute leaf 0xd with withXsave(), or correct avx512f and avx10",
    check: withView((view, table) => {
      const faults = groupFaults(view, table, GROUPS.X05);
      const isLost =
        faults.length === 0 && isIn(view.xcr0, 5) && !isIn(view.xcr0, 2) && !table.has("avx");
      const words = "is 0, but the AVX-512 components need AVX";
      return isLost ? [{ place: bitPlace(table, view, 2, "xcr0"), words }] : faults;
    }),
  },
  {
    id: "X06",
    severity: "warning",
    title: "XCR0 can have the PKRU component if and only if pku is set",
    source: "SDM volume 1, 13.3; CPUs of AMD's Zen 2 have the component without pku",
    remedy: "Recompute leaf 0xd with withXsave(), or correct pku",
    check: byGroup("X06"),
  },
  {
    id: "X07",
    severity: "error",
    title: "XCR0 can have both AMX components if and only if amx_tile is set",
    source: "SDM volume 1, 13.3 and 18.2",
    remedy: "Recompute leaf 0xd with withXsave(), or correct amx_tile",
    check: byGroup("X07"),
  },
  {
    id: "X08",
    severity: "error",
    title: "XCR0 can have the APX component if and only if apx_f is set, and never with MPX",
    source:
      "SDM volume 1, APX: the component is in the place of MPX; Linux disables XSAVE if both are there",
    remedy: "Recompute leaf 0xd with withXsave(), or clear mpx or apx_f",
    check: withView((view, table) => {
      const isBoth = isIn(view.xcr0, 19) && (view.xcr0 & (bit(3) | bit(4))) !== 0n;
      const words = "is 1 together with a component of MPX, which has the same place";
      const clash: readonly LintFault[] = isBoth
        ? [{ place: bitPlace(table, view, 19, "xcr0"), words }]
        : [];
      return [...clash, ...groupFaults(view, table, GROUPS.X08)];
    }),
  },
  {
    id: "X09",
    severity: "warning",
    title: "IA32_XSS can have the CET components only with cet_ss or ibt",
    source: "SDM volume 1, 13.3 and 17.2",
    remedy: "Recompute leaf 0xd with withXsave(), or set cet_ss or ibt",
    check: byGroup("X09"),
  },
  {
    id: "X10",
    severity: "warning",
    title: "IA32_XSS can have a supervisor component only with its feature",
    source: "SDM volume 1, 13.3: PT, PASID, HDC, UINTR, LBR, HWP",
    remedy: "Recompute leaf 0xd with withXsave(), or set the feature",
    check: byGroup("X10"),
  },
  {
    id: "X11",
    severity: "error",
    title: "IA32_XSS can have bits only with XSAVES",
    source: "SDM volume 1, 13.3: IA32_XSS exists if XSAVES does",
    remedy: "Set xsaves, or clear 0xd.1:ecx and edx",
    check: withView(({ xss, second }, table) =>
      xss === 0n || table.has("xsaves")
        ? []
        : [
            {
              place: table.bitsPlace(second, (xss & 0xffff_ffffn) === 0n ? "edx" : "ecx"),
              words: `gives IA32_XSS the bits 0x${xss.toString(16)}, but xsaves is clear`,
            },
          ],
    ),
  },
  {
    id: "X12",
    severity: "error",
    title: "No component is in both XCR0 and IA32_XSS",
    source: "SDM volume 1, 13.3",
    remedy: "Clear the bit in one of the masks",
    check: withView((view, table) => {
      const both = view.xcr0 & view.xss;
      if (both === 0n) return [];
      const number = Array.from({ length: 64 }, (_, i) => i).find((i) => isIn(both, i)) ?? 0;
      const words = `has ${nameOf(number)}, which XCR0 has too`;
      return [{ place: bitPlace(table, view, number, "xss"), words }];
    }),
  },
  {
    id: "X13",
    severity: "error",
    title: "Each enabled component has a sub-leaf with its size",
    source: "SDM volume 1, 13.5: sub-leaf i describes component i",
    remedy: "Add the sub-leaf, or recompute leaf 0xd with withXsave()",
    needs: ["complete"],
    check: withView((view, table) => {
      const enabled = view.xcr0 | view.xss;
      const sizes = new Set(view.parts.filter(({ size }) => size > 0).map(({ number }) => number));
      return Array.from({ length: LAST_COMPONENT - 1 }, (_, i) => i + 2)
        .filter((number) => isIn(enabled, number) && !sizes.has(number))
        .map((number) => ({
          place: { function: 0xd, index: number, position: table.find(0xd, number) },
          words: `${nameOf(number)} is enabled, but has no size`,
        }));
    }),
  },
  {
    id: "X13b",
    severity: "warning",
    title: "Only an enabled component has a sub-leaf with a size",
    source: "SDM volume 1, 13.5: the sub-leaf of a component that is not in XCR0 or IA32_XSS is 0",
    remedy: "Remove the sub-leaf; withXsave() does",
    check: withView((view, table) =>
      view.parts
        .filter(({ number, size }) => size > 0 && !isIn(view.xcr0 | view.xss, number))
        .map(({ number, position }) => ({
          place: table.entryPlace(position),
          words: `has the size of ${nameOf(number)}, which is not enabled`,
          fix: removal(position),
        })),
    ),
  },
  {
    id: "X14",
    severity: "error",
    title:
      "IA32_XSS contains exactly the supervisor components, and a supervisor component has no offset",
    source: "SDM volume 1, 13.5: ECX bit 0 and EBX",
    remedy: "Recompute leaf 0xd with withXsave()",
    check: withView((view, table) =>
      view.parts.flatMap((part): readonly LintFault[] => {
        const { number, position, kind, offset, size } = part;
        if (size === 0 || !isIn(view.xcr0 | view.xss, number)) return [];
        const isBoth = isIn(view.xcr0 & view.xss, number);
        const wanted = isIn(view.xss, number) ? "supervisor" : "user";
        if (kind !== wanted && !isBoth) {
          const mask = wanted === "user" ? "XCR0" : "IA32_XSS";
          const words = `makes ${nameOf(number)} a ${kind} component, but it is in ${mask}`;
          const fix = [setBits(position, "ecx", 0, 0, wanted === "user" ? 0 : 1)];
          const place = table.bitsPlace(position, "ecx", 0, 0, "is_xss_bit");
          return [{ place, words, fix: wanted === "user" ? fix : undefined }];
        }
        if (kind !== "supervisor" || offset === 0) return [];
        const words = `is ${offset}, but a supervisor component has no offset`;
        return [
          {
            place: partPlace(table, part, "ebx"),
            words,
            fix: [setBits(position, "ebx", 0, 31, 0)],
          },
        ];
      }),
    ),
  },
  {
    id: "X15",
    severity: "warning",
    title: "A component has the size that the manuals define",
    source: "SDM volume 1, chapter 13; APM volume 2, 11.5; component 9 of Zen 2 has 64 bytes",
    remedy: "Recompute leaf 0xd with withXsave(), and pass the vendor",
    check: withView((view, table) =>
      view.parts.flatMap((part): readonly LintFault[] => {
        const known = XSAVE_COMPONENTS.find(({ number }) => number === part.number);
        const isTiles = part.number === 18 && table.has("amx_palette_size", 1);
        if (known === undefined || part.size === 0 || part.size === known.size || isTiles)
          return [];
        const words = `is ${part.size}, but ${nameOf(part.number)} has ${known.size} bytes`;
        return [{ place: partPlace(table, part, "eax"), words }];
      }),
    ),
  },
  {
    id: "X16",
    severity: "error",
    title: "User components are behind the header and do not overlap",
    source: "SDM volume 1, 13.4: the legacy region and the header have 576 bytes",
    remedy: "Recompute leaf 0xd with withXsave(), and pass the vendor",
    check: withView((view, table) => {
      const placed = view.parts
        .filter(({ number, size, kind }) => size > 0 && kind === "user" && isIn(view.xcr0, number))
        .sort((a, b) => a.offset - b.offset);
      const faults: LintFault[] = [];
      let end = FIRST_OFFSET;
      let last: Part | undefined;
      for (const part of placed) {
        const place = partPlace(table, part, "ebx");
        if (part.offset < FIRST_OFFSET) {
          const words = `is ${part.offset}, but the header ends at ${FIRST_OFFSET}`;
          faults.push({ place, words });
        } else if (part.offset < end && last !== undefined) {
          const words = `is ${part.offset}, but ${nameOf(last.number)} ends at ${end}`;
          faults.push({ place, words });
        }
        if (part.offset + part.size > end) [end, last] = [part.offset + part.size, part];
      }
      return faults;
    }),
  },
  {
    id: "X17",
    severity: "error",
    title: "The size for all of XCR0 is not less than the end of the last component",
    source: "SDM volume 1, 13.2: 0xd.0:ecx; KVM does not recompute it",
    remedy: "Set xsave_sz_max to the end of the last component; withXsave() does",
    needs: ["complete"],
    check: (table) => sizeFaults(table, "small"),
  },
  {
    id: "X18",
    severity: "warning",
    title: "The size for the current XCR0 is 576 or the end of a component",
    source: "SDM volume 1, 13.2: 0xd.0:ebx; KVM writes it from XCR0 (kvm_update_cpuid_runtime)",
    remedy: "Set xsave_sz_xcr0 to 576, the size after reset",
    needs: ["complete"],
    check: withView((view, table) => {
      const size = table.read("xsave_sz_xcr0");
      const ends = view.parts
        .filter(({ kind, number }) => kind === "user" && isIn(view.xcr0, number))
        .map((part) => part.offset + part.size);
      if (size === FIRST_OFFSET || ends.includes(size) || !isKnown(view, view.xcr0)) return [];
      const words = `is ${size}, which is neither 576 nor the end of a component`;
      const fix = table.set("xsave_sz_xcr0", FIRST_OFFSET);
      return [{ place: table.place("xsave_sz_xcr0"), words, fix }];
    }),
  },
  {
    id: "X19",
    severity: "warning",
    title:
      "The compacted size is at most the size of all components, and 0 only without XSAVEC and XSAVES",
    source: "SDM volume 1, 13.2 and 13.4.3: 0xd.1:ebx",
    remedy: "Set xsave_sz_xcr0_xss to 576, the size after reset",
    needs: ["complete"],
    check: withView((view, table) => {
      const size = table.read("xsave_sz_xcr0_xss");
      const enabled = view.xcr0 | view.xss;
      const isCompacted = table.has("xsavec") || table.has("xsaves");
      const place = table.place("xsave_sz_xcr0_xss");
      const most = xsaveCompactedSize(view.parts, enabled);
      if (size > most && isKnown(view, enabled)) {
        const words = `is ${size}, but all components have ${most} bytes in the compacted format`;
        return [
          { place, words, fix: table.set("xsave_sz_xcr0_xss", isCompacted ? FIRST_OFFSET : 0) },
        ];
      }
      const isUnusual = view.second >= 0 && (size === 0) === isCompacted;
      if (!isUnusual) return [];
      const words = isCompacted
        ? "is 0, but the CPU has XSAVEC or XSAVES"
        : `is ${size} without XSAVEC and XSAVES`;
      const fix = table.set("xsave_sz_xcr0_xss", isCompacted ? FIRST_OFFSET : 0);
      return [{ place, words, fix, severity: "info" }];
    }),
  },
  {
    id: "X20",
    severity: "warning",
    title: "A component can be disabled with IA32_XFD only if xfd is set",
    source: "SDM volume 1, 13.14: ECX bit 2",
    remedy: "Set xfd, or clear bit 2 of the sub-leaf's ECX",
    check: withView((view, table) =>
      view.parts
        .filter(({ hasXfd }) => hasXfd && !table.has("xfd"))
        .map(({ position }) => ({
          place: table.bitsPlace(position, "ecx", 2, 2, "xfd_faulting"),
          words: "is 1, but xfd is clear",
          fix: [setBits(position, "ecx", 2, 2, 0)],
        })),
    ),
  },
  {
    id: "X21",
    severity: "error",
    title: "The tile data have the size of leaf 0x1d's palette",
    source: "SDM volume 1, 18.2: 0x1d.1:eax",
    remedy: "Set 0xd.18:eax to the palette's bytes per tile times tiles",
    check: withView((view, table) => {
      const part = view.parts.find(({ number }) => number === 18);
      const palette = table.read("amx_tile_size", 1) * table.read("amx_palette_nr_tiles", 1);
      if (part === undefined || part.size === 0 || palette === 0 || part.size === palette)
        return [];
      const words = `is ${part.size}, but leaf 0x1d has ${palette} bytes of tiles`;
      return [{ place: partPlace(table, part, "eax"), words }];
    }),
  },
  {
    id: "X22",
    severity: "warning",
    title: "EDX of a component's sub-leaf is 0",
    source: "SDM volume 1, 13.5",
    remedy: "Clear EDX",
    check: (table) =>
      table.positions(0xd).flatMap((position): readonly LintFault[] => {
        const e = table.entries[position];
        if (e === undefined || e.index < 2 || e.edx === 0) return [];
        const place = table.bitsPlace(position, "edx");
        const words = `is 0x${e.edx.toString(16)}, but the register is reserved as 0`;
        return [{ place, words, fix: [setBits(position, "edx", 0, 31, 0)] }];
      }),
  },
  {
    id: "X23",
    severity: "warning",
    title: "XSAVES has XSAVEC",
    source: "SDM volume 1, 13.2: both use the compacted format",
    remedy: "Set xsavec, or clear xsaves",
    check: withView((_, table) => pairFaults(table, "X23")),
  },
];
