/**
 * Tests of error reasons: no rule states a cause without evidence, only three files create a KvmError, and gathering
 * evidence has no side effects.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { describe, expect, test } from "vitest";
import { everyRule } from "../../lib/explain/index.ts";
import type { Refusal, Rule } from "../../lib/explain/refusal.ts";
import { claim, fault, only, open } from "../../lib/explain/verdict.ts";

const LIB = join(import.meta.dirname, "..", "..", "lib");
const sources = readdirSync(LIB, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
  .map((entry) => join(entry.parentPath, entry.name))
  .map((file) => [relative(LIB, file), readFileSync(file, "utf8")] as const);

/** A failed call without an argument and without evidence. */
function bare(ioctl: string, fd: Refusal["fd"]): Refusal {
  return { ioctl, fd, errno: 22, sent: {}, evidence: {} };
}

/** Returns whether a rule states its cause as a fact although it has no evidence and names no place in the kernel. */
function asserts(ioctl: string, rule: Rule): boolean {
  return (["sys", "vm", "vcpu", "dev", undefined] as const).some((fd) => {
    const verdict = rule(bare(ioctl, fd));
    return verdict?.is === "proven" && verdict.source === undefined;
  });
}

describe("a rule of lib/explain", () => {
  test.each(everyRule())(
    "for %s %s, %s, states no cause without evidence",
    (call, _errno, _cause, rule) => {
      expect(asserts(call, rule)).toBe(false);
    },
  );

  test("that states a cause without evidence is found by the test", () => {
    expect(asserts("KVM_RUN", () => fault("it is so"))).toBe(true);
    expect(asserts("KVM_RUN", () => claim(true, "it is so"))).toBe(true);
    expect(asserts("KVM_RUN", ({ fd }) => fault(fd === "vm" ? "it is so" : undefined))).toBe(true);
    expect(asserts("KVM_RUN", () => claim(undefined, "it may be so"))).toBe(false);
    expect(asserts("KVM_RUN", () => open("it may be so"))).toBe(false);
    expect(asserts("KVM_RUN", () => only("x86.c:there", "it is so"))).toBe(false);
  });

  test("reads its evidence from the call, never from a literal", () => {
    const literal = /\bclaim\(\s*true\b|\bfault\(\s*["']/;
    const found = sources.filter(
      ([file, text]) => file.startsWith("explain/") && literal.test(text),
    );
    expect(found.map(([file]) => file)).toEqual([]);
  });
});

describe("a KvmError", () => {
  /** The files that create a KvmError: for a failed call, for an injected fault, and for an error of another thread. */
  const MAKERS = ["kvm/refused.ts", "suite/rule-faults.ts", "worker/message.ts"];

  test("is created only in the three listed files", () => {
    const makers = sources.filter(([, text]) => /(?<!")\bnew KvmError\(/.test(text));
    expect(makers.map(([file]) => file).sort()).toEqual(MAKERS);
  });
});
