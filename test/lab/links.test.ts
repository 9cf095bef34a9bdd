/**
 * Tests of each kind of descriptor link with real boots. A program records a C file under a kernel. This host compiles
 * the file, and the result must reproduce the recording under the same kernel. NODE_KVM_REPRO_KERNELS lists the
 * kernels; the default is 7.2.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { findKernel } from "../../lib/cli/lab-kernel.ts";
import { LabError } from "../../lib/lab/error.ts";
import { guestFolder } from "../../lib/lab/machine/guest.ts";
import { type LabOptions, type LabResult, runInLab } from "../../lib/lab/machine/machine.ts";
import { findQemu } from "../../lib/lab/machine/qemu.ts";
import { compileAll, problem as compilerProblem } from "../unit/trace/compiler.ts";

const KERNELS = (process.env["NODE_KVM_REPRO_KERNELS"] ?? "7.2").split(",");
const PROGRAM = fileURLToPath(new URL("link-kinds.js", import.meta.url));

/** Runs each program and prints the program's name, exit status and output. */
const RUN = `
  cd /user
  for program in *; do
    said=$(./$program); status=$?
    echo "$program $status $(echo $said)"
  done`;

/**
 * Kinds of descriptor link whose C file does not reproduce the recording, with the program's output.
 * KVM_SET_USER_MEMORY_REGION2 in the C program rejects the guest_memfd with EINVAL; the cause is unknown.
 */
const DEVIATING: Readonly<Record<string, string>> = {
  "guest-memfd": "1 values are not as recorded",
  "guest-memfd-mapped": "1 values are not as recorded",
};

const folder = mkdtempSync(join(tmpdir(), "links-"));
afterAll(() => rmSync(folder, { recursive: true }));

async function exited(options: LabOptions): Promise<LabResult & { kind: "exited" }> {
  const result = await runInLab({ ...options, timeout: 300_000 });
  if (result.kind !== "exited") throw new Error(`the machine ${result.kind}: ${result.kernelLog}`);
  return result;
}

describe.each(KERNELS)("under Linux %s", (name) => {
  let problem = compilerProblem;
  let kinds: readonly string[] = [];
  let said: ReadonlyMap<string, string> = new Map();
  let endings: readonly string[] = [];

  beforeAll(async () => {
    if (problem !== undefined) return;
    try {
      findQemu();
      const kernel = await findKernel(name, undefined, new AbortController().signal);
      const recorded = await exited({
        kernel,
        command: ["node", "link-kinds.js", "/c"],
        files: { [`${guestFolder()}/link-kinds.js`]: PROGRAM },
        wanted: ["/c"],
      });
      if (recorded.status !== 0) throw new Error(recorded.stderr.toString());
      kinds = JSON.parse(recorded.stdout.toString()) as readonly string[];
      for (const [path, bytes] of recorded.files) {
        writeFileSync(join(folder, basename(path)), bytes);
      }
      said = await compileAll(folder, ["-static", "-s", "-O0"]);
      const files = kinds.map((kind) => [`/user/${kind}`, join(folder, kind)] as const);
      const command = ["sh", "-c", RUN];
      const run = await exited({ kernel, command, files: Object.fromEntries(files) });
      endings = run.stdout.toString().trimEnd().split("\n");
    } catch (error) {
      if (!(error instanceof LabError)) throw error;
      problem = error.message;
    }
  });

  beforeEach(({ skip }) => {
    if (problem !== undefined) skip(problem);
  });

  test("the recording of each kind of descriptor link is exported as a C file, which compiles without a warning", () => {
    expect(kinds.length).toBeGreaterThan(10);
    expect(new Map(said)).toEqual(new Map(kinds.map((kind) => [`${kind}.c`, ""] as const)));
  });

  test("every C file of a descriptor link reproduces the recording", () => {
    const wrong = endings.filter(
      (line) => !/^\S+ 0 (note: .* )?ok \S+ # every value is/.test(line),
    );
    expect(endings.map((line) => line.split(" ")[0])).toEqual(kinds.toSorted());
    expect(wrong.map((line) => line.split(" ")[0])).toEqual(Object.keys(DEVIATING));
    expect(wrong.map((line) => /# (.*)$/.exec(line)?.[1])).toEqual(Object.values(DEVIATING));
  });
});
