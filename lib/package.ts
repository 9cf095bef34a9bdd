/** This package as it is installed: where it lies. What of it goes to the lab is lab/installation.ts. */
import { createRequire } from "node:module";
import { dirname } from "node:path";

/** The folder of package.json, wherever the build has put this code. */
export function packageFolder(): string {
  return dirname(createRequire(import.meta.url).resolve("node-kvm/package.json"));
}
