/** Tests of `lab cache`: listing and removing entries. */
import { existsSync, mkdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { CommandError } from "../../../lib/cli/failure.ts";
import { labCache, printUsage } from "../../../lib/cli/lab-cache.ts";
import { LabCache } from "../../../lib/lab/cache/cache.ts";
import { pruneCache, surveyCache } from "../../../lib/lab/cache/usage.ts";
import { temporaryFolder } from "../lab/temporary.ts";

let cache = new LabCache("/nonexistent");
let stdout = "";
let stderr = "";
beforeEach(async () => {
  cache = new LabCache(join(temporaryFolder(), "cache"));
  vi.stubEnv("NODE_KVM_CACHE", cache.root);
  stdout = "";
  stderr = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    stdout += String(text);
    return true;
  });
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    stderr += String(text);
    return true;
  });
  // The entries were last used in the order b, a, c.
  await put("kernels", "a", 2000);
  await put("tools", "b", 1000);
  await put("guests", "c", 3000);
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

/** Builds an entry of one MB that was last used at this number of seconds after 1970. */
async function put(kind: string, name: string, used: number): Promise<void> {
  const fill = async (folder: string): Promise<Record<string, string>> => {
    writeFileSync(join(folder, "file"), Buffer.alloc(1_000_000, name));
    return {};
  };
  const { path } = await cache.build(kind, name, fill);
  utimesSync(join(path, "manifest.json"), used, used);
}

const left = async (): Promise<readonly string[]> =>
  (await surveyCache(cache)).entries.map(({ kind, name }) => `${kind}/${name}`);

describe("node-kvm lab cache", () => {
  test("lists each entry with its size and its last use, in the order of the last use", async () => {
    expect(await labCache()).toBe(0);
    const rows = stdout.split("\n");
    expect(rows.map((row) => row.split(/ {2,}/)[0])).toEqual([
      "entry",
      "tools/b",
      "kernels/a",
      "guests/c",
      "",
      expect.stringMatching(
        /^3 entries: 3\.\d MB; the archive's lists and unfinished downloads: 0\.0 MB$/,
      ),
      `in ${cache.root}`,
      "",
    ]);
    expect(rows[1]).toMatch(/ {3}1\.0 MB {2}1970-01-01T00:16Z$/);
  });

  test("reports a missing cache as empty", async () => {
    rmSync(cache.root, { recursive: true });
    expect(await labCache()).toBe(0);
    expect(stdout).toContain("0 entries: 0.0 MB");
    expect(existsSync(cache.root)).toBe(false);
  });

  test("ends with status 1 if an entry is damaged, and names the damaged file", async () => {
    const path = join(cache.root, "kernels/a/file");
    writeFileSync(path, Buffer.alloc(1_000_000, "x"));
    expect(await labCache()).toBe(0);
    expect(await labCache({ verify: true })).toBe(1);
    expect(stdout).toContain(`${path} is damaged: it has another checksum`);
  });

  test("removes the least recently used entries until the cache has at most the requested size", async () => {
    expect(await labCache({ prune: 2 })).toBe(0);
    expect(await left()).toEqual(["guests/c"]);
    expect(stderr).toMatch(/^removed tools\/b \(1\.0 MB\)\nremoved kernels\/a \(1\.0 MB\)\n/);
  });

  test("reports that no saved machine and no kernel is left, and that the next command must boot or download again", async () => {
    await put("snapshots", "d", 100);
    expect(await labCache({ prune: 2 })).toBe(0);
    expect(stderr.split("\n").slice(-3)).toEqual([
      "no saved machine is left: the next lab run boots and saves each kernel again",
      "no kernel is left: the next command that needs one downloads it again",
      "",
    ]);
  });

  test("does not report a removal of saved machines while some saved machines remain", async () => {
    await put("snapshots", "d", 100);
    await put("snapshots", "e", 5000);
    expect(await labCache({ prune: 4 })).toBe(0);
    expect(stderr).toContain("removed snapshots/d");
    expect(stderr).not.toContain("is left");
  });

  test.each([40, 80, 200])(
    "prints a table of %i columns, with a long name on a separate line",
    async (width) => {
      await put("snapshots", `own_${"x".repeat(60)}-0123456789abcdef`, 100);
      writeFileSync(join(cache.root, "kernels/a/file"), Buffer.alloc(1_000_000, "x"));
      const lines = printUsage({ ...(await surveyCache(cache)), root: "/c" }, width).split("\n");
      const isName = (line: string): boolean => line.startsWith("snapshots/");
      expect(lines.filter((line) => line.length > width && !isName(line))).toEqual([]);
      expect(lines.join("\n")).toContain("0.0 MB");
    },
  );

  test("removes nothing if the cache is already small enough", async () => {
    expect(await pruneCache(cache, 1e9)).toEqual([]);
    expect(await left()).toHaveLength(3);
  });

  test("records a use of each entry that --verify reads, but not of entries that are only listed", async () => {
    const entry = await cache.find("tools", "b");
    await labCache({ verify: true });
    expect((await left())[0]).toBe("tools/b");
    if (entry === undefined) throw new Error("tools/b is gone");
    await cache.verify(entry);
    expect((await left())[2]).toBe("tools/b");
  });

  test("removes all entries and temporary files of the lab, and no other file", async () => {
    for (const name of ["apt/lists", "downloads/6.1", "kernels/my-notes", "my-thesis/part"]) {
      mkdirSync(join(cache.root, name), { recursive: true });
    }
    writeFileSync(join(cache.root, "catalogue.json"), "{}");
    expect(await labCache({ empty: true })).toBe(0);
    expect(await left()).toEqual([]);
    const gone = ["apt", "downloads", "catalogue.json"].map((name) => join(cache.root, name));
    expect(gone.filter((path) => existsSync(path))).toEqual([]);
    const kept = ["kernels/my-notes", "my-thesis/part"].map((name) => join(cache.root, name));
    expect(kept.filter((path) => !existsSync(path))).toEqual([]);
  });

  test("rejects two options that exclude each other, and a cache that it cannot read", async () => {
    await expect(labCache({ prune: 1, empty: true })).rejects.toThrow(CommandError);
    expect(await left()).toHaveLength(3);
    vi.stubEnv("NODE_KVM_CACHE", join(cache.root, "kernels/a/file"));
    await expect(labCache()).rejects.toThrow(/cannot be read \(ENOTDIR\)/);
  });

  test("keeps the files of other programs, both in the lab's folder and in a folder that the lab did not create", async () => {
    const manifest = JSON.stringify({ name: "an extension", manifest_version: 3 });
    const strange = join(temporaryFolder(), "strange");
    const own = [join(strange, "downloads/thesis.pdf"), join(strange, "projects/x/manifest.json")];
    own.push(join(cache.root, "projects/x/manifest.json"), join(cache.root, "locks/door.lock"));
    for (const path of own) {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, path.endsWith(".json") ? manifest : "");
    }
    expect(await labCache({ empty: true })).toBe(0);
    vi.stubEnv("NODE_KVM_CACHE", strange);
    expect(await labCache({ empty: true })).toBe(0);
    expect(own.filter((path) => !existsSync(path))).toEqual([]);
  });

  test("ends at SIGINT while it waits for the lock of the cache", async () => {
    await using _lock = await cache.lock("archive");
    const ended = labCache({ empty: true });
    // The command now waits for the lock, and the process has a SIGINT handler of the lab.
    await vi.waitUntil(() => process.listenerCount("SIGINT") > 0);
    process.emit("SIGINT");
    await expect(ended).rejects.toMatchObject({ code: "ERR_LAB_INTERRUPTED" });
    expect(await left()).toHaveLength(3);
  });
});
