// Measures the time that the package adds to the start of a Node process.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { over } from "./harness/limits.js";

const addon = fileURLToPath(new URL("../build/Release/node_kvm.node", import.meta.url));
const FOLDER = fileURLToPath(new URL(".", import.meta.url));

/** Starts a Node process that runs a module, and waits until it exits. @param {string} source */
const started = (source) => () => (n) => {
  for (let i = 0; i < n; i++) {
    // The process runs in this folder, where `node-kvm` resolves to this package.
    const args = ["--input-type=module", "--eval", source];
    const { status, stderr } = spawnSync(process.execPath, args, { cwd: FOLDER });
    if (status !== 0) throw new Error(String(stderr));
  }
  return n;
};

export const question = {
  name: "addon-load",
  asks: "What does the package add to Node's start?",
  operations: 1,
  rows: [
    { what: "node, an empty module", start: started("") },
    {
      what: "the addon alone",
      start: started(
        `import { createRequire } from "node:module"; createRequire("/")(${JSON.stringify(addon)});`,
      ),
      limit: over(5e6),
    },
    { what: 'import "node-kvm"', start: started('import "node-kvm";'), limit: over(20e6) },
    {
      what: 'import "node-kvm", Kvm.open()',
      start: started('import { Kvm } from "node-kvm"; Kvm.open();'),
      against: 'import "node-kvm"',
      limit: over(5e6),
    },
  ],
};
