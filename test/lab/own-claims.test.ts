/** Tests of a user's claims in a folder outside of the repository: on this host, on two kernels, and in a bisection. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { Matrix } from "../../lib/report/matrix.ts";
import { problemOf, ROOT } from "../unit/examples/program.ts";
import { kernelOrProblem } from "./kernel-or-problem.ts";

const KERNELS = ["6.1", "7.2"];

const folder = mkdtempSync(join(tmpdir(), "own-claims-"));
afterAll(() => rmSync(folder, { recursive: true }));

const found = await Promise.all(KERNELS.map((name) => kernelOrProblem(name)));
const problem = found.find((kernel) => typeof kernel === "string") ?? problemOf([]);

/** A claim that passes since Linux 6.14, and a claim that awaits an asynchronous run. */
const CLAIMS = `
import { claim, expect, type Kit } from "node-kvm/test";
import { PADDING } from "./padding.ts";

claim("padding", "a vCPU that has run stores the padding of a table that it accepts", (kit: Kit) => {
  const { vcpu, stored } = kit.ran();
  vcpu.setCpuid2(stored.map((entry) => ({ ...entry, padding: PADDING })));
  expect(Array.from(vcpu.getCpuid2()[0]?.padding ?? [])).toEqual(PADDING);
});

claim("waits", "an asynchronous run ends with a write to a port", async (kit) => {
  const { vcpu } = kit.configured();
  expect(await vcpu.run()).toMatchObject({ kind: "io", direction: "out" });
});
`;

function run(...args: readonly string[]) {
  writeFileSync(join(folder, "padding.ts"), "export const PADDING = [1, 2, 3];\n");
  writeFileSync(join(folder, "mine.claims.ts"), CLAIMS);
  const command = join(ROOT, "dist", "cli", "main.js");
  const { status, stdout, stderr } = spawnSync(process.execPath, [command, ...args], {
    cwd: folder,
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

const title = problem === undefined ? "a file of claims" : `a file of claims (${problem})`;

describe.skipIf(problem !== undefined)(title, () => {
  test.each(["boot", "saved", "saved"])(
    "is judged on the host and on each kernel, with --start %s",
    (start) => {
      const args = ["--kernel", KERNELS.join(","), "--host", "--start", start];
      const { status, stdout } = run("lab", "run", "mine.claims.ts", ...args, "--reporter", "json");
      const { columns } = JSON.parse(stdout) as Matrix;
      const verdicts = columns.map(({ report, problem }) => [
        problem,
        report?.results.map(({ id, verdict }) => `${id} ${verdict}`),
      ]);
      const good = [undefined, ["padding pass", "waits pass"]];
      expect(verdicts).toEqual([[undefined, ["padding fail", "waits pass"]], good, good]);
      expect(status).toBe(1);
    },
    900_000,
  );

  test("is judged with its present content, even if the machine was saved with an older version of the file", () => {
    const args = ["lab", "run", "changed.claims.js", "--kernel", "7.2", "--start", "saved"];
    const verdictOf = (check: string): number | null => {
      const text = `import { claim } from "node-kvm/test";\nclaim("c", "KVM", () => { ${check} });`;
      writeFileSync(join(folder, "changed.claims.js"), text);
      return run(...args).status;
    };
    expect([verdictOf(""), verdictOf('throw new Error("no");'), verdictOf("")]).toEqual([0, 1, 0]);
  }, 900_000);

  test("is bisected to two adjacent kernels between which the verdict changes", () => {
    const ends = ["--good", "6.16", "--bad", "6.12"];
    const { status, stdout } = run("lab", "bisect", "padding", "--file", "mine.claims.ts", ...ends);
    expect(stdout).toMatch(/^padding holds on 6\.1[4-6]\.\S+ but not on 6\.1[23]\.\S+ \(\d+ of/);
    expect(status).toBe(0);
  }, 3_000_000);
});
