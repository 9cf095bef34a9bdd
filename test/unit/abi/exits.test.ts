/** Tests of the table of exits: it contains every exit of x86, with every field of the exit's members of `kvm_run`. */
import { describe, expect, test } from "vitest";
import {
  EXIT_UNION_BYTES,
  EXIT_UNION_OFFSET,
  EXITS,
  exitName,
  exitRow,
  type X86ExitName,
} from "../../../lib/abi/exits.ts";
import { type ExitReasonName, KVM_EXIT_REASONS } from "../../../lib/abi/generated/names.ts";
import { Run } from "../../../lib/abi/generated/structs.ts";
import { cName, leavesOf } from "../../../lib/trace/leaf.ts";
import { decode } from "../kvm/kvm-run.ts";

/** Maps the exits of other architectures to their members of the union, or to `undefined` if the exit has no member. */
const OTHER_ARCHITECTURES: Readonly<Partial<Record<ExitReasonName, string | undefined>>> = {
  KVM_EXIT_S390_SIEIC: "s390_sieic",
  KVM_EXIT_S390_RESET: "s390_reset_flags",
  KVM_EXIT_S390_UCONTROL: "s390_ucontrol",
  KVM_EXIT_S390_TSCH: "s390_tsch",
  KVM_EXIT_S390_STSI: "s390_stsi",
  KVM_EXIT_DCR: "dcr",
  KVM_EXIT_OSI: "osi",
  KVM_EXIT_PAPR_HCALL: "papr_hcall",
  KVM_EXIT_WATCHDOG: undefined,
  KVM_EXIT_EPR: "epr",
  KVM_EXIT_ARM_NISV: "arm_nisv",
  KVM_EXIT_ARM_LDST64B: "arm_nisv",
  KVM_EXIT_ARM_SEA: "arm_sea",
  KVM_EXIT_RISCV_SBI: "riscv_sbi",
  KVM_EXIT_RISCV_CSR: "riscv_csr",
  KVM_EXIT_LOONGARCH_IOCSR: "iocsr_io",
};

const names = Object.keys(EXITS) as X86ExitName[];
const all = Object.keys(KVM_EXIT_REASONS) as ExitReasonName[];
const leaves = leavesOf(Run).map(({ path }) => path);

const byText = (a: string, b: string): number => (a < b ? -1 : 1);

/** Lists the fields of a row: data fields, selectors and fields of its variants. */
function fieldsOf(name: X86ExitName): readonly string[] {
  const row = exitRow(KVM_EXIT_REASONS[name]);
  return [...(row?.fields ?? []), ...(row?.varying?.fields ?? []), ...(row?.others?.fields ?? [])];
}

test("every KVM_EXIT_* constant of the headers is in the exit table or belongs to another architecture", () => {
  expect(new Set([...names, ...Object.keys(OTHER_ARCHITECTURES)])).toEqual(new Set(all));
});

test.each(names)(
  "the row of %s in the exit table contains every field of its union members exactly once",
  (name) => {
    const { members } = EXITS[name];
    const wanted = leaves.filter((path) => members.some((member) => path.startsWith(`${member}.`)));
    const kept = wanted.filter((path) => !/(^|\.)pad\d*$/.test(path));
    expect(fieldsOf(name).toSorted(byText)).toEqual(kept.toSorted(byText));
    expect(members.filter((member) => !kept.some((path) => path.startsWith(`${member}.`)))).toEqual(
      [],
    );
  },
);

test("every member of kvm_run's union belongs to an exit of the table or of another architecture", () => {
  const members = Run.fields
    .filter(({ offset, name }) => offset === EXIT_UNION_OFFSET && name !== "padding")
    .map(({ name }) => cName(name));
  const known: readonly (string | undefined)[] = [
    ...names.flatMap((name): readonly string[] => EXITS[name].members),
    ...Object.values(OTHER_ARCHITECTURES),
  ];
  expect(members.filter((member) => !known.includes(member))).toEqual([]);
});

test("kvm_run's exit union has the size of its padding", () => {
  const padding = Run.fields.find(({ name }) => name === "padding");
  expect(padding?.type).toEqual({ of: "u8", count: EXIT_UNION_BYTES });
});

/** The fields of `kvm_run` that select the variant of an exit with several variants. */
const FORMS: Readonly<Partial<Record<X86ExitName, Parameters<typeof decode>[0]>>> = {
  KVM_EXIT_IO: { io: { size: 1, dataOffset: 4096n } },
  KVM_EXIT_HYPERV: { hyperv: { type: 1 } },
  KVM_EXIT_XEN: { xen: { type: 1 } },
};

describe("an exit reason", () => {
  test.each(names)("%s is decoded to the kind of its row in the exit table", (name) => {
    const exit = decode({ exitReason: KVM_EXIT_REASONS[name], ...FORMS[name] });
    expect(exit.kind).toBe(EXITS[name].kind);
  });

  test.each(all)(
    "%s is named by its constant if x86 has the exit, and by its number otherwise",
    (name) => {
      const reason = KVM_EXIT_REASONS[name];
      expect(exitName(reason)).toBe(name in EXITS ? name : `exit_reason ${reason}`);
      expect(exitRow(reason)?.name).toBe(name in EXITS ? name : undefined);
    },
  );
});
