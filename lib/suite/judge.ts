/** Judging registered claims one after another, and what becomes of each. Which there are is registry.ts. */
import { type Result, splitName } from "../report/result.ts";
import type { RegisteredClaim } from "./registry.ts";

/** Which claims are judged, and who is told. */
export interface JudgeOptions {
  /** Only claims whose `id: sentence` contains this, in either case; all when left out. */
  readonly pattern?: string | undefined;
  /** Only claims of these files; of all when left out. */
  readonly files?: readonly string[] | undefined;
  /** Takes each result as soon as there is one. */
  readonly onResult?: ((result: Result) => void) | undefined;
}

/** Judges claims in their order. */
export function judgeClaims(
  claims: readonly RegisteredClaim[],
  options: JudgeOptions = {},
): readonly Result[] {
  const { files, onResult } = options;
  const pattern = options.pattern?.toLowerCase() ?? "";
  return claims
    .filter(({ file }) => files?.includes(file) ?? true)
    .filter(({ name }) => name.toLowerCase().includes(pattern))
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
