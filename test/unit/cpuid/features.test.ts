/** Tests of resolveFeatures(), which finds the fields of a feature list. */
import { describe, expect, test } from "vitest";
import { resolveFeatures } from "../../../lib/cpuid/features.ts";
import { readCpuid } from "../../../lib/cpuid/formats/index.ts";

const names = (fields: readonly { readonly name: string }[]): readonly string[] =>
  fields.map((field) => field.name);

describe("resolveFeatures", () => {
  test("finds the names of QEMU, libvirt and Linux", () => {
    const { on, off, both, unknown } = resolveFeatures({
      on: ["sse4.1", "invtsc", "avx2"],
      off: ["tsc-deadline", "hypervisor"],
    });
    expect(names(on)).toEqual(["sse4_1", "constant_tsc", "avx2"]);
    expect(names(off)).toEqual(["tsc_deadline_timer", "guest_status"]);
    expect([both, unknown]).toEqual([[], []]);
  });

  test("lists a field once if it has two names", () => {
    expect(names(resolveFeatures({ on: ["sse4.1", "sse4_1"], off: [] }).on)).toEqual(["sse4_1"]);
  });

  test("lists a field that is both on and off under two names", () => {
    expect(names(resolveFeatures({ on: ["sse4.1"], off: ["sse4-1"] }).both)).toEqual(["sse4_1"]);
  });

  test("lists an unknown name with suggestions", () => {
    const { unknown } = resolveFeatures({ on: ["avx2x"], off: ["rep_good"] });
    expect(unknown).toEqual([
      { name: "avx2x", state: "on", suggestions: expect.arrayContaining(["avx2"]) },
      { name: "rep_good", state: "off", suggestions: expect.any(Array) },
    ]);
  });

  test("accepts a megabyte of unknown names, and suggests names for the first 50", () => {
    const on = Array.from({ length: 20_000 }, (_, i) => `feature-${i}-${"x".repeat(30)}`);
    const { unknown } = resolveFeatures({ on: [...on, "y".repeat(100_000)], off: [] });
    expect(unknown).toHaveLength(20_001);
    expect(unknown.slice(50).every(({ suggestions }) => suggestions.length === 0)).toBe(true);
  });

  test("finds every feature of a command line", () => {
    const dump = readCpuid("qemu-system-x86_64 -cpu EPYC,+avx2,-rtm,+x2apic");
    expect(dump.kind === "features" && resolveFeatures(dump.features, "qemu")).toMatchObject({
      on: [{ name: "avx2" }, { name: "x2apic" }],
      off: [{ name: "rtm" }],
      unknown: [],
    });
  });

  test.each([
    [{}, undefined, "resolveFeatures(): missing members on, off"],
    [{ on: [1], off: [] }, undefined, "resolveFeatures(): on: expected a string, got 1"],
    [{ on: "avx2", off: [] }, undefined, "resolveFeatures(): on: expected an array"],
    [{ on: [], off: [] }, "quemu", 'unknown source "quemu"'],
  ])("refuses the list %j with the name source %j", (features, source, message) => {
    const given = features as unknown as { on: string[]; off: string[] };
    expect(() => resolveFeatures(given, source as "qemu")).toThrow(message);
  });
});

test("resolveFeatures() names the member that has the list if it gets the result of readCpuid()", () => {
  const dump: unknown = readCpuid("EPYC,+avx2");
  const given = dump as Parameters<typeof resolveFeatures>[0];
  expect(() => resolveFeatures(given)).toThrow(
    "resolveFeatures(): this is the result of readCpuid(); pass its member features",
  );
});
