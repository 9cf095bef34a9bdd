/** Runs the native and life cycle tests on an addon with AddressSanitizer and UBSan in it. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

// usage: node scripts/sanitize.js [ARGUMENT OF VITEST...]   (default: the tests below)
// Needs g++ with libasan and libubsan, cmake, and dist/ built. Nothing is downloaded: the headers
// are those beside the running node, or those that npm's `nodedir` names.
const root = fileURLToPath(new URL("..", import.meta.url));
const out = join(root, "build/sanitize");
const addon = join(out, "Release/node_kvm.node");
const prefix = dirname(dirname(process.execPath));

// Node itself leaks on exit. Counting bytes needs an allocator that gives freed memory back.
const STRICT = "detect_leaks=0";
const LEAN = `${STRICT}:quarantine_size_mb=0:thread_local_quarantine_size_kb=0:malloc_context_size=0`;
const TESTS = [
  { options: STRICT, tests: ["--project", "unit", "test/unit/native"] },
  { options: STRICT, tests: ["--project", "lifecycle", "test/lifecycle/orders"] },
  { options: STRICT, tests: ["--project", "lifecycle", "test/lifecycle/lost-pages"] },
  { options: LEAN, tests: ["--project", "lifecycle", "test/lifecycle/leaks"] },
];

function run(command, args, env = {}) {
  const options = { cwd: root, stdio: "inherit", env: { ...process.env, ...env } };
  const { status, error } = spawnSync(command, args, options);
  if (error !== undefined) throw error;
  if (status !== 0) {
    process.stderr.write(`sanitize: ${command} ${args.join(" ")} failed\n`);
    process.exit(status ?? 1);
  }
}

const output = (command, args) => execFileSync(command, args, { encoding: "utf8" }).trim();
const library = (name) => output("g++", [`-print-file-name=${name}`]);

const headers = existsSync(join(prefix, "include/node/node_api.h"))
  ? { npm_config_nodedir: prefix }
  : {};
const target = ["-d", "native", "-O", "build/sanitize", "-B", "Release"];
run("npx", ["cmake-js", "build", ...target, "--CDNODE_KVM_SANITIZE=ON", "-l", "warn"], headers);

// A build that lost its sanitizers would pass everything.
const symbols = output("nm", ["--dynamic", "--undefined-only", addon]);
for (const symbol of ["__asan_init", "__ubsan_handle_type_mismatch_v1_abort"]) {
  if (!symbols.includes(symbol)) {
    process.stderr.write(`sanitize: ${addon} has no ${symbol}\n`);
    process.exit(1);
  }
}

const environment = {
  NODE_KVM_ADDON: addon,
  LD_PRELOAD: `${library("libasan.so")}:${library("libubsan.so")}`,
  UBSAN_OPTIONS: "print_stacktrace=1",
};
const chosen = process.argv.slice(2);
for (const { options, tests } of chosen.length === 0
  ? TESTS
  : [{ options: STRICT, tests: chosen }]) {
  const env = { ...environment, ASAN_OPTIONS: options };
  run(process.execPath, ["node_modules/vitest/vitest.mjs", "run", ...tests], env);
}
