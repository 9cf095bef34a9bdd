/**
 * Tests of the life-cycle model. Each test states a rule of KVM that was measured on kernels, and the operations that
 * show the rule.
 */
import { describe, expect, test } from "vitest";
import type { CpuidEntry2 } from "../../../lib/cpuid/index.ts";
import {
  changesOf,
  freshVm,
  KERNEL_ROW_NAMES,
  KERNEL_ROWS,
  type KernelRowName,
  LIFECYCLE_RULES,
  type LifecycleAnswer,
  LifecycleModel,
  type LifecycleOperation,
  type LifecycleVmOptions,
  NOT_MODELLED,
  sameAnswer,
} from "../../../lib/oracle/index.ts";
import { HOST, SUPPORTED } from "../explore/supported.ts";

const PLAIN = { hltExitsOff: false, mwaitQuirkOff: false, irqchip: false };

type Changed = Partial<CpuidEntry2>;

/** Changes members of the entry of a leaf. */
const edited = (fn: number, index: number, change: (e: CpuidEntry2) => Changed): CpuidEntry2[] =>
  SUPPORTED.map((e) => (e.function === fn && e.index === index ? { ...e, ...change(e) } : e));

const set = (entries: readonly CpuidEntry2[] = SUPPORTED): LifecycleOperation => ({
  call: "setCpuid2",
  vcpu: 0,
  entries,
});
const GET: LifecycleOperation = { call: "getCpuid2", vcpu: 0, room: 256 };
const RUN: LifecycleOperation = { call: "run", vcpu: 0, how: "io" };
const cr4 = (bit: "osxsave" | "pke", by: "sregs" | "guest" = "sregs"): LifecycleOperation => ({
  call: "cr4",
  vcpu: 0,
  by,
  bit,
});
const apicBase = (by: "sregs" | "msrs" | "guest"): LifecycleOperation => ({
  call: "apicBase",
  vcpu: 0,
  by,
});
const misc = (by: "msrs" | "guest" = "msrs"): LifecycleOperation => ({
  call: "miscEnable",
  vcpu: 0,
  by,
});
const xcr0 = (value: bigint): LifecycleOperation => ({ call: "xcr0", vcpu: 0, value });
const cpuid = (fn: number, index = 0): LifecycleOperation => ({
  call: "guestCpuid",
  vcpu: 0,
  function: fn,
  index,
});

/** Formats an answer as a short text. */
function text(answer: LifecycleAnswer | undefined): string {
  switch (answer?.kind) {
    case "result":
      return answer.result;
    case "written":
      return String(answer.count);
    case "exit":
      return answer.exit;
    default:
      return answer?.kind ?? "";
  }
}

interface Played {
  readonly answers: readonly string[];
  readonly last: LifecycleAnswer | undefined;
}

/** Returns the answers to operations on a new VM of a kernel with these rows. */
function play(
  operations: readonly LifecycleOperation[],
  rows: readonly KernelRowName[] = [],
  options: Partial<LifecycleVmOptions> = {},
): Played {
  const model = new LifecycleModel(HOST, changesOf(rows));
  let vm = freshVm({ ...PLAIN, ...options }, 2);
  const answers = operations.map((operation) => {
    const step = model.step(vm, operation);
    vm = step.vm;
    return step.answer;
  });
  return { answers: answers.map(text), last: answers.at(-1) };
}

/** Returns an entry of the table that the last operation reads. */
function entryOf({ last }: Played, fn: number, index = 0): CpuidEntry2 | undefined {
  return last?.kind === "table"
    ? last.entries.find((e) => e.function === fn && e.index === index)
    : undefined;
}

const bitOf = (value: number | undefined, bit: number): number => ((value ?? 0) >>> bit) & 1;
const osxsave = (played: Played): number => bitOf(entryOf(played, 1)?.ecx, 27);

describe("KVM_SET_CPUID2 before the first entry", () => {
  test.each([
    ["0", 0, "ok"],
    ["48", 48, "ok"],
    ["57", 57, "ok"],
    ["47", 47, "EINVAL"],
    ["255", 255, "EINVAL"],
  ])("a width of %s bits is accepted or refused", (_, width, expected) => {
    const table = edited(0x8000_0008, 0, ({ eax }) => ({ eax: (eax & ~0xff00) | (width << 8) }));
    expect(play([set(table)]).answers).toEqual([expected]);
  });

  test("the width is checked before the permission for AMX tile data", () => {
    const tile = edited(0xd, 0, ({ eax }) => ({ eax: eax | (1 << 18) }));
    const both = tile.map((e) => (e.function === 0x8000_0008 ? { ...e, eax: 0x2f28 } : e));
    expect(play([set(tile), set(both)]).answers).toEqual(["EPERM", "EINVAL"]);
  });

  test("more than 256 entries are refused, also after the first entry", () => {
    const many = Array.from({ length: 257 }, () => SUPPORTED[0] as CpuidEntry2);
    expect(play([set(many.slice(1)), set(many), RUN, set(many)]).answers).toEqual([
      ...["ok", "E2BIG", "io", "E2BIG"],
    ]);
  });

  test("a refused table keeps the stored one, with an update that is pending", () => {
    const bad = edited(0x8000_0008, 0, () => ({ eax: 0x2f28 }));
    for (const rows of [[], ["lazy"], ["eager"]] as const) {
      expect(osxsave(play([set(), cr4("osxsave"), set(bad), GET], rows))).toBe(1);
    }
  });

  test("KVM_SET_CPUID stores no index, no flags and no padding", () => {
    const table = [{ ...(SUPPORTED[7] as CpuidEntry2), index: 1, flags: 1, padding: [7, 7, 7] }];
    const played = play([{ call: "setCpuid", vcpu: 0, entries: table }, GET]);
    expect(entryOf(played, 0xd)).toMatchObject({ index: 0, flags: 0, padding: [0, 0, 0] });
  });
});

describe("KVM's own bits", () => {
  test.each(["sregs", "guest"] as const)("OSXSAVE follows CR4, set by %s", (by) => {
    expect(osxsave(play([set(), cr4("osxsave", by), GET]))).toBe(1);
    expect(osxsave(play([set(), cr4("osxsave", by), cr4("osxsave", by), GET]))).toBe(0);
  });

  test("OSPKE follows CR4.PKE", () => {
    expect(bitOf(entryOf(play([set(), cr4("pke"), GET]), 7)?.ecx, 4)).toBe(1);
  });

  test.each(["sregs", "msrs", "guest"] as const)(
    "the APIC bit follows APIC_BASE, set by %s",
    (by) => {
      expect(bitOf(entryOf(play([set(), apicBase(by), GET]), 1)?.edx, 9)).toBe(0);
    },
  );

  test("a user cannot clear the APIC bit of an enabled APIC", () => {
    const table = edited(1, 0, ({ edx }) => ({ edx: edx & ~(1 << 9) }));
    expect(bitOf(entryOf(play([set(table), GET]), 1)?.edx, 9)).toBe(1);
  });

  test.each([
    [1n, 0x240],
    [3n, 0x240],
    [7n, 0x340],
    [0x207n, 0xa88],
  ])("the XSAVE size for XCR0 %i is %i", (value, size) => {
    expect(entryOf(play([set(), xcr0(value), GET]), 0xd)?.ebx).toBe(size);
  });

  test("the compacted size is written only with XSAVEC or XSAVES in the table", () => {
    const garbage = edited(0xd, 1, () => ({ ebx: 0x77 }));
    const compacted = edited(0xd, 1, ({ eax }) => ({ eax: eax | 2, ebx: 0x77 }));
    expect(entryOf(play([set(garbage), xcr0(7n), GET]), 0xd, 1)?.ebx).toBe(0x77);
    expect(entryOf(play([set(compacted), xcr0(7n), GET]), 0xd, 1)?.ebx).toBe(0x340);
  });

  test("the MWAIT bit follows IA32_MISC_ENABLE only without the quirk", () => {
    const mwait = (played: Played): number => bitOf(entryOf(played, 1)?.ecx, 3);
    expect(mwait(play([set(), misc(), GET]))).toBe(0);
    expect(mwait(play([set(), misc(), GET], [], { mwaitQuirkOff: true }))).toBe(1);
  });

  test("leaf 1 with index 5 and the flag is updated, but has no features", () => {
    const table = edited(1, 0, () => ({ index: 5, flags: 1, edx: 0 }));
    expect(bitOf(entryOf(play([set(table), GET]), 1, 5)?.edx, 9)).toBe(1);
    expect(play([set(table), cr4("osxsave"), misc()], [], { mwaitQuirkOff: true }).answers).toEqual(
      [...["ok", "EINVAL", "0"]],
    );
    expect(play([set(table), cpuid(1)]).last).toEqual({
      kind: "registers",
      registers: [0, 0, 0, 0],
    });
  });

  test("a deferred update applies a quirk that was disabled in the meantime", () => {
    const table = edited(1, 0, ({ ecx }) => ({ ecx: ecx | 8 }));
    const operations = [set(table), apicBase("msrs"), { call: "disableMwaitQuirk" }, GET] as const;
    expect(bitOf(entryOf(play(operations), 1)?.ecx, 3)).toBe(0);
    expect(bitOf(entryOf(play(operations, ["eager"]), 1)?.ecx, 3)).toBe(1);
  });
});

describe("the first entry", () => {
  const other = edited(0x8000_0002, 0, () => ({ eax: 1 }));

  test.each([
    ["an I/O exit", RUN, "EINVAL"],
    ["an internal error", { ...RUN, how: "internalError" }, "EINVAL"],
    ["the guest's CPUID", cpuid(1), "EINVAL"],
    ["a guest's instruction that faults", cr4("pke", "guest"), "EINVAL"],
    ["a pending triple fault", { ...RUN, how: "tripleFault" }, "ok"],
    ["immediate_exit", { ...RUN, how: "immediateExit" }, "ok"],
  ] as const)("after %s another table is accepted or refused", (_, operation, expected) => {
    const table = edited(7, 0, ({ ecx }) => ({ ecx: ecx & ~8 }));
    const first = operation.call === "cr4" ? table : SUPPORTED;
    expect(play([set(first), operation, set(other)]).answers.at(-1)).toBe(expected);
  });

  test("a vCPU without a table accepts only an empty table after its first entry", () => {
    expect(play([RUN, set(), set([])]).answers).toEqual(["io", "EINVAL", "ok"]);
  });

  test("another vCPU of the VM is not frozen", () => {
    const second = { call: "setCpuid2", vcpu: 1, entries: other } as const;
    expect(play([set(), RUN, second, set(other)]).answers).toEqual(["ok", "io", "ok", "EINVAL"]);
  });

  test.each(["function", "index", "flags", "eax", "ebx", "ecx", "edx"] as const)(
    "a change of %s is refused",
    (member) => {
      const table = edited(0x8000_0002, 0, (e) => ({ [member]: e[member] ^ 2 }));
      expect(play([set(), RUN, set(table)]).answers.at(-1)).toBe("EINVAL");
    },
  );

  test("a change of the order or the count is refused", () => {
    const [first, ...rest] = SUPPORTED;
    expect(play([set(), RUN, set([...rest, first as CpuidEntry2]), set(rest)]).answers).toEqual([
      ...["ok", "io", "EINVAL", "EINVAL"],
    ]);
  });

  test("KVM's own bits may have any value, and the padding is not compared", () => {
    const table = SUPPORTED.map((e) => ({ ...e, padding: [1, 2, 3] })).map((e) =>
      e.function === 1 ? { ...e, ecx: e.ecx ^ (1 << 27), edx: e.edx ^ (1 << 9) } : e,
    );
    expect(play([set(), RUN, set(table)]).answers.at(-1)).toBe("ok");
    expect(entryOf(play([set(), RUN, set(table), GET]), 0)?.padding).toEqual([1, 2, 3]);
    expect(entryOf(play([set(), RUN, set(table), GET], ["compares-incoming"]), 0)?.padding).toEqual(
      [...[0, 0, 0]],
    );
  });

  test.each([
    ["CR4.OSXSAVE by SREGS", cr4("osxsave")],
    ["CR4.OSXSAVE by the guest", cr4("osxsave", "guest")],
    ["XCR0", xcr0(7n)],
    ["APIC_BASE", apicBase("msrs")],
  ])("after a silent change of %s the same table is accepted, except by lazy kernels", (_, op) => {
    expect(play([set(), RUN, op, set()]).answers.at(-1)).toBe("ok");
    expect(play([set(), RUN, op, set()], ["eager"]).answers.at(-1)).toBe("ok");
    expect(play([set(), RUN, op, set()], ["lazy"]).answers.at(-1)).toBe("EINVAL");
    expect(play([set(), RUN, op, GET, set()], ["lazy"]).answers.at(-1)).toBe("ok");
  });

  test("a KVM_GET_CPUID2 with too little room does not apply a deferred update", () => {
    const operations = [set(), RUN, apicBase("msrs"), { ...GET, room: 1 }, set()];
    expect(play(operations, ["lazy"]).answers.slice(3)).toEqual(["E2BIG", "EINVAL"]);
    expect(play(operations).answers.slice(3)).toEqual(["E2BIG", "ok"]);
  });

  test("a lazy kernel forgets the pending update after a refused table", () => {
    const operations = [set(), RUN, cr4("osxsave"), set(other), GET];
    expect(osxsave(play(operations))).toBe(1);
    expect(osxsave(play(operations, ["lazy"]))).toBe(0);
  });
});

describe("registers that depend on the table", () => {
  test("KVM_SET_XCRS accepts XCR0 = 1 on each vCPU, and other values only within leaf 0xD and the host", () => {
    expect(play([xcr0(1n), xcr0(3n), set(), xcr0(7n), xcr0(0x27n), xcr0(5n)]).answers).toEqual([
      ...["ok", "EINVAL", "ok", "ok", "EINVAL", "EINVAL"],
    ]);
  });

  test("a shrinking table keeps CR4, and then each KVM_SET_SREGS fails", () => {
    const table = edited(1, 0, ({ ecx }) => ({ ecx: ecx & ~(1 << 26) }));
    const operations = [set(), cr4("osxsave"), set(table), apicBase("sregs"), apicBase("msrs")];
    expect(play(operations).answers).toEqual(["ok", "ok", "ok", "EINVAL", "1"]);
    expect(osxsave(play([...operations, GET]))).toBe(1);
  });

  test("a vCPU without a table may set CR4.OSXSAVE only on older kernels", () => {
    expect(play([cr4("osxsave")]).answers).toEqual(["EINVAL"]);
    expect(play([cr4("osxsave")], ["cr4-before-cpuid"]).answers).toEqual(["ok"]);
  });

  test("the APIC base must fit the physical addresses of the table", () => {
    const table = edited(0x8000_0008, 0, () => ({ eax: 0x301f }));
    expect(
      play([set(table), apicBase("msrs"), apicBase("sregs"), apicBase("guest")]).answers,
    ).toEqual([...["ok", "0", "EINVAL", "#GP"]]);
  });

  test("the MWAIT bit of IA32_MISC_ENABLE requires SSE3 without the quirk", () => {
    expect(play([misc()], [], { mwaitQuirkOff: true }).answers).toEqual(["0"]);
    expect(play([misc("guest")], [], { mwaitQuirkOff: true }).answers).toEqual(["#GP"]);
    expect(play([misc()]).answers).toEqual(["1"]);
  });
});

describe("PV_UNHALT", () => {
  const unhalt = (played: Played): number => bitOf(entryOf(played, 0x4000_0001)?.eax, 7);

  test("KVM clears the bit in the first SET if HLT exits are disabled; with the row stale-base, in the second SET", () => {
    const options = { hltExitsOff: true };
    expect(unhalt(play([set(), GET], [], options))).toBe(0);
    expect(unhalt(play([set(), GET], ["stale-base"], options))).toBe(1);
    expect(unhalt(play([set(), set(), GET], ["stale-base"], options))).toBe(0);
    expect(unhalt(play([set(), GET]))).toBe(1);
  });

  test("a stale base makes each table with the bit unacceptable after one SET", () => {
    const answers = (rows: readonly KernelRowName[]): readonly string[] =>
      play([set(), RUN, set()], rows, { hltExitsOff: true }).answers;
    expect(answers(["stale-base"])).toEqual(["ok", "io", "EINVAL"]);
    expect(answers([])).toEqual(["ok", "io", "ok"]);
  });

  test("HLT exits that are disabled late clear the bit in the next update", () => {
    const late = [set(), { call: "disableHltExits" }, apicBase("msrs"), GET] as const;
    expect(play(late).answers[1]).toBe("EINVAL");
    expect(unhalt(play(late, ["disables-exits-late", "eager"]))).toBe(1);
    expect(unhalt(play(late, ["disables-exits-late", "eager", "pv-each-update"]))).toBe(0);
  });
});

describe("the rows of kernels", () => {
  test.each(KERNEL_ROW_NAMES)(
    "row %s has a sentence, a range and a source, and changes rules",
    (name) => {
      const { behaviour, where, source, changes } = KERNEL_ROWS[name];
      expect([behaviour, where, source].every((words) => words.length > 0)).toBe(true);
      expect(Object.keys(changes).length).toBeGreaterThan(0);
      for (const [rule, value] of Object.entries(changes)) {
        expect(LIFECYCLE_RULES).toHaveProperty(rule);
        expect(value).not.toEqual(Reflect.get(LIFECYCLE_RULES, rule));
      }
    },
  );

  test("the order of rows makes no difference", () => {
    const rules = (rows: readonly KernelRowName[]) =>
      new LifecycleModel(HOST, changesOf(rows)).rules;
    expect(rules(["leaves-ospke", "leaves-osxsave", "eager"])).toEqual(
      rules(["eager", "leaves-osxsave", "leaves-ospke"]),
    );
    expect(rules(["leaves-ospke", "leaves-osxsave"]).leaves).toHaveLength(2);
  });

  test("what is not modelled is listed in sentences", () => {
    expect(NOT_MODELLED.length).toBeGreaterThan(5);
    expect(NOT_MODELLED.every((line) => line.endsWith("."))).toBe(true);
  });
});

test("answers are equal only if each member is equal", () => {
  const table: LifecycleAnswer = { kind: "table", nent: 1, entries: SUPPORTED.slice(0, 1) };
  const padded = SUPPORTED.slice(0, 1).map((e) => ({ ...e, padding: [0, 0, 1] }));
  expect(
    sameAnswer(table, { ...table, entries: SUPPORTED.slice(0, 1).map((e) => ({ ...e })) }),
  ).toBe(true);
  expect(sameAnswer(table, { ...table, entries: padded })).toBe(false);
  expect(sameAnswer(table, { ...table, nent: 2 })).toBe(false);
  expect(sameAnswer(table, { kind: "written", count: 1 })).toBe(false);
});

test("an operation on a vCPU that the VM does not have is a RangeError", () => {
  const model = new LifecycleModel(HOST);
  expect(() => model.step(freshVm(PLAIN, 1), { ...GET, vcpu: 1 })).toThrow("no vCPU 1");
});
