/**
 * The fingerprint of a kernel: for each row of the model's kernel differences, a list of operations whose last answer
 * shows whether the row holds. The answers that are compared are the model's predictions with and without the row.
 */
import type { CpuidEntry2 } from "../cpuid/index.ts";
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

const PLAIN = { hltExitsOff: false, mwaitQuirkOff: false, irqchip: false };
const NO_HLT_EXITS = { ...PLAIN, hltExitsOff: true };

const set = (...edits: readonly TableEdit[]): PlannedOperation => ({
  call: "setCpuid2",
  vcpu: 0,
  base: "supported",
  edits,
});
const GET: PlannedOperation = { call: "getCpuid2", vcpu: 0, room: "all" };
const RUN: PlannedOperation = { call: "run", vcpu: 0, how: "io" };
const TOGGLE_APIC: PlannedOperation = { call: "apicBase", vcpu: 0, by: "msrs" };
const TOGGLE_OSXSAVE: PlannedOperation = { call: "cr4", vcpu: 0, by: "sregs", bit: "osxsave" };

const WRITE_XSS: PlannedOperation = { call: "xss", vcpu: 0, value: "0x0" };

const plain = (...operations: readonly PlannedOperation[]): Sequence => ({ vm: PLAIN, operations });

/** The probe of each row. */
export const PROBES: Readonly<Record<KernelRowName, Sequence>> = {
  "leaves-get-count": plain(set(), GET),
  "without-xsave2": plain(set(["flipIn", 0xd, 0, "eax", 18])),
  "leaves-osxsave": plain(set(["toggle", "osxsave"]), GET),
  "leaves-ospke": plain(set(["toggle", "ospke"]), GET),
  "cr4-before-cpuid": plain(TOGGLE_OSXSAVE),
  "never-frozen": plain(set(), RUN, set(["add", 0x2000, 0, 0, 1])),
  "compares-incoming": plain(set(), RUN, set(["padding", 0, 0, 7]), GET),
  "disables-exits-late": plain(set(), { call: "disableHltExits" }),
  "stale-base": { vm: NO_HLT_EXITS, operations: [set(["unhalt", 1]), GET] },
  // On a kernel that refuses late options, the row makes no difference.
  "pv-each-update": plain(set(["unhalt", 1]), { call: "disableHltExits" }, TOGGLE_APIC, GET),
  eager: plain(set(["toggle", "monitor"]), TOGGLE_APIC, { call: "disableMwaitQuirk" }, GET),
  lazy: plain(set(), RUN, TOGGLE_APIC, set()),
  "masks-sgx-attributes": plain(set(["add", 0x12, 1, 1, 0xffff_ffff]), GET),
  "checks-same-apic-base": plain(set(["physicalBits", 31]), TOGGLE_OSXSAVE),
  "xss-any-table": plain(set(["drop", 0xd, 1]), WRITE_XSS),
  // KVM 7.2 writes IA32_XSS only with XSAVES in the table.
  "xss-any-write": plain(
    set(["toggle", "monitor"], ["toggle", "xsaves"]),
    { call: "disableMwaitQuirk" },
    WRITE_XSS,
    GET,
  ),
};

/** The decision about one row. */
export interface ProbedRow {
  readonly row: KernelRowName;
  /**
   * `holds` or `absent`: the last answer is the one that the model predicts with or without the row. `equal`: the row
   * makes no difference on this host. `unknown`: the answer is neither of the two.
   */
  readonly verdict: "holds" | "absent" | "equal" | "unknown";
  /** The last answer. */
  readonly answer: LifecycleAnswer | undefined;
}

interface Predicted {
  readonly operations: readonly LifecycleOperation[];
  readonly last: LifecycleAnswer | undefined;
}

/** Returns the operations of a sequence, and the model's prediction of the last answer. */
function predict(
  { vm: options, operations }: Sequence,
  model: LifecycleModel,
  supported: readonly CpuidEntry2[],
): Predicted {
  let vm = freshVm(options, VCPUS);
  let last: LifecycleAnswer | undefined;
  const done = operations.map((planned) => {
    const operation = concrete(planned, vm, supported);
    const step = model.step(vm, operation);
    vm = step.vm;
    last = step.answer;
    return operation;
  });
  return { operations: done, last };
}

/** Executes operations on the subject; returns the last answer. */
function observe(
  subject: Subject,
  { vm }: Sequence,
  operations: readonly LifecycleOperation[],
): LifecycleAnswer | undefined {
  const asked = subject.begin(vm);
  try {
    return operations.map((operation) => asked.ask(operation)).at(-1);
  } finally {
    asked.close();
  }
}

/** Decides each row by the behaviour of a subject. */
export function probeRows(
  subject: Subject,
  host: LifecycleHost,
  supported: readonly CpuidEntry2[],
): readonly ProbedRow[] {
  const held: KernelRowName[] = [];
  return KERNEL_ROW_NAMES.map((row): ProbedRow => {
    const sequence = PROBES[row];
    const modelOf = (...rows: readonly KernelRowName[]): LifecycleModel =>
      new LifecycleModel(host, changesOf(rows));
    const without = predict(sequence, modelOf(...held), supported);
    const holding = predict(sequence, modelOf(...held, row), supported);
    const same = (a: LifecycleAnswer | undefined, b: LifecycleAnswer | undefined): boolean =>
      a !== undefined && b !== undefined && sameAnswer(a, b);
    if (same(without.last, holding.last)) return { row, verdict: "equal", answer: without.last };
    const answer = observe(subject, sequence, without.operations);
    if (same(answer, holding.last)) {
      held.push(row);
      return { row, verdict: "holds", answer };
    }
    return { row, verdict: same(answer, without.last) ? "absent" : "unknown", answer };
  });
}

/** Returns the names of the rows that hold. */
export function heldRows(probed: readonly ProbedRow[]): readonly KernelRowName[] {
  return probed.filter(({ verdict }) => verdict === "holds").map(({ row }) => row);
}
