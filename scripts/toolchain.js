// Checks the tools for building the addon, and prints one line if a tool is missing.
// Without this check, node-gyp would print a long error.
import { spawnSync } from "node:child_process";

/** @param {string} command @param {string[]} args */
const works = (command, ...args) => spawnSync(command, args, { stdio: "ignore" }).status === 0;

/** Each tool: a command that succeeds if it is installed, and its Debian package. */
const TOOLS = [
  {
    name: "a C++20 compiler",
    package: "g++",
    there: () =>
      works(process.env.CXX ?? "g++", "-std=c++20", "-x", "c++", "-fsyntax-only", "/dev/null"),
  },
  { name: "make", package: "make", there: () => works(process.env.MAKE ?? "make", "--version") },
  {
    name: "python3",
    package: "python3",
    there: () =>
      works(process.env.PYTHON ?? process.env.npm_config_python ?? "python3", "--version"),
  },
];

const missing = TOOLS.filter(({ there }) => !there());
if (missing.length > 0) {
  const names = missing.map(({ name }) => name).join(", ");
  const packages = missing.map((tool) => tool.package).join(" ");
  console.error(`node-kvm: to build the addon, ${names} is missing: apt-get install ${packages}`);
  process.exit(1);
}
