/**
 * The framework of claims: vitest in a worker of vitest, the registry and `expect.ts` everywhere else. The framework is
 * chosen at the first import, so that one file of claims runs in vitest, on this host, and in the lab's guests without
 * vitest.
 */
import type { ExpectStatic } from "vitest";
import { expect as standalone } from "./expect.ts";
import { type RegisteredClaim, register } from "./registry.ts";

/** vitest defines this name in its workers; its environment variables are inherited by other processes. */
const vitest = Object.hasOwn(globalThis, "__vitest_worker__") ? await import("vitest") : undefined;

/** The `expect` of vitest; outside of vitest, assertions with the same names and messages. */
export const expect: ExpectStatic = vitest?.expect ?? (standalone as unknown as ExpectStatic);

/** Registers one claim with the framework. */
export function registerClaim(
  id: string,
  sentence: string,
  options: Pick<RegisteredClaim, "meta" | "timeout">,
  body: RegisteredClaim["body"],
): void {
  if (vitest === undefined) {
    register(id, sentence, options, body);
    return;
  }
  const { meta, timeout } = options;
  vitest.test(
    `${id}: ${sentence}`,
    { meta, ...(timeout === undefined ? {} : { timeout }) },
    ({ task, skip }) =>
      body({
        task: task as unknown as { readonly meta: Record<string, unknown> },
        skip: (reason) => skip(reason),
      }),
  );
}
