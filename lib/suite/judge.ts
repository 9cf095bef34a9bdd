/** Judges registered claims one after another. registry.ts has the list of claims. */
import { inspect } from "node:util";
import { containsPattern, type Result, splitName } from "../report/result.ts";
import type { RegisteredClaim } from "./registry.ts";

/** The claims to judge, and the receiver of results. */
export interface JudgeOptions {
  /** Only claims whose `id: sentence` contains this text, ignoring case, are judged; all claims if omitted. */
  readonly pattern?: string | undefined;
  /** The files whose claims are judged; all files if omitted. */
  readonly files?: readonly string[] | undefined;
  /** A function that is called with each result as soon as the claim was judged. */
  readonly onResult?: ((result: Result) => void) | undefined;
}

/**
 * The time limit of an asynchronous claim in milliseconds. The limit is high because the clock of an emulated machine
 * may run several times too fast.
 */
const MOST_MS = 300_000;

/** Judges claims in the order of the list. */
export async function judgeClaims(
  claims: readonly RegisteredClaim[],
  options: JudgeOptions = {},
): Promise<readonly Result[]> {
  const { files, onResult } = options;
  const chosen = claims
    .filter(({ file }) => files?.includes(file) ?? true)
    .filter(({ name }) => containsPattern(name, options.pattern));
  const results: Result[] = [];
  for (const claim of chosen) {
    const result = await judgeClaim(claim);
    results.push(result);
    onResult?.(result);
  }
  return results;
}

class Skipped extends Error {}

async function judgeClaim({ name, meta, body, timeout }: RegisteredClaim): Promise<Result> {
  const notes: Record<string, unknown> = { ...meta };
  const started = performance.now();
  const failure = await failureOf(
    () =>
      body({
        task: { meta: notes },
        skip: (reason) => {
          throw new Skipped(reason);
        },
      }),
    timeout ?? MOST_MS,
  );
  const duration = performance.now() - started;
  const { claim, deviation } = notes as { claim?: number; deviation?: string };
  const verdict = verdictOf(failure, deviation);
  const reason = deviation ?? (failure === undefined ? undefined : messageOf(failure));
  return { ...splitName(name), number: claim, verdict, reason, duration };
}

/** Returns an error's message as text, because a claim may have set the message to a value of any type. */
function messageOf({ message }: Error): string {
  return typeof message === "string" ? message : inspect(message);
}

function verdictOf(failure: Error | undefined, deviation: string | undefined): Result["verdict"] {
  if (deviation !== undefined) return "deviation";
  if (failure === undefined) return "pass";
  return failure instanceof Skipped ? "skip" : "fail";
}

async function failureOf(
  body: () => void | Promise<void>,
  timeout: number,
): Promise<Error | undefined> {
  let timer: NodeJS.Timeout | undefined;
  try {
    const pending = body();
    if (pending === undefined) return undefined;
    // The pending timer keeps the process running: without a timer, the process exits if no other work is pending.
    const late = new Promise<never>((_, reject) => {
      const sentence = `the claim did not end within ${timeout} ms`;
      timer = setTimeout(() => reject(new Error(sentence)), timeout);
    });
    await Promise.race([pending, late]);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  } finally {
    clearTimeout(timer);
  }
}
