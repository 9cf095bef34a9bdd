/**
 * The probes of a kernel: for each row of the model's kernel differences, a list of operations whose last answer shows
 * whether the row holds. The answers that are compared are the model's predictions with and without the row. The
 * earlier answers must be the predicted ones, so that a call that fails for another reason decides nothing.
 */
import { KVM_X86_DISABLE_EXITS_HLT } from "../abi/index.ts";
import type { CpuidEntry2 } from "../cpuid/index.ts";
import { type Capability, KvmError } from "../index.ts";
import {
  changesOf,
  freshVm,
  KERNEL_ROW_NAMES,
  type KernelRowName,
  type LifecycleAnswer,
  type LifecycleHost,
  LifecycleModel,
  type LifecycleOperation,
  sameAnswer,
} from "../oracle/index.ts";
import type { TableEdit } from "./edits.ts";
import { concrete, type PlannedOperation, type Sequence, VCPUS } from "./operation.ts";
import type { Subject } from "./subject.ts";
import { formatAnswer, formatAnswers, ioctlOf } from "./wording.ts";

/** The probe of a row. */
export interface Probe extends Sequence {
  /** The capability that the operations need, the bits of its value, and their name. */
  readonly needs?: { readonly cap: Capability; readonly bits: number; readonly name: string };
  /** The condition under which KVM answers differently with the row. */
  readonly visible: string;
}

const PLAIN = { hltExitsOff: false, mwaitQuirkOff: false, irqchip: false };
const NO_HLT_EXITS = { ...PLAIN, hltExitsOff: true };

const setOn = (vcpu: number, ...edits: readonly TableEdit[]): PlannedOperation => ({
  call: "setCpuid2",
  vcpu,
  base: "supported",
  edits,
});
const set = (...edits: readonly TableEdit[]): PlannedOperation => setOn(0, ...edits);
const toggleOsxsave = (vcpu: number): PlannedOperation => ({
  call: "cr4",
  vcpu,
  by: "sregs",
  bit: "osxsave",
});
const GET: PlannedOperation = { call: "getCpuid2", vcpu: 0, room: "all" };
const RUN: PlannedOperation = { call: "run", vcpu: 0, how: "io" };
const TOGGLE_APIC: PlannedOperation = { call: "apicBase", vcpu: 0, by: "msrs" };
const WRITE_XSS: PlannedOperation = { call: "xss", vcpu: 0, value: "0x0" };
const LATE_HLT: PlannedOperation = { call: "disableHltExits" };
const LATE_QUIRK: PlannedOperation = { call: "disableMwaitQuirk" };

const plain = (...operations: readonly PlannedOperation[]): Sequence => ({ vm: PLAIN, operations });

const NEEDS_HLT = {
  cap: "KVM_CAP_X86_DISABLE_EXITS",
  bits: KVM_X86_DISABLE_EXITS_HLT,
  name: "KVM_X86_DISABLE_EXITS_HLT",
} as const;

const ALWAYS = "on every host";
const WITH_XSAVE = "on a host whose KVM supports XSAVE for guests";
const ONCE_COMPARED = "on a KVM that compares tables after KVM_RUN";
const ADDED: TableEdit = ["add", 0x2000, 0, 0, 1];
const NARROW: TableEdit = ["physicalBits", 31];

/** The probe of each row. A call on vCPU 1, or an earlier call of the same kind, shows that the call can succeed. */
export const PROBES: Readonly<Record<KernelRowName, Probe>> = {
  "leaves-get-count": { ...plain(set(), GET), visible: ALWAYS },
  "without-xsave2": { ...plain(set(["flipIn", 0xd, 0, "eax", 18])), visible: WITH_XSAVE },
  "leaves-osxsave": { ...plain(set(["toggle", "osxsave"]), GET), visible: ALWAYS },
  "leaves-ospke": {
    ...plain(set(["toggle", "ospke"]), GET),
    visible: "on a host whose KVM supports leaf 7 for guests",
  },
  "cr4-before-cpuid": {
    ...plain(setOn(1), toggleOsxsave(1), toggleOsxsave(0)),
    visible: WITH_XSAVE,
  },
  "never-frozen": { ...plain(set(ADDED), set(), RUN, set(ADDED)), visible: ALWAYS },
  "compares-incoming": {
    ...plain(set(), RUN, set(["padding", 0, 0, 7]), GET),
    visible: ONCE_COMPARED,
  },
  "disables-exits-late": { ...plain(set(), LATE_HLT), needs: NEEDS_HLT, visible: ALWAYS },
  "stale-base": {
    vm: NO_HLT_EXITS,
    operations: [set(["unhalt", 1]), GET],
    needs: NEEDS_HLT,
    visible: "on a host whose KVM supports PV_UNHALT for guests",
  },
  "pv-each-update": {
    ...plain(set(["unhalt", 1]), LATE_HLT, TOGGLE_APIC, GET),
    needs: NEEDS_HLT,
    visible:
      "on a KVM that accepts KVM_CAP_X86_DISABLE_EXITS after a vCPU was created, and does not have stale-base, which " +
      "includes the row",
  },
  eager: { ...plain(set(["toggle", "monitor"]), TOGGLE_APIC, LATE_QUIRK, GET), visible: ALWAYS },
  lazy: { ...plain(set(), RUN, set(), TOGGLE_APIC, set()), visible: ONCE_COMPARED },
  "masks-sgx-attributes": {
    ...plain(set(["add", 0x12, 1, 1, 0xffff_ffff]), GET),
    visible: ALWAYS,
  },
  "checks-same-apic-base": {
    ...plain(set(), toggleOsxsave(0), toggleOsxsave(0), set(NARROW), toggleOsxsave(0)),
    visible: WITH_XSAVE,
  },
  "xss-any-table": { ...plain(set(["drop", 0xd, 1]), WRITE_XSS), visible: ALWAYS },
  // KVM 7.2 writes IA32_XSS only with XSAVES in the table.
  "xss-any-write": {
    ...plain(set(["toggle", "monitor"], ["toggle", "xsaves"]), LATE_QUIRK, WRITE_XSS, GET),
    visible: "on a host on which KVM_SET_MSRS accepts IA32_XSS",
  },
};

/** The decision about one row. */
export type ProbedRow =
  | { readonly row: KernelRowName; readonly verdict: "holds" | "absent" }
  | {
      readonly row: KernelRowName;
      readonly verdict: "undecided";
      /** The reason why the probe decides nothing on this host. */
      readonly reason: string;
    };

interface Predicted {
  readonly operations: readonly LifecycleOperation[];
  readonly answers: readonly LifecycleAnswer[];
}

/** Returns the operations of a sequence, and the model's predictions of the answers. */
function predict(
  { vm: options, operations }: Sequence,
  model: LifecycleModel,
  table: readonly CpuidEntry2[],
): Predicted {
  let vm = freshVm(options, VCPUS);
  const answers: LifecycleAnswer[] = [];
  const done = operations.map((planned) => {
    const operation = concrete(planned, vm, table);
    const step = model.step(vm, operation);
    vm = step.vm;
    answers.push(step.answer);
    return operation;
  });
  return { operations: done, answers };
}

/**
 * Executes operations on the subject until an answer differs from the first prediction; returns the answers, or the
 * message of an unexpected error.
 */
function observe(
  subject: Subject,
  { vm }: Sequence,
  { operations, answers }: Predicted,
): readonly LifecycleAnswer[] | string {
  try {
    const asked = subject.begin(vm);
    try {
      const observed: LifecycleAnswer[] = [];
      for (const [i, operation] of operations.entries()) {
        const answer = asked.ask(operation);
        observed.push(answer);
        const expected = answers[i];
        if (expected === undefined || !sameAnswer(answer, expected)) break;
      }
      return observed;
    } finally {
      asked.close();
    }
  } catch (error) {
    if (error instanceof KvmError) return error.message;
    throw error;
  }
}

/** Decides a row from the answers; `without` and `holding` are the predictions without and with the row. */
function judge(
  row: KernelRowName,
  observed: readonly LifecycleAnswer[],
  without: Predicted,
  holding: Predicted,
): ProbedRow {
  const position = observed.length - 1;
  const isLast = position === without.operations.length - 1;
  const [answer, absent, held] = [observed, without.answers, holding.answers].map((answers) =>
    answers.at(position),
  );
  const operation = without.operations[position];
  if (answer === undefined || absent === undefined || held === undefined || !operation) {
    throw new RangeError(`the probe of ${row} has no operation`);
  }
  if (isLast && sameAnswer(answer, held)) return { row, verdict: "holds" };
  if (isLast && sameAnswer(answer, absent)) return { row, verdict: "absent" };
  const [predicted, got] = formatAnswers(absent, answer);
  const expected = isLast ? `${predicted} or ${formatAnswer(held)}` : predicted;
  const reason = `call ${position + 1} of the probe, ${ioctlOf(operation)}: KVM answered ${got}, expected ${expected}`;
  return { row, verdict: "undecided", reason };
}

/**
 * Decides each row by the behaviour of a subject.
 *
 * @param table - a table that the subject stores as it is, except for the bits that KVM writes itself.
 */
export function probeRows(
  subject: Subject,
  host: LifecycleHost,
  table: readonly CpuidEntry2[],
): readonly ProbedRow[] {
  const held: KernelRowName[] = [];
  return KERNEL_ROW_NAMES.map((row): ProbedRow => {
    const probed = probeRow(row, subject, table, (...rows) => {
      return new LifecycleModel(host, changesOf([...held, ...rows]));
    });
    if (probed.verdict === "holds") held.push(row);
    return probed;
  });
}

function probeRow(
  row: KernelRowName,
  subject: Subject,
  table: readonly CpuidEntry2[],
  modelOf: (...rows: readonly KernelRowName[]) => LifecycleModel,
): ProbedRow {
  const probe = PROBES[row];
  const undecided = (reason: string): ProbedRow => ({ row, verdict: "undecided", reason });
  const { needs } = probe;
  if (needs !== undefined && (subject.capability(needs.cap) & needs.bits) !== needs.bits) {
    return undecided(`${needs.cap} of this host lacks ${needs.name}`);
  }
  const without = predict(probe, modelOf(), table);
  const holding = predict(probe, modelOf(row), table);
  const [a, b] = [without.answers.at(-1), holding.answers.at(-1)];
  if (a !== undefined && b !== undefined && sameAnswer(a, b)) {
    return undecided(`the row is visible only ${probe.visible}`);
  }
  const observed = observe(subject, probe, without);
  if (typeof observed === "string") return undecided(observed);
  const judged = judge(row, observed, without, holding);
  const hasPermission =
    row === "without-xsave2" &&
    judged.verdict === "holds" &&
    subject.capability("KVM_CAP_XSAVE2") !== 0;
  return hasPermission
    ? undecided("this process has the permission to give AMX tile data to a guest")
    : judged;
}
