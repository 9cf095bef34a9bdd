/**
 * Makes each call of the addon fail once, in every program that makes the call. The results are printed as a table:
 * `node run.js '{"library":…,"addon":…,"isDevice":true,"scale":1}'`. scripts/faults.js builds the library and runs this
 * program, on this host or in the lab.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { errnoName } from "node-kvm";
import { FAILING, SYSTEM_CALLS } from "./calls.js";
import { DEVICE_PROGRAMS, HOST_PROGRAMS } from "./programs.js";

/**
 * A run of a program that takes more milliseconds than this is judged as a hang. A slow emulated CPU gets `scale` times
 * as much time.
 */
const LIMIT_MS = 2000;
/** The time limit in milliseconds for loading Node and this package. */
const START_MS = 20_000;
/** The maximum number of calls of one Node-API function that fail per program; a run makes hundreds of such calls. */
const MOST_NODE_API_CALLS = 3;
/** The maximum number of faults of one Node-API function in all programs. */
const MOST_NODE_API_FAULTS = 24;
/** The first 16 calls of a function fail with every errno in turn; each later call fails with only one errno. */
const MOST_WITH_ALL_ERRNOS = 16;

const GOOD = new Set(["success", "error", "not reached"]);
const EINTR = 4;

/**
 * `device`: "none" runs the programs that need no device, "only" runs the other programs. `calls`: the only calls that
 * are made to fail. `report`: a file for the results; `judged`: the report of an earlier run, whose cases are skipped
 * and count as reached. `most`: the number of failing calls of a function; `errors`: the number of errnos that each
 * call fails with.
 */
const folder = mkdtempSync(join(tmpdir(), "faults-"));
process.on("exit", () => rmSync(folder, { recursive: true }));
const request = JSON.parse(process.argv[2]);
const { library, addon, device, scale, only, calls, report } = request;
const judged = request.judged ?? { calls: [], first: [] };
const programs = Object.keys({
  ...(device === "only" ? {} : HOST_PROGRAMS),
  ...(device === "none" ? {} : DEVICE_PROGRAMS),
}).filter((name) => only === undefined || name.includes(only));
const isChosen = (call) => calls === undefined || calls.includes(call);

/** Runs cases.js and returns its lines. A process that prints nothing for too long is killed. */
function runChild(request, onLine) {
  const script = fileURLToPath(new URL("cases.js", import.meta.url));
  const argument = JSON.stringify({ library, addon, ...request });
  const child = spawn(process.execPath, ["--expose-gc", script, argument], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, TMPDIR: folder },
  });
  let isHung = false;
  let errors = "";
  const kill = () => {
    isHung = true;
    child.kill("SIGKILL");
  };
  let timer = setTimeout(kill, START_MS * scale);
  createInterface({ input: child.stdout }).on("line", (line) => {
    clearTimeout(timer);
    timer = setTimeout(kill, LIMIT_MS * scale);
    onLine(JSON.parse(line));
  });
  child.stderr.on("data", (chunk) => {
    errors = `${errors}${chunk}`.slice(-2000);
  });
  return new Promise((resolve) => {
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, isHung, errors });
    });
  });
}

async function countCalls(program) {
  let counts;
  const end = await runChild({ program }, (line) => {
    counts = line;
  });
  const problems = [...(counts?.errors ?? []), ...(end.code === 0 ? [] : [JSON.stringify(end)])];
  if (problems.length > 0) {
    record(program, { call: "no call" }, { outcome: "unfinished", detail: problems.join("; ") });
    return { cold: {}, warm: {} };
  }
  return counts;
}

const isNodeApi = (call) => call.startsWith("napi_");
const range = (count) => Array.from({ length: count }, (_, i) => i + 1);
const mostOf = (call, count) =>
  Math.min(count, isNodeApi(call) ? MOST_NODE_API_CALLS : count, request.most ?? count);

/** Returns one case per call, in which only that call fails; for a system call, also a case in which all calls fail. */
function casesOf(call, count) {
  const errors = FAILING[call].errors.slice(0, request.errors);
  const single = range(mostOf(call, count)).flatMap((nth) =>
    errors
      .filter((_, i) => nth <= MOST_WITH_ALL_ERRNOS || nth % errors.length === i)
      .map((error) => ({ call, error, nth, isAlways: false })),
  );
  const isLasting = count > 1 && call in SYSTEM_CALLS;
  const lasting = errors
    .filter((error) => isLasting && error !== EINTR)
    .map((error) => ({ call, error, nth: 1, isAlways: true }));
  return [...single, ...lasting];
}

/** Describes why a process ended early; the cause is the last case that it started. */
function endingOf({ code, signal, isHung, errors }) {
  if (isHung) return { outcome: "hang" };
  const detail = errors.trim().split("\n").slice(-3).join(" / ");
  if (signal !== null) return { outcome: "crash", detail: `${signal} ${detail}` };
  return code === 0
    ? { outcome: "unfinished", detail }
    : { outcome: "crash", detail: `exit ${code} ${detail}` };
}

const results = [];
const errorTitle = (call, error) => (isNodeApi(call) ? `status ${error}` : errnoName(error));

function lineOf({ program, call, error, nth, isAlways, outcome, detail = "" }) {
  if (error === undefined) return `${outcome}: ${program}: without a fault: ${detail}`;
  const which = isAlways ? `every ${call}` : `${call} number ${nth}`;
  return `${outcome}: ${program}: ${which}: ${errorTitle(call, error)}: ${detail}`;
}

function record(program, one, result) {
  results.push({ program, ...one, ...result });
  if (!GOOD.has(result.outcome)) process.stderr.write(`${lineOf(results.at(-1))}\n`);
}

/** Runs the cases in as few processes as possible: a process that ends early is replaced by another. */
async function runCases(program, cases, isCold) {
  for (let at = 0; at < cases.length; ) {
    const batch = [...cases.entries()].slice(at, isCold ? at + 1 : cases.length);
    let current = at;
    let isOpen = false;
    const end = await runChild({ program, cases: batch, isCold }, (line) => {
      if (line.begin !== undefined) {
        current = line.begin;
        isOpen = true;
      }
      if (line.end === undefined) return;
      record(program, cases[line.end], line);
      isOpen = false;
      at = line.end + 1;
    });
    const isWhole = !isOpen && at === batch[0][0] + batch.length;
    if (isWhole && end.code === 0) continue;
    // The process failed, or ended in the middle of a case.
    record(program, cases[Math.min(current, cases.length - 1)], endingOf(end));
    at = Math.max(at, current + 1);
  }
}

const reached = Object.fromEntries(Object.keys(FAILING).map((call) => [call, 0]));
const isEnough = (call) =>
  isNodeApi(call) && results.filter((one) => one.call === call).length >= MOST_NODE_API_FAULTS;

/**
 * Returns whether the first run in a process makes additional calls, such as calls that load the addon. Returns false
 * if these calls were tested before.
 */
const tried = new Set(judged.first);
function isNew(call, count) {
  const key = `${call} ${count}`;
  if (count <= 0 || tried.has(key)) return false;
  tried.add(key);
  return true;
}

for (const program of programs) {
  const began = performance.now();
  const { cold, warm } = await countCalls(program);
  for (const call of Object.keys(FAILING)) reached[call] += cold[call] ?? 0;
  const chosen = Object.keys(FAILING).filter((call) => isChosen(call) && !isEnough(call));
  // Each of these cases needs its own process; an earlier, faster run without a device has tested the Node-API calls.
  const first = chosen
    .filter((call) => request.judged === undefined || !isNodeApi(call))
    .filter((call) => isNew(call, (cold[call] ?? 0) - (warm[call] ?? 0)));
  await runCases(
    program,
    chosen.flatMap((call) => casesOf(call, warm[call] ?? 0)),
    false,
  );
  await runCases(
    program,
    first.flatMap((call) => casesOf(call, cold[call])),
    true,
  );
  const cases = results.filter((one) => one.program === program).length;
  const seconds = Math.round((performance.now() - began) / 1000);
  process.stderr.write(`${program}: ${cases} cases in ${seconds} s\n`);
}

const OUTCOMES = [
  "success",
  "error",
  "not reached",
  "misleading",
  "leak",
  "spin",
  "hang",
  "crash",
  "unfinished",
  "lasting",
];
const rows = [["call", "fails with", "reached", "failed", ...OUTCOMES.map((name) => name)]];
for (const [call, { errors }] of Object.entries(FAILING)) {
  for (const error of isChosen(call) ? errors : []) {
    const of = results.filter((one) => one.call === call && one.error === error);
    const count = (outcome) => of.filter((one) => one.outcome === outcome).length;
    const failed = of.length - count("not reached");
    rows.push(
      [call, errorTitle(call, error), reached[call], failed, ...OUTCOMES.map(count)].map(String),
    );
  }
}
const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
for (const row of rows) {
  const cells = row.map((cell, i) => (i < 2 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])));
  process.stdout.write(`${cells.join("  ").trimEnd()}\n`);
}

const bad = results.filter(({ outcome }) => !GOOD.has(outcome));
for (const one of bad) process.stdout.write(`${lineOf(one)}\n`);
// A call that no program makes was not tested.
const failures = (call) =>
  results.filter((one) => one.call === call && one.outcome !== "not reached");
const isJudged = (call) => failures(call).length > 0 || judged.calls.includes(call);
const missed = Object.keys(FAILING).filter((call) => isChosen(call) && !isJudged(call));
if (report !== undefined) {
  const reachedHere = Object.keys(FAILING).filter((call) => isJudged(call));
  writeFileSync(report, JSON.stringify({ calls: reachedHere, first: [...tried] }));
}
const isWhole = device !== "none" && only === undefined;
if (missed.length > 0) process.stdout.write(`never reached: ${missed.join(", ")}\n`);
process.stdout.write(
  `${results.length} cases, ${bad.length} bad, ${missed.length} calls never reached\n`,
);
process.exitCode =
  bad.length > 0 || (isWhole && missed.length > 0) || (results.length === 0 && report === undefined)
    ? 1
    : 0;
