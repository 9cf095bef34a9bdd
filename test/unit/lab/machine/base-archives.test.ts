/** Tests of reproducible entries of the cache: a damaged entry is never used. */
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { unpackedPackage } from "../../../../lib/lab/archive/debian-package.ts";
import { BUILT, findBochs } from "../../../../lib/lab/bochs/parts.ts";
import { LabCache } from "../../../../lib/lab/cache/cache.ts";
import { LabError } from "../../../../lib/lab/error.ts";
import { baseArchives } from "../../../../lib/lab/machine/guest.ts";
import { temporaryFolder } from "../temporary.ts";

afterEach(() => vi.unstubAllEnvs());

const hashOf = (path: string): string =>
  createHash("sha256").update(readFileSync(path)).digest("hex");

/** Changes one byte in the middle of a file. */
function damage(path: string): void {
  const bytes = readFileSync(path);
  bytes.writeUInt8(bytes.readUInt8(bytes.length >> 1) ^ 1, bytes.length >> 1);
  writeFileSync(path, bytes);
}

const newCache = (): LabCache => new LabCache(join(temporaryFolder(), "cache"));

test("an archive for the guest is built again if it was changed in the cache", async ({ skip }) => {
  const cache = newCache();
  const paths = await baseArchives(cache).catch((error: unknown) => {
    if (error instanceof LabError) return skip(error.message);
    throw error;
  });
  const before = paths.map(hashOf);
  for (const path of paths) damage(path);
  expect(await baseArchives(cache)).toEqual(paths);
  expect(paths.map(hashOf)).toEqual(before);
}, 120_000);

test("a tool for the guest is downloaded again if it was changed in the cache", async () => {
  const cache = newCache();
  const bin = temporaryFolder();
  for (const [name, script] of [
    ["apt-get", 'echo x >"$3_1_amd64.deb"'],
    ["dpkg-deb", 'mkdir -p "$3/bin"; echo program >"$3/bin/tool"'],
  ] as const) {
    writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(bin, name), 0o755);
  }
  vi.stubEnv("PATH", `${bin}:${process.env["PATH"]}`);
  const path = join(await unpackedPackage(cache, "a-tool"), "bin/tool");
  damage(path);
  expect(join(await unpackedPackage(cache, "a-tool"), "bin/tool")).toBe(path);
  expect(readFileSync(path, "utf8")).toBe("program\n");
});

test("a Bochs program is not started if it was changed in the cache", async () => {
  vi.stubEnv("NODE_KVM_BOCHS", "");
  const cache = newCache();
  const fill = async (folder: string): Promise<Record<string, string>> => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "bochs"), "a program");
    return {};
  };
  const { path } = await cache.build(BUILT.kind, BUILT.name, fill);
  damage(join(path, "bochs"));
  expect(existsSync(join(path, "bochs"))).toBe(true);
  await expect(findBochs(cache)).rejects.toMatchObject({
    code: "ERR_LAB_DAMAGED",
    message: expect.stringContaining("node-kvm lab build-bochs --rebuild"),
  });
});
