/**
 * The fingerprint of a kernel: the stage of its code for CPUID tables, and the differences from Linux 7.2, decided by
 * calls. probes.ts and lib/suite/traits.ts have the calls, and node-kvm/oracle the stages and the rows.
 */
import type { CpuidEntry2 } from "../cpuid/index.ts";
import type { Kvm } from "../index.ts";
import {
  KERNEL_ROWS,
  type KernelRowName,
  LIFECYCLE_STAGES,
  type LifecycleStageFacts,
  type LifecycleStageName,
  lifecycleHost,
  lifecycleStageOf,
  TRAITS,
  type TraitFacts,
} from "../oracle/index.ts";
import {
  DECIDED_TRAITS,
  type DecidedTrait,
  decideTrait,
  type TraitVerdict,
} from "../suite/traits.ts";
import { KvmSubject } from "./kvm-subject.ts";
import { type ProbedRow, probeRows } from "./probes.ts";
import { RunWatchdog } from "./run-watchdog.ts";
import type { Subject } from "./subject.ts";

/** A row of a fingerprint: a difference from Linux 7.2, and whether this kernel has it. */
export interface FingerprintRow<Row = KernelRowName | DecidedTrait> extends TraitFacts {
  readonly row: Row;
  /** Whether this kernel has the difference; `undecided` if the calls do not show it on this host. */
  readonly verdict: "holds" | "absent" | "undecided";
  /** The reason why the row is undecided. */
  readonly reason?: string;
}

/** The stage of a kernel's code, with the sentence, the kernels and the commit of the stage. */
export interface FingerprintStage extends LifecycleStageFacts {
  readonly name: LifecycleStageName;
}

/** The fingerprint of a kernel. */
export interface Fingerprint<Row = KernelRowName | DecidedTrait> {
  /** The stage of KVM's code for CPUID tables; undefined if the rows do not decide it. */
  readonly stage: FingerprintStage | undefined;
  /** The reason why the stage is undecided. */
  readonly reason?: string;
  /** Every row of `KERNEL_ROWS` in the order of the table, and further traits of `TRAITS`. */
  readonly rows: readonly FingerprintRow<Row>[];
}

function rowOf<Row>(
  decision: Pick<FingerprintRow<Row>, "row" | "verdict" | "reason">,
  { behaviour, where, source, fix }: TraitFacts,
): FingerprintRow<Row> {
  return { ...decision, behaviour, where, source, ...(fix === undefined ? {} : { fix }) };
}

/** Makes the row of a trait. */
export function traitRow(row: DecidedTrait, verdict: TraitVerdict): FingerprintRow {
  const facts = TRAITS[row];
  return typeof verdict === "string"
    ? rowOf({ row, verdict: "undecided", reason: verdict }, facts)
    : rowOf({ row, verdict: verdict ? "holds" : "absent" }, facts);
}

/** Makes the fingerprint from the decisions about the rows. */
function fingerprintFrom(probed: readonly ProbedRow[]): Fingerprint<KernelRowName> {
  const rows = probed.map((one) => rowOf(one, KERNEL_ROWS[one.row]));
  const decided = probed.filter(({ verdict }) => verdict !== "undecided");
  const holds = Object.fromEntries(decided.map(({ row, verdict }) => [row, verdict === "holds"]));
  const decision = lifecycleStageOf(holds);
  return decision.stage === undefined
    ? { stage: undefined, reason: decision.reason, rows }
    : { stage: { name: decision.stage, ...LIFECYCLE_STAGES[decision.stage] }, rows };
}

/**
 * Decides the stage and the rows of the model's kernel differences, for a subject whose KVM supports these entries. The
 * explorer uses the same function.
 */
export function fingerprintOf(
  subject: Subject,
  supported: readonly CpuidEntry2[],
): Fingerprint<KernelRowName> {
  const table = storedTable(subject, supported);
  return fingerprintFrom(probeRows(subject, lifecycleHost(supported), table));
}

/**
 * Returns the table that KVM stores if it gets the supported entries. The vendor module kvm_pvm drops entries and
 * replaces bits, but stores its own stored table unchanged. If KVM refuses the entries, the probes show its answer.
 */
function storedTable(subject: Subject, supported: readonly CpuidEntry2[]): readonly CpuidEntry2[] {
  const vm = subject.begin({ hltExitsOff: false, mwaitQuirkOff: false, irqchip: false });
  try {
    const sent = vm.ask({ call: "setCpuid2", vcpu: 0, entries: supported });
    const stored = vm.ask({ call: "getCpuid2", vcpu: 0, room: supported.length });
    const isStored = sent.kind === "result" && sent.result === "ok";
    return isStored && stored.kind === "table" ? stored.entries : supported;
  } finally {
    vm.close();
  }
}

/** The time in milliseconds after which a run of the guest is interrupted. */
const RUN_MS = 5000;

/**
 * Decides which stage of KVM's CPUID code the kernel runs, and which of the known differences from Linux 7.2 it has.
 * The function creates VMs, executes a few calls on each of them, and closes them; it does not read the version of the
 * kernel. It changes no state outside of these VMs. The guests run a few instructions in real mode or in long mode.
 *
 * @param kvm - an open device. The function is synchronous, and takes a few milliseconds for each row.
 * @throws KvmError if KVM_GET_SUPPORTED_CPUID fails, or if the first VM cannot be created. A later error makes a row
 *   undecided.
 *
 * @example
 * ```ts run
 * import { Kvm } from "node-kvm";
 * import { fingerprint } from "node-kvm/explore";
 *
 * using kvm = Kvm.open();
 * const { stage, rows } = fingerprint(kvm);
 * console.log(stage?.name, rows.filter(({ verdict }) => verdict === "holds"));
 * ```
 */
export function fingerprint(kvm: Kvm): Fingerprint {
  const supported = kvm.getSupportedCpuid();
  using watchdog = new RunWatchdog(RUN_MS);
  using subject = new KvmSubject(kvm, watchdog);
  const { rows, ...stage } = fingerprintOf(subject, supported);
  const traits = DECIDED_TRAITS.map((trait) => traitRow(trait, decideTrait(kvm, trait)));
  return { ...stage, rows: [...rows, ...traits] };
}
