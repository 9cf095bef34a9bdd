/**
 * Selects the test framework for claims: vitest in a vitest worker; otherwise registry.ts and expect.ts. The first
 * import selects the framework, so the same file of claims runs in vitest and, without vitest, on this host and in the
 * lab's guests.
 */
import type { ExpectStatic } from "vitest";
import { expect as standalone } from "./expect.ts";
import { type RegisteredClaim, register } from "./registry.ts";

/**
 * vitest defines this global name only in its workers. The environment variables of vitest are not used, because child
 * processes inherit them.
 */
const vitest = Object.hasOwn(globalThis, "__vitest_worker__") ? await import("vitest") : undefined;

/** vitest's `expect`; outside of vitest, a replacement whose assertions have the same names and messages. */
export const expect: ExpectStatic = vitest?.expect ?? (standalone as unknown as ExpectStatic);

/** Registers one claim with the selected framework. */
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
