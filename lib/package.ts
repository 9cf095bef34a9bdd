/**
 * The folder of the installed package, and the addon in it. The files that the lab copies into a machine are
 * lab/machine/installation.ts.
 */
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

/** Returns the folder of package.json, independent of where the build puts this code. */
export function packageFolder(): string {
  return dirname(createRequire(import.meta.url).resolve("node-kvm/package.json"));
}

/** Returns the C library of this process. Only one file at a time can be right: each needs its own C library. */
export function cLibrary(): "glibc" | "musl" {
  try {
    return readFileSync("/proc/self/maps", "latin1").includes("/ld-musl-") ? "musl" : "glibc";
  } catch {
    return "glibc"; // without /proc
  }
}

/** Lists where the addon of this process may be, below {@link packageFolder}; the first file that exists is used. */
export function addonPlaces(): readonly string[] {
  const target = cLibrary() === "musl" ? "linuxmusl-x64" : "linux-x64";
  return ["build/Release/node_kvm.node", `prebuilds/${target}/node_kvm.node`];
}

/** Returns the first of {@link addonPlaces} that exists, below {@link packageFolder}. */
export function addonPlace(): string | undefined {
  const folder = packageFolder();
  return addonPlaces().find((place) => existsSync(join(folder, place)));
}
