// Makes a clone ready to run: installs the packages of package-lock.json, and builds the parts that are out of date.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));

/** Runs a command; exits with its status if it fails. @param {string} command @param {string[]} args */
function run(command, ...args) {
  const { status } = spawnSync(command, args, { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}

/** Returns the modification time of a file, or of the newest file under a folder; 0 if it does not exist. @param {string} path @returns {number} */
function written(path) {
  if (!existsSync(path)) return 0;
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(0, ...readdirSync(path).map((name) => written(join(path, name))));
}

/** @param {string} made @param {string[]} sources */
const isStale = (made, ...sources) => written(made) < Math.max(...sources.map(written));

run(process.execPath, "scripts/toolchain.js");
// `npm ci` rejects a lock file without the optional packages of other platforms, and a mirror may not have them.
if (isStale("node_modules/.package-lock.json", "package-lock.json")) {
  run("npm", "install", "--no-save", "--no-fund", "--no-audit");
}
if (isStale("build/Release/node_kvm.node", "native", "binding.gyp")) {
  run("npm", "run", "build:native");
}
const configured = ["tsconfig.json", "tsconfig.build.json", "rolldown.config.ts"];
if (isStale("dist/suite/main.js", "lib", "test/kvm", ...configured)) run("npm", "run", "build");
