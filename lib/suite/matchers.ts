/** The matchers for claims: KVM accepts a call, KVM rejects it with an errno, a CPUID table equals another. */
import { type CpuidEntry2, CpuidTable, diff, printDiff } from "../cpuid/index.ts";
import { KvmError } from "../index.ts";
import { describe } from "../options.ts";

/** The matchers that importing `node-kvm/test` adds to vitest's `expect`. */
export interface ClaimMatchers {
  /**
   * Calls a function and checks that KVM rejects none of its calls. An error that is not a {@link KvmError} is
   * rethrown.
   */
  toBeAccepted(): void;
  /** Calls a function and checks that it throws a {@link KvmError} with this errno, such as `"EINVAL"`. */
  toFailWith(code: string): void;
  /**
   * Checks that a CPUID table has the same entries in the same order. Padding is not compared, because KVM does not
   * compare padding either.
   */
  toEqualTable(expected: Iterable<CpuidEntry2>): void;
}

declare module "vitest" {
  // biome-ignore lint/suspicious/noExplicitAny: vitest declares its Matchers with this parameter
  interface Matchers<T = any> extends ClaimMatchers {}
}

/** The verdict of a matcher. */
export interface MatcherResult {
  readonly pass: boolean;
  /** Describes the failure; called only on a failure. */
  readonly message: () => string;
  /** The compared values, which the error of a failure contains. */
  readonly actual?: unknown;
  readonly expected?: unknown;
}

/** The matchers as an argument of `expect.extend`, for an `expect` that `node-kvm/test` does not extend itself. */
export const matchers: {
  /** See {@link ClaimMatchers.toBeAccepted}. */
  readonly toBeAccepted: (call: () => unknown) => MatcherResult;
  /** See {@link ClaimMatchers.toFailWith}. */
  readonly toFailWith: (call: () => unknown, code: string) => MatcherResult;
  /** See {@link ClaimMatchers.toEqualTable}. */
  readonly toEqualTable: (
    actual: Iterable<CpuidEntry2>,
    expected: Iterable<CpuidEntry2>,
  ) => MatcherResult;
} = {
  toBeAccepted(call) {
    const refusal = refusalOf(call);
    return {
      pass: refusal === undefined,
      message: () =>
        refusal === undefined
          ? "expected KVM to refuse, but: it accepted"
          : `expected KVM to accept, but: ${refusal.message}`,
    };
  },
  toFailWith(call, code) {
    if (typeof code !== "string") {
      throw new TypeError(`toFailWith(): expected the name of an errno, got ${describe(code)}`);
    }
    const refusal = refusalOf(call);
    return {
      pass: refusal?.code === code,
      message: () =>
        refusal?.code === code
          ? `expected KVM not to refuse with ${code}, but: ${refusal.message}`
          : `expected KVM to refuse with ${code}, but: ${refusal?.message ?? "it accepted"}`,
    };
  },
  toEqualTable(actual, expected) {
    const tables = { actual: CpuidTable.from(actual), expected: CpuidTable.from(expected) };
    const changes = diff(tables.expected, tables.actual);
    return {
      ...tables,
      pass: changes.length === 0,
      message: () =>
        changes.length === 0
          ? "expected the tables to differ"
          : `expected the tables to be equal, but:\n${printDiff(changes, { before: "expected", after: "got" })}`,
    };
  },
};

function refusalOf(call: () => unknown): KvmError | undefined {
  let result: unknown;
  try {
    result = call();
  } catch (error) {
    if (error instanceof KvmError) return error;
    throw error;
  }
  if (!(result instanceof Promise)) return undefined;
  result.catch(() => undefined);
  throw new TypeError(
    "the call returned a promise: await it, or use expect(promise).rejects.toMatchObject({ code })",
  );
}
