/** Tests of topologies: APIC ids, the topology leaves of both vendors, and the table of one vCPU. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  apicIds,
  type CpuidEntry2Input,
  CpuidTable,
  type CpuidTopologyInput,
  checkCpuid,
  forVcpu,
  topologyOf,
  withTopology,
} from "../../../lib/cpuid/index.ts";

const cache = (fn: number, level: number, type: number, index: number): CpuidEntry2Input => ({
  function: fn,
  index,
  flags: 1,
  eax: (level << 5) | type,
});

const intel = CpuidTable.from([
  { function: 0, eax: 0x1f, ebx: 0x756e6547, edx: 0x49656e69, ecx: 0x6c65746e },
  { function: 1, ebx: 0x12ff0800, ecx: 1 << 21 },
  ...[cache(4, 1, 1, 0), cache(4, 2, 3, 1), cache(4, 3, 3, 2), cache(4, 0, 0, 3)],
  { function: 7, flags: 1, ebx: 5 },
  { function: 0x80000000, eax: 0x80000008 },
  { function: 0x80000008, eax: 0x3030, ecx: 0x5 },
]);

const amd = CpuidTable.from([
  { function: 0, eax: 0xd, ebx: 0x68747541, edx: 0x69746e65, ecx: 0x444d4163 },
  { function: 1, ebx: 0x12ff0800, ecx: 1 << 21 },
  { function: 0x80000000, eax: 0x80000026 },
  { function: 0x80000001, ecx: 1 << 22 },
  { function: 0x80000008, eax: 0x3030, ecx: 0x30000 },
  ...[cache(0x8000001d, 1, 1, 0), cache(0x8000001d, 3, 3, 1)],
  { function: 0x8000001e },
]);

/** Arbitrary counts for at most 4,096 vCPUs; few of the counts are powers of two. */
const topologies = fc
  .tuple(
    ...Array.from({ length: 12 }, () =>
      fc.tuple(fc.nat({ max: 3 }), fc.integer({ min: 1, max: 3 })),
    ),
  )
  .map((factors) => {
    const counts = [1, 1, 1, 1];
    for (const [which, factor] of factors) {
      const most = which === 3 ? 256 : 4096;
      const product = counts.reduce((a, b) => a * b, factor);
      const next = (counts[which] ?? 1) * factor;
      if (product <= 4096 && next <= most) counts[which] = next;
    }
    const [packages = 1, dies = 1, cores = 1, threads = 1] = counts;
    return { packages, dies, cores, threads };
  });

const levels = (table: CpuidTable, fn: number): readonly (readonly number[])[] =>
  [...table]
    .filter((e) => e.function === fn)
    .map((e) => [e.index, (e.ecx >>> 8) & 0xff, e.eax, e.ebx]);

describe("apicIds()", () => {
  test("are consecutive for counts that are powers of two", () => {
    const ids = apicIds({ packages: 2, dies: 2, cores: 4, threads: 2 });
    expect(ids).toEqual(Array.from({ length: 32 }, (_, i) => i));
  });

  test("have gaps after a count that is not a power of two", () => {
    expect(apicIds({ packages: 2, cores: 3 })).toEqual([0, 1, 2, 4, 5, 6]);
    expect(apicIds({ dies: 3, cores: 1, threads: 3 })).toEqual([0, 1, 2, 4, 5, 6, 8, 9, 10]);
  });

  test("are unique and ascending, one for each vCPU", () => {
    fc.assert(
      fc.property(topologies, (topology) => {
        const { packages, dies, cores, threads } = topology;
        const ids = apicIds(topology);
        expect(ids).toHaveLength(packages * dies * cores * threads);
        expect(ids.every((id, i) => i === 0 || id > (ids[i - 1] ?? id))).toBe(true);
      }),
    );
  });

  test.each([
    [{ packages: 0 }, "apicIds(): packages: expected an integer from 1 to 4096, got 0"],
    [{ cores: 1.5 }, "apicIds(): cores: expected an integer from 1 to 4096, got 1.5"],
    [{ threads: 257 }, "apicIds(): threads: expected an integer from 1 to 256, got 257"],
    [{ dies: "2" }, 'apicIds(): dies: expected an integer from 1 to 4096, got "2"'],
    [{ packages: 64, cores: 65 }, "apicIds(): 4160 logical CPUs, but KVM has at most 4096"],
    [{ sockets: 2 }, 'apicIds(): unknown member "sockets"'],
  ])("refuses %j", (topology, message) => {
    expect(() => apicIds(topology as CpuidTopologyInput)).toThrow(message);
  });
});

describe("withTopology() for Intel", () => {
  const made = withTopology(intel, { packages: 2, dies: 3, cores: 3, threads: 2 });

  test("writes HTT and the number of APIC ids of a package", () => {
    expect([made.get("ht"), made.get("n_logical_cpu"), made.get("local_apic_id")]).toEqual([
      1, 32, 0,
    ]);
  });

  test("writes leaf 0xB, in which the core level is the whole package", () => {
    expect(levels(made, 0xb)).toEqual([
      [0, 1, 1, 2],
      [1, 2, 5, 18],
      [2, 0, 0, 0],
    ]);
  });

  test("writes leaf 0x1F with a level for dies", () => {
    expect(levels(made, 0x1f)).toEqual([
      [0, 1, 1, 2],
      [1, 2, 3, 6],
      [2, 5, 5, 18],
      [3, 0, 0, 0],
    ]);
  });

  test("writes the number of APIC ids that share each cache, and the number of core ids of a package", () => {
    const shares = [0, 1, 2].map((index) => made.get("num_threads_sharing", index));
    expect(shares).toEqual([1, 1, 7]);
    expect(made.get("num_cores_on_die", 2)).toBe(15);
    expect(made.find(4, 3)?.eax).toBe(0);
  });

  test("raises the maximum to 0x1F only for several dies", () => {
    const low = intel.with({ max_std_leaf: 0xb });
    expect(withTopology(low, { dies: 2 }).get("max_std_leaf")).toBe(0x1f);
    expect(withTopology(low, { cores: 2 }).get("max_std_leaf")).toBe(0xb);
    expect(levels(withTopology(low, { cores: 2 }), 0x1f)).toEqual([]);
  });

  test("writes no leaf above the maximum", () => {
    const low = intel.with({ max_std_leaf: 4 });
    expect(levels(withTopology(low, { cores: 2 }), 0xb)).toEqual([]);
  });

  test("raises the maximum to 0xB for several cores if leaf 4 has no cache, but not otherwise", () => {
    const low = intel.with({ max_std_leaf: 4 });
    const bare = low.without(4);
    const made = withTopology(bare, { cores: 2 });
    expect(topologyOf(made)).toMatchObject({ coresPerPackage: 2, threadsPerCore: 1 });
    expect([made.get("max_std_leaf"), levels(made, 0xb).length]).toEqual([0xb, 3]);
    expect(withTopology(low.with({ max_std_leaf: 3 }), { cores: 2 }).get("max_std_leaf")).toBe(0xb);
    expect(withTopology(bare, { threads: 2 }).get("max_std_leaf")).toBe(4);
    expect(topologyOf(withTopology(bare, { threads: 2 }))).toMatchObject({
      coresPerPackage: 1,
      threadsPerCore: 2,
    });
  });

  test("clears HTT for one logical CPU", () => {
    const one = withTopology(made, { packages: 4 });
    expect([one.get("ht"), one.get("n_logical_cpu")]).toEqual([0, 1]);
    expect(levels(one, 0xb).map((level) => level[3])).toEqual([1, 1, 0]);
  });

  test("leaves all other leaves and the order of entries unchanged", () => {
    const others = (table: CpuidTable): string =>
      table.filter((e) => ![1, 4, 0xb, 0x1f].includes(e.function)).toString();
    expect(others(made)).toBe(others(intel));
  });
});

describe("withTopology() for AMD", () => {
  const made = withTopology(amd, { packages: 2, dies: 2, cores: 3, threads: 2 });

  test("writes the number of logical CPUs, the number of APIC id bits in a package, and CmpLegacy", () => {
    const fields = ["n_logical_cpu", "cpu_nthreads", "apicid_coreid_len", "cmp_legacy"] as const;
    expect(fields.map((name) => made.get(name))).toEqual([12, 11, 4, 1]);
    expect(made.get("perf_tsc_len")).toBe(3);
  });

  test("writes the levels of 0x80000026 and 0xB", () => {
    expect(levels(made, 0x80000026)).toEqual([
      [0, 1, 1, 2],
      [1, 2, 3, 6],
      [2, 3, 3, 6],
      [3, 4, 4, 12],
      [4, 0, 0, 0],
    ]);
    expect(levels(made, 0xb)).toEqual([
      [0, 1, 1, 2],
      [1, 2, 4, 12],
      [2, 0, 0, 0],
    ]);
  });

  test("writes the number of logical CPUs that share each cache", () => {
    const shares = [0, 1].map((index) => made.get("num_threads_sharing_8000001d", index));
    expect(shares).toEqual([1, 5]);
    expect(made.find(0x8000001d, 0)?.eax).toBe((1 << 14) | 0x21);
  });

  test("writes threads and nodes of 0x8000001e", () => {
    expect([made.get("core_nthreads"), made.get("nnodes_per_socket")]).toEqual([1, 1]);
  });

  test("writes no extended leaf above the maximum, and no leaf of topoext without topoext", () => {
    const low = withTopology(amd.with({ max_ext_leaf: 0x80000008 }), { cores: 2, dies: 2 });
    expect(levels(low, 0x80000026)).toEqual([]);
    expect(low.find(0x8000001e)?.ecx).toBe(0);
    const bare = withTopology(amd.with({ topoext: 0 }), { cores: 2, dies: 2 });
    expect(bare.find(0x8000001e)?.ecx).toBe(0);
  });
});

describe("forVcpu()", () => {
  test("writes each vCPU's id to every field that checkCpuid() checks", () => {
    const topology = { packages: 2, dies: 2, cores: 3, threads: 2 };
    for (const table of [intel, amd]) {
      const made = withTopology(table, topology);
      for (const id of apicIds(topology)) expect(checkCpuid(forVcpu(made, id), { id })).toEqual([]);
    }
  });

  test("writes the core and the node of each of AMD's vCPUs", () => {
    const topology = { packages: 2, dies: 2, cores: 3, threads: 2 };
    const made = withTopology(amd, topology);
    const places = apicIds(topology).map((id) => {
      const own = forVcpu(made, id);
      return `${own.get("core_id")}/${own.get("node_id")}`;
    });
    const [a, b] = ["0/n 0/n 1/n 1/n 2/n 2/n", "4/n 4/n 5/n 5/n 6/n 6/n"];
    const text = [a, b, a, b].map((one, node) => one.replaceAll("n", `${node}`));
    expect(places.join(" ")).toBe(text.join(" "));
  });

  test("changes only fields that differ between vCPUs", () => {
    const made = withTopology(amd, { cores: 4, threads: 2 });
    const wiped = (table: CpuidTable): string =>
      table
        .with({ local_apic_id: 0, ext_apic_id: 0, core_id: 0, node_id: 0 })
        .map((e) => ([0xb, 0x80000026].includes(e.function) ? { ...e, edx: 0 } : e))
        .toString();
    expect(wiped(forVcpu(made, 5))).toBe(wiped(made));
  });

  test("refuses an id that is not a u32", () => {
    expect(() => forVcpu(intel, -1)).toThrow("apicId -1 is not an unsigned 32-bit integer");
  });
});

describe("withTopology()", () => {
  test("refuses ids from 255 on without x2apic", () => {
    expect(() => withTopology(intel.with({ x2apic: 0 }), { cores: 256 })).toThrow(
      "withTopology(): the highest APIC id is 255, and ids from 255 on need x2apic, which the table lacks",
    );
    expect(levels(withTopology(intel.with({ max_std_leaf: 4 }), { cores: 256 }), 0xb)).not.toEqual(
      [],
    );
  });

  test("refuses a table without leaf 1", () => {
    expect(() => withTopology(CpuidTable.from([{ function: 0 }]), {})).toThrow("no leaf 0x1");
  });

  test("writes leaves from which the counts of every level can be computed, for any topology of up to 4,096 vCPUs", () => {
    fc.assert(
      fc.property(topologies, fc.constantFrom(intel, amd), (topology, table) => {
        const json = JSON.stringify(table);
        const { dies, cores, threads } = topology;
        const made = withTopology(table, topology);
        const [inDie, inPackage] = [cores * threads, dies * cores * threads];
        const deep =
          table === intel ? [threads, inDie, inPackage] : [threads, inDie, inDie, inPackage];
        const flat = [threads, inPackage];
        const fn = table === intel ? 0x1f : 0x80000026;
        const found = levels(made, fn).filter(([, type]) => type !== 0);
        expect(found.map((level) => level[3])).toEqual(table === intel && dies === 1 ? flat : deep);
        // T01, T03, T04, T05, T06, T08
        expect(found.every(([index], i) => index === i)).toBe(true);
        expect(found.every(([, , shift = 0, count = 0]) => count <= 2 ** shift)).toBe(true);
        expect(made.has("ht")).toBe(inPackage > 1);
        expect(made.get("n_logical_cpu")).toBeGreaterThanOrEqual(Math.min(255, inPackage));
        expect(Math.ceil(Math.log2(made.get("n_logical_cpu") ?? 0))).toBeGreaterThanOrEqual(
          Math.ceil(Math.log2((made.get("num_cores_on_die") ?? 0) + 1)),
        );
        const shares = [...made]
          .filter((e) => [4, 0x8000001d].includes(e.function) && (e.eax & 31) !== 0)
          .map((e) => (e.eax >>> 14) & 0xfff);
        expect(shares).toEqual([...shares].sort((a, b) => a - b));
        // The ids without their thread bits identify the cores.
        const [shift = 0] = found.map((level) => level[2]);
        const cpus = new Set(apicIds(topology).map((id) => id >> (shift ?? 0)));
        expect(cpus.size).toBe((topology.packages * inPackage) / threads);
        expect(JSON.stringify(table)).toBe(json);
        expect(withTopology(made, topology).toString()).toBe(made.toString());
      }),
    );
  });
});
