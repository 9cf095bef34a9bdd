/**
 * `expect` without vitest: the matchers that the suite's claims use, with vitest's messages. Loading vitest's `expect`
 * takes seconds on an emulated CPU, so it is loaded only for an assertion that this file does not implement.
 * equality.ts compares values.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import { packageFolder } from "../package.ts";
import { Incomparable, isEqual } from "./equality.ts";

/**
 * Judges a value; `message` describes the expectation, and is called only on a failure. The error of a failure contains
 * the compared values.
 */
type Matcher = (
  actual: unknown,
  ...expected: readonly unknown[]
) => {
  readonly pass: boolean;
  readonly message: () => string;
  readonly actual?: unknown;
  readonly expected?: unknown;
};

/** A failed assertion, with the members of vitest's errors. */
class FailedAssertion extends Error {
  readonly actual: unknown;
  readonly expected: unknown;

  constructor(message: string, values: { readonly actual?: unknown; readonly expected?: unknown }) {
    super(message);
    this.actual = values.actual;
    this.expected = values.expected;
  }
}

let printer: ((value: unknown) => string) | undefined;

/**
 * Formats a value as in vitest's messages, because deviations quote these messages. The function loads the printer at
 * its first use.
 */
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
      actual,
      expected,
    }),
  ],
  [
    "toEqual",
    (actual, expected) => ({
      pass: isEqual(actual, expected),
      message: () => `expected ${show(actual)} to deeply equal ${show(expected)}`,
      actual,
      expected,
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

type Assertion = (...expected: readonly unknown[]) => unknown;

/** The part of vitest's `expect` that this file uses. */
type FullExpect = ((actual: unknown, note?: string) => Readonly<Record<string, Assertion>>) & {
  readonly extend: (more: Readonly<Record<string, Matcher>>) => void;
} & Readonly<Record<string, unknown>>;

let full: FullExpect | undefined;

/** Loads vitest's `expect`, which the build bundles, for the assertions that this file does not implement. */
function fullExpect(): FullExpect {
  if (full !== undefined) return full;
  const file = join(packageFolder(), "dist", "suite", "vitest-expect.cjs");
  const { createExpect } = createRequire(import.meta.url)(file) as {
    createExpect: () => FullExpect;
  };
  full = createExpect();
  full.extend(Object.fromEntries(added));
  return full;
}

const added = new Map<string, Matcher>();

/**
 * Creates the assertions about a value; a failure's message begins with `note`. For an assertion that `matchers` does
 * not contain, vitest's `expect` is loaded.
 */
function assertions(actual: unknown, note?: string): Readonly<Record<string, unknown>> {
  return new Proxy(
    {},
    {
      get: (_, name) => {
        const matcher = matchers.get(String(name));
        const vitests = () => fullExpect()(actual, note);
        if (matcher === undefined) return Reflect.get(vitests(), name);
        return (...expected: readonly unknown[]): unknown => {
          const verdict = judge(matcher, actual, expected);
          if (verdict === undefined) return vitests()[String(name)]?.(...expected);
          if (verdict.pass) return undefined;
          const message = verdict.message();
          throw new FailedAssertion(note === undefined ? message : `${note}: ${message}`, verdict);
        };
      },
    },
  );
}

/** Returns the verdict of a matcher; `undefined` if `isEqual` cannot compare the values. */
function judge(
  matcher: Matcher,
  actual: unknown,
  expected: readonly unknown[],
): ReturnType<Matcher> | undefined {
  try {
    return matcher(actual, ...expected);
  } catch (error) {
    if (error instanceof Incomparable) return undefined;
    throw error;
  }
}

/** The interface of `expect`, as in vitest: it creates the assertions about a value, and `extend` adds matchers. */
export interface Expect {
  (actual: unknown, note?: string): Readonly<Record<string, unknown>>;
  /** Adds matchers. */
  extend(more: Readonly<Record<string, Matcher>>): void;
}

const base = Object.assign((actual: unknown, note?: string) => assertions(actual, note), {
  extend: (more: Readonly<Record<string, Matcher>>): void => {
    for (const [name, matcher] of Object.entries(more)) {
      added.set(name, matcher);
      if (matcher.constructor.name !== "AsyncFunction") matchers.set(name, matcher);
    }
    full?.extend(more);
  },
});

/** Replaces vitest's `expect`. Members that this file does not define, such as `expect.any`, are those of vitest. */
export const expect: Expect = new Proxy(base, {
  get: (target, name) =>
    name in target ? Reflect.get(target, name) : Reflect.get(fullExpect(), name),
});
