/**
 * Generates sequences of operations from seeds. The weights make state changes more frequent than calls that apply a
 * deferred update, so that updates are often pending when a table is set.
 */
import type { CpuidFieldName, CpuidRegister } from "../cpuid/index.ts";
import type { LifecycleCall } from "../oracle/index.ts";
import type { TableEdit } from "./edits.ts";
import type { PlannedOperation, Sequence } from "./operation.ts";
import { pick, type Random, randomFrom, weighted } from "./random.ts";

/** The number of operations of a sequence. */
export const SEQUENCE_LENGTH = 25;

/** The weights of the calls; the late options of the VM only occur in some sequences. */
const CALLS: Readonly<Record<Exclude<LifecycleCall, "run">, number>> = {
  setCpuid2: 12,
  setCpuid: 2,
  getCpuid2: 6,
  guestCpuid: 4,
  cr4: 13,
  xcr0: 8,
  apicBase: 6,
  miscEnable: 6,
  xss: 2,
  disableHltExits: 0,
  disableMwaitQuirk: 0,
};
const RUNS = { io: 2, internalError: 1, tripleFault: 1, immediateExit: 2 };
const RUN_WEIGHT = 6;
const LATE = { disableHltExits: 4, disableMwaitQuirk: 4 };
/** One in this many sequences sets options of the VM after it has a vCPU; its VM is not used again. */
const LATE_ONE_OF = 4;
/** One in this many tables gets more entries than KVM accepts. */
const FILL_ONE_OF = 25;

const EDIT_WEIGHTS: Readonly<Record<TableEdit[0], number>> = {
  toggle: 11,
  flip: 4,
  flipIn: 1,
  drop: 2,
  dropAt: 1,
  duplicate: 1,
  swap: 2,
  flag: 2,
  index: 1,
  flagIndex: 4,
  padding: 4,
  width: 1,
  physicalBits: 3,
  maxExtended: 1,
  unhalt: 2,
  signature: 1,
  moveKvm: 2,
  add: 3,
  fill: 0,
};

/** The bits that KVM writes itself, and the features that its checks read. */
const TOGGLED: readonly [CpuidFieldName, ...CpuidFieldName[]] = [
  ...(["osxsave", "apic", "ospke", "monitor", "osxsave", "apic", "ospke", "monitor"] as const),
  ...(["xsave_sz_xcr0", "xsave_sz_xcr0_xss", "xsave_sz_xcr0", "xsave_sz_xcr0_xss"] as const),
  ...(["xsave", "pku", "pni", "xsavec", "xsavec", "xsaves", "kvm_pv_unhalt"] as const),
];
const REGISTERS: readonly [CpuidRegister, ...CpuidRegister[]] = ["eax", "ebx", "ecx", "edx"];
/** The leaves that KVM reads itself. */
const LEAVES: readonly [readonly [number, number], ...(readonly [number, number])[]] = [
  ...([
    [1, 0],
    [7, 0],
    [0xd, 0],
    [0xd, 1],
    [0x8000_0008, 0],
  ] as const),
  ...([
    [1, 0],
    [7, 0],
    [0xd, 0],
    [0xd, 1],
    [0x8000_0000, 0],
  ] as const),
];
const QUERIES: typeof LEAVES = [
  ...([
    [1, 0],
    [1, 0],
    [1, 1],
    [7, 0],
    [7, 5],
    [0xd, 0],
    [0xd, 1],
  ] as const),
  ...([
    [0xd, 2],
    [0x8000_0008, 0],
    [0x8000_0008, 3],
    [0x2000, 0],
    [0x8000_0002, 0],
  ] as const),
];
/** Bits of 0xD.0.EAX: AVX, PKRU, AMX tile data, and one that no CPU has in XCR0. */
const COMPONENTS = [2, 9, 18, 8] as const;
/** Edits, and the operations on the vCPU before and after them, which only show a fault together. */
interface Combination {
  readonly edits: readonly TableEdit[];
  readonly before?: (vcpu: number) => PlannedOperation;
  readonly next?: (vcpu: number) => PlannedOperation;
}
const get = (vcpu: number): PlannedOperation => ({ call: "getCpuid2", vcpu, room: "all" });
const xcr0 =
  (value: string) =>
  (vcpu: number): PlannedOperation => ({ call: "xcr0", vcpu, value });
const toggleOsxsave = (vcpu: number): PlannedOperation => ({
  call: "cr4",
  vcpu,
  by: "sregs",
  bit: "osxsave",
});
const COMBINATIONS: readonly [Combination, ...Combination[]] = [
  {
    edits: [
      ["flipIn", 0xd, 0, "eax", 18],
      ["width", 47],
    ],
  },
  {
    edits: [
      ["width", 47],
      ["flagIndex", 0x8000_0008, 0, 5],
    ],
  },
  {
    edits: [
      ["toggle", "apic"],
      ["flagIndex", 1, 0, 5],
    ],
    next: get,
  },
  { edits: [["flipIn", 0xd, 0, "eax", 8]], next: xcr0("0x103") },
  { edits: [["flipIn", 0xd, 0, "eax", 18]] },
  { edits: [["toggle", "xsaves"]], next: get },
  { edits: [["toggle", "xsaves"]], next: (vcpu) => ({ call: "xss", vcpu, value: "0x0" }) },
  { edits: [["add", 0x12, 1, 1, 0xffff_ffff]], next: get },
  { edits: [["toggle", "xsavec"]], next: xcr0("0x7") },
  { edits: [["toggle", "xsave"]], before: toggleOsxsave, next: get },
  // With another vendor in leaf 0, a guest that reads an absent leaf gets the highest basic leaf.
  {
    edits: [["flip", 0, "ebx", 0]],
    next: (vcpu) => ({ call: "guestCpuid", vcpu, function: 0x2000, index: 0 }),
  },
  {
    edits: [["toggle", "xsave"]],
    before: toggleOsxsave,
    next: (vcpu) => ({ call: "apicBase", vcpu, by: "sregs" }),
  },
  {
    edits: [["physicalBits", 31]],
    next: (vcpu) => ({ call: "apicBase", vcpu, by: "msrs" }),
  },
];
/** One in this many tables gets a combination. */
const COMBINED_ONE_OF = 4;

function edit(random: Random): TableEdit {
  const name = weighted(random, EDIT_WEIGHTS);
  const [fn, index] = pick(random, LEAVES);
  const [position, bit] = [random(64), random(32)];
  switch (name) {
    case "toggle":
      return [name, pick(random, TOGGLED)];
    case "flip":
      return [name, position, pick(random, REGISTERS), bit];
    case "flipIn":
      return [name, 0xd, 0, "eax", pick(random, COMPONENTS)];
    case "drop":
      return [name, fn, index];
    case "dropAt":
    case "swap":
      return name === "swap" ? [name, fn, index, position] : [name, position];
    case "duplicate":
      return [name, fn, index, pick(random, ["before", "end"])];
    case "flag":
      return [name, fn, index, pick(random, [0, 0, 0, 1, 2, 31])];
    case "index":
    case "flagIndex":
      return [name, fn, index, pick(random, [0, 1, 5])];
    case "padding":
      return [name, position, random(3), random(0xffff)];
    case "width":
      return [name, pick(random, [0, 48, 57, 47, 56, 255])];
    case "physicalBits":
      return [name, pick(random, [0, 31, 31, 32, 36, 52])];
    case "maxExtended":
      return [name, pick(random, [0x8000_0007, 0x8000_0008, 0x8000_001f])];
    case "unhalt":
      return [name, pick(random, [0, 1, 1])];
    case "signature":
      return [name];
    case "moveKvm":
      return [name, pick(random, [0x4000_0000, 0x4000_0100, 0x4000_0200])];
    case "add":
      return pick<TableEdit>(random, [
        [name, 0x12, 1, 1, 0xffff_ffff],
        [name, 0x2000, 0, 0, 1],
        [name, 1, 5, 1, 0xffff_ffff],
      ]);
    case "fill":
      return [name, 257];
    default:
      return name satisfies never;
  }
}

/** Chooses the edits of a table. */
function edits(random: Random): readonly TableEdit[] {
  const count = pick(random, [0, 0, 0, 1, 1, 2, 3]);
  const chosen = Array.from({ length: count }, () => edit(random));
  if (random(FILL_ONE_OF) === 0) chosen.push(["fill", pick(random, [256, 257, 257])]);
  return chosen;
}

/** Chooses an operation; the first of a sequence sets the supported table on vCPU 0. */
function operation(random: Random, hasLateOptions: boolean): PlannedOperation {
  const vcpu = random(8) < 6 ? 0 : 1;
  const late = hasLateOptions ? LATE : {};
  const call = weighted(random, { ...CALLS, run: RUN_WEIGHT, ...late });
  switch (call) {
    case "setCpuid2":
    case "setCpuid": {
      const base = weighted(random, { supported: 6, stored: 12, none: random(4) === 0 ? 1 : 0 });
      return { call, vcpu, base, edits: edits(random) };
    }
    case "getCpuid2":
      return { call, vcpu, room: random(7) === 0 ? "short" : "all" };
    case "run":
      return { call, vcpu, how: weighted(random, RUNS) };
    case "guestCpuid": {
      const [fn, index] = pick(random, QUERIES);
      return { call, vcpu, function: fn, index };
    }
    case "cr4":
      return {
        call,
        vcpu,
        by: weighted(random, { sregs: 8, sregs2: 2, syncRegs: 2, guest: 3 }),
        bit: pick(random, ["osxsave", "osxsave", "pke"]),
      };
    case "xcr0":
      return {
        call,
        vcpu,
        value: pick(random, ["0x1", "0x3", "0x7", "0x7", "0x7", "0x207", "0x201", "0x5", "0x103"]),
      };
    case "apicBase":
      return {
        call,
        vcpu,
        by: pick(random, ["sregs", "sregs2", "syncRegs", "msrs", "msrs", "guest"]),
      };
    case "miscEnable":
      return { call, vcpu, by: pick(random, ["msrs", "msrs", "guest"]) };
    case "xss":
      return { call, vcpu, value: pick(random, ["0x0", "0x0", "0x800"]) };
    case "disableHltExits":
    case "disableMwaitQuirk":
      return { call };
    default:
      return call satisfies never;
  }
}

/**
 * Surrounds the late option of a quirk with a change of the vCPU's state, before or after it, and a call that applies a
 * deferred update, because only such a list shows whether the change starts an update, and when KVM applies it.
 */
function aroundQuirk(random: Random, vcpu: number): readonly PlannedOperation[] {
  const trigger: PlannedOperation = pick<PlannedOperation>(random, [
    { call: "xcr0", vcpu, value: "0x3" },
    { call: "xcr0", vcpu, value: "0x1" },
    { call: "cr4", vcpu, by: "sregs", bit: "osxsave" },
    { call: "apicBase", vcpu, by: "msrs" },
    { call: "xss", vcpu, value: "0x0" },
    { call: "xss", vcpu, value: "0x0" },
  ]);
  const quirk: PlannedOperation = { call: "disableMwaitQuirk" };
  return [
    { call: "miscEnable", vcpu, by: "msrs" },
    { call: "getCpuid2", vcpu, room: "all" },
    ...pick<readonly PlannedOperation[]>(random, [
      [trigger, quirk],
      [quirk, trigger],
    ]),
    pick<PlannedOperation>(random, [
      { call: "getCpuid2", vcpu, room: "all" },
      { call: "guestCpuid", vcpu, function: 1, index: 0 },
    ]),
  ];
}

/** Adds a combination to the edits of an operation, and surrounds the operation with those of the combination. */
function combined(
  random: Random,
  operation: Extract<PlannedOperation, { edits: unknown }>,
): readonly PlannedOperation[] {
  const { edits, before, next } = pick(random, COMBINATIONS);
  const { vcpu } = operation;
  return [
    ...(before === undefined ? [] : [before(vcpu)]),
    { ...operation, edits: [...operation.edits, ...edits] },
    ...(next === undefined ? [] : [next(vcpu)]),
  ];
}

/** Generates the sequence of a seed. The lowest three bits of the seed select the options of its VM. */
export function generate(seed: number, length: number = SEQUENCE_LENGTH): Sequence {
  const random = randomFrom(seed);
  const hasLateOptions = random(LATE_ONE_OF) === 0;
  const operations: PlannedOperation[] = [
    { call: "setCpuid2", vcpu: 0, base: "supported", edits: [] },
  ];
  while (operations.length < length) {
    const next = operation(random, hasLateOptions);
    if (next.call === "disableMwaitQuirk") operations.push(...aroundQuirk(random, 0));
    else if ("edits" in next && random(COMBINED_ONE_OF) === 0)
      operations.push(...combined(random, next));
    else operations.push(next);
  }
  return {
    vm: {
      mwaitQuirkOff: (seed & 1) !== 0,
      hltExitsOff: (seed & 2) !== 0,
      irqchip: (seed & 4) !== 0,
    },
    operations: operations.slice(0, length),
  };
}
