/** Tests of the lab's cache: an entry exists completely or not at all. */
import { execFileSync, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { userInfo } from "node:os";
import { join, resolve } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { type CacheEntry, LabCache, lastUse } from "../../../../lib/lab/cache/cache.ts";
import { isAbandoned, ownMark } from "../../../../lib/lab/cache/owner.ts";
import { temporaryFolder } from "../temporary.ts";
import { tinyDisk } from "./tiny-disk.ts";

// Some tests start a dozen processes, which are slower on a loaded machine.
vi.setConfig({ testTimeout: 60_000 });
afterEach(() => vi.unstubAllEnvs());

const newCache = (): LabCache => new LabCache(join(temporaryFolder(), "cache"));

/** Builds an entry with one file in the entry's folder. */
function build(cache: LabCache, content: string, replace = false): Promise<CacheEntry> {
  const fill = async (folder: string): Promise<Record<string, string>> => {
    mkdirSync(join(folder, "modules"));
    writeFileSync(join(folder, "modules", "kvm.ko"), content);
    return { version: "1" };
  };
  return cache.build("kernels", "6.1", fill, { replace });
}

const content = (entry: CacheEntry): string =>
  readFileSync(join(entry.path, "modules", "kvm.ko"), "utf8");

const left = (cache: LabCache): readonly string[] => readdirSync(join(cache.root, "building"));

const isRoot = process.geteuid?.() === 0;

/** Runs a function as a user to whom file modes apply: root changes to the user `nobody`. */
async function asUser<T>(work: () => Promise<T>): Promise<T> {
  if (!isRoot) return work();
  process.seteuid?.(65_534);
  try {
    return await work();
  } finally {
    process.seteuid?.(0);
  }
}

/** Returns the error with which a promise is rejected. */
const swallow = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  );

/** Returns the mark of a process that has ended: the process id, the start time and the PID namespace. */
async function deadMark(): Promise<string> {
  const child = spawn("sleep", ["60"]);
  await once(child, "spawn");
  const [, , space = ""] = ownMark().split("-");
  const stat = readFileSync(`/proc/${child.pid}/stat`, "latin1");
  child.kill();
  await once(child, "close");
  return `${child.pid}-${stat.split(" ")[21]}-${space}`;
}

describe("the path of the lab's cache", () => {
  test.each([
    [{ NODE_KVM_CACHE: "/a", XDG_CACHE_HOME: "/b", HOME: "/c" }, "/a"],
    [{ NODE_KVM_CACHE: "", XDG_CACHE_HOME: "/b", HOME: "/c" }, "/b/node-kvm"],
    [{ NODE_KVM_CACHE: "", XDG_CACHE_HOME: "", HOME: "/c" }, "/c/.cache/node-kvm"],
    [{ NODE_KVM_CACHE: "", XDG_CACHE_HOME: "relative", HOME: "/c" }, "/c/.cache/node-kvm"],
    [{ NODE_KVM_CACHE: "a/b", XDG_CACHE_HOME: "", HOME: "/c" }, resolve("a/b")],
    [
      { NODE_KVM_CACHE: "", XDG_CACHE_HOME: "", HOME: "" },
      join(userInfo().homedir, ".cache", "node-kvm"),
    ],
  ])("with the environment %o is %s", (environment, root) => {
    for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
    expect(LabCache.default().root).toBe(root);
  });

  test.each(["/a\nb", "/a\u0007b"])("cannot be %j, which has a control character", (root) => {
    expect(() => new LabCache(root)).toThrow(
      expect.objectContaining({
        code: "ERR_LAB_CACHE",
        message: expect.stringContaining(JSON.stringify(root)),
      }),
    );
  });

  test("may contain quotes", async () => {
    const cache = new LabCache(join(temporaryFolder(), `it's a "cache"`));
    await cache.verify(await build(cache, "1"));
    expect(await cache.names("kernels")).toEqual(["6.1"]);
  });
});

describe("an entry of the lab's cache", () => {
  test("is found with its size and the properties that its builder stored", async () => {
    const cache = newCache();
    const built = await build(cache, "12345");
    const path = join(cache.root, "kernels", "6.1");
    const about = { version: "1" };
    expect(built).toEqual({ kind: "kernels", name: "6.1", path, bytes: 5, about });
    expect(await cache.find("kernels", "6.1")).toEqual(built);
    expect(await cache.names("kernels")).toEqual(["6.1"]);
    expect(await cache.size()).toEqual({ bytes: 5, entries: [built] });
    await expect(cache.verify(built)).resolves.toBeUndefined();
  });

  test("that was never built is undefined", async () => {
    expect(await newCache().find("kernels", "6.1")).toBeUndefined();
  });

  test("is not found after its removal", async () => {
    const cache = newCache();
    await build(cache, "1");
    await cache.remove("kernels", "6.1");
    expect(await cache.find("kernels", "6.1")).toBeUndefined();
    expect(left(cache)).toEqual([]);
  });

  test("that exists is not built again", async () => {
    const cache = newCache();
    await build(cache, "first");
    expect(content(await build(cache, "second"))).toBe("first");
    expect(left(cache)).toEqual([]);
  });

  test("is built again on request", async () => {
    const cache = newCache();
    await build(cache, "first");
    expect(content(await build(cache, "second", true))).toBe("second");
    expect(left(cache)).toEqual([]);
  });

  test("is complete when two processes build it at the same time", async () => {
    const cache = newCache();
    const both = await Promise.all([build(cache, "same"), build(cache, "same")]);
    expect(both.map(content)).toEqual(["same", "same"]);
    expect(left(cache)).toEqual([]);
  });

  test.each(["../up", ".hidden", "a/b", "", "-x"])("cannot have the name %j", async (name) => {
    await expect(newCache().find("kernels", name)).rejects.toMatchObject({ code: "ERR_LAB_CACHE" });
  });
});

describe("the folder of the lab's cache", () => {
  test("and all folders inside can be accessed only by the owner", async () => {
    const cache = newCache();
    await build(cache, "1");
    await using scratch = await cache.scratch();
    await cache.folder("downloads", "6.1");
    const folders = ["", "kernels", "kernels/6.1", "building", "downloads", "downloads/6.1"];
    const modes = [...folders.map((name) => join(cache.root, name)), scratch.path].map(
      (path) => statSync(path).mode & 0o777,
    );
    expect(new Set(modes)).toEqual(new Set([0o700]));
  });

  test.skipIf(!isRoot)(
    "of another user is rejected by root (skipped if the tests do not run as root)",
    async () => {
      const cache = newCache();
      const entry = await build(cache, "1");
      chownSync(cache.root, 1234, 1234);
      const refused = {
        code: "ERR_LAB_CACHE",
        message: expect.stringMatching(
          /belongs to user 1234: root does not use it; .*NODE_KVM_CACHE/,
        ),
      };
      await expect(cache.find("kernels", "6.1")).rejects.toMatchObject(refused);
      await expect(cache.names("kernels")).rejects.toMatchObject(refused);
      await expect(cache.scratch()).rejects.toMatchObject(refused);
      await expect(build(cache, "2")).rejects.toMatchObject(refused);
      chownSync(cache.root, 0, 0);
      expect(content(entry)).toBe("1");
    },
  );

  test.skipIf(!isRoot).each([0o777, 0o1777, 0o720])(
    "with mode %i, which other users can write, is rejected by root (skipped if the tests do not run as root)",
    async (mode) => {
      const cache = newCache();
      await build(cache, "1");
      chmodSync(cache.root, mode);
      await expect(cache.find("kernels", "6.1")).rejects.toMatchObject({
        code: "ERR_LAB_CACHE",
        message: expect.stringContaining(`chmod go-w ${cache.root}`),
      });
    },
  );

  test("cannot be a file, and the error names the file", async () => {
    const file = join(temporaryFolder(), "file");
    writeFileSync(file, "");
    await expect(new LabCache(file).names("kernels")).rejects.toMatchObject({
      code: "ERR_LAB_CACHE",
      message: expect.stringContaining("cannot be read (ENOTDIR)"),
    });
  });

  test("is named by the error if it cannot be read", async () => {
    const cache = newCache();
    await build(cache, "1");
    chmodSync(cache.root, 0);
    const read = asUser(() =>
      Promise.all([swallow(cache.names("kernels")), swallow(cache.find("kernels", "6.1"))]),
    );
    expect(await read).toEqual([
      expect.objectContaining({ message: expect.stringContaining("cannot be read (EACCES)") }),
      expect.objectContaining({ message: expect.stringContaining("cannot be read (EACCES)") }),
    ]);
    chmodSync(cache.root, 0o700);
  });
});

describe("a read-only cache of the lab", () => {
  /** Creates a cache that the user of this test can only read, and a folder for temporary files. */
  async function readOnly(): Promise<LabCache> {
    const folder = temporaryFolder();
    mkdirSync(join(folder, "tmp"));
    for (const path of [folder, join(folder, "tmp")]) chmodSync(path, 0o777);
    const cache = new LabCache(join(folder, "cache"), join(folder, "tmp"));
    await build(cache, "a kernel");
    execFileSync("chmod", ["-R", "a=rX", cache.root]);
    return cache;
  }

  const spareOf = ({ root }: LabCache): string =>
    join(root, `../tmp/node-kvm-${process.geteuid?.()}`);

  test("returns its entries, and creates temporary folders outside of the cache", async () => {
    const cache = await readOnly();
    await asUser(async () => {
      const entry = await cache.find("kernels", "6.1");
      expect(entry?.bytes).toBe(8);
      if (entry !== undefined) await cache.verify(entry);
      await using scratch = await cache.scratch();
      writeFileSync(join(scratch.path, "file"), "");
      const { root } = await cache.writable();
      expect(scratch.path.startsWith(`${root}/building/`)).toBe(true);
      expect(root).toBe(spareOf(cache));
      expect(statSync(root).mode & 0o777).toBe(0o700);
    });
  });

  test("has no temporary files in a folder to which other users can write", async () => {
    const cache = await readOnly();
    await asUser(async () => {
      const spare = spareOf(cache);
      mkdirSync(spare);
      chmodSync(spare, 0o777);
      await expect(cache.scratch()).rejects.toMatchObject({
        code: "ERR_LAB_CACHE",
        message: expect.stringContaining("other users can access"),
      });
    });
  });

  test("causes an error when a kernel must be stored", async () => {
    const cache = await readOnly();
    const fill = (): Promise<Record<string, string>> => Promise.resolve({});
    expect(await asUser(() => swallow(cache.build("kernels", "6.2", fill)))).toMatchObject({
      code: "ERR_LAB_CACHE",
      message: expect.stringMatching(/cannot be written \(EACCES\); .*NODE_KVM_CACHE/),
    });
  });
});

describe("a failed build of a cache entry", () => {
  test("leaves no file, and the error has the reason", async () => {
    const cache = newCache();
    const fill = async (folder: string): Promise<Record<string, string>> => {
      writeFileSync(join(folder, "half"), "written");
      throw new Error("the cable was pulled");
    };
    await expect(cache.build("kernels", "6.1", fill)).rejects.toThrow("the cable was pulled");
    expect([await cache.find("kernels", "6.1"), left(cache)]).toEqual([undefined, []]);
  });

  test("keeps the old entry", async () => {
    const cache = newCache();
    await build(cache, "old");
    const fill = (): Promise<Record<string, string>> => Promise.reject(new Error("no"));
    await expect(cache.build("kernels", "6.1", fill, { replace: true })).rejects.toThrow("no");
    expect(await cache.find("kernels", "6.1").then((entry) => entry && content(entry))).toBe("old");
  });

  test("leaves no file if the build was interrupted", async () => {
    const cache = newCache();
    const controller = new AbortController();
    const fill = async (folder: string): Promise<Record<string, string>> => {
      writeFileSync(join(folder, "whole"), "file");
      controller.abort();
      return {};
    };
    const built = cache.build("kernels", "6.1", fill, { signal: controller.signal });
    await expect(built).rejects.toMatchObject({ code: "ERR_LAB_INTERRUPTED" });
    expect([await cache.names("kernels"), left(cache)]).toEqual([[], []]);
  });

  test("leaves no file if the disk is full, and the error has the remedy", async ({ skip }) => {
    const cache = new LabCache(tinyDisk(64, skip));
    await expect(build(cache, "x".repeat(100_000))).rejects.toMatchObject({
      code: "ERR_LAB_DISK_FULL",
      message: expect.stringMatching(/the disk is full.*NODE_KVM_CACHE/),
    });
    expect([await cache.names("kernels"), left(cache)]).toEqual([[], []]);
  });

  test("fails with the name of the folder if a folder is not writable", async () => {
    const file = join(temporaryFolder(), "file");
    writeFileSync(file, "");
    await expect(build(new LabCache(join(file, "cache")), "")).rejects.toMatchObject({
      code: "ERR_LAB_CACHE",
      message: expect.stringContaining(join(file, "cache")),
    });
  });
});

describe("a damaged entry of the lab's cache", () => {
  test.each([
    ["is missing", (path: string) => rmSync(path)],
    ["has 2 bytes instead of 5", (path: string) => truncateSync(path, 2)],
    ["has another checksum", (path: string) => writeFileSync(path, "12346")],
  ])("is reported with the file that %s", async (how, damage) => {
    const cache = newCache();
    const entry = await build(cache, "12345");
    const path = join(entry.path, "modules", "kvm.ko");
    damage(path);
    await expect(cache.verify(entry)).rejects.toMatchObject({
      code: "ERR_LAB_DAMAGED",
      message: `${path} is damaged: it ${how}`,
    });
  });

  test.each([
    ["cut short", '{"format": 1, "fil'],
    ["of another kind", "[]"],
    ["of another format", '{"format": 2, "about": {}, "files": {}}'],
    ["empty", ""],
  ])("is reported if its manifest is %s", async (_, text) => {
    const cache = newCache();
    const { path } = await build(cache, "1");
    writeFileSync(join(path, "manifest.json"), text);
    await expect(cache.find("kernels", "6.1")).rejects.toMatchObject({
      code: "ERR_LAB_DAMAGED",
      message: expect.stringContaining(join(path, "manifest.json")),
    });
    expect(await cache.size()).toEqual({ bytes: 0, entries: [] });
  });

  test("whose manifest is missing counts as damaged, and not as absent", async () => {
    const cache = newCache();
    const { path } = await build(cache, "1");
    rmSync(join(path, "manifest.json"));
    await expect(cache.find("kernels", "6.1")).rejects.toMatchObject({ code: "ERR_LAB_DAMAGED" });
  });

  test("is replaced by a new build", async () => {
    const cache = newCache();
    const { path } = await build(cache, "old");
    writeFileSync(join(path, "manifest.json"), "");
    expect(content(await build(cache, "new", true))).toBe("new");
  });
});

describe("a change of a verified cache entry", () => {
  test("is detected by the same process", async () => {
    const cache = newCache();
    const entry = await build(cache, "12345");
    await cache.verify(entry);
    const path = join(entry.path, "modules", "kvm.ko");
    const { atime, mtime } = statSync(path);
    writeFileSync(path, "12346");
    utimesSync(path, atime, mtime);
    await expect(cache.verify(entry)).rejects.toMatchObject({ code: "ERR_LAB_DAMAGED" });
  });

  test("is detected if a file was replaced by a link to another file", async () => {
    const cache = newCache();
    const fill = async (folder: string): Promise<Record<string, string>> => {
      writeFileSync(join(folder, "real"), "1");
      symlinkSync("real", join(folder, "link"));
      return {};
    };
    const entry = await cache.build("tools", "t", fill);
    await cache.verify(entry);
    rmSync(join(entry.path, "link"));
    symlinkSync("/etc/passwd", join(entry.path, "link"));
    await expect(cache.verify(entry)).rejects.toThrow("link is damaged: it does not link to real");
  });

  test("is detected if a file was added", async () => {
    const cache = newCache();
    const entry = await build(cache, "1");
    await cache.verify(entry);
    writeFileSync(join(entry.path, "modules", "more.ko"), "");
    await expect(cache.verify(entry)).rejects.toThrow(
      "more.ko is damaged: it was not in the entry",
    );
  });
});

test("the verification of a cache entry records a use of the entry", async () => {
  const cache = newCache();
  const entry = await build(cache, "1");
  utimesSync(join(entry.path, "manifest.json"), 1000, 1000);
  expect(await lastUse(entry.path)).toEqual(new Date(1_000_000));
  await cache.verify(entry);
  expect(Date.now() - Number(await lastUse(entry.path))).toBeLessThan(60_000);
});

describe("the temporary files of a dead process in the lab's cache", () => {
  test("are removed by the next process that builds an entry", async () => {
    const cache = newCache();
    const remains = await cache.folder("building", `${await deadMark()}.${randomUUID()}`);
    await build(cache, "1");
    expect(existsSync(remains)).toBe(false);
  });

  test("are distinguished from the files of other programs, even if these files are old", async () => {
    const cache = newCache();
    const names = ["my-thesis", `${await deadMark()}.x`, "1-1-1", "a.b", `x-1-1.${randomUUID()}`];
    const paths = await Promise.all(names.map((name) => cache.folder("building", name)));
    for (const path of paths) utimesSync(path, 1000, 1000);
    await build(cache, "1");
    expect(paths.filter((path) => !existsSync(path))).toEqual([]);
  });

  test("include lock files, and the next process that builds an entry removes these too", async () => {
    const cache = newCache();
    writeFileSync(join(await cache.folder("locks"), "archive"), "");
    await using _lock = await cache.lock("held");
    await build(cache, "1");
    expect(readdirSync(join(cache.root, "locks"))).toEqual(["held"]);
  });

  test("are distinguished from the temporary files of a running process", async () => {
    const cache = newCache();
    await using scratch = await cache.scratch();
    await build(cache, "1");
    expect(existsSync(scratch.path)).toBe(true);
  });

  test("do not count as locks of running processes", async () => {
    const cache = newCache();
    writeFileSync(join(await cache.folder("locks"), "archive"), await deadMark());
    await using lock = await cache.lock("archive");
    expect(lock).toBeDefined();
  });

  test("are kept for an hour if the process was in another PID namespace", async () => {
    const path = join(temporaryFolder(), "file");
    writeFileSync(path, "");
    expect(await isAbandoned(path, "1-1-1")).toBe(false);
    const before = Date.now() / 1000 - 3700;
    utimesSync(path, before, before);
    expect(await isAbandoned(path, "1-1-1")).toBe(true);
  });
});

describe("a lock of the lab's cache", () => {
  test("is held by one process at a time", async () => {
    const cache = newCache();
    const order: string[] = [];
    const hold = async (name: string): Promise<void> => {
      await using _lock = await cache.lock("archive");
      order.push(`${name} has it`);
      await new Promise((resolve) => setImmediate(resolve));
      order.push(`${name} is done`);
    };
    await Promise.all([hold("a"), hold("b")]);
    const [first, second] = order[0] === "a has it" ? ["a", "b"] : ["b", "a"];
    expect(order).toEqual([
      `${first} has it`,
      `${first} is done`,
      `${second} has it`,
      `${second} is done`,
    ]);
    expect(readdirSync(join(cache.root, "locks"))).toEqual([]);
  });

  test("is given to only one of many waiting processes after the previous owner died", async () => {
    const cache = newCache();
    const path = join(await cache.folder("locks"), "archive");
    const mark = await deadMark();
    let owners = 0;
    let most = 0;
    for (let round = 0; round < 5; round += 1) {
      writeFileSync(path, mark);
      await Promise.all(
        Array.from({ length: 6 }, async () => {
          await using _lock = await cache.lock("archive");
          owners += 1;
          most = Math.max(most, owners);
          await new Promise((resolve) => setTimeout(resolve, 1));
          owners -= 1;
        }),
      );
    }
    expect([most, owners]).toEqual([1, 0]);
  });

  test("is a lock of the kernel: a lock file that exists but is not locked blocks no process", async () => {
    const cache = newCache();
    writeFileSync(join(await cache.folder("locks"), "archive"), ownMark());
    await using lock = await cache.lock("archive", AbortSignal.timeout(20_000));
    expect(lock).toBeDefined();
  });

  test("is awaited until the signal is aborted", async () => {
    const cache = newCache();
    await using _lock = await cache.lock("archive");
    const controller = new AbortController();
    const waiting = cache.lock("archive", controller.signal);
    controller.abort();
    await expect(waiting).rejects.toMatchObject({ code: "ERR_LAB_INTERRUPTED" });
    expect(readdirSync(join(cache.root, "locks"))).toEqual(["archive"]);
  });
});

test("a small file in the cache's root is written atomically, and only its owner can read it", async () => {
  const cache = newCache();
  await cache.write("catalogue.json", "one");
  await cache.write("catalogue.json", "two");
  const path = join(cache.root, "catalogue.json");
  expect(readFileSync(path, "utf8")).toBe("two");
  expect(execFileSync("stat", ["-c", "%a", path], { encoding: "utf8" })).toBe("600\n");
});
