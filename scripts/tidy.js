/** Runs clang-tidy over native/, and clang-format over native/ and every C file. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

// usage: node scripts/tidy.js [--fix]   (--fix formats the files in place)
// compile_commands.json comes from cmake, which configures native/ without building it.
const root = fileURLToPath(new URL("..", import.meta.url));
const prefix = dirname(dirname(process.execPath));
const fix = process.argv.includes("--fix");

const sources = readdirSync(join(root, "native")).map((name) => join("native", name));
const units = sources.filter((name) => name.endsWith(".cc"));
const programs = ["lib", "test", "bench"].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".c"))
    .map((name) => join(folder, name)),
);
const formatted = [
  ...sources.filter((name) => /\.(cc|h)$/.test(name)),
  "native/prebuild/musl.cc",
  ...programs,
];

function run(command, args, env = {}) {
  const options = { cwd: root, encoding: "utf8", env: { ...process.env, ...env } };
  return spawnSync(command, args, options);
}

/** Returns the name of the tool on this system, with or without its version. */
function find(tool) {
  const name = [`${tool}-19`, tool].find((candidate) => run(candidate, ["--version"]).status === 0);
  if (name === undefined) {
    process.stderr.write(`${tool} is missing: apt-get install ${tool}-19 (or ${tool})\n`);
    process.exit(2);
  }
  return name;
}

function must(title, { status, stdout, stderr, error }) {
  if (error !== undefined) throw error;
  if (status === 0) return;
  process.stdout.write(`${title} failed\n${stdout}${stderr}`);
  process.exit(1);
}

const [tidy, format] = [find("clang-tidy"), find("clang-format")];

const headers = existsSync(join(prefix, "include/node/node_api.h"))
  ? { npm_config_nodedir: prefix }
  : {};
const configure = ["cmake-js", "configure", "-d", "native", "-O", "build/tidy", "-l", "error"];
must("cmake-js configure", run("npx", configure, headers));

must("clang-format", run(format, [fix ? "-i" : "--dry-run", "--Werror", ...formatted]));
must("clang-tidy", run(tidy, ["-p", "build/tidy", "--quiet", ...units]));
process.stdout.write(`${formatted.length} files formatted, ${units.length} quiet\n`);
