/**
 * Ends lab commands at random moments, normally and by each signal, and checks that they leave no files, processes or
 * locks.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

// usage: node scripts/lab-ends.js [--kernel 6.12] [--only exec,run,SIGINT,SIGTERM,SIGHUP,SIGKILL]
//          [--rounds 20] [--moments 5] [--seed N] [--pattern silent]
// The script needs QEMU, a built dist/, and the kernel in the cache; it works on a copy of the cache.
// The exit status is 1 if a status or verdict differs, or if a folder, a socket, a process or a lock is left.
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"];
const { values } = parseArgs({
  options: {
    kernel: { type: "string", default: "6.12" },
    only: { type: "string", default: ["exec", "run", ...SIGNALS].join(",") },
    rounds: { type: "string", default: "20" },
    moments: { type: "string", default: "5" },
    seed: { type: "string", default: String(Date.now() % 1e6) },
    pattern: { type: "string", default: "silent" },
  },
});

const main = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const parent = mkdtempSync(join(tmpdir(), "lab-ends-"));
const cache = join(parent, "cache");
let findings = 0;

function say(what, problem) {
  findings += problem === undefined ? 0 : 1;
  process.stdout.write(
    `${problem === undefined ? "ok" : "NOT OK"} ${what}${problem === undefined ? "" : `: ${problem}`}\n`,
  );
}

/**
 * Starts a lab command; `ended` resolves to the output of the command, with its exit status or the signal that ended
 * it.
 */
function start(...args) {
  const child = spawn(process.execPath, [main, "lab", ...args], {
    env: { ...process.env, NODE_KVM_CACHE: cache },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const text = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"]) {
    child[name].on("data", (bytes) => {
      text[name] += bytes;
    });
  }
  const ended = new Promise((resolve) => {
    child.once("close", (status, signal) => resolve({ status: status ?? signal, ...text }));
  });
  return { child, ended };
}

const execute = (...command) => start("exec", "--kernel", values.kernel, "--", ...command);

/** Returns the links of a process that lead into the cache: its working directory and its open files. */
function linksOf(pid) {
  const links = [`/proc/${pid}/cwd`, `/proc/${pid}/exe`];
  try {
    links.push(...readdirSync(`/proc/${pid}/fd`).map((fd) => `/proc/${pid}/fd/${fd}`));
    return links.map((path) => readlinkSync(path)).filter((path) => path.startsWith(cache));
  } catch {
    return []; // the process has ended
  }
}

function leftovers() {
  const processes = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && linksOf(name).length > 0)
    .map((pid) => `process ${pid}`);
  const files = ["building", "locks"].flatMap((folder) => {
    const path = join(cache, folder);
    return existsSync(path) ? readdirSync(path).map((name) => `${folder}/${name}`) : [];
  });
  const sockets = readdirSync(cache, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isSocket())
    .map(({ name }) => `socket ${name}`);
  return [...processes, ...files, ...sockets];
}

/**
 * Returns the files, processes and locks that are left; waits up to 5 s, because a killed process takes some time to
 * disappear.
 */
async function settled() {
  for (let left = 50; ; left -= 1) {
    const found = leftovers();
    if (found.length === 0 || left === 0) return found;
    await sleep(100);
  }
}

async function judge(what, end, allowed) {
  const isAllowed = allowed.includes(end.status);
  const left = await settled();
  const problems = [
    ...(isAllowed ? [] : [`status ${end.status}: ${end.stderr.trim().split("\n").at(-1)}`]),
    ...(left.length === 0 ? [] : [`left: ${left.join(", ")}`]),
  ];
  say(`${what} (status ${end.status})`, problems.length === 0 ? undefined : problems.join("; "));
}

async function twentyInARow() {
  for (let round = 1; round <= Number(values.rounds); round += 1) {
    await judge(`exec ${round}`, await execute("true").ended, [0]);
  }
}

/** Returns the verdict of each claim, which must be the same in each run. */
function verdicts(json) {
  const { columns } = JSON.parse(json);
  return JSON.stringify(
    columns.flatMap(({ report }) => report.results.map(({ id, verdict }) => [id, verdict])),
  );
}

async function twoAtOnce() {
  const run = () =>
    start("run", "--kernel", values.kernel, "--reporter", "json", values.pattern).ended;
  const [one, other] = await Promise.all([run(), run()]);
  await judge("run, one of two at once", one, [0]);
  await judge("run, the other", other, [0]);
  const [first, second] = [one, other].map(({ stdout }) => verdicts(stdout));
  const isEqual = first === second && first.length > 2;
  say("the verdicts of both", isEqual ? undefined : `${first} and ${second}`);
}

/** Returns a function that returns pseudo-random numbers from 0 to below 1 (a linear congruential generator modulo 2^64).
 * The same seed gives the same sequence. */
function random(seed) {
  let state = BigInt(seed) + 1n;
  return () => {
    state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffff_ffff_ffff_ffffn;
    return Number(state >> 33n) / 2 ** 31;
  };
}

const next = random(Number(values.seed));

async function endBy(signal, duration) {
  for (let moment = 1; moment <= Number(values.moments); moment += 1) {
    const after = Math.round(next() * duration);
    const { child, ended } = execute("sleep", "1");
    await Promise.race([ended, sleep(after)]);
    child.kill(signal);
    const end = await ended;
    if (signal === "SIGKILL") {
      // The next process that cleans the cache removes the files of a killed process.
      await start("cache", "--prune", "1000000").ended;
    }
    // An early signal ends Node before the command runs; at a late signal the command has already ended.
    const allowed = signal === "SIGKILL" ? [signal, 0] : [130, signal, 0];
    await judge(`${signal} after ${after} ms`, end, allowed);
  }
}

try {
  const usual =
    process.env.NODE_KVM_CACHE ??
    join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "node-kvm");
  mkdirSync(cache, { mode: 0o700 });
  for (const name of ["kernels", "guests", "catalogue.json"]) {
    if (existsSync(join(usual, name))) execFileSync("cp", ["-a", join(usual, name), cache]);
  }
  process.stdout.write(`seed ${values.seed}\n`);
  // The first run may take longer, because it may have to make the guest's archives.
  await judge("exec, the first", await execute("true").ended, [0]);
  const before = performance.now();
  await judge("exec, the measured one", await execute("sleep", "1").ended, [0]);
  const duration = performance.now() - before;
  for (const what of values.only.split(",")) {
    if (what === "exec") await twentyInARow();
    else if (what === "run") await twoAtOnce();
    else await endBy(what, duration);
  }
  await judge("exec, the last", await execute("true").ended, [0]);
} finally {
  rmSync(parent, { recursive: true, force: true });
}
process.stdout.write(`${findings} findings\n`);
process.exitCode = findings === 0 ? 0 : 1;
