/** This host's kernel and vendor module, read from files without opening the device. */
import { existsSync } from "node:fs";
import { release } from "node:os";

/** The modules that implement /dev/kvm on x86; kvm_pvm is an out-of-tree software implementation. */
const VENDOR_MODULES = ["kvm_intel", "kvm_amd", "kvm_pvm"] as const;

/** The name of a vendor module. */
export type VendorModule = (typeof VENDOR_MODULES)[number];

/**
 * Returns the name of the vendor module that is loaded or built in; `undefined` if there is none, or if this process may
 * not read /sys/module.
 */
export function vendorModule(): VendorModule | undefined {
  try {
    return VENDOR_MODULES.find((name) => existsSync(`/sys/module/${name}`));
  } catch {
    // With `node --permission`, existsSync() throws for a path that the process may not read.
    return undefined;
  }
}

/** Returns the running kernel's release: `6.12.95+deb13-amd64`. */
export function kernelRelease(): string {
  return release();
}

/**
 * Returns whether this is the process's main thread. The function loads node:worker_threads at its first call, because
 * loading this module takes 2 ms.
 */
export function isMainThread(): boolean {
  return process.getBuiltinModule("node:worker_threads").isMainThread;
}
