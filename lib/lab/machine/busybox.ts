/** A busybox that needs no libraries: the machine's own, or Debian's, fetched into the cache. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { unpackedPackage } from "../archive/debian-package.ts";
import type { LabCache } from "../cache/cache.ts";
import { LabError } from "../error.ts";

const PLACES = ["/bin/busybox", "/usr/bin/busybox"];
const PACKAGE = "busybox-static";

/**
 * Finds a static busybox, or fetches one as the machine's apt is set up; nothing is installed.
 *
 * @throws {@link LabError} `ERR_LAB_TOOL` when it can't be had either way.
 */
export async function findBusybox(cache: LabCache, signal?: AbortSignal): Promise<string> {
  const own = PLACES.find((path) => existsSync(path) && isStatic(readFileSync(path)));
  if (own !== undefined) return own;
  const root = await unpackedPackage(cache, PACKAGE, signal);
  const fetched = PLACES.map((path) => join(root, path)).find((path) => existsSync(path));
  if (fetched !== undefined) return fetched;
  throw new LabError("ERR_LAB_TOOL", `the package ${PACKAGE} holds no busybox: ${root}`);
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
