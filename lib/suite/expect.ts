/**
 * `expect` for bundled claims: the matchers of vitest that claims use, with vitest's messages. Loading vitest's own
 * takes seconds on an emulated CPU. Equality is equality.ts.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import { packageFolder } from "../package.ts";
import { isEqual } from "./equality.ts";

/** Judges a value; `message` describes the expectation, and is called only on a failure. */
type Matcher = (
  actual: unknown,
  ...expected: readonly unknown[]
) => { readonly pass: boolean; readonly message: () => string };

let printer: ((value: unknown) => string) | undefined;

/** Formats a value like vitest's messages, because deviations quote them. It loads the printer at its first use. */
function show(value: unknown): string {
  const file = join(packageFolder(), "dist", "suite", "display.cjs");
  printer ??= (createRequire(import.meta.url)(file) as { show: (value: unknown) => string }).show;
  return printer(value);
}

const matchers = new Map<string, Matcher>([
  [
    "toBe",
    (actual, expected) => ({
      pass: Object.is(actual, expected),
      message: () => `expected ${show(actual)} to be ${show(expected)} // Object.is equality`,
    }),
  ],
  [
    "toEqual",
    (actual, expected) => ({
      pass: isEqual(actual, expected),
      message: () => `expected ${show(actual)} to deeply equal ${show(expected)}`,
    }),
  ],
  [
    "toHaveLength",
    (actual, expected) => {
      const { length } = actual as ArrayLike<unknown>;
      return {
        pass: length === expected,
        message: () =>
          `expected ${show(actual)} to have a length of ${show(expected)} but got ${show(length)}`,
      };
    },
  ],
]);

type Expectation = Readonly<Record<string, (...expected: readonly unknown[]) => void>>;

/**
 * Creates the assertions about a value; `note` is put before a failure's message.
 *
 * An assertion throws an `Error` if it fails, and a `TypeError` if there is no matcher of its name.
 */
function assertions(actual: unknown, note?: string): Expectation {
  const assertion = (name: string) => {
    return (...expected: readonly unknown[]): void => {
      const matcher = matchers.get(name);
      if (matcher === undefined) {
        throw new TypeError(`the suite's runner has no matcher ${name}; run this claim in vitest`);
      }
      const { pass, message } = matcher(actual, ...expected);
      if (!pass) throw new Error(note === undefined ? message() : `${note}: ${message()}`);
    };
  };
  return new Proxy({}, { get: (_, name) => assertion(String(name)) });
}

/** The assertions about a value, and how matchers are added, as in vitest. */
export interface Expect {
  (actual: unknown, note?: string): Expectation;
  /** Adds matchers. */
  extend(more: Readonly<Record<string, Matcher>>): void;
}

/** Replaces vitest's `expect`. */
export const expect: Expect = Object.assign(assertions, {
  extend: (more: Readonly<Record<string, Matcher>>): void => {
    for (const [name, matcher] of Object.entries(more)) matchers.set(name, matcher);
  },
});
