/** Explores a subject with generated sequences until a number of steps is done, or a disagreement is found. */
import { generate, SEQUENCE_LENGTH } from "./generate.ts";
import type { Sequence } from "./operation.ts";
import { type Disagreement, isSameFault, type PlayedStep, type PlayOptions, play } from "./play.ts";
import { shrink } from "./shrink.ts";

/** The options of an exploration. */
export interface ExploreOptions extends Omit<PlayOptions, "before" | "after"> {
  /** The seed of the first sequence; the next sequences have the next seeds. */
  readonly seed: number;
  /** The exploration ends after the sequence that reaches this number of steps. */
  readonly steps: number;
  /** The number of operations of each sequence. */
  readonly length?: number;
  /** A function that is called before each sequence. */
  readonly onSequence?: (seed: number, steps: number) => void;
  /** A function that is called before each operation. */
  readonly onOperation?: (seed: number, position: number) => void;
}

/** A disagreement that was found and shrunk. */
export interface Finding {
  readonly seed: number;
  /** The number of steps until the disagreement. */
  readonly steps: number;
  /** The sequence of the seed, up to the disagreement. */
  readonly found: Sequence;
  /** The shortest sequence that was found. */
  readonly shrunk: Sequence;
  /** The disagreement of the shrunk sequence. */
  readonly disagreement: Disagreement;
  /** The number of replays during shrinking. */
  readonly tries: number;
}

/** The result of an exploration. */
export interface Exploration {
  readonly steps: number;
  readonly sequences: number;
  readonly finding: Finding | undefined;
  /** The number of steps by call, state and answer. */
  readonly reach: Readonly<Record<string, number>>;
}

const answerName = ({ answer }: PlayedStep): string => {
  switch (answer.kind) {
    case "result":
      return answer.result;
    case "written":
      return String(answer.count);
    case "exit":
      return answer.exit;
    default:
      return answer.kind;
  }
};

/** Explores a subject. */
export function explore(options: ExploreOptions): Exploration {
  const { seed: first, steps: wanted, length = SEQUENCE_LENGTH } = options;
  const reach: Record<string, number> = {};
  let [steps, sequences] = [0, 0];
  const after = (step: PlayedStep): void => {
    steps += 1;
    const state = step.isPending ? `${step.state}, pending` : step.state;
    const key = `${step.call} (${state}): ${answerName(step)}`;
    reach[key] = (reach[key] ?? 0) + 1;
  };
  for (let seed = first; steps < wanted; seed += 1) {
    options.onSequence?.(seed, steps);
    const sequence = generate(seed, length);
    const before = (position: number): void => options.onOperation?.(seed, position);
    const disagreement = play(sequence, { ...options, before, after });
    sequences += 1;
    if (disagreement === undefined) continue;
    const finding = { seed, steps, ...shrunkFrom(sequence, disagreement, { ...options, before }) };
    return { steps, sequences, finding, reach };
  }
  return { steps, sequences, finding: undefined, reach };
}

/** Shrinks a sequence to the shortest one with the same fault. */
export function shrunkFrom(
  sequence: Sequence,
  disagreement: Disagreement,
  options: PlayOptions,
): Omit<Finding, "seed" | "steps"> {
  const operations = sequence.operations.slice(0, disagreement.position + 1);
  const found = { ...sequence, operations };
  let last = disagreement;
  const { sequence: shrunk, tries } = shrink(found, (candidate) => {
    const again = play(candidate, options);
    if (again === undefined || !isSameFault(again, disagreement)) return false;
    last = again;
    return true;
  });
  return { found, shrunk, disagreement: last, tries };
}
