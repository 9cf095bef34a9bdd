/**
 * Tests of the fingerprint without KVM: the stage and the rows of each kernel, and every reason for an undecided row.
 * Models stand for the kernels. test/unit/oracle/lifecycle-stages.test.ts tests the stages alone.
 */
import { constants } from "node:os";
import { describe, expect, test } from "vitest";
import type { CpuidEntry2 } from "../../../lib/cpuid/index.ts";
import { KvmError } from "../../../lib/errors.ts";
import { type Fingerprint, fingerprintOf, traitRow } from "../../../lib/explore/fingerprint.ts";
import { OLD_KERNELS } from "../../../lib/explore/mutants.ts";
import { play } from "../../../lib/explore/play.ts";
import { PROBES } from "../../../lib/explore/probes.ts";
import { modelSubject, type Subject } from "../../../lib/explore/subject.ts";
import type { Kvm } from "../../../lib/index.ts";
import {
  changesOf,
  KERNEL_ROW_NAMES,
  type KernelRowName,
  type LifecycleAnswer,
  LifecycleModel,
  type LifecycleOperation,
  type LifecycleStageName,
  lifecycleHost,
  TRAITS,
} from "../../../lib/oracle/index.ts";
import { DECIDED_TRAITS, decideTrait } from "../../../lib/suite/traits.ts";
import { modelOf, SUPPORTED } from "./supported.ts";

const LATE: readonly KernelRowName[] = ["xss-any-table", "xss-any-write"];

/** The rows of kernels that are not in OLD_KERNELS, as the lab shows them; those of 6.14 follow the reference. */
const OTHER_KERNELS: Readonly<Record<string, readonly KernelRowName[]>> = {
  "5.10": [
    ...(["leaves-get-count", "without-xsave2", "cr4-before-cpuid", "never-frozen"] as const),
    ...(["disables-exits-late", "pv-each-update", "eager", "checks-same-apic-base"] as const),
    ...LATE,
  ],
  "a kernel between two commits of 6.14": ["compares-incoming", "eager", ...LATE],
  "6.14": ["eager", ...LATE],
  "7.2": [],
};
const KERNELS: Readonly<Record<string, readonly KernelRowName[]>> = {
  ...OTHER_KERNELS,
  ...OLD_KERNELS,
};

type ModelFingerprint = Fingerprint<KernelRowName>;

const heldIn = ({ rows }: ModelFingerprint): readonly KernelRowName[] =>
  rows.flatMap(({ row, verdict }) => (verdict === "holds" ? [row] : []));

const rowOf = ({ rows }: ModelFingerprint, name: KernelRowName) =>
  rows.find(({ row }) => row === name);

/** Returns a subject that answers as another one, except for the operations that `answer` answers itself. */
function changed(
  subject: Subject,
  answer: (
    operation: LifecycleOperation,
    ask: (operation: LifecycleOperation) => LifecycleAnswer,
    position: number,
  ) => LifecycleAnswer,
): Subject {
  return {
    ...subject,
    begin: (options) => {
      const vm = subject.begin(options);
      let position = 0;
      return {
        ...vm,
        ask: (operation) => {
          position += 1;
          return answer(operation, vm.ask, position);
        },
      };
    },
  };
}

const NO_VM = new KvmError({
  call: "KVM_CREATE_VM",
  object: "/dev/kvm",
  errno: constants.errno.ENOMEM,
});

const result = (name: string): LifecycleAnswer => ({ kind: "result", result: name });

describe("the stage and the rows", () => {
  const STAGES: Readonly<Record<string, LifecycleStageName>> = {
    "5.10": "replaces-table",
    "6.1": "stale-base",
    "6.12": "incoming-base",
    "a kernel between two commits of 6.14": "empty-table-at-creation",
    "6.14": "swaps-tables",
    "6.17": "loses-updates",
    "7.2": "applies-updates",
  };

  test.each(Object.entries(STAGES))("of %s are %s and its rows", (kernel, stage) => {
    const rows = KERNELS[kernel] ?? [];
    const found = fingerprintOf(modelSubject(modelOf(...rows)), SUPPORTED);
    expect(found.stage?.name).toBe(stage);
    // The row stale-base includes this row.
    const hidden = rows.includes("stale-base") ? ["pv-each-update"] : [];
    expect(heldIn(found).toSorted()).toEqual(
      rows.filter((row) => !hidden.includes(row)).toSorted(),
    );
  });

  test.each(KERNEL_ROW_NAMES)("show the row %s, and only with the row", (row) => {
    const needs: Partial<Record<KernelRowName, readonly KernelRowName[]>> = {
      "pv-each-update": ["disables-exits-late"],
    };
    const needed = needs[row] ?? [];
    const found = (...rows: readonly KernelRowName[]): string | undefined =>
      rowOf(fingerprintOf(modelSubject(modelOf(...rows)), SUPPORTED), row)?.verdict;
    expect([found(...needed), found(...needed, row)]).toEqual(["absent", "holds"]);
  });

  test.each(KERNEL_ROW_NAMES)("are decided by the last answer of the probe of %s", (row) => {
    const needed: readonly KernelRowName[] =
      row === "pv-each-update" ? ["disables-exits-late"] : [];
    const disagreement = play(PROBES[row], {
      subject: modelSubject(modelOf(...needed, row)),
      model: modelOf(...needed),
      supported: SUPPORTED,
    });
    expect(disagreement?.position).toBe(PROBES[row].operations.length - 1);
  });

  test("have the sentence, the kernels, the source and the fix of the table", () => {
    const found = fingerprintOf(modelSubject(modelOf(...OLD_KERNELS["6.12"])), SUPPORTED);
    expect(rowOf(found, "eager")).toEqual({
      row: "eager",
      verdict: "holds",
      behaviour:
        "KVM updates its own bits of the stored table at once, not at the next use of the table",
      where: "before Linux 6.15",
      source: "arch/x86/kvm/cpuid.c:kvm_update_cpuid_runtime; observed on 6.1 and 6.12",
      fix: "93da6af3ae56 (Linux 6.15)",
    });
    expect(found.stage).toMatchObject({ where: "Linux 6.9 to 6.13" });
  });

  test("are those of the kernel if KVM stores another table than it gets, as kvm_pvm", () => {
    const native = (entry: CpuidEntry2): CpuidEntry2 =>
      entry.function === 7 ? { ...entry, ebx: (entry.ebx | 1) >>> 0 } : entry;
    const overlaid = SUPPORTED.map((entry) =>
      entry.function === 7 ? { ...entry, ebx: (entry.ebx & ~1) >>> 0 } : entry,
    );
    const subject = changed(modelSubject(modelOf(...OLD_KERNELS["6.17"])), (operation, ask) => {
      if (operation.call !== "setCpuid2") return ask(operation);
      const kept = operation.entries.filter(({ function: fn }) => fn !== 0x8000_000a);
      return ask({ ...operation, entries: kept.map(native) });
    });
    const found = fingerprintOf(subject, overlaid);
    expect(found.stage?.name).toBe("loses-updates");
  });
});

describe("a row is undecided, and the reason is given,", () => {
  /** The reasons for undecided rows, by row. */
  function undecidedIn(found: ModelFingerprint): Readonly<Record<string, string | undefined>> {
    const rows = found.rows.filter(({ verdict }) => verdict === "undecided");
    return Object.fromEntries(rows.map(({ row, reason }) => [row, reason]));
  }

  const ON_7_2 = "pv-each-update";

  /** Returns the fingerprint of 7.2 on a host with this table. */
  const onHost = (table: readonly CpuidEntry2[]): ModelFingerprint => {
    const model = new LifecycleModel(lifecycleHost(table), changesOf([]));
    return fingerprintOf(modelSubject(model), table);
  };

  test.each<readonly [string, (entry: CpuidEntry2) => boolean, readonly KernelRowName[]]>([
    ["XSAVE", (e) => e.function === 0xd, ["without-xsave2", "xss-any-write"]],
    ["leaf 7", (e) => e.function === 7, ["leaves-ospke"]],
    ["KVM's leaves", (e) => e.function >>> 16 === 0x4000, ["stale-base"]],
  ])("if the host's KVM does not support %s", (_, isLeft, rows) => {
    const undecided = undecidedIn(onHost(SUPPORTED.filter((entry) => !isLeft(entry))));
    expect(Object.keys(undecided).filter((row) => row !== ON_7_2)).toEqual(rows);
    for (const row of rows) {
      expect(undecided[row]).toBe(`the row is visible only ${PROBES[row].visible}`);
    }
  });

  test("if the host's KVM does not support XSAVE in CR4", () => {
    const table = SUPPORTED.map((e) =>
      e.function === 1 ? { ...e, ecx: (e.ecx & ~(1 << 26)) >>> 0 } : e,
    );
    const undecided = undecidedIn(onHost(table));
    expect(Object.keys(undecided).filter((row) => row !== ON_7_2)).toEqual([
      "cr4-before-cpuid",
      "checks-same-apic-base",
    ]);
  });

  test("if KVM does not compare tables after KVM_RUN", () => {
    const found = fingerprintOf(modelSubject(modelOf("never-frozen", "eager")), SUPPORTED);
    expect(undecidedIn(found)).toMatchObject({
      "compares-incoming": "the row is visible only on a KVM that compares tables after KVM_RUN",
      lazy: "the row is visible only on a KVM that compares tables after KVM_RUN",
    });
    expect(found.stage?.name).toBe("replaces-table");
  });

  test("if a capability is missing", () => {
    const subject: Subject = { ...modelSubject(modelOf()), capability: () => 0 };
    const reason = "KVM_CAP_X86_DISABLE_EXITS of this host lacks KVM_X86_DISABLE_EXITS_HLT";
    const found = fingerprintOf(subject, SUPPORTED);
    expect(undecidedIn(found)).toEqual({
      "disables-exits-late": reason,
      "stale-base": reason,
      "pv-each-update": reason,
    });
    expect(found.stage?.name).toBe("applies-updates");
  });

  test("if this process has the permission for AMX tile data", () => {
    const subject: Subject = {
      ...modelSubject(modelOf("without-xsave2")),
      capability: () => 0x7fff_ffff,
    };
    expect(undecidedIn(fingerprintOf(subject, SUPPORTED))["without-xsave2"]).toBe(
      "this process has the permission to give AMX tile data to a guest",
    );
  });

  test("if the last call fails with another errno", () => {
    const subject = changed(modelSubject(modelOf()), (operation, ask, position) =>
      operation.call === "cr4" && position === 3 ? result("ENOMEM") : ask(operation),
    );
    expect(undecidedIn(fingerprintOf(subject, SUPPORTED))["cr4-before-cpuid"]).toBe(
      "call 3 of the probe, KVM_SET_SREGS: KVM answered ENOMEM, expected EINVAL or ok",
    );
  });

  test("if KVM_SET_MSRS writes another number of MSRs", () => {
    const subject = changed(modelSubject(modelOf()), (operation, ask) =>
      operation.call === "xss" ? { kind: "written", count: 9 } : ask(operation),
    );
    expect(undecidedIn(fingerprintOf(subject, SUPPORTED))).toMatchObject({
      "xss-any-table":
        "call 2 of the probe, KVM_SET_MSRS: KVM answered 9 MSRs written, expected 0 MSRs written or 1 MSR written",
      "xss-any-write":
        "call 3 of the probe, KVM_SET_MSRS: KVM answered 9 MSRs written, expected 1 MSR written",
    });
  });

  test("if an earlier call fails, as on a KVM that refuses each table after KVM_RUN", () => {
    let hasRun = false;
    const subject = changed(modelSubject(modelOf(...OLD_KERNELS["6.12"])), (operation, ask, at) => {
      hasRun = (at > 1 && hasRun) || operation.call === "run";
      const isRefused = operation.call === "setCpuid2" && hasRun;
      return isRefused ? result("EINVAL") : ask(operation);
    });
    const found = fingerprintOf(subject, SUPPORTED);
    const reason = "call 3 of the probe, KVM_SET_CPUID2: KVM answered EINVAL, expected ok";
    expect(undecidedIn(found)).toEqual({ "compares-incoming": reason, lazy: reason });
    expect(found.stage).toBeUndefined();
    expect(found.reason).toBe(
      "incoming-base or swaps-tables; undecided: compares-incoming and lazy",
    );
  });

  test("if the guest does not leave its code", () => {
    const subject = changed(modelSubject(modelOf()), (operation, ask) =>
      operation.call === "run" ? { kind: "exit", exit: "#GP" } : ask(operation),
    );
    expect(undecidedIn(fingerprintOf(subject, SUPPORTED))).toMatchObject({
      "never-frozen": "call 3 of the probe, KVM_RUN: KVM answered exit #GP, expected exit io",
      lazy: "call 2 of the probe, KVM_RUN: KVM answered exit #GP, expected exit io",
    });
  });

  test("if the stored table has other bits than the model predicts", () => {
    const subject = changed(modelSubject(modelOf()), (operation, ask) => {
      const answer = ask(operation);
      if (answer.kind !== "table") return answer;
      const entries = answer.entries.map((e) => (e.function === 0x12 ? { ...e, ecx: 1 } : e));
      return { ...answer, entries };
    });
    expect(undecidedIn(fingerprintOf(subject, SUPPORTED))["masks-sgx-attributes"]).toMatch(
      /^call 2 of the probe, KVM_GET_CPUID2: KVM answered 0x12\.1 ecx 0x1, expected 0x12\.1 ecx 0xffffffff or /,
    );
  });

  test("if KVM refuses the supported table", () => {
    const subject = changed(modelSubject(modelOf()), (operation, ask) =>
      operation.call === "setCpuid2" ? result("E2BIG") : ask(operation),
    );
    const found = fingerprintOf(subject, SUPPORTED);
    expect(undecidedIn(found)["never-frozen"]).toBe(
      "call 1 of the probe, KVM_SET_CPUID2: KVM answered E2BIG, expected ok",
    );
    expect(heldIn(found)).toEqual([]);
    expect(found.stage).toBeUndefined();
  });

  test("if a VM cannot be created", () => {
    const subject = modelSubject(modelOf());
    const failing: Subject = {
      ...subject,
      begin: (options) => {
        if (options.hltExitsOff) throw NO_VM;
        return subject.begin(options);
      },
    };
    expect(undecidedIn(fingerprintOf(failing, SUPPORTED))).toMatchObject({
      "stale-base": NO_VM.message,
    });
  });

  test("but an error that is not KVM's is thrown, and the VM is closed", () => {
    const subject = modelSubject(modelOf());
    let open = 0;
    const failing: Subject = {
      ...subject,
      begin: (options) => {
        const vm = subject.begin(options);
        open += 1;
        return {
          ask: (operation) => {
            if (operation.call === "run") throw new TypeError("a defect");
            return vm.ask(operation);
          },
          close: () => {
            open -= 1;
          },
        };
      },
    };
    expect(() => fingerprintOf(failing, SUPPORTED)).toThrow("a defect");
    expect(open).toBe(0);
  });
});

describe("a trait outside of the model", () => {
  const MISSING: Readonly<Record<string, string>> = {
    "fixed-base": "KVM_CAP_X86_DISABLE_EXITS of this host lacks KVM_X86_DISABLE_EXITS_HLT",
    "keeps-pv-features": "KVM_CAP_ENFORCE_PV_FEATURE_CPUID is 0",
    "rewrites-xen-leaf": "KVM_CAP_XEN_HVM is 0",
    "hides-nested-leaf": "KVM_CAP_HYPERV_CPUID is 0",
  };

  test.each(DECIDED_TRAITS.filter((trait) => MISSING[trait] !== undefined))(
    "%s is undecided without its capability",
    (trait) => {
      const kvm = { checkExtension: () => 0 } as unknown as Kvm;
      expect(decideTrait(kvm, trait)).toBe(MISSING[trait]);
    },
  );

  test.each(DECIDED_TRAITS)("%s is undecided if KVM creates no VM", (trait) => {
    const kvm = {
      checkExtension: () => 0x7fff_ffff,
      getSupportedCpuid: () => SUPPORTED,
      createVm: () => {
        throw NO_VM;
      },
    } as unknown as Kvm;
    expect(decideTrait(kvm, trait)).toBe(NO_VM.message);
  });

  /** Returns a KVM with one vCPU, whose calls succeed except for those that a test replaces. */
  function kvmWith(vcpu: object): Kvm {
    const [nothing, dispose] = [(): void => undefined, { [Symbol.dispose]: () => undefined }];
    const calls = { setCpuid2: nothing, getSregs: () => ({ efer: 0n }), ...dispose, ...vcpu };
    return {
      checkExtension: () => 1,
      getSupportedCpuid: () => SUPPORTED,
      createVm: () => ({ createVcpu: () => calls, ...dispose }),
    } as unknown as Kvm;
  }

  /** Returns a call that fails with EINVAL in these of its executions. */
  function refusing(...refused: readonly number[]): () => void {
    let count = 0;
    return () => {
      count += 1;
      if (!refused.includes(count)) return;
      throw new KvmError({ call: "ioctl", object: "vcpu 0", errno: constants.errno.EINVAL });
    };
  }

  test.each<readonly [string, readonly number[], boolean | string]>([
    ["holds if KVM accepts EFER.LME with an empty table", [], true],
    ["is absent if KVM refuses EFER.LME only with an empty table", [3], false],
    [
      "is undecided if KVM always refuses EFER.LME",
      [1, 2, 3],
      "KVM_SET_SREGS refuses EFER.LME also with the supported table",
    ],
  ])("efer-before-cpuid %s", (_, refused, verdict) => {
    const kvm = kvmWith({ setSregs: refusing(...refused) });
    expect(decideTrait(kvm, "efer-before-cpuid")).toBe(verdict);
  });

  test.each<readonly [string, readonly number[], boolean | string]>([
    ["holds if room for 9 leaves is enough", [], true],
    ["is absent if only room for 10 leaves is enough", [1], false],
    [
      "is undecided if room for 10 leaves is not enough",
      [1, 2],
      "KVM_GET_SUPPORTED_HV_CPUID also refuses room for 10 leaves",
    ],
  ])("hides-nested-leaf %s", (_, refused, verdict) => {
    const kvm = kvmWith({ ioctl: refusing(...refused) });
    expect(decideTrait(kvm, "hides-nested-leaf")).toBe(verdict);
  });

  test("gets its row from the table of traits", () => {
    const { behaviour, where, source, fix } = TRAITS["keeps-pv-features"];
    const facts = { row: "keeps-pv-features", behaviour, where, source, fix };
    expect(traitRow("keeps-pv-features", true)).toEqual({ ...facts, verdict: "holds" });
    expect(traitRow("keeps-pv-features", false)).toEqual({ ...facts, verdict: "absent" });
    const reason = "a capability is 0";
    expect(traitRow("keeps-pv-features", reason)).toEqual({
      ...facts,
      verdict: "undecided",
      reason,
    });
  });

  test("that is missing in the model is not a row of the model", () => {
    const both = DECIDED_TRAITS.filter((trait) =>
      KERNEL_ROW_NAMES.some((row) => row === (trait as string)),
    );
    expect(both).toEqual([]);
  });
});
