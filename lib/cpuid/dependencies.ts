/**
 * Dependencies between CPUID features, as pairs with their source: computes the closure of a set of features, and finds
 * the pairs that a table breaks. lint/ contains rules about other faults than missing features.
 */
import { refuseMissing, toList } from "../options.ts";
import { type CpuidFieldName, field, fieldsOf } from "./field.ts";
import type { CpuidTable } from "./table.ts";

/**
 * The severity of the fault that a table has a feature but lacks another feature that it needs. "error": an operating
 * system drops or misuses the feature. "warning": no manual allows the missing feature, but no failure is known.
 * "info": real CPUs have the feature without the needed feature, so such a table is legal.
 */
export type CpuidDependencySeverity = "error" | "warning" | "info";

/** A pair of a feature and another feature that it needs. */
export interface CpuidDependency {
  /** The feature that depends on `needs`. */
  readonly feature: CpuidFieldName;
  /** The feature that is needed. A feature that needs several others has one pair for each. */
  readonly needs: CpuidFieldName;
  readonly severity: CpuidDependencySeverity;
  /** The group of the pair: the id of the lint rule that reports it. */
  readonly rule: "D01" | "D02" | "D03" | "D04" | "X23" | "K03" | "H02";
  /** The document or source file that contains the dependency. */
  readonly source: string;
}

/** Pairs that share their needed features, severity, rule and source. */
interface Group {
  readonly rule: CpuidDependency["rule"];
  readonly severity: CpuidDependencySeverity;
  readonly source: string;
  readonly pairs: readonly (readonly [
    needs: CpuidFieldName,
    ...features: readonly CpuidFieldName[],
  ])[];
}

const GROUPS: readonly Group[] = [
  {
    // cpuid_deps[] has 73 elements; the element of F16C occurs twice, so there are 72 pairs. Both features of each
    // element are CPUID bits, so no element is omitted.
    rule: "D01",
    severity: "error",
    source: "Linux 7.2, arch/x86/kernel/cpu/cpuid-deps.c, cpuid_deps[]",
    pairs: [
      ["fpu", "fxsr"],
      ["fxsr", "xsave", "mmx", "cmov", "fxsr_opt", "sse"],
      ["mmx", "mmxext"],
      ["sse", "sse2"],
      ["sse2", "pni", "ssse3", "sse4_1", "sse4_2", "pclmulqdq", "aes", "sha_ni", "gfni", "f16c"],
      ["xsave", "xsaveopt", "xsavec", "xsaves", "xgetbv1", "avx", "mpx", "pku", "apx_f"],
      ["avx", "avx2", "fma", "vaes", "vpclmulqdq", "avx_vnni", "avx512f"],
      ["avx512f", "avx512ifma", "avx512pf", "avx512er", "avx512cd", "avx512dq", "avx512bw"],
      ["avx512f", "avx512vl", "avx512vbmi", "avx512_4vnniw", "avx512_4fmaps"],
      ["avx512f", "avx512_vpopcntdq"],
      ["avx512vl", "avx512_vbmi2", "avx512_vnni", "avx512_bitalg", "avx512_vp2intersect"],
      ["avx512vl", "avx512_bf16"],
      ["avx512bw", "avx512_fp16"],
      ["cqm_llc", "cqm_occup_llc", "cqm_mbm_total", "cqm_mbm_local"],
      ["cqm_mbm_total", "bmec"],
      ["cqm_mbm_local", "bmec"],
      ["cat_l3", "sdciae"],
      ["mba", "per_thread_mba"],
      ["xsaves", "enqcmd", "xfd", "cet_ss"],
      ["xgetbv1", "xfd"],
      ["sgx", "sgx_lc", "sgx1"],
      ["sgx1", "sgx2", "encls_eupdatesvn", "sgx_edeccssa"],
      ["xfd", "amx_tile"],
      ["amx_tile", "amx_fp16", "amx_bf16", "amx_int8"],
      ["lkgs", "fred"],
      ["spec_ctrl", "spec_ctrl_ssbd"],
      ["smap", "lass"],
      ["pcid", "invlpgb"],
    ],
  },
  {
    rule: "D02",
    severity: "error",
    source:
      "SDM volume 1, chapters 13 to 18, and APM volume 3, appendix D: detection of the feature",
    pairs: [
      ["xsaves", "ibt"],
      ["amx_tile", "amx_complex"],
      ["avx2", "avx_vnni_int8", "avx_ifma", "avx_ne_convert", "avx_vnni_int16", "sha512"],
      ["avx", "f16c", "sm3", "sm4", "fma4", "xop", "avx10"],
      ["sse2", "sse4a"],
      ["3dnow", "3dnowext"],
      ["pae", "lm", "nx"],
      ["lm", "la57", "pdpe1gb", "lahf_lm", "fred"],
      ["cx8", "cx16"],
      ["tsc", "rdtscp"],
      ["apic", "x2apic", "tsc_deadline_timer"],
    ],
  },
  {
    rule: "D02",
    severity: "warning",
    source: "SDM volume 3, FRED transitions; APM volume 2, page global enable",
    pairs: [
      ["wrmsrns", "fred"],
      ["pae", "pge"],
    ],
  },
  {
    rule: "D03",
    severity: "info",
    source: "38 of 310 real CPUs and 6 of 18 guests have the first feature without the second",
    pairs: [
      ["pcid", "invpcid"],
      ["rtm", "tsxldtrk"],
    ],
  },
  {
    rule: "D03",
    severity: "info",
    source: "x86-64 psABI: level 4 has avx512f and all of level 3; the SDM has no such rule",
    pairs: [["avx2", "avx512f"]],
  },
  {
    rule: "D04",
    severity: "warning",
    source: "APM volume 2, chapter 15, and volume 3, appendix E, leaf 0x8000001f",
    pairs: [
      ["sev", "sev_es"],
      ["sev_es", "sev_nested_paging"],
    ],
  },
  {
    rule: "X23",
    severity: "warning",
    source: "SDM volume 1, 13.2: XSAVES uses the compacted format of XSAVEC",
    pairs: [["xsavec", "xsaves"]],
  },
  {
    rule: "K03",
    severity: "warning",
    source: "Linux, arch/x86/kernel/kvm.c and Documentation/virt/kvm/x86/cpuid.rst",
    pairs: [
      ["kvm_async_pf", "kvm_async_pf_vmexit", "kvm_async_pf_int"],
      ["kvm_steal_time", "kvm_pv_tlb_flush", "kvm_pv_sched_yield"],
    ],
  },
  {
    rule: "H02",
    severity: "warning",
    source: "Hyper-V TLFS, feature discovery: the hypercalls and MSRs use the other feature",
    pairs: [
      ["hv_synic", "hv_stimer"],
      ["hv_vp_index", "hv_synic", "hv_hint_remote_flush", "hv_hint_cluster_ipi"],
      ["hv_stimer", "hv_stimer_direct"],
      ["vmx", "hv_hint_evmcs"],
      ["hv_hint_apic_msrs", "hv_hint_evmcs"],
    ],
  },
];

/** Each bit of 0x8000000a:edx is a feature of SVM. */
const SVM_SOURCE = "APM volume 3, appendix E, leaf 0x8000000a";

interface Graph {
  readonly all: readonly CpuidDependency[];
  /** The needs of each feature, without pairs of severity "info". */
  readonly needs: ReadonlyMap<CpuidFieldName, readonly CpuidFieldName[]>;
  /** The features that need each feature, without pairs of severity "info". */
  readonly neededBy: ReadonlyMap<CpuidFieldName, readonly CpuidFieldName[]>;
}

let graph: Graph | undefined;

/** Builds the pairs at first use, to keep importing fast. */
function open(): Graph {
  if (graph) return graph;
  const all: CpuidDependency[] = GROUPS.flatMap(({ pairs, ...group }) =>
    pairs.flatMap(([needs, ...features]) =>
      features.map((feature) => Object.freeze({ feature, needs, ...group })),
    ),
  );
  for (const { name } of fieldsOf("native", 0x8000000a, 0, "edx")) {
    const row = { feature: name, needs: "svm", severity: "warning", rule: "D04" } as const;
    all.push(Object.freeze({ ...row, source: SVM_SOURCE }));
  }
  const needs = new Map<CpuidFieldName, CpuidFieldName[]>();
  const neededBy = new Map<CpuidFieldName, CpuidFieldName[]>();
  const add = (map: typeof needs, key: CpuidFieldName, value: CpuidFieldName): void => {
    const list = map.get(key);
    if (list) list.push(value);
    else map.set(key, [value]);
  };
  for (const row of all) {
    if (row.severity === "info") continue;
    add(needs, row.feature, row.needs);
    add(neededBy, row.needs, row.feature);
  }
  graph = { all: Object.freeze(all), needs, neededBy };
  return graph;
}

/**
 * Lists every pair, here with the lint rules: the 72 pairs of Linux 7.2's cpuid_deps[] (D01), further pairs from the
 * manuals (D02, D04, X23), pairs that CPUs and guests may break (D03), and pairs of KVM's and Hyper-V's interfaces
 * (K03, H02).
 */
export function cpuidDependencies(): readonly CpuidDependency[] {
  return open().all;
}

/**
 * Appends each name that can be reached from the list, once. The graph has at most one node for each field, so the walk
 * ends.
 */
function reach(
  where: string,
  from: Iterable<CpuidFieldName>,
  edges: Graph["needs"],
): readonly CpuidFieldName[] {
  const found = new Set<CpuidFieldName>(toList(where, from).map((name) => field(name).name));
  // The iteration of a Set includes elements that are added during the iteration.
  for (const name of found) for (const next of edges.get(name) ?? []) found.add(next);
  return [...found];
}

/**
 * Adds every feature that the given features need, directly or through others. Pairs of severity "info" are not
 * followed.
 *
 * @returns the given names in their order, without duplicates, followed by the added names. A second call with the
 *   result returns the same names.
 * @throws TypeError for an unknown name, with suggestions.
 */
export function closeFeatures(on: Iterable<CpuidFieldName>): readonly CpuidFieldName[] {
  return reach("closeFeatures()", on, open().needs);
}

/**
 * Adds every feature that needs one of the given features, directly or through others. If the given features are turned
 * off, none of the returned features is usable. Pairs of severity "info" are not followed.
 *
 * @returns the given names in their order, without duplicates, followed by the features that need them.
 * @throws TypeError for an unknown name, with suggestions.
 */
export function dependentFeatures(off: Iterable<CpuidFieldName>): readonly CpuidFieldName[] {
  return reach("dependentFeatures()", off, open().neededBy);
}

/**
 * Lists each pair for which a table has the feature but lacks the needed feature. A field that several sub-leaves have
 * is read in the first of them. Pairs of every severity are listed, in the order of {@link cpuidDependencies}.
 */
export function missingDependencies(table: CpuidTable): readonly CpuidDependency[] {
  refuseMissing("missingDependencies(): table", table, ["has"]);
  return open().all.filter(({ feature, needs }) => table.has(feature) && !table.has(needs));
}
