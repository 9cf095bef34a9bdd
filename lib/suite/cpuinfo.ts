/** Facts of the host in /proc and /sys: the features of the CPU that Linux uses, and a parameter of KVM. */
import { readFileSync } from "node:fs";

/**
 * Returns whether /proc/cpuinfo lists a CPU feature with this name. Linux lists only the features that it uses.
 */
export function hasCpuFlag(flag: string): boolean {
  const flags = /^flags\s*:(.*)/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "";
  return flags.split(" ").includes(flag);
}

/**
 * Returns the reason why this KVM may ignore accesses to MSRs that it refuses otherwise: the module parameter
 * kvm.ignore_msrs is on, or cannot be read; `undefined` if the parameter is off.
 */
export function ignoredMsrsReason(): string | undefined {
  let ignores: string;
  try {
    ignores = readFileSync("/sys/module/kvm/parameters/ignore_msrs", "utf8").trim();
  } catch {
    // `node --permission` may hide the parameter.
    return "the module parameter kvm.ignore_msrs cannot be read";
  }
  return ignores === "N" ? undefined : "the module parameter kvm.ignore_msrs is on";
}
