/** Tests that the kinds of fields agree with the field database. */
import { describe, expect, test } from "vitest";
import { apicIdPlace } from "../../../lib/cpuid/apic-id.ts";
import {
  type CpuidField,
  type CpuidFieldName,
  field,
  fields,
  natureOf,
  PER_CPU_FIELDS,
  RUNTIME_OWNED,
} from "../../../lib/cpuid/index.ts";
import { natureAt } from "../../../lib/cpuid/kinds.ts";

const kinds = (name: CpuidFieldName): string => natureOf(field(name)).kind;

/** The kind and the order of a register in an unknown leaf, which has no row in the table of kinds. */
const UNKNOWN = natureAt({
  space: "native",
  function: 0x7777,
  index: 0,
  register: "eax",
  name: undefined,
});

test('a register of an unknown leaf has the kind "size" and the order "equal"', () => {
  expect(UNKNOWN).toEqual({ kind: "size", order: "equal" });
});

describe("the orders of fields", () => {
  const named = (order: string): readonly CpuidField[] =>
    fields().filter((one) => natureOf(one).order === order);

  test("each occur more than five times in the database", () => {
    const orders = ["bits", "inverted-bits", "number", "equal", "none"];
    expect(orders.map((order) => named(order).length > 5)).toEqual([true, true, true, true, true]);
  });

  test(`are "bits" for each one-bit feature in the feature leaves`, () => {
    const leaves = new Set([0x1, 0x7, 0x80000001, 0x80000021]);
    const odd = fields().filter(
      (one) =>
        one.space === "native" &&
        leaves.has(one.function) &&
        one.low === one.high &&
        natureOf(one).kind === "feature" &&
        natureOf(one).order !== "bits",
    );
    expect(odd).toEqual([]);
  });

  test('are "bits" or "inverted-bits" only for features and negated bits', () => {
    const odd = fields()
      .map((one) => ({ name: one.name, ...natureOf(one) }))
      .filter(({ order }) => order === "bits" || order === "inverted-bits")
      .filter(({ kind }) => kind !== "feature" && kind !== "negated");
    expect(odd).toEqual([]);
  });
});

test("every leaf of the database has a row in the table of kinds, except unknown leaves", () => {
  // Leaves from 0x80860000 on belong to Transmeta.
  const places = fields().filter(
    (one) => JSON.stringify(natureOf(one)) === JSON.stringify(UNKNOWN) && one.low === one.high,
  );
  expect(places.map(({ name }) => name)).toEqual([
    "is_xss_bit",
    "compacted_xsave_64byte_aligned",
    "xfd_faulting",
    "ip_payloads_lip",
    "lbr_ip_is_lip",
    ...["lwp_data_addr", "lwp_branch_predict", "lwp_ip_filtering", "lwp_cache_levels"],
    "lwp_cache_latency",
  ]);
});

test("every bit with `no` in its name is negated, except bits that do not describe the CPU", () => {
  const names = fields()
    .filter(({ low, high }) => low === high)
    .map(({ name }) => name)
    .filter((name) => /(^|_)no(_|$)/.test(name));
  const others = names.filter((name) => kinds(name) !== "negated");
  expect(others).toEqual([
    "wbinvd_rll_no_guarantee",
    "kl_no_encrypt",
    "kl_no_decrypt",
    "loadiwkey_no_backup",
    "wbinvd_rll_no_guarantee_8000001d",
  ]);
});

test.each(RUNTIME_OWNED.filter(({ when }) => when === "leaf" || when === "compacted"))(
  "the kind of $field is runtime-owned, because KVM updates it while the guest runs",
  ({ field: name }) => {
    expect(kinds(name ?? "avx")).toBe("runtime-owned");
  },
);

test.each(["monitor", "kvm_pv_unhalt"] as const)(
  "%s is a feature, because KVM computes it on some VMs only",
  (name) => {
    expect(kinds(name)).toBe("feature");
  },
);

test("every field that contains an APIC id is a per-CPU field", () => {
  const places = fields().filter((one) => {
    const place = one.space === "native" ? apicIdPlace(one) : undefined;
    return place !== undefined && place.register === one.register && place.low === one.low;
  });
  expect(places.length).toBe(5);
  expect(places.filter(({ name }) => !PER_CPU_FIELDS.includes(name))).toEqual([]);
});

test.each(PER_CPU_FIELDS)("%s is an id, and a guest can run with any value of the id", (name) => {
  expect(natureOf(field(name))).toEqual({ kind: "id", order: "none" });
});
