/**
 * The folder of the installed package, and the addon in it. lab/machine/installation.ts lists the files that the lab
 * copies into a machine.
 */
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

/** Returns the folder of package.json, independent of where the build puts this code. */
export function packageFolder(): string {
  return dirname(createRequire(import.meta.url).resolve("node-kvm/package.json"));
}

/**
 * Returns the C library of this process. The package has an addon for each C library, and a process can load only the
 * addon for its own C library.
 */
export function cLibrary(): "glibc" | "musl" {
  try {
    return readFileSync("/proc/self/maps", "latin1").includes("/ld-musl-") ? "musl" : "glibc";
  } catch {
    return "glibc"; // without /proc
  }
}

/**
 * Lists the possible paths of this process's addon below {@link packageFolder}. The first file that exists is loaded.
 */
export function addonPlaces(): readonly string[] {
  const target = cLibrary() === "musl" ? "linuxmusl-x64" : "linux-x64";
  return ["build/Release/node_kvm.node", `prebuilds/${target}/node_kvm.node`];
}

/** Returns the first of {@link addonPlaces} that exists, below {@link packageFolder}. */
export function addonPlace(): string | undefined {
  const folder = packageFolder();
  return addonPlaces().find((place) => existsSync(join(folder, place)));
}
