/**
 * Tests of C files of the suite with real boots. The suite records a C file for each claim under a kernel, and the test
 * takes those of the core of the suite; test/lifecycle/reproducers.test.ts takes those of all claims on this host. This host compiles the file,
 * and the program must give the result of its claim under the same kernel. NODE_KVM_REPRO_KERNELS lists the kernels
 * (names of the catalogue, separated by commas); the default is 7.2.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { findKernel } from "../../lib/cli/lab-kernel.ts";
import { LabError } from "../../lib/lab/error.ts";
import type { Kernel } from "../../lib/lab/kernels/kernels.ts";
import { type LabOptions, type LabResult, runInLab } from "../../lib/lab/machine/machine.ts";
import { findQemu } from "../../lib/lab/machine/qemu.ts";
import { compileAll, problem as compilerProblem } from "../unit/trace/compiler.ts";

const KERNELS = (process.env["NODE_KVM_REPRO_KERNELS"] ?? "7.2").split(",");

/** An emulated machine may run several times slower than a host with KVM. */
const TIMEOUT_MS = 900_000;

/** Records the suite, and one claim that fails because of an injected fault. */
const RECORD = `
  node-kvm test --repro /c/honest --repro-all --reporter json
  NODE_KVM_FAULT=accepts-all node-kvm test change-feature --repro /c/fault >/dev/null 2>&1
  true`;

/** Runs each C program and prints its name, its exit status and its last line. */
const RUN = `
  cd /user
  for program in *; do
    said=$(./$program); status=$?
    echo "$program $status $(echo "$said" | tail -n 1)"
  done`;

/** The files of claims whose C files are tested: the life cycle of a table. All claims would take seven minutes. */
const CORE: readonly string[] = [
  "arguments.test.ts",
  "frozen.test.ts",
  "has-run.test.ts",
  "rollback.test.ts",
  "runtime-bits.test.ts",
  "silent-change.test.ts",
  "validation.test.ts",
];

interface Ending {
  readonly status: number;
  readonly lastLine: string;
}

interface Result {
  readonly id: string;
  readonly number: number;
  readonly file: string;
  readonly verdict: string;
}

const folder = mkdtempSync(join(tmpdir(), "reproducers-"));
afterAll(() => rmSync(folder, { recursive: true }));

async function exited(options: LabOptions): Promise<LabResult & { kind: "exited" }> {
  const result = await runInLab({ ...options, timeout: TIMEOUT_MS });
  if (result.kind !== "exited") throw new Error(`the machine ${result.kind}: ${result.kernelLog}`);
  return result;
}

/**
 * Records the suite under a kernel and puts the C files into a folder. The names of the files with an injected fault
 * have a prefix.
 */
async function recordUnder(kernel: Kernel, place: string): Promise<readonly Result[]> {
  const options = { kernel, command: ["sh", "-c", RECORD], wanted: ["/c"] };
  const { files, stdout } = await exited(options);
  const report: unknown = JSON.parse(stdout.toString());
  const { results } = report as { results: readonly Result[] };
  const chosen = results.filter(({ file }) => CORE.includes(file));
  const names = new Set(chosen.map(({ number, id }) => `${number}-${id}.c`));
  mkdirSync(place);
  for (const [path, bytes] of files) {
    const isFaulty = path.startsWith("/c/fault/");
    const isChosen = isFaulty || names.has(basename(path));
    if (isChosen) writeFileSync(join(place, `${isFaulty ? "fault-" : ""}${basename(path)}`), bytes);
  }
  return chosen;
}

async function runUnder(kernel: Kernel, programs: readonly string[]): Promise<Map<string, Ending>> {
  const files = programs.map((path) => [`/user/${basename(path)}`, path] as const);
  const command = ["sh", "-c", RUN];
  const { stdout } = await exited({
    kernel,
    command,
    files: Object.fromEntries(files),
    memory: 2048,
  });
  return new Map(
    Array.from(
      stdout.toString().matchAll(/^(\S+) (\d+) (.*)$/gm),
      ([, name = "", status, line]) => [name, { status: Number(status), lastLine: line ?? "" }],
    ),
  );
}

const programsIn = (place: string): readonly string[] =>
  readdirSync(place)
    .filter((name) => name.endsWith(".c"))
    .map((name) => join(place, name.replace(/\.c$/, "")));

/** Replaces the errno that a C file expects by another errno. */
function expectWrongly(place: string): void {
  const text = readFileSync(join(place, "51-change-feature.c"), "utf8");
  writeFileSync(join(place, "red.c"), text.replaceAll(", -EINVAL);", ", -EPERM);"));
}

describe.each(KERNELS)("under Linux %s", (name) => {
  const place = join(folder, name);
  let problem = compilerProblem;
  let results: readonly Result[] = [];
  let said: ReadonlyMap<string, string> = new Map();
  let endings: ReadonlyMap<string, Ending> = new Map();

  beforeAll(async () => {
    if (problem !== undefined) return;
    try {
      findQemu();
      const kernel = await findKernel(name, undefined, new AbortController().signal);
      results = (await recordUnder(kernel, place)).filter(({ verdict }) => verdict !== "skip");
      expectWrongly(place);
      // Compiling without optimisation takes half the time, and the programs need not be fast.
      said = await compileAll(place, ["-static", "-s", "-O0"]);
      endings = await runUnder(kernel, programsIn(place));
    } catch (error) {
      if (!(error instanceof LabError)) throw error;
      problem = error.message;
    }
  }, 3 * TIMEOUT_MS);

  beforeEach(({ skip }) => {
    if (problem !== undefined) skip(problem);
  });

  test("each judged claim of the core is exported as a C file, which compiles without a warning", () => {
    expect(results.length).toBeGreaterThan(50);
    const wanted = results.map(({ number, id }) => [`${number}-${id}.c`, ""] as const);
    expect(new Map(said)).toEqual(
      new Map([...wanted, ["red.c", ""], ["fault-51-change-feature.c", ""]]),
    );
  });

  test("the C file of each claim of the core exits with 0 and prints the claim's verdict", () => {
    const ends = results.map(({ number, id }) => {
      const { status, lastLine } = endings.get(`${number}-${id}`) ?? {};
      return [id, status, `${lastLine}`.split(" #")[0]];
    });
    expect(ends).toEqual(
      results.map(({ number, id, verdict }) => [
        id,
        0,
        `${verdict === "pass" ? "ok" : "not ok"} ${number} ${id}`,
      ]),
    );
  });

  test("a C file that was changed to expect another errno exits with 1", () => {
    expect(endings.get("red")).toMatchObject({
      status: 1,
      lastLine: expect.stringContaining("not ok 51 change-feature"),
    });
  });

  test("the C file of a claim that failed because of an injected fault does not reproduce the failure", () => {
    expect(endings.get("fault-51-change-feature")).toMatchObject({
      status: 1,
      lastLine: expect.stringMatching(/^ok 51 change-feature # SKIP undecided/),
    });
  });
});
