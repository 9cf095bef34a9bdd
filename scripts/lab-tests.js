// Runs the tests of this project that need /dev/kvm. They run in a kernel of the lab.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

// usage: node scripts/lab-tests.js [--kernel 7.2] [--cpu max] [--smp 1] [--memory 2048]
//          [--file HOST[:GUEST]...] [--env NAME=VALUE...] [-- ARGUMENT OF VITEST...]
//
// The script needs QEMU and a built dist/. Tests that need a compiler, git or headers are skipped in the guest.
const root = fileURLToPath(new URL("..", import.meta.url));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kernel: { type: "string", default: "7.2" },
    cpu: { type: "string", default: "max" },
    smp: { type: "string", default: "1" },
    memory: { type: "string", default: "2048" },
    file: { type: "string", multiple: true, default: [] },
    env: { type: "string", multiple: true, default: [] },
    timeout: { type: "string", default: "1500" },
  },
});

/**
 * The files that are missing in the guest's copy of this package: sources, tests, and modules that only tests import.
 */
const PARTS = ["lib", "native", "test", "bench", "gen/facts", "vitest.config.ts", "tsconfig.json"];
const MODULES = ["fast-check", "pure-rand"].map((name) => `node_modules/${name}`);

/** The time limits are long, because the emulated CPU is slow and its clock unreliable; one process loads the sources once. */
const SLOW =
  "--testTimeout 300000 --teardownTimeout 300000 --no-file-parallelism --no-isolate --maxWorkers 1";

const folder = mkdtempSync(join(tmpdir(), "lab-tests-"));
const archive = join(folder, "tests.tar");
try {
  execFileSync("tar", ["cf", archive, "-C", root, ...PARTS, ...MODULES]);
  const quote = (words) => words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
  const vitest = `node node_modules/vitest/vitest.mjs run ${SLOW} ${quote(positionals)}`;
  const command = `tar xf /tmp/tests.tar && exec env ${quote(values.env)} ${vitest}`;
  const machine = ["kernel", "cpu", "smp", "memory", "timeout"].flatMap((name) => [
    `--${name}`,
    values[name],
  ]);
  const main = join(root, "dist/cli/main.js");
  const files = [`${archive}:/tmp/tests.tar`, ...values.file].flatMap((file) => ["--file", file]);
  const child = spawn(
    process.execPath,
    [main, "lab", "exec", ...machine, ...files, "--", "sh", "-c", command],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  let end = "";
  child.stdout.on("data", (bytes) => {
    process.stdout.write(bytes);
    end = (end + bytes).slice(-1000);
  });
  const [status] = await once(child, "close");
  process.exitCode = status ?? 1;
  // vitest ends with status 0 if the pattern of -t selects no test.
  if (status === 0 && !/^[1-9]\d* passed, /m.test(end)) {
    process.stderr.write("lab-tests: no test has passed in the guest\n");
    process.exitCode = 1;
  }
} finally {
  rmSync(folder, { recursive: true });
}
