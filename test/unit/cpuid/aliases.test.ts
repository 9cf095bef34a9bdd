/**
 * Tests of the names that other programs give to fields: each name finds its field, and an unknown name gets
 * suggestions.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  aliasesOf,
  CPUID_NAME_SOURCES,
  type CpuidFieldName,
  type CpuidNameSource,
  field,
  fields,
  findField,
  resolveField,
  suggestFields,
} from "../../../lib/cpuid/index.ts";

test.each([
  ["hypervisor", "guest_status"],
  ["AVX2", "avx2"],
  ["tsc-deadline", "tsc_deadline_timer"],
  ["TSC-Deadline", "tsc_deadline_timer"],
  ["sse4.1", "sse4_1"],
  ["SSE4_2", "sse4_2"],
  ["pni", "pni"],
  ["sse3", "pni"],
  ["invtsc", "constant_tsc"],
  ["nonstop_tsc", "constant_tsc"],
  ["lzcnt", "abm"],
  ["pclmuldq", "pclmulqdq"],
  ["xd", "nx"],
  ["i64", "lm"],
  ["ffxsr", "fxsr_opt"],
  ["cet-ibt", "ibt"],
  ["user_shstk", "cet_ss"],
  ["SHSTK", "cet_ss"],
  ["stibp", "intel_stibp"],
  ["ibpb", "amd_ibpb"],
  ["ssbd", "spec_ctrl_ssbd"],
  ["sev-snp", "sev_nested_paging"],
  ["kvmclock", "kvm_clocksource"],
  ["KVM_FEATURE_PV_UNHALT", "kvm_pv_unhalt"],
  ["AccessVpIndex", "hv_vp_index"],
  ["hv-relaxed", "hv_hint_relaxed_timing"],
  ["hv_vapic", "hv_apic_access"],
  ["hv-apicv", "hv_hint_no_auto_eoi"],
  ["X86_FEATURE_AVX512F", "avx512f"],
  ["X86_FEATURE_XMM3", "pni"],
  ["0x7.0:ebx[5]", "avx2"],
  ["0x1:EBX[31:24]", "local_apic_id"],
  ["0x1.0:ebx[31:25]", undefined],
  ["CPUID.01H:ECX.SSE3[bit 0]", "pni"],
  ["CPUID.(EAX=07H, ECX=0H):EBX.AVX2[bit 5]", "avx2"],
  ["CPUID.07H.0:EBX.AVX2", "avx2"],
  ["CPUID.80000001H:EDX.LM", "lm"],
  // AVX2 is in leaf 7.
  ["CPUID.01H:ECX.AVX2", undefined],
  ["apicid_unknown", undefined],
  ["", undefined],
  ["x".repeat(100_000), undefined],
])("%s is the field %s", (name, found) => {
  expect(findField(name)?.name).toBe(found);
});

test("a database name has priority over another program's name for another field", () => {
  expect([findField("dts")?.name, findField("prefetchi")?.name]).toEqual(["dts", "prefetchi"]);
});

test("findField() with a source finds only the names of this source", () => {
  expect([findField("sse3", "linux"), findField("sse3", "qemu")?.name]).toEqual([undefined, "pni"]);
});

test("findField() finds each field by each of its names, if no earlier field has the same name", () => {
  const lost = fields().flatMap(({ name }) =>
    CPUID_NAME_SOURCES.flatMap((source) =>
      aliasesOf(name)[source].filter((alias) => findField(alias, source)?.name !== name),
    ),
  );
  expect(lost).toEqual([]);
});

test("case and separators do not change the field that is found", () => {
  const names = fields().map(({ name }) => name);
  fc.assert(
    fc.property(
      fc.constantFrom(...names),
      fc.constantFrom("-", ".", "", " "),
      (name, separator) => {
        expect(findField(name.toUpperCase().replaceAll("_", separator))).toBe(field(name));
      },
    ),
  );
});

test("aliasesOf() lists the names of a field for each source", () => {
  expect(aliasesOf("pni")).toEqual({
    linux: ["pni"],
    qemu: ["pni", "sse3"],
    libvirt: ["pni"],
    manual: ["SSE3"],
    kernel: ["XMM3"],
  });
});

test("aliasesOf() returns empty lists for a field without other names", () => {
  expect(Object.values(aliasesOf("max_std_leaf")).flat()).toEqual([]);
});

test("the lists of names cannot be changed", () => {
  expect(Object.isFrozen(aliasesOf("pni")) && Object.isFrozen(aliasesOf("pni").qemu)).toBe(true);
});

test.each([
  ["avx3", ["avx", "avx2"]],
  ["hypervisr", ["guest_status"]],
  ["tsc-deadlin", ["tsc_deadline_timer"]],
  ["hypervisor", ["guest_status"]],
  ["addr_bits", ["phys_addr_bits", "virt_addr_bits", "guest_phys_addr_bits"]],
  ["vnni", ["vnmi", "avx512_vnni", "avx_vnni", "avx_vnni_int8", "avx_vnni_int16"]],
  ["constructor", []],
  ["", []],
  ["x".repeat(100_000), []],
])("for %s, the suggestions are %j", (name, near) => {
  expect(suggestFields(name)).toEqual(near);
});

test("an input that is the start of several names suggests up to five of these names", () => {
  expect(suggestFields("avx512")).toHaveLength(5);
  expect(suggestFields("avx512")[0]).toBe("avx512f");
});

test("an unknown name is refused with the nearest name as a suggestion", () => {
  expect(() => resolveField("hypervisr")).toThrow(
    new TypeError('unknown CPUID field "hypervisr"; did you mean guest_status?'),
  );
});

test("field() accepts only the database's names, and suggests the field that has the name in another program", () => {
  expect(() => field("lzcnt" as CpuidFieldName)).toThrow(
    new TypeError('unknown CPUID field "lzcnt"; did you mean abm?'),
  );
});

test.each([5, null, undefined])("%j is not a name of a field", (name) => {
  const given = name as unknown as string;
  expect(() => findField(given)).toThrow("findField(): expected a name");
  expect(() => resolveField(given)).toThrow("resolveField(): expected a name");
  expect(() => suggestFields(given)).toThrow("suggestFields(): expected a name");
});

test("findField() refuses an unknown source of names", () => {
  expect(() => findField("avx", "libvrt" as CpuidNameSource)).toThrow(
    new TypeError('findField(): unknown source "libvrt"; did you mean "libvirt"?'),
  );
});
