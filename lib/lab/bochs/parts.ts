/** The files that a boot in Bochs needs in addition to the kernel: the emulator and the PC's two BIOS images. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { unpackedPackage } from "../archive/debian-package.ts";
import type { LabCache } from "../cache/cache.ts";
import { LabError } from "../error.ts";

/** The paths of the emulator and of the BIOS images. */
export interface BochsParts {
  readonly program: string;
  readonly bios: string;
  readonly vgaBios: string;
}

/** The cache entry that `buildBochs` makes. The last number of its name is the number of changed places of the source. */
export const BUILT = { kind: "tools", name: "bochs-3.0-fixed-5", program: "bochs" } as const;

/** The packages of the BIOS images, and the paths of the images in these packages. */
const BIOS = { package: "bochsbios", path: "/usr/share/bochs/BIOS-bochs-latest" } as const;
const VGA_BIOS = { package: "vgabios", path: "/usr/share/vgabios/vgabios.bin" } as const;

/**
 * Finds the emulator and the BIOS images; images that are not installed are downloaded into the cache.
 *
 * @param program - the user's own emulator; by default `$NODE_KVM_BOCHS`, or the emulator in the cache.
 * @throws {@link LabError} `ERR_LAB_TOOL` if the emulator or a BIOS is missing; `ERR_LAB_DAMAGED` if the cache's
 *   emulator was changed.
 */
export async function findBochs(
  cache: LabCache,
  program?: string,
  signal?: AbortSignal,
): Promise<BochsParts> {
  return {
    program: await findProgram(cache, program),
    bios: await findImage(cache, BIOS, signal),
    vgaBios: await findImage(cache, VGA_BIOS, signal),
  };
}

async function findProgram(cache: LabCache, named: string | undefined): Promise<string> {
  const own = named ?? process.env["NODE_KVM_BOCHS"] ?? "";
  if (own !== "") {
    if (existsSync(own)) return own;
    throw new LabError("ERR_LAB_TOOL", `the emulator ${own} does not exist`);
  }
  const built = await cache.findIntact(BUILT.kind, BUILT.name);
  if (built === "damaged") {
    const sentence = `Bochs in the cache ${cache.root} is damaged`;
    throw new LabError("ERR_LAB_DAMAGED", `${sentence}; node-kvm lab build-bochs --rebuild`);
  }
  if (built !== undefined) return join(built.path, BUILT.program);
  const remedy =
    "build it into the cache: node-kvm lab build-bochs (two minutes), or name yours with --bochs";
  throw new LabError("ERR_LAB_TOOL", `Bochs is not on this machine; ${remedy}`);
}

async function findImage(
  cache: LabCache,
  image: { readonly package: string; readonly path: string },
  signal: AbortSignal | undefined,
): Promise<string> {
  if (existsSync(image.path)) return image.path;
  const path = join(await unpackedPackage(cache, image.package, signal), image.path);
  if (existsSync(path)) return path;
  const sentence = `the package ${image.package} of this machine's archive contains no ${image.path}`;
  throw new LabError("ERR_LAB_TOOL", sentence);
}
