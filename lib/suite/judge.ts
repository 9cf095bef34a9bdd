/** Judges registered claims one after another. The list of claims is registry.ts. */
import { containsPattern, type Result, splitName } from "../report/result.ts";
import type { RegisteredClaim } from "./registry.ts";

/** The claims to judge, and the receiver of results. */
export interface JudgeOptions {
  /** Only claims whose `id: sentence` contains this, ignoring case; all if omitted. */
  readonly pattern?: string | undefined;
  /** Only claims of these files; of all if omitted. */
  readonly files?: readonly string[] | undefined;
  /** Called with each result immediately. */
  readonly onResult?: ((result: Result) => void) | undefined;
}

/** Judges claims in their order. */
export function judgeClaims(
  claims: readonly RegisteredClaim[],
  options: JudgeOptions = {},
): readonly Result[] {
  const { files, onResult } = options;
  return claims
    .filter(({ file }) => files?.includes(file) ?? true)
    .filter(({ name }) => containsPattern(name, options.pattern))
    .map((claim) => {
      const result = judgeClaim(claim);
      onResult?.(result);
      return result;
    });
}

class Skipped extends Error {}

function judgeClaim({ name, meta, body }: RegisteredClaim): Result {
  const notes: Record<string, unknown> = { ...meta };
  const started = performance.now();
  const failure = failureOf(() =>
    body({
      task: { meta: notes },
      skip: (reason) => {
        throw new Skipped(reason);
      },
    }),
  );
  const duration = performance.now() - started;
  const { claim, deviation } = notes as { claim?: number; deviation?: string };
  const verdict = verdictOf(failure, deviation);
  const reason = deviation ?? failure?.message;
  return { ...splitName(name), number: claim, verdict, reason, duration };
}

function verdictOf(failure: Error | undefined, deviation: string | undefined): Result["verdict"] {
  if (deviation !== undefined) return "deviation";
  if (failure === undefined) return "pass";
  return failure instanceof Skipped ? "skip" : "fail";
}

function failureOf(body: () => void): Error | undefined {
  try {
    body();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}
