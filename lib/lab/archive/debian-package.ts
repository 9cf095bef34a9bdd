/** Unpacks a Debian package with a tool of the lab into the cache, without installing the package. */
import { readdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { LabCache } from "../cache/cache.ts";
import { LabError } from "../error.ts";
import { runOk } from "../process/command.ts";

const KIND = "tools";

/**
 * Downloads a package with this machine's apt configuration if the cache does not contain it; returns the folder of its
 * files. A damaged copy in the cache is replaced.
 *
 * @throws {@link LabError} `ERR_LAB_TOOL` with the package's name, if it cannot be downloaded.
 */
export async function unpackedPackage(
  cache: LabCache,
  name: string,
  signal?: AbortSignal,
): Promise<string> {
  const place = await cache.writable();
  const isDamaged: LabCache[] = [];
  for (const each of new Set([cache, place])) {
    const kept = await each.findIntact(KIND, name);
    if (kept === "damaged") isDamaged.push(each);
    else if (kept !== undefined) return kept.path;
  }
  const fill = async (folder: string): Promise<Record<string, string>> => {
    await runOk("apt-get", ["download", "-qq", name], { cwd: folder, signal });
    const file = readdirSync(folder).find((each) => each.endsWith(".deb")) ?? "";
    await runOk("dpkg-deb", ["-x", file, "."], { cwd: folder, signal });
    await rm(join(folder, file));
    return { package: file };
  };
  try {
    const replace = isDamaged.includes(place);
    return (await place.build(KIND, name, fill, { signal, replace })).path;
  } catch (error) {
    if (!(error instanceof LabError) || error.code !== "ERR_LAB_TOOL") throw error;
    const sentence = `the package ${name} cannot be fetched; install it: apt-get install ${name}`;
    throw new LabError("ERR_LAB_TOOL", `${sentence} (${error.message})`, error);
  }
}
