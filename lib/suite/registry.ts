/**
 * The claims of a bundle, in the order of their files. A bundled claim file registers its claims here with `test`,
 * which replaces vitest's. Judging them is judge.ts; rolldown.config.ts builds the bundle.
 */

/** The argument of a claim's function: the part of vitest's test context that claims use. */
export interface ClaimContext {
  /** The claim's notes, such as its known deviation. */
  readonly task: { readonly meta: Record<string, unknown> };
  /** Ends the claim as skipped. */
  readonly skip: (reason: string) => never;
}

/** One claim, not yet judged. */
export interface RegisteredClaim {
  /** The name of its file: `frozen.test.ts`. */
  readonly file: string;
  /** `id: sentence`. */
  readonly name: string;
  readonly meta: Readonly<Record<string, unknown>>;
  readonly body: (context: ClaimContext) => void;
}

const claims: RegisteredClaim[] = [];
let current = "";

/** Starts a file: later claims belong to it. */
export function beginFile(name: string): void {
  current = name;
}

/** Registers a claim, as vitest's `test` does. */
export function test(
  name: string,
  options: { readonly meta?: Readonly<Record<string, unknown>> },
  body: RegisteredClaim["body"],
): void {
  claims.push({ file: current, name, meta: options.meta ?? {}, body });
}

/** Lists the registered claims. */
export function registeredClaims(): readonly RegisteredClaim[] {
  return claims;
}
