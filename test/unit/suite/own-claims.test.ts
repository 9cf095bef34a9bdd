/**
 * Tests of a user's own claims on this host's KVM: verdicts, asynchronous claims, faults, deviations, C files, crashes.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import type { Report } from "../../../lib/report/result.ts";
import { problemOf, ROOT } from "../examples/program.ts";

const folder = mkdtempSync(join(tmpdir(), "own-claims-"));
afterAll(() => rmSync(folder, { recursive: true }));

const CLAIMS = `
import { claim, expect, registerDeviations, tableOf } from "node-kvm/test";

const another = (table) => table.append({ function: 0x5000_0000 });

claim("holds", "a vCPU that has run rejects another table", (kit) => {
  const { vcpu, stored } = kit.ran();
  expect(() => vcpu.setCpuid2(another(stored))).toFailWith("EINVAL");
});
claim("fails", "a vCPU that has run accepts another table", { number: 7 }, (kit) => {
  const { vcpu, stored } = kit.ran();
  expect(() => vcpu.setCpuid2(another(stored))).toBeAccepted();
});
claim("waits", "an asynchronous run ends", async (kit) => {
  const { vcpu } = kit.configured();
  expect(await vcpu.run()).toMatchObject({ kind: "io" });
});
claim("rejects", "an asynchronous run is awaited", async (kit) => {
  const { vcpu } = kit.configured();
  expect(() => vcpu.run()).toBeAccepted();
});
claim("skips", "KVM is asked for nothing", (kit) => kit.require(false, "not on this host"));
const known = { on: () => true, shows: "EINVAL", reason: "as in every KVM since 5.16" };
claim("deviates", "a vCPU that has run accepts a third table", { deviations: [known] }, (kit) => {
  const { vcpu, stored } = kit.ran();
  expect(() => vcpu.setCpuid2(another(stored))).toBeAccepted();
});
registerDeviations([{ ...known, claim: "obsolete" }]);
claim("obsolete", "a new vCPU has an empty table", (kit) => {
  expect(tableOf(kit.fresh())).toHaveLength(0);
});
`;

function run(env: Readonly<Record<string, string>>, ...args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(ROOT, "dist", "cli", "main.js"), "test", "--reporter", "json", ...args],
    { cwd: folder, encoding: "utf8", timeout: 60_000, env: { ...process.env, ...env } },
  );
  const { results } = JSON.parse(stdout) as Report;
  const verdicts = results.map(({ id, number, verdict }) => [id, number, verdict] as const);
  return { status, stderr, results, verdicts };
}

function write(name: string, text: string): void {
  writeFileSync(join(folder, name), `import { claim } from "node-kvm/test";\n${text}`);
}

describe("a file of claims outside of the repository", () => {
  beforeEach(({ skip }) => {
    const problem = problemOf([]);
    skip(problem !== undefined, problem);
  });

  test("fails each claim with a promise or a callback that fails and is not awaited", () => {
    write(
      "stray.claims.js",
      `import { expect } from "node-kvm/test";
claim("sync", "the result is awaited", () => { expect(Promise.resolve(1)).resolves.toBe(2); });
claim("holds", "the result is known", () => { expect(1).toBe(1); });
claim("async", "the result is awaited", async () => { expect(Promise.resolve(1)).resolves.toBe(2); });
claim("run", "the run is awaited", (kit) => {
  kit.configured().vcpu.run().then((exit) => expect(exit.kind).toBe("shutdown"));
});
claim("deviates", "a deviation does not hide the promise", { deviations: [
  { on: () => true, shows: "known", reason: "known" },
] }, () => { void Promise.reject(new Error("stray")); throw new Error("known"); });
claim("callback", "the callback is awaited", () => { setImmediate(() => { throw new Error("late"); }); });
`,
    );
    const { status, verdicts, results } = run({}, "stray.claims.js");
    expect(verdicts.map(([id, , verdict]) => `${id} ${verdict}`)).toEqual([
      "sync fail",
      "holds pass",
      "async fail",
      "run fail",
      "deviates fail",
      "callback fail",
    ]);
    const reasons = results.flatMap(({ reason }) => reason ?? []);
    for (const reason of reasons) expect(reason).toContain("that the check does not await");
    expect(reasons.at(-1)).toMatch(/failed: late$/);
    expect(status).toBe(1);
  });

  test("is judged: each claim has its verdict, and the exit status is 1 after a failure", () => {
    writeFileSync(join(folder, "mine.claims.js"), CLAIMS);
    const { status, verdicts, results } = run({}, "mine.claims.js");
    expect(verdicts).toEqual([
      ["holds", undefined, "pass"],
      ["fails", 7, "fail"],
      ["waits", undefined, "pass"],
      ["rejects", undefined, "fail"],
      ["skips", undefined, "skip"],
      ["deviates", undefined, "deviation"],
      ["obsolete", undefined, "fail"],
    ]);
    expect(status).toBe(1);
    const reasons = Object.fromEntries(results.map(({ id, reason = "" }) => [id, reason]));
    expect(reasons["fails"]).toMatch(/^expected KVM to accept, but: KVM_SET_CPUID2/);
    expect(reasons["rejects"]).toMatch(/^the call returned a promise: await it/);
    expect(reasons["skips"]).toBe("not on this host");
    expect(reasons["deviates"]).toBe("as in every KVM since 5.16");
    expect(reasons["obsolete"]).toMatch(/^obsolete holds here/);
  });

  test("fails with an injected fault", () => {
    writeFileSync(join(folder, "mine.claims.js"), CLAIMS);
    const fault = { NODE_KVM_FAULT: "accepts-all" };
    expect(run({}, "mine.claims.js", "holds:")).toMatchObject({ status: 0 });
    expect(run(fault, "mine.claims.js", "holds:")).toMatchObject({
      status: 1,
      verdicts: [["holds", undefined, "fail"]],
    });
  });

  test("writes C files for the claims that fail", () => {
    writeFileSync(join(folder, "mine.claims.js"), CLAIMS);
    const { stderr } = run({}, "mine.claims.js", "--repro", "c");
    expect(readdirSync(join(folder, "c")).toSorted()).toEqual([
      "7-fails.c",
      "deviates.c",
      "rejects.c",
    ]);
    expect(stderr).toContain("3 C files written to c");
  });

  test("prints, after a failure, a command that judges the claim again", () => {
    writeFileSync(join(folder, "mine.claims.js"), CLAIMS);
    const main = join(ROOT, "dist", "cli", "main.js");
    const args = [main, "test", "mine.claims.js", "fails:"];
    const { stdout } = spawnSync(process.execPath, args, { cwd: folder, encoding: "utf8" });
    expect(stdout).toContain("node-kvm test --repro . mine.claims.js fails:");
  });

  test("is reported as a failure if it ends its process, and the earlier verdicts are kept", () => {
    const first = 'claim("first", "KVM", () => {});';
    const second = 'claim("second", "KVM", () => process.exit(0));';
    writeFileSync(join(folder, "a.test.js"), `import { claim } from "node-kvm/test";\n${first}`);
    writeFileSync(join(folder, "b.test.js"), `import { claim } from "node-kvm/test";\n${second}`);
    const { status, stderr, verdicts } = run({}, "a.test.js", "b.test.js");
    expect(status).toBe(2);
    expect(stderr).toMatch(/the process of the claims ended with status \d after 1 of 2 claims/);
    expect(verdicts).toEqual([["first", undefined, "pass"]]);
  });

  test("may leave a timer, and the process ends nevertheless", () => {
    write("d.test.js", 'setInterval(() => {}, 1000); claim("timer", "KVM", () => {});');
    expect(run({}, "d.test.js")).toMatchObject({ status: 0, stderr: "" });
  });

  test("is judged even if the report is larger than a pipe's buffer", () => {
    const claims = 'for (let i = 0; i < 3000; i += 1) claim("c" + i, "K".repeat(200), () => {});';
    write("e.test.js", claims);
    expect(run({}, "e.test.js")).toMatchObject({ status: 0, stderr: "" });
  });

  test("may throw an error without a message, and may write JSON to standard output", () => {
    const thrown = "throw Object.assign(new Error(), { message: { a: 1 } });";
    const written = 'writeSync(1, "5\\nnull\\n{}\\n");';
    write(
      "f.test.js",
      `import { writeSync } from "node:fs"; claim("odd", "KVM", () => { ${written} ${thrown} });`,
    );
    const { status, results } = run({}, "f.test.js");
    expect(status).toBe(1);
    expect(results).toMatchObject([{ id: "odd", verdict: "fail", reason: "{ a: 1 }" }]);
  });

  test("is reported as a failure if all its claims are skipped", () => {
    const text = 'claim("none", "KVM", (kit) => kit.require(false, "never"));';
    writeFileSync(join(folder, "c.test.js"), `import { claim } from "node-kvm/test";\n${text}`);
    expect(run({}, "c.test.js")).toMatchObject({
      status: 2,
      stderr: "node-kvm: no claim was judged: all 1 were skipped\n",
    });
  });
});
