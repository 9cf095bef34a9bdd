/** Shortens a sequence that fails, and simplifies its operations. */
import type { PlannedOperation, Sequence } from "./operation.ts";

/** The most replays of one shrinking. */
const BUDGET = 400;
/** The time in seconds after which no further replay begins: a replay in which the guest hangs takes long. */
const SECONDS = 120;

/** The result of shrinking. */
export interface Shrunk {
  readonly sequence: Sequence;
  /** The number of replays. */
  readonly tries: number;
}

/** Lists simpler forms of an operation; the simplest is the first. */
function simpler(operation: PlannedOperation): readonly PlannedOperation[] {
  const forms: PlannedOperation[] = [];
  if ("edits" in operation) {
    const { edits } = operation;
    if (operation.base !== "supported") forms.push({ ...operation, base: "supported" });
    for (const i of edits.keys()) forms.push({ ...operation, edits: edits.toSpliced(i, 1) });
    if (operation.call === "setCpuid") forms.push({ ...operation, call: "setCpuid2" });
  }
  if (operation.call === "cr4" && operation.by !== "sregs")
    forms.push({ ...operation, by: "sregs" });
  if (operation.call === "apicBase" && operation.by !== "msrs") {
    forms.push({ ...operation, by: "msrs" });
  }
  if (operation.call === "miscEnable" && operation.by !== "msrs") {
    forms.push({ ...operation, by: "msrs" });
  }
  if (operation.call === "run" && operation.how !== "io") forms.push({ ...operation, how: "io" });
  if ("vcpu" in operation && operation.vcpu !== 0) forms.push({ ...operation, vcpu: 0 });
  return forms;
}

/**
 * Shrinks a sequence as long as `fails` returns true for the shorter sequence: first by parts of the list, from its half
 * to single operations, then by simpler operations, and by the options of the VM.
 */
export function shrink(
  start: Sequence,
  fails: (sequence: Sequence) => boolean,
  seconds: number = SECONDS,
): Shrunk {
  const end = performance.now() + seconds * 1000;
  let best = start;
  let tries = 0;
  const attempt = (candidate: Sequence): boolean => {
    if (tries >= BUDGET || performance.now() > end) return false;
    tries += 1;
    if (!fails(candidate)) return false;
    best = candidate;
    return true;
  };
  const without = (first: number, count: number): Sequence => ({
    ...best,
    operations: best.operations.toSpliced(first, count),
  });
  const removeParts = (size: number): void => {
    for (let i = 0; i < best.operations.length; ) if (!attempt(without(i, size))) i += size;
  };
  for (let size = Math.max(1, best.operations.length >> 1); size >= 1; size >>= 1)
    removeParts(size);
  for (let isShorter = true; isShorter; ) {
    const before = best;
    for (const i of best.operations.keys()) simplify(i);
    for (const name of ["hltExitsOff", "mwaitQuirkOff", "irqchip"] as const) {
      if (best.vm[name]) attempt({ ...best, vm: { ...best.vm, [name]: false } });
    }
    // All operations of another vCPU move to vCPU 0 together.
    const moved = best.operations.map((op) => ("vcpu" in op ? { ...op, vcpu: 0 } : op));
    if (best.operations.some((op) => "vcpu" in op && op.vcpu !== 0)) {
      attempt({ ...best, operations: moved });
    }
    removeParts(1);
    isShorter = best !== before;
  }
  return { sequence: best, tries };

  function simplify(i: number): void {
    for (let again = true; again; ) {
      const operation = best.operations[i];
      const forms = operation === undefined ? [] : simpler(operation);
      again = forms.some((form) => attempt({ ...best, operations: best.operations.with(i, form) }));
    }
  }
}
