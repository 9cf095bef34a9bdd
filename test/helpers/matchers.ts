/** What claims assert: that KVM accepts, refuses with an errno, or has a table. */
import { KvmError } from "node-kvm";
import { type CpuidEntry2, CpuidTable, diff, printDiff } from "node-kvm/cpuid";
import { expect } from "vitest";

interface ClaimMatchers {
  /** The call is accepted by the kernel. */
  toBeAccepted(): void;
  /** The call is refused by the kernel, with this errno. */
  toFailWith(code: string): void;
  /** The table is this one; padding is not compared (KVM does not either). */
  toEqualTable(expected: Iterable<CpuidEntry2>): void;
}

declare module "vitest" {
  // biome-ignore lint/suspicious/noExplicitAny: vitest declares its Matchers with this parameter
  interface Matchers<T = any> extends ClaimMatchers {}
}

expect.extend({
  toBeAccepted(call: () => unknown) {
    const refusal = refusalOf(call);
    return {
      pass: refusal === undefined,
      message: () => `expected KVM to accept, but: ${refusal?.message ?? "it accepted"}`,
    };
  },
  toFailWith(call: () => unknown, code: string) {
    const refusal = refusalOf(call);
    return {
      pass: refusal?.code === code,
      message: () =>
        `expected KVM to refuse with ${code}, but: ${refusal?.message ?? "it accepted"}`,
    };
  },
  toEqualTable(actual: Iterable<CpuidEntry2>, expected: Iterable<CpuidEntry2>) {
    const changes = diff(CpuidTable.from(expected), CpuidTable.from(actual));
    return {
      pass: changes.length === 0,
      message: () =>
        changes.length === 0
          ? "expected the tables to differ"
          : `expected the tables to be equal, but:\n${printDiff(changes, { before: "expected", after: "got" })}`,
    };
  },
});

function refusalOf(call: () => unknown): KvmError | undefined {
  try {
    call();
    return undefined;
  } catch (error) {
    if (error instanceof KvmError) return error;
    throw error;
  }
}
