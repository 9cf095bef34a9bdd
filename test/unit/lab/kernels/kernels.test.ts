/** Tests of kernels from the cache or the archive; own-kernel.test.ts tests the user's own kernels. */
import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { LabCache } from "../../../../lib/lab/cache/cache.ts";
import { fetchKernel, listKernels, surveyKernels } from "../../../../lib/lab/kernels/kernels.ts";
import { FAULTS, FakeApt } from "../archive/fake-apt.ts";
import { tinyDisk } from "../cache/tiny-disk.ts";
import { temporaryFolder } from "../temporary.ts";
import { tinyImage, tinyModule } from "./tiny-module.ts";

// Some tests start a dozen processes, which are slower on a loaded machine.
vi.setConfig({ testTimeout: 60_000 });
afterEach(() => vi.unstubAllEnvs());

const NEW = "6.12.9+deb13-cloud-amd64";
const OLD = "6.12.4+deb13-cloud-amd64";

function withKernels(): FakeApt {
  const apt = new FakeApt();
  apt.addKernel(OLD, "6.12.4-1", "trixie");
  apt.addKernel(NEW, "6.12.9-1", "trixie-security");
  return apt;
}

const asked = (apt: FakeApt, command: string): number =>
  apt
    .read("log")
    .split("\n")
    .filter((line) => line.startsWith(command)).length;

/** Lists the files of a cache that are not in an entry. */
const leftovers = async (cache: LabCache): Promise<readonly string[]> =>
  (await Promise.all(["building", "locks"].map((name) => cache.folder(name)))).flatMap((path) =>
    readdirSync(path),
  );

describe("fetchKernel()", () => {
  test("returns the newest kernel of a version, with only the modules that the lab needs", async () => {
    const { cache } = withKernels();
    const kernel = await fetchKernel("6.12", { cache });
    const path = join(cache.root, "kernels", NEW);
    expect(kernel).toEqual({
      name: NEW,
      release: NEW,
      vmlinuz: join(path, "vmlinuz"),
      modules: join(path, "modules"),
    });
    expect(readdirSync(kernel.modules).toSorted()).toEqual([
      "irqbypass.ko",
      "kvm-amd.ko",
      "kvm.ko",
    ]);
    expect(readdirSync(path).toSorted()).toEqual(["manifest.json", "modules", "vmlinuz"]);
    expect(readdirSync(join(cache.root, "downloads"))).toEqual([]);
    expect(await leftovers(cache)).toEqual([]);
  });

  test("returns a kernel whose vmlinuz and modules are two packages", async () => {
    const apt = new FakeApt();
    const release = "7.2.6+deb13-cloud-amd64";
    apt.add(`linux-binary-${release}`, "7.2.6-1", "trixie-backports", {
      [`usr/lib/modules/${release}/vmlinuz`]: tinyImage(release),
    });
    apt.add(`linux-modules-${release}`, "7.2.6-1", "trixie-backports", {
      [`usr/lib/modules/${release}/kernel/kvm.ko`]: tinyModule("", release),
    });
    const kernel = await fetchKernel("7.2", { cache: apt.cache });
    expect([existsSync(kernel.vmlinuz), readdirSync(kernel.modules)]).toEqual([true, ["kvm.ko"]]);
  });

  test("reports its progress", async () => {
    const { cache } = withKernels();
    const told: unknown[] = [];
    await fetchKernel("6.12", { cache, onProgress: (progress) => told.push(progress) });
    const [row] = (await listKernels({ cache })).filter(({ release }) => release === NEW);
    const total = row?.bytes ?? 0;
    const common = { kernel: NEW, package: `linux-image-${NEW}`, total };
    expect(told).toEqual([
      { ...common, bytes: total / 2 },
      { ...common, bytes: total },
    ]);
  });

  test("resolves a series to its newest kernel, even if a cached kernel has the name of the series", async () => {
    const apt = new FakeApt();
    apt.addKernel("7.3-cloud-amd64", "7.3~rc7-1~exp1", "experimental");
    apt.addKernel("7.3.4+deb13-cloud-amd64", "7.3.4-1", "trixie-backports");
    await fetchKernel("7.3-cloud-amd64", { cache: apt.cache });
    const kernel = await fetchKernel("7.3", { cache: apt.cache });
    expect(kernel.release).toBe("7.3.4+deb13-cloud-amd64");
  });

  test("needs neither the network nor apt for a cached kernel release", async () => {
    const apt = withKernels();
    const first = await fetchKernel("6.12", { cache: apt.cache });
    vi.stubEnv("PATH", temporaryFolder());
    expect(await fetchKernel(NEW, { cache: apt.cache })).toEqual(first);
  });

  test("returns the newest cached kernel of a version if the archive cannot be reached", async () => {
    const apt = withKernels();
    const first = await fetchKernel(OLD, { cache: apt.cache });
    rmSync(join(apt.cache.root, "catalogue.json"));
    apt.failUpdate("Could not resolve 'mirror.test'");
    expect(await fetchKernel("6.12", { cache: apt.cache })).toEqual(first);
  });

  test("fails with the network's error if it must download a kernel and the archive cannot be reached", async () => {
    const apt = withKernels();
    apt.failUpdate("Could not resolve 'mirror.test'");
    await expect(fetchKernel("6.12", { cache: apt.cache })).rejects.toMatchObject({
      code: "ERR_LAB_NETWORK",
      message: expect.stringContaining("Could not resolve 'mirror.test'"),
    });
    expect(await leftovers(apt.cache)).toEqual([]);
  });

  test("downloads only once if two callers request the same kernel at the same time", async () => {
    const apt = withKernels();
    const both = [1, 2].map(() => fetchKernel("6.12", { cache: apt.cache }));
    const [first, second] = await Promise.all(both);
    expect(first).toEqual(second);
    expect(asked(apt, "apt-get download")).toBe(1);
  });

  test("downloads a cached kernel again on request", async () => {
    const apt = withKernels();
    const { vmlinuz } = await fetchKernel("6.12", { cache: apt.cache });
    writeFileSync(vmlinuz, "damaged");
    await fetchKernel("6.12", { cache: apt.cache, refetch: true });
    await expect(fetchKernel(NEW, { cache: apt.cache })).resolves.toMatchObject({ name: NEW });
    expect(asked(apt, "apt-get download")).toBe(2);
  });

  test.each(["6.12", NEW])(
    "names the damaged file of a cached kernel and the remedy (%s)",
    async (name) => {
      const apt = withKernels();
      const { vmlinuz } = await fetchKernel("6.12", { cache: apt.cache });
      writeFileSync(vmlinuz, "damaged");
      const message = `${vmlinuz} is damaged: it has 7 bytes instead of 1024; fetch it again: `;
      await expect(fetchKernel(name, { cache: apt.cache })).rejects.toMatchObject({
        code: "ERR_LAB_DAMAGED",
        message: `${message}node-kvm lab kernels --fetch ${NEW} --refetch`,
      });
    },
  );

  test("keeps a cached kernel that cannot be downloaded again", async () => {
    const apt = withKernels();
    const first = await fetchKernel("6.12", { cache: apt.cache });
    apt.answer("fault", FAULTS.offline);
    await expect(fetchKernel("6.12", { cache: apt.cache, refetch: true })).rejects.toMatchObject({
      code: "ERR_LAB_NETWORK",
    });
    expect(await fetchKernel(NEW, { cache: apt.cache })).toEqual(first);
  });

  test("cannot download a damaged kernel that the archive has removed", async () => {
    const apt = withKernels();
    await fetchKernel(NEW, { cache: apt.cache });
    apt.clear();
    const again = { cache: apt.cache, refetch: true, update: true };
    await expect(fetchKernel(NEW, again)).rejects.toMatchObject({
      code: "ERR_LAB_GONE",
      message: `${NEW} cannot be fetched again: the archive no longer has the kernel`,
    });
  });

  test("queries the archive again if a package of the stored list is missing", async () => {
    const apt = withKernels();
    apt.answer("fault", FAULTS.gone);
    const { cache } = apt;
    await expect(fetchKernel("6.12", { cache })).rejects.toMatchObject({ code: "ERR_LAB_GONE" });
    apt.clear();
    apt.addKernel(OLD, "6.12.4-1", "trixie");
    apt.answer("fault", "");
    expect((await fetchKernel("6.12", { cache })).release).toBe(OLD);
  });

  test("keeps completed downloads if it is interrupted, but no incomplete cache entry", async () => {
    const apt = withKernels();
    apt.answer("fault", FAULTS.hang);
    const controller = new AbortController();
    const kernel = fetchKernel("6.12", { cache: apt.cache, signal: controller.signal });
    const ended = expect(kernel).rejects.toMatchObject({ code: "ERR_LAB_INTERRUPTED" });
    await vi.waitFor(() => expect(apt.read("pids")).not.toBe(""), 30_000);
    controller.abort();
    await ended;
    expect(readdirSync(join(apt.cache.root, "downloads", NEW))).toEqual(["half_1_amd64.deb"]);
    expect(await apt.cache.names("kernels")).toEqual([]);
    expect(await leftovers(apt.cache)).toEqual([]);
  });

  test("leaves no file if it is interrupted while it unpacks", async () => {
    const apt = withKernels();
    apt.answer("unpack-fault", `mkdir -p "$3"; echo half > "$3/half"; ${FAULTS.wait}`);
    const controller = new AbortController();
    const kernel = fetchKernel("6.12", { cache: apt.cache, signal: controller.signal });
    const ended = expect(kernel).rejects.toMatchObject({ code: "ERR_LAB_INTERRUPTED" });
    await vi.waitFor(() => expect(apt.read("pids")).not.toBe(""), 30_000);
    controller.abort();
    await ended;
    expect(await apt.cache.names("kernels")).toEqual([]);
    expect(await leftovers(apt.cache)).toEqual([]);
  });

  test("downloads nothing if the disk has too little space", async ({ skip }) => {
    const apt = withKernels();
    const cache = new LabCache(tinyDisk(400, skip));
    await expect(fetchKernel("6.12", { cache })).rejects.toMatchObject({
      code: "ERR_LAB_DISK_FULL",
      message: expect.stringMatching(
        /list needs 130 MB, and the disk of .* has 1 MB;.*NODE_KVM_CACHE/,
      ),
    });
    expect(asked(apt, "apt-get update")).toBe(0);
    expect(await leftovers(cache)).toEqual([]);
  });

  test("leaves neither a cache entry nor a download if the disk becomes full", async () => {
    const apt = withKernels();
    const { cache } = apt;
    const words = "dpkg-deb: error: failed to write: No space left on device";
    apt.answer("unpack-fault", `mkdir -p "$3"; echo half > "$3/half"; echo "${words}" >&2; exit 2`);
    await expect(fetchKernel("6.12", { cache })).rejects.toMatchObject({
      code: "ERR_LAB_DISK_FULL",
    });
    expect(await cache.names("kernels")).toEqual([]);
    expect(readdirSync(join(cache.root, "downloads"))).toEqual([]);
    expect(await leftovers(cache)).toEqual([]);
  });

  test.each([
    ["vmlinuz", { "lib/modules/x/kvm.ko": tinyModule("", "x") }],
    ["module kvm", { [`boot/vmlinuz-${NEW}`]: tinyImage(NEW) }],
  ])("rejects a package without %s", async (what, files) => {
    const apt = new FakeApt();
    apt.add(`linux-image-${NEW}`, "6.12.9-1", "trixie", {
      ...files,
      padding: Buffer.alloc(200_000),
    });
    await expect(fetchKernel("6.12", { cache: apt.cache })).rejects.toMatchObject({
      code: "ERR_LAB_NOT_A_KERNEL",
      message: expect.stringContaining(`the packages of ${NEW} contain no ${what}`),
    });
    expect(await apt.cache.names("kernels")).toEqual([]);
  });
});

describe("listKernels()", () => {
  test("reports for each kernel whether it is cached and whether the archive has it", async () => {
    const apt = withKernels();
    apt.add("linux-binary-7.0.4+deb13-cloud-amd64", "7.0.4-1", "trixie-backports", 13_000_000);
    await fetchKernel(OLD, { cache: apt.cache });
    const rows = await listKernels({ cache: apt.cache });
    const shown = rows.map((row) => [row.linux, row.suite, row.cached, row.obtainable, row.why]);
    expect(shown).toEqual([
      ["6.12.4", "trixie", true, true, undefined],
      ["6.12.9", "trixie-security", false, true, undefined],
      ["7.0.4", "trixie-backports", false, false, "no modules in any suite"],
    ]);
    expect(rows.map(({ bytes }) => bytes > 0)).toEqual([true, true, false]);
    expect(rows.map(({ cachedBytes }) => cachedBytes > 0)).toEqual([true, false, false]);
  });

  test("reports that the archive has no kernel", async () => {
    const apt = new FakeApt();
    const words = {
      code: "ERR_LAB_ARCHIVE",
      message: expect.stringMatching(
        /^the archive http:\/\/mirror\.test\/debian lists no kernel .*--mirror$/,
      ),
    };
    await expect(listKernels({ cache: apt.cache })).rejects.toMatchObject(words);
    await expect(fetchKernel("6.12", { cache: apt.cache })).rejects.toMatchObject(words);
  });

  test("lists a cached kernel that the archive has removed", async () => {
    const apt = withKernels();
    await fetchKernel(OLD, { cache: apt.cache });
    apt.clear();
    expect(await listKernels({ cache: apt.cache, update: true })).toEqual([
      expect.objectContaining({
        release: OLD,
        version: "6.12.4-1",
        suite: "",
        cached: true,
        obtainable: true,
        why: "the archive no longer has the kernel",
      }),
    ]);
  });

  test("reports the damage of a cached kernel", async () => {
    const apt = withKernels();
    await fetchKernel(OLD, { cache: apt.cache });
    const manifest = join(apt.cache.root, "kernels", OLD, "manifest.json");
    writeFileSync(manifest, "");
    expect((await listKernels({ cache: apt.cache }))[0]).toMatchObject({
      cached: false,
      obtainable: true,
      why: `${manifest} is damaged: it cannot be read`,
    });
  });

  test("queries the archive at most once a day", async () => {
    const apt = withKernels();
    await listKernels({ cache: apt.cache });
    await listKernels({ cache: apt.cache });
    expect(asked(apt, "apt-get update")).toBe(1);
    const { asked: when } = await surveyKernels({ cache: apt.cache });
    vi.useFakeTimers({ now: (when?.getTime() ?? 0) + 86_400_001, toFake: ["Date"] });
    await listKernels({ cache: apt.cache });
    vi.useRealTimers();
    expect(asked(apt, "apt-get update")).toBe(2);
  });

  test.each([
    ["it is told to", { update: true }],
    ["it is another one", { mirror: "http://other.test/debian" }],
  ])("queries the archive again if %s", async (_, options) => {
    const apt = withKernels();
    await listKernels({ cache: apt.cache });
    await listKernels({ cache: apt.cache, ...options });
    expect(asked(apt, "apt-get update")).toBe(2);
  });

  test("uses the stored list if the archive cannot be queried", async () => {
    const apt = withKernels();
    const before = await listKernels({ cache: apt.cache });
    apt.failUpdate("Could not resolve 'mirror.test'");
    const { rows, trouble } = await surveyKernels({ cache: apt.cache, update: true });
    expect([rows, trouble?.code]).toEqual([before, "ERR_LAB_NETWORK"]);
  });

  test.each([
    ["no network", (apt: FakeApt) => apt.failUpdate("Connection refused"), "ERR_LAB_NETWORK"],
    ["no apt", () => vi.stubEnv("PATH", temporaryFolder()), "ERR_LAB_TOOL"],
    ["no Debian", (apt: FakeApt) => apt.answer("indextargets", ""), "ERR_LAB_ARCHIVE"],
  ])("fails if %s and the cache is empty", async (_, prepare, code) => {
    const apt = withKernels();
    prepare(apt);
    await expect(listKernels({ cache: apt.cache })).rejects.toMatchObject({ code });
  });

  test("ignores a damaged stored list", async () => {
    const apt = withKernels();
    const rows = await listKernels({ cache: apt.cache });
    writeFileSync(join(apt.cache.root, "catalogue.json"), '{"format": 1, "ker');
    expect(await listKernels({ cache: apt.cache })).toEqual(rows);
  });
});
