/**
 * The stages of KVM's code for a vCPU's CPUID table, from the oldest to the newest. A stage is decided by rows of
 * kernel-rows.ts, that is by behaviour: stable kernels and distributions backport changes.
 */
import type { KernelRowName } from "./kernel-rows.ts";

/** The name of a stage. */
export type LifecycleStageName =
  | "replaces-table"
  | "stale-base"
  | "incoming-base"
  | "empty-table-at-creation"
  | "swaps-tables"
  | "loses-updates"
  | "applies-updates";

/** A stage of KVM's code. */
export interface LifecycleStageFacts {
  /** The behaviour of the code, as a sentence. */
  readonly behaviour: string;
  /** The kernels with this code. */
  readonly where: string;
  /** The commits that begin the stage, with their release; of the first stage, the commit that ends it. */
  readonly source: string;
  /** The rows that decide the stage, and whether each of them holds. */
  readonly rows: Readonly<Partial<Record<KernelRowName, boolean>>>;
  /** The rows that the stage cannot have, if they are decided: each of them rules the stage out with this value. */
  readonly excludedBy?: Readonly<Partial<Record<KernelRowName, boolean>>>;
}

/** Before Linux 6.15, KVM did not delay its updates of a table. */
const DELAYS_UPDATES = { eager: false, lazy: true } as const;

const COMPARES = "after KVM_RUN, a changed table is refused and the same table is accepted";
const UPDATES_FIRST = `${COMPARES}; KVM updates its own bits of a new table before it checks and stores it`;

/** The stages by name, from the oldest to the newest. The rows of any two stages contradict each other. */
export const LIFECYCLE_STAGES: Readonly<Record<LifecycleStageName, LifecycleStageFacts>> = {
  "replaces-table": {
    behaviour: "a vCPU accepts another table after KVM_RUN",
    where: "before Linux 5.16",
    source: "until feb627e8d6f6 (Linux 5.16)",
    rows: { "never-frozen": true },
    excludedBy: DELAYS_UPDATES,
  },
  "stale-base": {
    behaviour: `${UPDATES_FIRST}, but searches KVM's leaves in the previous table`,
    where: "Linux 5.17 to 6.8, and stable updates of 5.16",
    source: "since c6617c61e8fe and ee3a5f9e3d9b (Linux 5.17)",
    rows: { "never-frozen": false, "compares-incoming": true, "stale-base": true },
    excludedBy: DELAYS_UPDATES,
  },
  "incoming-base": {
    behaviour: `${UPDATES_FIRST}, and searches KVM's leaves in the new table`,
    where: "Linux 6.9 to 6.13",
    source: "since 4736d85f0d18 (Linux 6.9)",
    rows: {
      "never-frozen": false,
      "compares-incoming": true,
      "stale-base": false,
      "cr4-before-cpuid": true,
    },
    excludedBy: DELAYS_UPDATES,
  },
  "empty-table-at-creation": {
    behaviour: `${COMPARES}; a vCPU without a table may set only the CR4 bits of an empty table; KVM compares a table before it stores it`,
    where: "in no release: a part of the series of Linux 6.14",
    source: "since 85e5ba83c016 (Linux 6.14)",
    rows: {
      "never-frozen": false,
      "compares-incoming": true,
      "stale-base": false,
      "cr4-before-cpuid": false,
    },
    excludedBy: DELAYS_UPDATES,
  },
  "swaps-tables": {
    behaviour: `${COMPARES}; KVM stores a new table before it checks and compares it, and restores the old one after an error`,
    where: "Linux 6.14",
    source: "since 8c01290bda1a (Linux 6.14)",
    rows: { "never-frozen": false, "compares-incoming": false, eager: true, lazy: false },
  },
  "loses-updates": {
    behaviour:
      "after KVM_RUN, a changed table is refused; the same table is refused too if KVM has not yet updated its own bits " +
      "of the stored table (a bug)",
    where: "Linux 6.15 to 6.18; stable updates of 6.18 have the fix",
    source: "since 93da6af3ae56 (Linux 6.15)",
    rows: { "never-frozen": false, "compares-incoming": false, eager: false, lazy: true },
  },
  "applies-updates": {
    behaviour: `${COMPARES}; KVM updates its own bits of the stored table when the table is used, and before a comparison`,
    where: "Linux 6.19 and later, and stable updates of 6.18",
    source: "since e2b43fb25243 (Linux 6.19)",
    rows: { "never-frozen": false, "compares-incoming": false, eager: false, lazy: false },
  },
};

/** The names of all stages, from the oldest to the newest. */
export const LIFECYCLE_STAGE_NAMES: readonly LifecycleStageName[] = Object.keys(
  LIFECYCLE_STAGES,
) as LifecycleStageName[];

/** The decision about the stage of a kernel. */
export type LifecycleStageDecision =
  | { readonly stage: LifecycleStageName }
  | {
      readonly stage: undefined;
      /** The reason why no stage is decided. */
      readonly reason: string;
    };

const listed = (names: readonly string[]): string =>
  names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;

const among = (names: readonly string[]): string =>
  names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} or ${names.at(-1)}`;

/**
 * Decides the stage of a kernel.
 *
 * @param holds - whether each decided row holds; an undecided row is missing. A stage is decided only if all its rows
 *   are decided.
 */
export function lifecycleStageOf(
  holds: Readonly<Partial<Record<KernelRowName, boolean>>>,
): LifecycleStageDecision {
  const rowsOf = (name: LifecycleStageName): readonly (readonly [KernelRowName, boolean])[] =>
    Object.entries(LIFECYCLE_STAGES[name].rows) as [KernelRowName, boolean][];
  const isExcluded = (name: LifecycleStageName): boolean =>
    Object.entries(LIFECYCLE_STAGES[name].excludedBy ?? {}).some(
      ([row, value]) => holds[row as KernelRowName] === value,
    );
  const possible = LIFECYCLE_STAGE_NAMES.filter(
    (name) =>
      !isExcluded(name) && rowsOf(name).every(([row, wanted]) => (holds[row] ?? wanted) === wanted),
  );
  const undecided = possible.flatMap((name) =>
    rowsOf(name).flatMap(([row]) => (holds[row] === undefined ? [row] : [])),
  );
  const [first] = possible;
  if (first !== undefined && undecided.length === 0) return { stage: first };
  const reason =
    first === undefined
      ? "the decided rows contradict each known stage"
      : `${among(possible)}; undecided: ${listed(Array.from(new Set(undecided)))}`;
  return { stage: undefined, reason };
}
