/** The features of the CPU that Linux uses. */
import { readFileSync } from "node:fs";

/**
 * Returns whether /proc/cpuinfo lists a CPU feature with this name. Linux lists only the features that it uses.
 */
export function hasCpuFlag(flag: string): boolean {
  const flags = /^flags\s*:(.*)/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "";
  return flags.split(" ").includes(flag);
}
