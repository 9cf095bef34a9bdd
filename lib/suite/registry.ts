/**
 * The list of registered claims, if vitest does not run them. `claim()` registers a claim here after a runner has
 * started a file; judge.ts judges the claims.
 */
import { quoted } from "../options.ts";

/** The argument of a claim's function: the part of vitest's test context that `claim()` uses. */
export interface ClaimContext {
  /** Notes about the claim for reports, such as its known deviation. */
  readonly task: { readonly meta: Record<string, unknown> };
  /** Ends the claim as skipped. */
  readonly skip: (reason: string) => never;
}

/** A claim that is registered and not judged yet. */
export interface RegisteredClaim {
  /** The name of the claim's file: `frozen.test.ts`. */
  readonly file: string;
  /** `id: sentence`. */
  readonly name: string;
  readonly meta: Readonly<Record<string, unknown>>;
  readonly body: (context: ClaimContext) => void | Promise<void>;
  /** The time limit of the claim in milliseconds; the runner's limit if omitted. */
  readonly timeout?: number | undefined;
}

const claims: RegisteredClaim[] = [];
let current: string | undefined;

/** Starts a file: claims that are registered after this call belong to this file. `undefined` ends the current file. */
export function beginFile(name: string | undefined): void {
  current = name;
}

/**
 * Registers a claim, as vitest's `test` does.
 *
 * @throws Error if no runner has started a file, because the claim would never be judged, or if the id is already
 *   registered.
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
