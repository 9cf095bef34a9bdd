/** Which kernel and which vendor module this host has, as its files say; the device is not asked. */
import { existsSync } from "node:fs";
import { release } from "node:os";

/** The modules that can stand behind /dev/kvm on x86; kvm_pvm is a software one, out of tree. */
const VENDOR_MODULES = ["kvm_intel", "kvm_amd", "kvm_pvm"] as const;

/** The name of a vendor module. */
export type VendorModule = (typeof VENDOR_MODULES)[number];

/** Names the vendor module that is loaded or built in; `undefined` when there is none. */
export function vendorModule(): VendorModule | undefined {
  return VENDOR_MODULES.find((name) => existsSync(`/sys/module/${name}`));
}

/** The running kernel's release: `6.12.95+deb13-amd64`. */
export function kernelRelease(): string {
  return release();
}
