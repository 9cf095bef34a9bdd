/**
 * Verdicts on causes, and the sentence that combines several verdicts. Each other file of this folder judges the causes
 * of one subject.
 */

/** A cause that the evidence does not exclude. */
export interface Verdict {
  /** Whether the evidence proves the cause or leaves it open. */
  readonly is: "proven" | "possible";
  /** The cause, as a sentence without a full stop. */
  readonly text: string;
  /**
   * The kernel function that returned the errno. The member is present only if no other place returns this errno: the
   * errno then proves the cause.
   */
  readonly source?: string;
}

/** Judges one cause; undefined if the evidence excludes it, or if there is no evidence. */
export type Judge<T> = (asked: T) => Verdict | undefined;

/** The causes of one errno by a short name, in the order in which the kernel checks them. */
export type Causes<T> = Readonly<Record<string, Judge<T>>>;

/**
 * Makes a verdict from its evidence: true proves the cause, false excludes it, and `undefined` (the evidence is
 * unknown) leaves it open.
 */
export function claim(ground: boolean | undefined, text: string): Verdict | undefined {
  if (ground === false) return undefined;
  return { is: ground === true ? "proven" : "possible", text };
}

/**
 * Makes a verdict from the fault of an argument: a sentence proves the cause, and undefined means that the argument has
 * no fault.
 */
export function fault(text: string | undefined): Verdict | undefined {
  return text === undefined ? undefined : { is: "proven", text };
}

/** Makes an open verdict for a cause that the argument suggests; no evidence can prove or exclude this cause. */
export function open(text: string | undefined): Verdict | undefined {
  return text === undefined ? undefined : { is: "possible", text };
}

/** Makes a proven verdict for an errno that only one place in the kernel returns, if this place has only one cause. */
export function only(source: string, text: string | undefined): Verdict | undefined {
  return text === undefined ? undefined : { is: "proven", text, source };
}

/**
 * Decides between causes: returns the first proven cause, or all causes that stay open. Causes after the first proven
 * cause are not judged, because each piece of evidence may need an additional system call.
 */
export function decide<T>(causes: Causes<T>, asked: T): readonly Verdict[] {
  const open: Verdict[] = [];
  for (const judge of Object.values(causes)) {
    const verdict = judge(asked);
    if (verdict?.is === "proven") return [verdict];
    if (verdict !== undefined) open.push(verdict);
  }
  return open;
}

/** Formats a decision: a proven cause as a fact, open causes as "either … or …". */
export function write(verdicts: readonly Verdict[]): string | undefined {
  const [first, ...rest] = verdicts;
  if (first === undefined) return undefined;
  if (first.is === "proven") return first.text;
  const others = rest.length === 0 ? ["another cause"] : rest.map(({ text }) => text);
  return `either ${[first.text, ...others].join(", or ")}`;
}
