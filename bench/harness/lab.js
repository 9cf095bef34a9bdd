// Runs the benchmarks in a lab kernel, for a host without KVM.
import { execFileSync, spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/**
 * The machine needs much memory and a long timeout, because a thousand VMs need a thousand MiB, and the emulated CPU is
 * slow.
 */
const MACHINE = ["--memory", "3072", "--timeout", "3600"];

/** @param {readonly string[]} words */
const quoted = (words) => words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");

/**
 * Runs `bench/main.js` in a machine of the lab.
 *
 * @param {{ kernel: string, cpu: string, folder: string, yardstick: string, json: string, args: readonly string[] }} options
 * @returns {number} its exit status
 */
export function runInLab({ kernel, cpu, folder, yardstick, json, args }) {
  const archive = join(folder, "bench.tar");
  execFileSync("tar", ["cf", archive, "-C", ROOT, "bench"]);
  const own = ["--yardstick", "/tmp/yardstick", "--json", "/tmp/bench.json", "--emulated"];
  const command = `tar xf /tmp/bench.tar && exec node bench/main.js ${quoted([...own, ...args])}`;
  const files = ["--file", `${archive}:/tmp/bench.tar`, "--file", `${yardstick}:/tmp/yardstick`];
  const { status } = spawnSync(
    process.execPath,
    [
      ...[join(ROOT, "dist/cli/main.js"), "lab", "exec", "--kernel", kernel, "--cpu", cpu],
      ...[...MACHINE, ...files, "--out", `/tmp/bench.json:${json}`],
      ...["--", "sh", "-c", command],
    ],
    { stdio: ["ignore", "inherit", "inherit"] },
  );
  return status ?? 1;
}
