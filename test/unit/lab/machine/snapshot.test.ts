/** Tests of machines that are saved and restored, with the scripted emulator saving-qemu.js. */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { LabCache } from "../../../../lib/lab/cache/cache.ts";
import { LabError } from "../../../../lib/lab/error.ts";
import { type LabOptions, type LabResult, runInLab } from "../../../../lib/lab/machine/machine.ts";
import { type Ingredients, snapshotName } from "../../../../lib/lab/machine/snapshot.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "saved-"));
  mkdirSync(join(folder, "modules"));
  writeFileSync(
    join(folder, "modules/modules.builtin"),
    ["kvm-amd", "kvm"].map((name) => `kernel/arch/x86/kvm/${name}.ko\n`).join(""),
  );
  writeFileSync(join(folder, "vmlinuz"), "a kernel");
  writeFileSync(join(folder, "base"), "a root");
  mkdirSync(join(folder, "bin"));
  const qemu = join(folder, "bin", "qemu-system-x86_64");
  copyFileSync(join(import.meta.dirname, "saving-qemu.js"), qemu);
  writeFileSync(join(folder, "bin", "package.json"), '{"type":"module"}');
  chmodSync(qemu, 0o755);
  vi.stubEnv("PATH", `${join(folder, "bin")}:${process.env["PATH"]}`);
  // The emulator runs as another user if the tests run as root.
  chmodSync(folder, 0o755);
  writeFileSync(join(folder, "bin", "fault"), "");
  writeFileSync(join(folder, "bin", "calls"), "");
  chmodSync(join(folder, "bin", "calls"), 0o666);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

function run(more: Partial<LabOptions> = {}, fault = ""): Promise<LabResult> {
  writeFileSync(join(folder, "bin", "fault"), fault);
  return runInLab({
    kernel: {
      name: "6.12",
      release: "",
      vmlinuz: join(folder, "vmlinuz"),
      modules: join(folder, "modules"),
    },
    base: join(folder, "base"),
    command: ["true"],
    memory: 2,
    restore: { command: ["waits"], work: (seed) => Buffer.from(`work ${seed}`) },
    cache: new LabCache(join(folder, "cache")),
    ...more,
  });
}

/** Returns the starts of the emulator since the previous call. */
function calls(): readonly string[] {
  const path = join(folder, "bin", "calls");
  const lines = readFileSync(path, "utf8").trim().split("\n");
  writeFileSync(path, "");
  return lines;
}

function entries(): readonly string[] {
  const path = join(folder, "cache", "snapshots");
  return existsSync(path) ? readdirSync(path) : [];
}

describe("a lab machine that may be restored", { timeout: 60_000 }, () => {
  test("is booted and saved the first time, and only restored afterwards", async () => {
    const first = await run();
    expect(calls()).toEqual(["boots to be saved", "restores"]);
    const second = await run();
    expect(calls()).toEqual(["restores"]);
    expect([first, second]).toMatchObject([
      { kind: "exited", status: 0, restored: true, attempts: 1 },
      { kind: "exited", status: 0, restored: true, attempts: 1 },
    ]);
    expect(readdirSync(join(folder, "cache", "building"))).toEqual([]);
  });

  test("reports whether it is saved, restored, or booted because it cannot be saved", async () => {
    const starts: string[] = [];
    const onStart = (how: string): void => void starts.push(how);
    await run({ onStart });
    await run({ onStart });
    await run({ onStart, smp: 2 });
    expect(starts).toEqual(["save", "restore", "restore", "boot"]);
  });

  test("starts its log with the kernel's log from before the save, and passes on this part once", async () => {
    const onKernelLog = vi.fn();
    const { kernelLog } = await run({ onKernelLog });
    expect(kernelLog).toBe("[ 0.1] Linux version 6.12\n[ 9.9] restored\n");
    expect(onKernelLog.mock.calls.flat()).toEqual(["[ 0.1] Linux version 6.12", "[ 9.9] restored"]);
  });

  test("gets its work with a unique seed", async () => {
    const outputs = [await run(), await run()].map(({ stdout }) => stdout.toString());
    expect(outputs).toEqual(outputs.map(() => expect.stringMatching(/^work [0-9a-f]{64}$/)));
    expect(new Set(outputs).size).toBe(2);
  });

  test("gets an archive with the command, a seed and the time if init waits for work", async () => {
    const { stdout } = await run({ restore: {}, command: ["say", "it"] });
    const archive = stdout.toString();
    expect(archive).toContain("exec 'env' 'say' 'it'");
    expect(archive).toMatch(/lab\/seed[\s\S]*[0-9a-f]{64}/);
    expect(archive).toMatch(/lab\/time[\s\S]*\d{10}\n/);
  });

  test("is saved even if the path of its folder is too long for a socket", async () => {
    const cache = new LabCache(join(folder, "a".repeat(120)));
    expect(await run({ cache })).toMatchObject({ restored: true });
    expect(calls()).toEqual(["boots to be saved", "restores"]);
  });

  test("gets a copy of the saved memory, so the machine cannot change the cache", async () => {
    await run();
    const [entry = ""] = entries();
    const ram = join(folder, "cache", "snapshots", entry, "ram");
    const before = readFileSync(ram);
    expect(before.subarray(0, 6).toString()).toBe("memory");
    expect(await run()).toMatchObject({ restored: true });
    expect(readFileSync(ram).equals(before)).toBe(true);
    expect(statSync(ram)).toMatchObject({ uid: process.geteuid?.(), mode: 0o100_600 });
  });

  test.skipIf(process.geteuid?.() !== 0)(
    "runs as a separate user, who owns the machine's folder, if the lab runs as root",
    async () => {
      const owners = [await run({}, "owners"), await run({}, "owners")].map(({ stdout }) =>
        stdout.toString().split(" ").map(Number),
      );
      for (const [user, owner] of owners) {
        expect(user).toBeGreaterThan(0);
        expect(owner).toBe(user);
      }
    },
  );

  test("is booted if its work is too long for the port", async () => {
    const files = { "/big": new Uint8Array(16_384) };
    expect(await run({ restore: {}, files })).toMatchObject({ kind: "exited", restored: false });
    expect(calls()).toEqual(["boots"]);
  });

  test("is booted if it has more than one CPU", async () => {
    expect(await run({ smp: 2 })).toMatchObject({ kind: "exited", restored: false });
    expect([calls(), entries()]).toEqual([["boots"], []]);
  });

  test("is booted if the disk has no room for its memory, and saving is not tried", async () => {
    const need = vi
      .spyOn(LabCache.prototype, "need")
      .mockRejectedValue(new LabError("ERR_LAB_DISK_FULL", "no room"));
    const result = await run();
    const [bytes] = need.mock.calls[0] ?? [];
    need.mockRestore();
    expect(bytes).toBeGreaterThan(2 * 2 ** 20);
    expect(result).toMatchObject({ kind: "exited", restored: false });
    expect([calls(), entries()]).toEqual([["boots"], []]);
  });

  test.each([
    ["refuses to save", "refuses migrate"],
    ["does not know how", "refuses migrate-set-capabilities"],
    ["fails to save", "fails"],
    ["prints something before it waits", "speaks"],
    ["ends before it waits", "crashes"],
    ["writes devices without end", "floods"],
    ["has more memory than it was given", "grows"],
  ])("is booted if it %s, and no cache entry is left", async (_, fault) => {
    expect(await run({}, fault)).toMatchObject({
      kind: "exited",
      restored: false,
      stdout: Buffer.from("booted"),
    });
    expect([calls(), entries()]).toEqual([["boots to be saved", "boots"], []]);
    expect(readdirSync(join(folder, "cache", "building"))).toEqual([]);
  });

  test.each([
    ["ends when it is restored", "exits", "QEMU did not start (status 1): "],
    [
      "refuses its state",
      "refuses migrate-incoming",
      "QEMU refused migrate-incoming: it is refused",
    ],
  ])("is booted if it %s, and is saved again the next time", async (_, fault, why) => {
    await run();
    calls();
    const onRetry = vi.fn();
    expect(await run({ onRetry }, fault)).toMatchObject({ kind: "exited", restored: false });
    expect(onRetry.mock.calls).toEqual([[`the saved machine could not be restored: ${why}`]]);
    expect([calls(), entries()]).toEqual([["restores", "boots"], []]);
    expect(await run()).toMatchObject({ restored: true });
  });

  test("is booted if it hangs after restoring, and is saved again the next time", async () => {
    await run();
    calls();
    const onRetry = vi.fn();
    const result = await run({ silence: 1500, onRetry }, "hangs");
    expect(result).toMatchObject({ kind: "exited", restored: false, attempts: 2 });
    expect([calls(), entries()]).toEqual([["restores", "boots"], []]);
    expect(onRetry.mock.calls).toEqual([["the emulator hung"]]);
  });

  test("is saved again if a file of its cache entry was damaged", async () => {
    await run();
    calls();
    const [entry = ""] = entries();
    writeFileSync(join(folder, "cache", "snapshots", entry, "state"), "devicez");
    expect(await run()).toMatchObject({ restored: true });
    expect(calls()).toEqual(["boots to be saved", "restores"]);
  });

  test("is saved only once for two runs at the same time", async () => {
    expect(await Promise.all([run(), run()])).toMatchObject([
      { restored: true },
      { restored: true },
    ]);
    expect(calls().toSorted()).toEqual(["boots to be saved", "restores", "restores"]);
  });

  test("is saved separately for each memory size, CPU, root, kernel and preparation", async () => {
    await run();
    await run({ memory: 3 });
    await run({ cpu: "EPYC" });
    await run({ base: join(folder, "vmlinuz") });
    await run({ restore: {} });
    writeFileSync(join(folder, "vmlinuz"), "another kernel");
    await run();
    expect(entries()).toHaveLength(6);
  });

  test("replaces a kernel's saved machine if the saved machine is older than a day, and keeps all other saved machines", async () => {
    const path = (name: string): string => join(folder, "cache", "snapshots", name);
    for (const name of ["6.12-old", "6.12-young", "6.12.1-old"]) {
      mkdirSync(path(name), { recursive: true });
      const days = name.endsWith("old") ? 2 : 0;
      const at = Date.now() / 1000 - days * 86_400;
      utimesSync(path(name), at, at);
    }
    await run();
    expect(entries().filter((name) => /old|young/.test(name))).toEqual([
      "6.12-young",
      "6.12.1-old",
    ]);
  });
});

describe("the name of a saved lab machine", { timeout: 60_000 }, () => {
  const named = (more: Partial<Ingredients> = {}): Promise<string> => {
    const usual = { kernel: "own:/a b", files: [join(folder, "vmlinuz")], words: ["-m", "2"] };
    return snapshotName({ ...usual, ...more }, "qemu-system-x86_64");
  };

  test("consists of its kernel's name, made valid as a file name, and a hash", async () => {
    expect(await named()).toMatch(/^own__a_b-[0-9a-f]{16}$/);
    expect(await named()).toBe(await named());
  });

  test("depends on the content of files, the command line, and the versions of QEMU and Node", async () => {
    const names = [await named(), await named({ words: ["-m", "3"] })];
    writeFileSync(join(folder, "vmlinuz"), "another kernel");
    names.push(await named());
    const qemu = join(folder, "bin", "qemu-system-x86_64");
    writeFileSync(qemu, readFileSync(qemu, "utf8").replace("version 7.2", "version 8.0"));
    names.push(await named());
    expect(new Set(names).size).toBe(4);
  });
});
