/**
 * The types of KVM's rules and of their verdicts. Each other file of this folder has the rules of one subject;
 * lib/explain writes the findings as sentences.
 */

/** The verdict of a rule on an argument that violates the rule. */
export interface RuleVerdict<Finding> {
  /**
   * `refused`: the evidence proves that KVM refuses the argument. `undecided`: evidence is missing, or kernels and
   * hosts differ.
   */
  readonly is: "refused" | "undecided";
  /** The part of the argument that violates the rule, and the evidence that the rule used. */
  readonly finding: Finding;
}

/** A rule of KVM about an argument and the state of the vCPU or VM. */
export interface Rule<Asked, Finding> {
  /**
   * The file and the function of the kernel that implement the rule. Linux 7.2 moved some functions of x86.c to other
   * files of arch/x86/kvm.
   */
  readonly source: string;
  /**
   * The kernels that have the rule; if omitted, all kernels from 5.10 to 7.2. If this member is present and the kernel
   * is unknown, every verdict of the rule is undecided.
   */
  readonly kernels?: string;
  /** Whether only this place in the kernel returns the errno, so that the errno itself proves the cause. */
  readonly isOnlySource?: true;
  /** Judges an argument; undefined if the argument satisfies the rule, or if there is no evidence for a violation. */
  readonly judge: (asked: Asked) => RuleVerdict<Finding> | undefined;
}

/** The rules of a subject by name, in the order in which KVM checks them. */
export type Rules<Asked, Finding> = Readonly<Record<string, Rule<Asked, Finding>>>;

/** Makes a verdict that the evidence proves; undefined if there is no finding. */
export function refused<Finding>(finding: Finding | undefined): RuleVerdict<Finding> | undefined {
  return finding === undefined ? undefined : { is: "refused", finding };
}

/** Makes a verdict that the evidence suggests but does not prove; undefined if there is no finding. */
export function undecided<Finding>(finding: Finding | undefined): RuleVerdict<Finding> | undefined {
  return finding === undefined ? undefined : { is: "undecided", finding };
}

/**
 * Makes a verdict from a condition: true proves a violation, false excludes a violation, and undefined (evidence is
 * missing) leaves the verdict undecided.
 */
export function verdictIf<Finding>(
  condition: boolean | undefined,
  finding: Finding,
): RuleVerdict<Finding> | undefined {
  if (condition === false) return undefined;
  return { is: condition === true ? "refused" : "undecided", finding };
}

/** Applies a rule without evidence about the running kernel. */
export function apply<Asked, Finding>(
  rule: Rule<Asked, Finding>,
  asked: Asked,
): RuleVerdict<Finding> | undefined {
  const verdict = rule.judge(asked);
  return rule.kernels === undefined ? verdict : undecided(verdict?.finding);
}
