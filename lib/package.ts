/** The folder of the installed package. The files that the lab copies into a machine are lab/installation.ts. */
import { createRequire } from "node:module";
import { dirname } from "node:path";

/** Returns the folder of package.json, independent of where the build puts this code. */
export function packageFolder(): string {
  return dirname(createRequire(import.meta.url).resolve("node-kvm/package.json"));
}
