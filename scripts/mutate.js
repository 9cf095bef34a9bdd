/** Changes the sources in small ways, one at a time, and prints the changes that no unit test detects. */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

// usage: node scripts/mutate.js [--least 80] [FOLDER or FILE of lib/explain, lib/state, lib/oracle, lib/cpuid...]
//
// Without an argument, the script changes all four folders. For each folder, it prints the numbers of mutants, killed
// mutants, timeouts and survivors, and the score. Mutants that no test reaches are survivors; the score is the
// percentage of killed mutants. Then the script lists the survivors. The survivors in test/mutation/equivalents.json
// are not listed, because no test can kill them. The exit status is 1 if a score is below --least and equivalents.json
// does not list every survivor. The exit status is also 1 if equivalents.json lists a mutant that no longer exists or
// that a test kills.
//
// The script needs the addon.
// It installs Stryker into build/mutation, in the version that test/mutation/stryker pins.
// The installation has 166 packages and 64 MB, and takes 20 seconds; a run takes about 20 minutes of one CPU.
const root = fileURLToPath(new URL("..", import.meta.url));
const folder = join(root, "build/mutation");
const source = join(root, "test/mutation");
const manifests = join(source, "stryker");
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { least: { type: "string", default: "80" } },
});

/** The folders that the script changes; for each folder, the unit tests of the folder with the same name run. */
const JUDGED = ["lib/cpuid", "lib/oracle", "lib/state", "lib/explain"];
const targets = (positionals.length === 0 ? JUDGED : positionals).map((path) =>
  path.replace(/\/$/, ""),
);
const folderOf = (target) => JUDGED.find((one) => target === one || target.startsWith(`${one}/`));
const unknown = targets.filter((target) => folderOf(target) === undefined);
if (unknown.length > 0) {
  process.stderr.write(`mutate: ${unknown.join(", ")} is not in ${JUDGED.join(", ")}\n`);
  process.exit(2);
}

function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: "inherit", ...options });
  if (error !== undefined) throw error;
  if (status !== 0) {
    process.stderr.write(`mutate: ${command} ${args.join(" ")} failed\n`);
    process.exit(status ?? 1);
  }
}

/** Installs the packages of the lock file if they are not installed. */
function install() {
  const files = ["package.json", "package-lock.json"];
  const same = (file) =>
    existsSync(join(folder, "node_modules", "@stryker-mutator")) &&
    existsSync(join(folder, file)) &&
    readFileSync(join(folder, file), "utf8") === readFileSync(join(manifests, file), "utf8");
  if (files.every(same)) return;
  mkdirSync(folder, { recursive: true });
  for (const file of files) cpSync(join(manifests, file), join(folder, file));
  const quiet = ["--no-fund", "--no-audit", "--ignore-scripts", "--no-save"];
  run("npm", ["install", ...quiet], { cwd: folder });
  // The files are copied again, because npm may write the registry's address into them.
  for (const file of files) cpSync(join(manifests, file), join(folder, file));
}

/** Returns the test files of a folder: all files in the folder of the same name under test/unit. */
function testsOf(judged) {
  const tests = judged.replace("lib/", "test/unit/");
  return readdirSync(join(root, tests))
    .filter((name) => name.endsWith(".test.ts"))
    .map((name) => `${tests}/${name}`);
}

/** Runs Stryker over targets of one folder and returns its report. */
function mutate(judged, chosen) {
  const name = judged.replace("/", "-");
  const report = join(folder, `${name}.json`);
  const config = join(folder, `${name}.stryker.json`);
  const options = {
    testRunner: "unit",
    plugins: [join(source, "runner.js")],
    nodeKvmTests: testsOf(judged),
    warnings: { unknownOptions: false },
    mutate: [
      ...chosen.map((target) => (target.endsWith(".ts") ? target : `${target}/**/*.ts`)),
      "!lib/**/generated/**",
    ],
    ignorePatterns: ["/*", "!/lib", "!/test", "!/gen", "!/package.json", "!/tsconfig.json"],
    tempDirName: `build/mutation/${name}-sandbox`,
    coverageAnalysis: "perTest",
    checkers: [],
    disableTypeChecks: false,
    concurrency: 1,
    timeoutMS: 30_000,
    timeoutFactor: 3,
    reporters: ["json", ...(process.stdout.isTTY ? ["progress"] : [])],
    jsonReporter: { fileName: report },
    logLevel: "warn",
  };
  writeFileSync(config, JSON.stringify(options, undefined, 2));
  const stryker = join(folder, "node_modules/@stryker-mutator/core/bin/stryker.js");
  const env = { ...process.env, NODE_KVM_ADDON: join(root, "build/Release/node_kvm.node") };
  run(process.execPath, [stryker, "run", config], { env });
  return JSON.parse(readFileSync(report, "utf8"));
}

/** Returns the text between two positions of a file. */
function cut(lines, { start, end }) {
  const chosen = lines.slice(start.line - 1, end.line);
  const last = chosen.length - 1;
  chosen[last] = chosen[last].slice(0, end.column - 1);
  chosen[0] = chosen[0].slice(start.column - 1);
  return chosen.join("\n");
}

const inline = (text) => text.replaceAll(/\s+/g, " ").trim();

/** Lists the mutants of a report, each with a name that does not depend on its line. */
function mutantsOf({ files }) {
  return Object.entries(files).flatMap(([file, { source: text, mutants }]) => {
    const lines = text.split("\n");
    return mutants.map(({ location, replacement, status }) => {
      const line = inline(lines[location.start.line - 1]);
      const change = `${inline(cut(lines, location))} => ${inline(replacement)}`;
      return { file, status, at: location.start, name: `${file} | ${line} | ${change}` };
    });
  });
}

const GONE = ["Survived", "NoCoverage"];
const VALID = ["Killed", "Timeout", ...GONE];
const equivalents = JSON.parse(readFileSync(join(source, "equivalents.json"), "utf8"));
const listed = new Map(
  equivalents.flatMap(({ reason, mutants }) => mutants.map((m) => [m, reason])),
);

/** Prints the results of a folder's mutants; returns whether its score is high enough. */
function judge(judged, chosen) {
  const mutants = mutantsOf(mutate(judged, chosen));
  const count = (...states) => mutants.filter(({ status }) => states.includes(status)).length;
  const survivors = mutants.filter(({ status }) => GONE.includes(status));
  const unlisted = survivors.filter(({ name }) => !listed.has(name));
  const score = (100 * count("Killed", "Timeout")) / count(...VALID);
  const alive = new Set(survivors.map(({ name }) => name));
  const covered = new Set(mutants.map(({ file }) => file));
  const stale = [...listed.keys()].filter((name) => {
    const [file] = name.split(" | ");
    const isJudged = covered.has(file) || (chosen.includes(judged) && folderOf(file) === judged);
    return isJudged && !alive.has(name);
  });
  const words = [
    `${mutants.length} mutants`,
    `${count("Killed")} killed`,
    `${count("Timeout")} timeout`,
    `${count("Survived")} survived`,
    `${count("NoCoverage")} without coverage`,
    `${survivors.length - unlisted.length} of these equivalent`,
    `score ${score.toFixed(2)} %`,
  ];
  console.log(`${chosen.join(" ")}: ${words.join(", ")}`);
  for (const { status, at, name } of unlisted) {
    console.log(`  ${status} ${at.line}:${at.column} ${name}`);
  }
  for (const name of stale)
    console.log(`  listed as equivalent, but killed or no longer there: ${name}`);
  return stale.length === 0 && (score >= Number(values.least) || unlisted.length === 0);
}

install();
const verdicts = JUDGED.flatMap((judged) => {
  const chosen = targets.filter((target) => folderOf(target) === judged);
  return chosen.length === 0 ? [] : [judge(judged, chosen)];
});
process.exitCode = verdicts.every(Boolean) ? 0 : 1;
