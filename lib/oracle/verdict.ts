/** Rules of KVM and their verdicts, as data. The rules are the files by subject; lib/explain words the findings. */

/** The verdict of a rule on an argument that breaks it. */
export interface RuleVerdict<Finding> {
  /** `refused`: the evidence proves that KVM refuses. `undecided`: evidence is missing, or kernels and hosts differ. */
  readonly is: "refused" | "undecided";
  /** The broken part of the argument, and the evidence that the rule used. */
  readonly finding: Finding;
}

/** A rule of KVM about an argument, in the state that the argument meets. */
export interface Rule<Asked, Finding> {
  /** The kernel's file and function. Linux 7.2 moved some functions of x86.c to other files of arch/x86/kvm. */
  readonly source: string;
  /** The kernels that have the rule; if omitted, all from 5.10 to 7.2. A verdict on an unknown kernel is undecided. */
  readonly kernels?: string;
  /** Whether no other place of the kernel returns this errno, so that the errno itself proves the cause. */
  readonly isOnlySource?: true;
  /** Judges an argument; undefined if the argument keeps the rule, or if there is no evidence for or against it. */
  readonly judge: (asked: Asked) => RuleVerdict<Finding> | undefined;
}

/** The rules of a subject by name, in the order in which KVM checks them. */
export type Rules<Asked, Finding> = Readonly<Record<string, Rule<Asked, Finding>>>;

/** Makes a verdict that the evidence proves; undefined without a finding. */
export function refused<Finding>(finding: Finding | undefined): RuleVerdict<Finding> | undefined {
  return finding === undefined ? undefined : { is: "refused", finding };
}

/** Makes a verdict that the evidence suggests but does not prove; undefined without a finding. */
export function undecided<Finding>(finding: Finding | undefined): RuleVerdict<Finding> | undefined {
  return finding === undefined ? undefined : { is: "undecided", finding };
}

/**
 * Makes a verdict from a condition: true proves it, false excludes it, and undefined (the evidence is missing) leaves it
 * undecided.
 */
export function verdictIf<Finding>(
  condition: boolean | undefined,
  finding: Finding,
): RuleVerdict<Finding> | undefined {
  if (condition === false) return undefined;
  return { is: condition === true ? "refused" : "undecided", finding };
}

/** Applies a rule without evidence about the kernel. */
export function apply<Asked, Finding>(
  rule: Rule<Asked, Finding>,
  asked: Asked,
): RuleVerdict<Finding> | undefined {
  const verdict = rule.judge(asked);
  return rule.kernels === undefined ? verdict : undecided(verdict?.finding);
}
