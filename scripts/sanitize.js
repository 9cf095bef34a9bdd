/** Runs the native and life cycle tests on an addon that is built with sanitizers, on this host or in the lab. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

// usage: node scripts/sanitize.js [--thread] [--lab KERNEL [--smp N]] [-- ARGUMENT OF VITEST...]
//
// The sanitizers are AddressSanitizer and UBSan, or ThreadSanitizer with --thread.
// The tests run on this host, or with --lab in a kernel of the lab.
// Arguments after -- replace the list of tests below.
//
// The script needs g++ with its sanitizers, cmake, and a built dist/. The script downloads nothing: it uses the headers
// beside the running node, or the headers that npm's `nodedir` names. libtsan of g++ 12 needs a host whose
// vm.mmap_rnd_bits is at most 28, or `setarch -R`.
const root = fileURLToPath(new URL("..", import.meta.url));
const prefix = dirname(dirname(process.execPath));
const { values, positionals: chosen } = parseArgs({
  allowPositionals: true,
  options: {
    thread: { type: "boolean", default: false },
    lab: { type: "string" },
    smp: { type: "string", default: "1" },
  },
});

// Node itself leaks on exit. Tests that count bytes need an allocator that returns freed memory.
const STRICT = "detect_leaks=0";
const LEAN = `${STRICT}:quarantine_size_mb=0:thread_local_quarantine_size_kb=0:malloc_context_size=0`;
// Node is not built with ThreadSanitizer, which therefore intercepts Node's locks but not its atomics.
// Reports about Node's own memory are ignored.
const OURS = "ignore_noninstrumented_modules=1";

const ORDERS = ["--project", "lifecycle", "test/lifecycle/orders", "test/lifecycle/spins"];
const KICKS = ["--project", "lifecycle", "test/lifecycle/kicks"];
const RUNS = ["--project", "unit", "test/unit/kvm/run"];
const ADDRESS = {
  folder: "build/sanitize",
  sanitizers: "address,undefined",
  libraries: ["libasan.so", "libubsan.so"],
  symbols: ["__asan_init", "__ubsan_handle_type_mismatch_v1_abort"],
  here: [
    { options: STRICT, tests: ["--project", "unit", "test/unit/native"] },
    { options: STRICT, tests: [...ORDERS, "test/lifecycle/kicks"] },
    { options: STRICT, tests: ["--project", "lifecycle", "test/lifecycle/lost-pages"] },
    { options: LEAN, tests: ["--project", "lifecycle", "test/lifecycle/leaks"] },
  ],
  lab: [
    { options: STRICT, tests: ORDERS },
    { options: STRICT, tests: KICKS },
  ],
};
const THREAD = {
  folder: "build/tsan",
  sanitizers: "thread",
  libraries: ["libtsan.so"],
  symbols: ["__tsan_init"],
  here: [
    { options: OURS, tests: RUNS },
    { options: OURS, tests: [...ORDERS, "test/lifecycle/kicks"] },
  ],
  lab: [
    { options: OURS, tests: RUNS },
    { options: OURS, tests: [...ORDERS, "test/lifecycle/kicks"] },
  ],
};
const flavour = values.thread ? THREAD : ADDRESS;
const out = join(root, flavour.folder);
const addon = join(out, "Release/node_kvm.node");

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
const target = ["-d", "native", "-O", flavour.folder, "-B", "Release"];
const sanitizers = `--CDNODE_KVM_SANITIZE=${flavour.sanitizers}`;
run("npx", ["cmake-js", "build", ...target, sanitizers, "-l", "warn"], headers);

// The libraries are checked, because a build without sanitizers would pass every test.
const symbols = output("nm", ["--dynamic", "--undefined-only", addon]);
for (const symbol of flavour.symbols) {
  if (!symbols.includes(symbol)) {
    process.stderr.write(`sanitize: ${addon} has no ${symbol}\n`);
    process.exit(1);
  }
}

const libraries = flavour.libraries.map((name) => realpathSync(library(name)));
/** The environment variables of the sanitizers; each sanitizer reads only its own. */
const environment = (options) => ({
  LD_PRELOAD: libraries.join(":"),
  [values.thread ? "TSAN_OPTIONS" : "ASAN_OPTIONS"]: options,
  UBSAN_OPTIONS: "print_stacktrace=1",
  // The number of kicks in each kick test, lower than usual because kicks are slower with sanitizers.
  KICKS: process.env["KICKS"] ?? "2000",
});

function runHere({ options, tests }) {
  const env = { ...environment(options), NODE_KVM_ADDON: addon };
  run(process.execPath, ["node_modules/vitest/vitest.mjs", "run", ...tests], env);
}

/** Copies the addon and the sanitizers' libraries into the guest, which has all other libraries. */
function runInLab({ options, tests }) {
  const env = { ...environment(options), NODE_KVM_ADDON: "/tmp/node_kvm.node" };
  run(process.execPath, [
    ...["scripts/lab-tests.js", "--kernel", values.lab, "--smp", values.smp, "--memory", "3072"],
    ...["--timeout", "3600", "--file", `${addon}:/tmp/node_kvm.node`],
    ...libraries.flatMap((path) => ["--file", path]),
    ...Object.entries(env).flatMap(([name, value]) => ["--env", `${name}=${value}`]),
    ...["--", ...tests],
  ]);
}

const steps = values.lab === undefined ? flavour.here : flavour.lab;
const [{ options }] = steps;
for (const step of chosen.length === 0 ? steps : [{ options, tests: chosen }]) {
  if (values.lab === undefined) runHere(step);
  else runInLab(step);
}
