/** Judges registered claims one after another. registry.ts has the list of claims. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { inspect } from "node:util";
import type { Evidence } from "../report/evidence.ts";
import { containsPattern, type Result, splitName } from "../report/result.ts";
import type { RegisteredClaim } from "./registry.ts";

/** The claims to judge, and the receiver of results. */
export interface JudgeOptions {
  /** Only claims whose `id: sentence` contains this text, ignoring case, are judged; all claims if omitted. */
  readonly pattern?: string | undefined;
  /**
   * A share of the claims with the pattern: `1/3` is every third claim from the second one on; all claims if omitted.
   */
  readonly share?: string | undefined;
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
  const { pattern, share = "0/1", files, onResult } = options;
  const [index = 0, count = 1] = share.split("/").map(Number);
  const chosen = claims
    .filter(({ name }) => containsPattern(name, pattern))
    .filter((_, position) => position % count === index)
    .filter(({ file }) => files?.includes(file) ?? true);
  const results: Result[] = [];
  using stray = new StrayErrors();
  for (const claim of chosen) {
    const result = await judgeClaim(claim, stray);
    results.push(result);
    onResult?.(result);
  }
  return results;
}

/** Collects errors that no code of a claim handles: rejected promises without `await`, and exceptions in callbacks. */
class StrayErrors {
  #first: Error | undefined;
  readonly #add = (error: unknown): void => {
    this.#first ??= error instanceof Error ? error : new Error(String(error));
  };

  constructor() {
    process.on("unhandledRejection", this.#add);
    process.on("uncaughtException", this.#add);
  }

  /** Runs the callbacks that are due, and returns the first error since the last call. */
  async take(): Promise<Error | undefined> {
    // Between two turns, the event loop delivers the ends of runs and reports the rejections.
    for (let turn = 0; turn < 2; turn += 1) await nextTurn();
    const error = this.#first;
    this.#first = undefined;
    if (error === undefined) return undefined;
    const text = messageOf(error);
    return new Error(`a promise or a callback that the check does not await failed: ${text}`);
  }

  [Symbol.dispose](): void {
    process.off("unhandledRejection", this.#add);
    process.off("uncaughtException", this.#add);
  }
}

class Skipped extends Error {}

async function judgeClaim(
  { name, file, meta, body, timeout }: RegisteredClaim,
  stray: StrayErrors,
): Promise<Result> {
  const notes: Record<string, unknown> = { ...meta };
  const started = performance.now();
  const thrown = await failureOf(
    () =>
      body({
        task: { meta: notes },
        skip: (reason) => {
          throw new Skipped(reason);
        },
      }),
    timeout ?? MOST_MS,
  );
  const late = await stray.take();
  const failure = thrown instanceof Skipped ? (late ?? thrown) : (thrown ?? late);
  const duration = performance.now() - started;
  const { claim, evidence, ...noted } = notes as {
    readonly claim?: number;
    readonly deviation?: string;
    readonly evidence?: Evidence;
  };
  // A deviation describes the failure of the check alone.
  const deviation = late === undefined ? noted.deviation : undefined;
  const verdict = verdictOf(failure, deviation);
  const reason = deviation ?? (failure === undefined ? undefined : messageOf(failure));
  return {
    ...splitName(name),
    number: claim,
    ...{ file, verdict, reason, duration },
    ...(evidence === undefined ? {} : { evidence }),
  };
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
