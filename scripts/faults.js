/**
 * Makes each system call, libuv call and Node-API call of the addon fail in life-cycle programs, on this host or in the
 * lab.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { accessSync, constants, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

// test/lifecycle/faults/calls.js lists the faults.
const root = fileURLToPath(new URL("..", import.meta.url));
const PACKAGE = "/usr/lib/node_modules/node-kvm";
const USAGE = `usage: node scripts/faults.js [--lab KERNEL] [--only PART OF A PROGRAM'S NAME]
         [--calls NAME,NAME...] [--addon FILE] [--scale N] [--most N] [--errors N]
  Prints a table: call, errno, how often it was reached and failed, and the result. The status is 1
  if a fault is not answered by success or by an error that names the call, or if a call was never
  reached. Without /dev/kvm, only the programs that need no device run here; --lab then runs the
  others in a kernel of the lab, where a program that takes --scale (10) times two seconds counts as
  hanging. --most makes only the first N calls of a kind fail in each program, --errors with the
  first N errnos of each call. It needs cc, and dist/ and build/ built.
`;

/** Parses the arguments; for a wrong argument, it prints one line and exits with status 2. */
function parsed(config) {
  try {
    return parseArgs(config);
  } catch (error) {
    process.stderr.write(`faults.js: ${error.message.split(". ", 1)[0]}\n${USAGE}`);
    return process.exit(2);
  }
}

const { values } = parsed({
  options: {
    help: { type: "boolean", short: "h" },
    lab: { type: "string" },
    only: { type: "string" },
    calls: { type: "string" },
    addon: { type: "string", default: join(root, "build/Release/node_kvm.node") },
    scale: { type: "string" },
    most: { type: "string" },
    errors: { type: "string" },
  },
});

if (values.help) {
  process.stdout.write(USAGE);
  process.exit();
}

function hasDevice() {
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

const folder = mkdtempSync(join(tmpdir(), "faults-"));
const library = join(folder, "inject.node");
const faults = join(root, "test/lifecycle/faults");
const addon = resolve(values.addon);
const count = (value) => (value === undefined ? undefined : Number(value));
const [most, errors] = [values.most, values.errors].map(count);
const request = { only: values.only, calls: values.calls?.split(","), most, errors };

function runHere(device, report) {
  const scale = Number(values.scale ?? 1);
  const argument = JSON.stringify({ ...request, library, addon, device, scale, report });
  return (
    spawnSync(process.execPath, [join(faults, "run.js"), argument], { stdio: "inherit" }).status ??
    1
  );
}

/** Runs the programs in the lab; programs that need no device run on this host first, because this host is faster. */
function runInLab() {
  const report = join(folder, "judged.json");
  const here = runHere("none", report);
  const [inject, copy] = ["/tmp/inject.node", "/tmp/node_kvm.node"];
  const scale = Number(values.scale ?? 10);
  const judged = JSON.parse(readFileSync(report, "utf8"));
  const of = { ...request, library: inject, addon: copy, device: "only", scale, judged };
  const files = [`${library}:${inject}`, `${addon}:${copy}`].concat(
    readdirSync(faults)
      .filter((name) => name.endsWith(".js"))
      .map((name) => `${join(faults, name)}:${PACKAGE}/test/lifecycle/faults/${name}`),
  );
  const main = join(root, "dist/cli/main.js");
  const options = ["--kernel", values.lab, "--timeout", "3600"].concat(
    files.flatMap((file) => ["--file", file]),
  );
  const command = ["node", `${PACKAGE}/test/lifecycle/faults/run.js`, JSON.stringify(of)];
  const { status } = spawnSync(
    process.execPath,
    [main, "lab", "exec", ...options, "--", ...command],
    { stdio: ["ignore", "inherit", "inherit"] },
  );
  return here === 0 ? (status ?? 1) : here;
}

try {
  const options = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"];
  const source = join(faults, "inject.c");
  execFileSync("cc", [...options, "-fvisibility=hidden", "-o", library, source], {
    stdio: "inherit",
  });
  process.exitCode = values.lab === undefined ? runHere(hasDevice() ? "all" : "none") : runInLab();
} finally {
  rmSync(folder, { recursive: true });
}
