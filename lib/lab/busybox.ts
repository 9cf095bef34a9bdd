/** A busybox that needs no libraries: the machine's own, or Debian's, fetched into the cache. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { LabCache } from "./cache.ts";
import { runOk } from "./command.ts";
import { LabError } from "./error.ts";

const PLACES = ["/bin/busybox", "/usr/bin/busybox"];
const KIND = "tools";
const PACKAGE = "busybox-static";

/**
 * Finds a static busybox, or fetches one as the machine's apt is set up; nothing is installed.
 *
 * @throws {@link LabError} `ERR_LAB_TOOL` when it can't be had either way.
 */
export async function findBusybox(cache: LabCache, signal?: AbortSignal): Promise<string> {
  const own = PLACES.find((path) => existsSync(path) && isStatic(readFileSync(path)));
  if (own !== undefined) return own;
  const kept = await cache.find(KIND, PACKAGE);
  const entry =
    kept ?? (await cache.build(KIND, PACKAGE, (folder) => fetch(folder, signal), { signal }));
  const fetched = PLACES.map((path) => join(entry.path, path)).find((path) => existsSync(path));
  if (fetched !== undefined) return fetched;
  throw missing(`${entry.path} holds none`);
}

async function fetch(folder: string, signal?: AbortSignal): Promise<Record<string, string>> {
  try {
    await runOk("apt-get", ["download", "-qq", PACKAGE], { cwd: folder, signal });
    const file = readdirSync(folder).find((name) => name.endsWith(".deb")) ?? "";
    await runOk("dpkg-deb", ["-x", file, "."], { cwd: folder, signal });
    await rm(join(folder, file));
    return { package: file };
  } catch (error) {
    if (!(error instanceof LabError) || error.code !== "ERR_LAB_TOOL") throw error;
    throw missing(error.message, error);
  }
}

function missing(why: string, cause?: unknown): LabError {
  const remedy = `install it: apt-get install ${PACKAGE}`;
  return new LabError(
    "ERR_LAB_TOOL",
    `no static busybox is on this machine; ${remedy} (${why})`,
    cause,
  );
}

/** Whether an ELF program asks for no interpreter: none of its program headers is PT_INTERP. */
export function isStatic(elf: Buffer): boolean {
  const [offset, size, count] = [
    Number(elf.readBigUInt64LE(32)),
    elf.readUInt16LE(54),
    elf.readUInt16LE(56),
  ];
  return Array.from({ length: count }, (_, i) => elf.readUInt32LE(offset + i * size)).every(
    (type) => type !== PT_INTERP,
  );
}

const PT_INTERP = 3;
