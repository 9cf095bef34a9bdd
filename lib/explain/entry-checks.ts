/** The checks of the guest's state that a CPU makes when it enters a guest, as data. exit.ts uses the results. */
import type { Segment, Sregs } from "../abi/generated/structs.ts";
import { hasBit } from "../oracle/bits.ts";
import type { Vendor } from "./exit-names.ts";
import { hex } from "./wording.ts";

/** The part of the guest's state that a check reads. */
export interface EntryState {
  readonly sregs: Sregs;
  readonly rflags: bigint;
}

interface Check {
  /** The CPU vendors whose hardware makes the check, each with the section of its manual. */
  readonly source: Partial<Readonly<Record<Vendor, string>>>;
  /** Describes the fault of a state; undefined if the state passes. */
  readonly fault: (state: EntryState) => string | undefined;
}

const [PE, NW, CD, PG] = [0, 29, 30, 31];
const PAE = 5;
const [LME, LMA] = [8, 10];
const [FIXED, VM] = [1, 17];

const when = (isWrong: boolean, text: string): string | undefined => (isWrong ? text : undefined);

const SEGMENTS = ["cs", "ss", "ds", "es", "fs", "gs"] as const;

/**
 * Describes each usable segment register for which `isWrong` returns true. Returns undefined if there is none, and in
 * virtual-8086 mode, which has other rules.
 */
function ofSegments(
  { sregs, rflags }: EntryState,
  isWrong: (segment: Segment) => boolean,
  text: (segment: Segment) => string,
): string | undefined {
  if (hasBit(rflags, VM)) return undefined;
  const found = SEGMENTS.map((name) => [name, sregs[name]] as const)
    .filter(([, segment]) => segment.unusable === 0 && isWrong(segment))
    .map(([name, segment]) => `${name.toUpperCase()}${text(segment)}`);
  return found.length === 0 ? undefined : found.join(", ");
}

const AMD = "AMD APM Vol. 2, 15.5.1";
const REGISTERS = 'Intel SDM Vol. 3, "Checks on Guest Control Registers"';
const SEGMENT_REGISTERS = 'Intel SDM Vol. 3, "Checks on Guest Segment Registers"';
const RFLAGS = 'Intel SDM Vol. 3, "Checks on Guest RIP and RFLAGS"';

const CHECKS: readonly Check[] = [
  {
    source: { kvm_amd: AMD, kvm_intel: SEGMENT_REGISTERS },
    fault: ({ sregs: { efer, cr0, cr4, cs } }) =>
      when(
        hasBit(efer, LME) && hasBit(cr0, PG) && hasBit(cr4, PAE) && cs.l === 1 && cs.db === 1,
        "CS.L and CS.D are both 1 in long mode",
      ),
  },
  {
    source: { kvm_amd: AMD, kvm_intel: REGISTERS },
    fault: ({ sregs: { efer, cr0, cr4 } }) =>
      when(
        hasBit(efer, LME) && hasBit(cr0, PG) && !hasBit(cr4, PAE),
        "EFER.LME and CR0.PG are 1 and CR4.PAE is 0",
      ),
  },
  {
    source: { kvm_amd: AMD, kvm_intel: REGISTERS },
    fault: ({ sregs: { cr0 } }) =>
      when(hasBit(cr0, PG) && !hasBit(cr0, PE), "CR0.PG is 1 and CR0.PE is 0"),
  },
  {
    source: { kvm_amd: AMD },
    fault: ({ sregs: { cr0 } }) =>
      when(hasBit(cr0, NW) && !hasBit(cr0, CD), "CR0.NW is 1 and CR0.CD is 0"),
  },
  {
    source: { kvm_intel: RFLAGS },
    fault: ({ rflags }) => when(!hasBit(rflags, FIXED), "RFLAGS bit 1 is 0"),
  },
  {
    source: { kvm_intel: RFLAGS },
    fault: ({ rflags, sregs: { efer } }) =>
      when(hasBit(rflags, VM) && hasBit(efer, LMA), "RFLAGS.VM is 1 in long mode"),
  },
  {
    source: { kvm_intel: SEGMENT_REGISTERS },
    fault: ({ sregs: { tr } }) =>
      when(
        tr.unusable === 1 || tr.s === 1 || tr.present === 0 || ![3, 11].includes(tr.type),
        `TR is not a busy TSS (type ${tr.type}, S ${tr.s}, present ${tr.present})`,
      ),
  },
  {
    source: { kvm_intel: SEGMENT_REGISTERS },
    fault: (state) =>
      ofSegments(
        state,
        ({ s, present }) => s === 0 || present === 0,
        ({ s, present }) => ` is usable with S ${s}, present ${present}`,
      ),
  },
  {
    source: { kvm_intel: SEGMENT_REGISTERS },
    fault: (state) =>
      ofSegments(
        state,
        ({ limit, g }) => ((limit & 0xfff) !== 0xfff && g === 1) || (limit >>> 20 !== 0 && g === 0),
        ({ limit, g }) => ` has limit ${hex(limit)} with G ${g}`,
      ),
  },
];

/** Lists the checks that a state fails on the hardware of a vendor, each with its source. */
export function failedChecks(state: EntryState, vendor: Vendor | undefined): readonly string[] {
  if (vendor === undefined) return [];
  return CHECKS.flatMap(({ source, fault }) => {
    const where = source[vendor];
    const what = where === undefined ? undefined : fault(state);
    return what === undefined ? [] : [`${what} (${where})`];
  });
}
