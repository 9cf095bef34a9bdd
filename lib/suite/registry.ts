/**
 * The claims of this program, in the order of their files, when no vitest runs them. `claim()` registers here if a
 * runner has started a file; judging is judge.ts.
 */
import { quoted } from "../options.ts";

/** The argument of a claim's function: the part of vitest's test context that `claim()` uses. */
export interface ClaimContext {
  /** The claim's notes, such as its known deviation. */
  readonly task: { readonly meta: Record<string, unknown> };
  /** Ends the claim as skipped. */
  readonly skip: (reason: string) => never;
}

/** One claim that is not judged yet. */
export interface RegisteredClaim {
  /** The name of its file: `frozen.test.ts`. */
  readonly file: string;
  /** `id: sentence`. */
  readonly name: string;
  readonly meta: Readonly<Record<string, unknown>>;
  readonly body: (context: ClaimContext) => void | Promise<void>;
  /** Milliseconds; the runner's limit if omitted. */
  readonly timeout?: number | undefined;
}

const claims: RegisteredClaim[] = [];
let current: string | undefined;

/** Starts a file, to which later claims belong; `undefined` ends the last one. */
export function beginFile(name: string | undefined): void {
  current = name;
}

/**
 * Registers a claim, as vitest's `test` does.
 *
 * @throws Error if no runner has started a file, because then nothing would judge the claim, or if the id is used twice.
 */
export function register(
  id: string,
  sentence: string,
  options: Pick<RegisteredClaim, "meta" | "timeout">,
  body: RegisteredClaim["body"],
): void {
  if (current === undefined) {
    throw new Error(
      "claim() needs a runner: npx node-kvm test FILE, npx node-kvm lab run FILE --kernel NAME, or vitest",
    );
  }
  const other = claims.find(({ name }) => name.startsWith(`${id}: `));
  if (other !== undefined) {
    const where = other.file === current ? "" : `, the first one in ${other.file}`;
    throw new Error(`two claims have the name ${quoted(id)}${where}`);
  }
  claims.push({ file: current, name: `${id}: ${sentence}`, ...options, body });
}

/** Lists the registered claims. */
export function registeredClaims(): readonly RegisteredClaim[] {
  return claims;
}
