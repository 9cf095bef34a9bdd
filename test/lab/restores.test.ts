/**
 * Tests that a restored machine gives the same verdicts as a booted machine, and that the kernels report no error. The
 * test takes minutes, so it runs on request only: NODE_KVM_RESTORES=34 NODE_KVM_LAB_KERNEL=6.1,6.12,7.2.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { LabCache } from "../../lib/lab/cache/cache.ts";
import { type LaneStart, runCampaign } from "../../lib/lab/campaign.ts";
import type { Kernel } from "../../lib/lab/kernels/kernels.ts";
import { type LabResult, runInLab } from "../../lib/lab/machine/machine.ts";
import { SNAPSHOTS } from "../../lib/lab/machine/snapshot.ts";
import { kernelOrProblem } from "./kernel-or-problem.ts";

const NAMES = (process.env["NODE_KVM_LAB_KERNEL"] ?? "6.12").split(",");
const MODULES = process.env["NODE_KVM_LAB_MODULES"];
const RESTORES = Number(process.env["NODE_KVM_RESTORES"] ?? 0);

/** Lines of the kernel's log that do not report a problem. */
const EXPECTED = [
  // Linux since 5.18 correctly logs that it reseeds its random generator when a VM is restored.
  /random: crng reseeded due to virtual machine fork$/,
  // The kernel powers off before the host kills the machine.
  /Preparing to enter system sleep state S5$/,
  /kvm: exiting hardware virtualization$/,
  /reboot: Power down$/,
  // Any machine, booted or restored, logs this line if the host is busy.
  /hrtimer: interrupt took \d+ ns$/,
  /clocksource: (timekeeping watchdog on CPU\d+: \w+ wd-wd|wd-tsc-wd) read-back delay of \d+ns/,
];

const kernels = await Promise.all(
  NAMES.map(async (name) => [name, await kernelOrProblem(name, MODULES)] as const),
);

interface Judged {
  readonly problem: string | undefined;
  readonly verdicts: readonly string[];
  readonly results: readonly LabResult[];
}

/** Runs the suite on a kernel once. `results` contains the result of each machine that the lab started for this run. */
async function judge(kernel: Kernel, start: LaneStart): Promise<Judged> {
  const results: LabResult[] = [];
  const [column] = await runCampaign({
    lanes: [{ kernel, cpu: "max" }],
    start,
    run: async (options) => {
      const result = await runInLab({ ...options, timeout: 900_000 });
      results.push(result);
      return result;
    },
  });
  const verdicts = column?.report?.results.map(({ id, verdict }) => `${id}=${verdict}`) ?? [];
  return { problem: column?.problem, verdicts, results };
}

/** Returns the log of each saved machine of a kernel. */
function savedLogs(kernel: Kernel): readonly string[] {
  const folder = join(LabCache.default().root, SNAPSHOTS);
  return readdirSync(folder)
    .filter((name) => name.startsWith(kernel.name))
    .map((name) => readFileSync(join(folder, name, "log"), "utf8"));
}

describe.each(kernels)("%s", (_, kernel) => {
  test.skipIf(typeof kernel === "string" || RESTORES === 0)(
    `gives the same verdicts after each of ${RESTORES} restores as after a boot, and logs no problem${typeof kernel === "string" ? ` (${kernel})` : RESTORES === 0 ? " (skipped: NODE_KVM_RESTORES is not set)" : ""}`,
    async () => {
      const stock = kernel as Kernel;
      const booted = await judge(stock, "boot");
      expect(booted.problem).toBeUndefined();
      expect(booted.verdicts.length).toBeGreaterThan(70);
      for (let i = 0; i < RESTORES; i += 1) {
        const { problem, verdicts, results } = await judge(stock, "saved");
        expect(problem).toBeUndefined();
        expect(verdicts).toEqual(booted.verdicts);
        expect(results).toMatchObject([{ kind: "exited", restored: true, attempts: 1 }]);
        const log = results[0]?.kernelLog ?? "";
        const saved = savedLogs(stock).find((text) => log.startsWith(text)) ?? "";
        expect(saved).toContain("Linux version");
        const said = log.slice(saved.length).trim().split("\n");
        const found = said.filter((line) => line !== "" && !EXPECTED.some((it) => it.test(line)));
        expect(found).toEqual([]);
      }
    },
    3_600_000 * 3,
  );
});
