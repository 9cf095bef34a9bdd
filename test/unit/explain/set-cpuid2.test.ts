/** Tests of the reasons of a refused KVM_SET_CPUID2: the reason names the count, the permission or the bits. */
import { describe, expect, test } from "vitest";
import { type CpuidEntry2, type CpuidEntry2Input, CpuidTable } from "../../../lib/cpuid/index.ts";
import { why } from "./refused.ts";

const INDEXED = 1;

/** The evidence of the vCPU: its table, and whether the vCPU has entered the guest. */
type Life = { readonly given: readonly CpuidEntry2Input[]; readonly hasEntered: boolean };

function reason(
  errno: string,
  sent: readonly CpuidEntry2Input[],
  life?: Life,
  nent = sent.length,
): string | undefined {
  const vcpu = life && {
    id: 0,
    hasRun: () => true,
    hasEntered: () => life.hasEntered,
    cpuid: (): readonly CpuidEntry2[] => Array.from(CpuidTable.from(life.given)),
  };
  return why(`KVM_SET_CPUID2 ${errno}`, { nent, entries: sent }, vcpu && { vcpu });
}

const ranWith = (given: readonly CpuidEntry2Input[]): Life => ({ given, hasEntered: true });

test("the reason of a refused KVM_SET_CPUID2 names a bad address width first if it is unknown whether the vCPU has entered the guest", () => {
  const bad = [{ function: 0x8000_0008, eax: 49 << 8 }];
  expect(reason("EINVAL", bad, { given: [], hasEntered: false })).toMatch(/virt_addr_bits: 49/);
});

describe("the reason of a KVM_SET_CPUID2 that failed with another errno than EINVAL", () => {
  test("names the count and the limit, for E2BIG", () => {
    expect(reason("E2BIG", [], undefined, 0xffff_ffff)).toBe(
      "4294967295 entries, but KVM accepts at most 256 (KVM_MAX_CPUID_ENTRIES)",
    );
  });

  test("names the count and the number of entries, for EFAULT", () => {
    expect(reason("EFAULT", [{ function: 0 }], undefined, 2)).toBe(
      "nent is 2, but only 1 entries were passed",
    );
  });

  test("names the bit of AMX tile data and the missing permission, for EPERM", () => {
    const tiles = { function: 0xd, flags: INDEXED, eax: 0x6_0007 };
    expect(reason("EPERM", [tiles])).toBe(
      "0xd.0:eax[18] requests AMX tile data, but this process has no permission to give these to a guest " +
        "(arch_prctl ARCH_REQ_XCOMP_GUEST_PERM)",
    );
  });

  test("is absent for EPERM if the table does not have the bit of AMX tile data", () => {
    const others = [
      { function: 0xd, flags: INDEXED, eax: 0x2_0007 },
      { function: 0xd, index: 1, flags: INDEXED, eax: 0x4_0000 },
    ];
    expect(reason("EPERM", others)).toBeUndefined();
  });

  test("is absent for EIO", () => {
    expect(reason("EIO", [{ function: 0 }])).toBeUndefined();
  });
});

describe("the reason of a KVM_SET_CPUID2 that failed with EINVAL before the first run", () => {
  const width = (bits: number): CpuidEntry2Input => ({
    function: 0x8000_0008,
    eax: (bits << 8) | 0x27,
  });

  test.each([1, 47, 49, 64, 255])("names %i virtual address bits", (bits) => {
    expect(reason("EINVAL", [width(bits)])).toBe(
      `0x80000008.0:eax[15:8] virt_addr_bits: ${bits}, and KVM accepts only 0, 48 or 57`,
    );
  });

  test("judges the first of two leaves 0x80000008, as KVM does", () => {
    expect(reason("EINVAL", [width(49), width(48)])).toContain(" 49,");
    expect(reason("EINVAL", [width(48), width(49)])).toBeUndefined();
  });

  test.each([0, 48, 57])("is absent for %i virtual address bits", (bits) => {
    expect(reason("EINVAL", [width(bits)])).toBeUndefined();
  });

  test("is absent if the table has no leaf 0x80000008", () => {
    expect(reason("EINVAL", [])).toBeUndefined();
  });
});

describe("the reason of a KVM_SET_CPUID2 that failed with EINVAL after the first run", () => {
  const AVX2 = 1 << 5;
  const leaf1 = { function: 1, ecx: 1 << 27, edx: 1 << 9 };
  const leaf7 = { function: 7, flags: INDEXED, ebx: AVX2 };
  const ran = ranWith([leaf1, leaf7]);

  test("names the bit, its value when the vCPU ran, and its new value", () => {
    expect(reason("EINVAL", [leaf1, { ...leaf7, ebx: 0 }], ran)).toBe(
      "the table changed after KVM_RUN: 0x7.0:ebx[5] avx2: ran with 1, got 0",
    );
  });

  test("does not name the bits that KVM writes itself", () => {
    const sent = [
      { ...leaf1, ecx: 0, edx: 0 },
      { ...leaf7, ebx: 0, ecx: 1 << 4 },
    ];
    expect(reason("EINVAL", sent, ran)).toBe(
      "the table changed after KVM_RUN: 0x7.0:ebx[5] avx2: ran with 1, got 0",
    );
  });

  test("names the bits that KVM writes itself if no other bit differs", () => {
    expect(reason("EINVAL", [{ ...leaf1, ecx: 0 }, leaf7], ran)).toBe(
      "the vCPU has run, and its new table may differ from the old one only in bits that KVM itself writes: " +
        "0x1.0:ecx[27] osxsave: ran with 1, got 0",
    );
  });

  test("names no bit if no bit differs, for any padding", () => {
    const padded = [leaf1, { ...leaf7, padding: [1, 2, 3] }];
    expect(reason("EINVAL", padded, ran)).toBe(
      "the vCPU has run, and its new table may differ from the old one only in bits that KVM itself writes",
    );
  });

  test("names added, removed and moved entries, and changed flags", () => {
    expect(reason("EINVAL", [leaf1], ran)).toBe(
      "the table changed after KVM_RUN: table entries: ran with 2, got 1; " +
        "0x7.0 entry: ran with present (avx2), got absent",
    );
    expect(reason("EINVAL", [leaf7, leaf1], ran)).toContain("position: ran with");
    expect(reason("EINVAL", [leaf1, { ...leaf7, flags: 0 }], ran)).toBe(
      "the table changed after KVM_RUN: 0x7.0 flags: ran with 1, got 0",
    );
  });

  test("names four changes, and states the number of the remaining changes", () => {
    const brand = Array.from({ length: 6 }, (_, i) => ({ function: 0x5000_0000 + i }));
    const sent = brand.map((entry) => ({ ...entry, eax: 1 }));
    const text = reason("EINVAL", sent, ranWith(brand)) ?? "";
    expect(text.split("; ")).toHaveLength(5);
    expect(text).toMatch(/0x50000003\.0:eax\[0\] .*; and 2 more$/);
    expect(text).not.toContain("0x50000004");
  });

  test("does not name the address width, which KVM no longer checks", () => {
    const wide = { function: 0x8000_0008, eax: 49 << 8 };
    expect(reason("EINVAL", [leaf1, leaf7, wide], ran)).not.toContain("KVM accepts only");
  });
});
