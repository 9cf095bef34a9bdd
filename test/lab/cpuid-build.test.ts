/**
 * Compares CPUID tables with KVM. KVM_SET_CPUID2 must accept the table of each model, and a guest's CPUID instruction
 * must return the values of the builder's table on two vCPUs. The kernels are NODE_KVM_LAB_KERNEL (names of the
 * catalogue, separated by commas); by default 7.2. With NODE_KVM_LAB_EMULATOR=bochs, KVM is kvm_intel.
 */
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  apicIds,
  type CpuidCacheInput,
  type CpuidEntry2,
  CpuidTable,
  type CpuidTopologyInput,
  cachesOf,
  cpuid,
  models,
  namedModels,
  RUNTIME_OWNED,
  topologyOf,
} from "../../lib/cpuid/index.ts";
import { guestFolder } from "../../lib/lab/machine/guest.ts";
import { runInLab } from "../../lib/lab/machine/machine.ts";
import { kernelOrProblem } from "./kernel-or-problem.ts";

const NAMES = (process.env["NODE_KVM_LAB_KERNEL"] ?? "7.2").split(",");
const EMULATOR = process.env["NODE_KVM_LAB_EMULATOR"] === "bochs" ? "bochs" : "qemu";
const PROGRAM = fileURLToPath(new URL("cpuid-build.js", import.meta.url));
const FILE = "/tmp/built.json.gz";

/**
 * Caches whose sizes differ from the cache sizes of every model. There is one L3 for a package, because AMD's older
 * leaf gives the total size for the package.
 */
const CACHES: readonly CpuidCacheInput[] = [
  { level: 1, type: "data", size: 48 * 1024, ways: 6 },
  { level: 1, type: "instruction", size: 96 * 1024, ways: 6 },
  { level: 2, type: "unified", size: 3 * 2 ** 20, ways: 12 },
  { level: 3, type: "unified", size: 24 * 2 ** 20, ways: 24, sharedBy: "package" },
];

/** A guest that cpuid-build.js runs. */
interface Planned {
  readonly model: string;
  readonly topology: CpuidTopologyInput;
  readonly caches: readonly CpuidCacheInput[];
  /** Whether the table is reduced to the entries that KVM supports. */
  readonly isWithin: boolean;
  /** The APIC ids of the guest's vCPUs. */
  readonly ids: readonly number[];
}

/** Plans a guest with the first and the last vCPU of a topology. */
const planned = (model: string, topology: CpuidTopologyInput, isWithin: boolean): Planned => {
  const ids = apicIds(topology);
  return { model, topology, caches: CACHES, isWithin, ids: [0, ids.at(-1) ?? 0] };
};

/** AMD's older leaves cannot describe threads, so each core in this topology has one thread. */
const FLAT = { cores: 4 };
const DEEP = { packages: 2, dies: 2, cores: 3, threads: 2 };
/**
 * Models that have every leaf for topology and caches. QEMU does not emulate topoext, so `within` removes two of AMD's
 * leaves.
 */
const DEEP_MODELS = ["EPYC-Genoa", "Icelake-Server"];
const PLAN: readonly Planned[] = [
  ...models().map(({ name }) => planned(name, FLAT, true)),
  ...DEEP_MODELS.flatMap((name) => [planned(name, DEEP, true), planned(name, DEEP, false)]),
];

/**
 * The error for a table with AMX. It does not depend on the CPU: the process has not requested the AMX permission
 * (kvm_check_cpuid).
 */
const AMX =
  "KVM_SET_CPUID2 (vcpu 0): EPERM: 0xd.0:eax[18] requests AMX tile data, but this process has no permission to give these to a guest (arch_prctl ARCH_REQ_XCOMP_GUEST_PERM)";

type Answer = Pick<CpuidEntry2, "function" | "index" | "eax" | "ebx" | "ecx" | "edx">;

/** The results of a vCPU, as cpuid-build.js writes them. */
interface Read {
  readonly id: number;
  readonly state: { readonly cr4: number; readonly apicBase: number; readonly xcr0: number };
  readonly read: readonly Answer[];
}

/** The file that cpuid-build.js writes. */
interface Written {
  readonly supported: readonly CpuidEntry2[];
  readonly outcomes: readonly {
    readonly name: string;
    readonly unfiltered: string;
    readonly within: string;
  }[];
  /** The vCPUs of each guest of the plan. */
  readonly guests: readonly (readonly Read[])[];
}

/** Builds a guest's table in the same way as cpuid-build.js. */
function build({ model, topology, caches, isWithin }: Planned, written: Written, id: number) {
  const whole = cpuid.model(model).topology(topology).caches(caches).hypervisor("kvm").xsave();
  return (isWithin ? whole.within(written.supported) : whole).forVcpu(id);
}

/** A vCPU, and the table that was built for this vCPU. */
interface Vcpu extends Read {
  readonly title: string;
  readonly planned: Planned;
  readonly built: CpuidTable;
  /** The table of the CPUID values that the guest read. */
  readonly seen: CpuidTable;
}

function vcpusOf(written: Written): readonly Vcpu[] {
  return PLAN.flatMap((one, i) =>
    (written.guests[i] ?? []).map((vcpu): Vcpu => {
      const built = build(one, written, vcpu.id);
      const flags = [...built].map((e) => e.flags);
      const seen = CpuidTable.from(vcpu.read.map((e, at) => ({ ...e, flags: flags[at] ?? 0 })));
      const kind = one.isWithin ? "within" : "unfiltered";
      return { ...vcpu, planned: one, built, seen, title: `${one.model}, ${kind}, ${vcpu.id}` };
    }),
  );
}

/** Returns the entries of a table, in which the bits that KVM sets itself are 0. */
function withoutOwned(table: CpuidTable): readonly Answer[] {
  return [...table].map(({ function: fn, index, ...registers }) => {
    const made = { function: fn, index, ...registers };
    for (const owned of RUNTIME_OWNED) {
      const base = table.base(owned.space);
      if (base === undefined || base + owned.function !== fn || owned.index !== index) continue;
      const mask = (2 ** (owned.high + 1) - 2 ** owned.low) >>> 0;
      made[owned.register] = (made[owned.register] & ~mask) >>> 0;
    }
    return made;
  });
}

describe.each(NAMES)("a table of the builder on Linux %s", (kernelName) => {
  let problem: string | undefined;
  let written: Written = { supported: [], outcomes: [], guests: [] };
  let vcpus: readonly Vcpu[] = [];
  beforeAll(async () => {
    const kernel = await kernelOrProblem(kernelName);
    if (typeof kernel === "string") {
      problem = kernel;
      return;
    }
    const result = await runInLab({
      kernel,
      emulator: EMULATOR,
      command: ["node", "cpuid-build.js", JSON.stringify(PLAN), FILE],
      files: { [`${guestFolder()}/cpuid-build.js`]: PROGRAM },
      wanted: [FILE],
    });
    expect(result.stderr.toString()).toBe("");
    expect(result).toMatchObject({ kind: "exited", status: 0 });
    if (result.kind !== "exited") throw new Error(result.kind);
    const text = gunzipSync(result.files.get(FILE) ?? new Uint8Array()).toString();
    written = JSON.parse(text) as Written;
    vcpus = vcpusOf(written);
  }, 600_000);
  beforeEach(({ skip }) => {
    if (problem !== undefined) skip(problem);
  });

  test("of each model is accepted by KVM if the table has no AMX or was reduced to the supported entries", () => {
    const expected = namedModels().map(({ name, features }) => ({
      name,
      unfiltered: features.includes("amx_tile") ? AMX : "accepted",
      within: "accepted",
    }));
    expect(expected.filter(({ unfiltered }) => unfiltered === AMX)).not.toEqual([]);
    expect(written.outcomes).toEqual(expected);
  });

  test("gives query() the same results as the guest's CPUID on two vCPUs", () => {
    expect(vcpus).toHaveLength(2 * PLAN.length);
    for (const { title, built, state, read } of vcpus) {
      const options = { ...state, host: written.supported };
      const predicted = read.map(({ function: fn, index }) => {
        const { eax, ebx, ecx, edx } = built.query(fn, index, options);
        return { function: fn, index, eax, ebx, ecx, edx };
      });
      expect(predicted, title).toEqual(read);
    }
  });

  test("has the entries of the guest's CPUID, except for the bits that KVM sets itself", () => {
    for (const { title, built, seen } of vcpus) {
      expect(withoutOwned(seen), title).toEqual(withoutOwned(built));
    }
  });

  test("gives the guest the CPUID bits that mirror the guest's CR4 and XCR0", () => {
    const owned = vcpus.map(({ seen }) => seen.get("osxsave"));
    expect(owned).toEqual(vcpus.map(({ built }) => Number(built.has("xsave"))));
    const sizes = vcpus
      .filter(({ built }) => built.has("avx"))
      .map(({ seen }) => seen.get("xsave_sz_xcr0"));
    expect(new Set(sizes)).toEqual(new Set([576 + 256]));
  });

  test("gives each vCPU its APIC id and the requested topology", () => {
    for (const { title, id, planned: one, seen } of vcpus) {
      const { dies = 1, cores = 1, threads = 1 } = one.topology;
      expect(topologyOf(seen), title).toMatchObject({
        apicId: id,
        threadsPerCore: threads,
        coresPerPackage: dies * cores,
        processorsPerPackage: dies * cores * threads,
      });
      expect([...new Set(apicIdsIn(seen))], title).toEqual([id]);
    }
  });

  test("gives the guest the requested caches", () => {
    for (const { title, planned: one, seen } of vcpus) {
      const found = cachesOf(seen).map(({ level, type, size }) => ({ level, type, size }));
      const asked = one.caches.map(({ level, type, size }) => ({ level, type, size }));
      expect(found, title).toEqual(asked);
    }
  });
});

/** Returns the APIC id from every leaf that contains it. */
function apicIdsIn(table: CpuidTable): readonly number[] {
  return [...table].flatMap((e): readonly number[] => {
    if (e.function === 1) return [e.ebx >>> 24];
    if ([0xb, 0x1f, 0x80000026].includes(e.function)) return [e.edx];
    // Without topoext, leaf 0x8000001e contains zeros.
    return e.function === 0x8000001e && table.has("topoext") ? [e.eax] : [];
  });
}
