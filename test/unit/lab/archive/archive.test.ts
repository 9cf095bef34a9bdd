/** Tests of queries to the package archive through apt, without a network and with a fake apt. */
import { existsSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { configuredArchive, mirrorArchive } from "../../../../lib/lab/archive/address.ts";
import { Archive, type Package } from "../../../../lib/lab/archive/archive.ts";
import { LabCache } from "../../../../lib/lab/cache/cache.ts";
import { temporaryFolder } from "../temporary.ts";
import { FAULTS, FakeApt } from "./fake-apt.ts";

// Some tests start a dozen processes, which are slower on a loaded machine.
vi.setConfig({ testTimeout: 60_000 });
afterEach(() => vi.unstubAllEnvs());

const ADDRESS = mirrorArchive("http://mirror.test/debian");
const IMAGE = "linux-image-6.12.1+deb13-cloud-amd64";

describe("the address of the kernel archive", () => {
  test.each([
    [
      "http://m.test/debian/ bookworm main",
      "http://m.test/debian",
      "http://m.test/debian-security",
    ],
    [
      "http://m.test/debian/ bookworm main\nhttp://s.test/sec/ bookworm-security main",
      "http://m.test/debian",
      "http://s.test/sec",
    ],
    [
      "http://s.test/updates/ bullseye/updates main\nhttp://m.test/debian/ stable main",
      "http://m.test/debian",
      "http://s.test/updates",
    ],
    [
      "http://vendor.test/repo/ bookworm main\nhttp://m.test/debian/ bookworm-updates main",
      "http://m.test/debian",
      "http://m.test/debian-security",
    ],
    ["http://m.test/mirror-of-it/ sid main", "http://m.test/mirror-of-it", undefined],
  ])("for apt's configuration %j is %s", async (targets, main, security) => {
    new FakeApt().answer("indextargets", `${targets}\n`);
    expect(await configuredArchive()).toEqual({ main, security });
  });

  test.each(["", "http://u.test/ubuntu/ noble main\n", "http://m.test/debian/ bookworm contrib\n"])(
    "must be passed by the user if apt has only %j",
    async (targets) => {
      new FakeApt().answer("indextargets", targets);
      await expect(configuredArchive()).rejects.toMatchObject({
        code: "ERR_LAB_ARCHIVE",
        message: expect.stringContaining("--mirror"),
      });
    },
  );

  test.each(["mirror.test", "", "http://a b/debian"])("cannot be %j", (mirror) => {
    expect(() => mirrorArchive(mirror)).toThrow(
      expect.objectContaining({ code: "ERR_LAB_ARCHIVE" }),
    );
  });
});

describe("the package lists of the kernel archive", () => {
  test("are queried with an apt configuration of the lab, which keeps the machine's network options", async () => {
    const apt = new FakeApt();
    await new Archive(apt.cache, ADDRESS).lists();
    const path = join(apt.cache.root, "apt", "apt.conf");
    expect(apt.read("config").trim()).toBe(path);
    const configuration = readFileSync(path, "utf8");
    expect(configuration).toContain('Acquire::http::Proxy "http://proxy.test:3128";');
    expect(configuration).not.toContain("IndexTargets");
    expect(apt.read("log")).toContain(` -o Dir::State=${join(apt.cache.root, "apt")} `);
    const sources = readFileSync(join(apt.cache.root, "apt", "sources.list"), "utf8");
    expect(sources).toMatch(/^deb \[.*signed-by=\S+ .*\] http:\/\/mirror\.test\/debian sid main$/m);
    expect(sources).toContain(" http://mirror.test/debian-security trixie-security main\n");
  });

  test("are queried without options that weaken apt's checks", async () => {
    const apt = new FakeApt();
    const trusting = [
      "Acquire::AllowInsecureRepositories",
      "Acquire::AllowWeakRepositories",
      "Acquire::AllowDowngradeToInsecureRepositories",
      "Acquire::https::Verify-Peer",
      "Acquire::https::mirror.test::Verify-Host",
      "Acquire::Check-Valid-Until",
      "Acquire::gpgv::Options",
    ];
    const kept = ["Acquire::https::CaInfo", "Acquire::http::Timeout"];
    apt.answer("acquire", [...trusting, ...kept].map((name) => `${name} "x";\n`).join(""));
    await new Archive(apt.cache, ADDRESS).lists();
    const text = readFileSync(join(apt.cache.root, "apt", "apt.conf"), "utf8");
    expect(text.match(/^Acquire::\S+(?= "x";$)/gm)).toEqual(kept);
  });

  test("report a suite whose index is not signed", async () => {
    const apt = new FakeApt();
    apt.addKernel("6.12.1+deb13-cloud-amd64", "6.12.1-1", "trixie");
    apt.answer(
      "update.err",
      "E: The repository 'http://mirror.test/debian bookworm Release' is not signed.\n",
    );
    apt.answer("update.status", "100");
    const { suites, missing } = await new Archive(apt.cache, ADDRESS).lists();
    expect(missing).toEqual(["bookworm: its index is not signed"]);
    expect(suites).not.toContain("bookworm");
  });

  test("are queried in a cache whose path has quotes and blanks", async () => {
    const apt = new FakeApt();
    const cache = new LabCache(join(temporaryFolder(), `it's "a cache"`));
    await new Archive(cache, ADDRESS).lists();
    const text = readFileSync(join(cache.root, "apt", "apt.conf"), "utf8");
    expect(text).not.toContain("a cache");
    expect(apt.read("log")).toContain(` -o Dir::Cache=${join(cache.root, "apt")}`);
  });

  test("are only read: no package is installed", async () => {
    const apt = new FakeApt();
    apt.addKernel("6.12.1+deb13-cloud-amd64", "6.12.1-1", "trixie");
    await new Archive(apt.cache, ADDRESS).lists();
    const commands = apt
      .read("log")
      .split("\n")
      .map((line) => line.split(" ", 2).join(" "));
    expect(commands).toEqual([
      "apt-config dump",
      "apt-get update",
      "apt-cache pkgnames",
      "apt-cache madison",
      "apt-cache show",
      "",
    ]);
  });

  test("contain the kernel packages with suite, size and checksum", async () => {
    const apt = new FakeApt();
    apt.add(IMAGE, "6.12.1-1", "trixie", 34_000_000);
    apt.add(`${IMAGE}-unsigned`, "6.12.1-1", "trixie", 34_000_000);
    apt.add("linux-image-6.12.1+deb13-amd64", "6.12.1-1", "trixie", 106_000_000);
    apt.add("linux-headers-6.12.1+deb13-cloud-amd64", "6.12.1-1", "trixie", 1_000_000);
    const { packages, missing } = await new Archive(apt.cache, ADDRESS).lists();
    expect(packages).toEqual([
      {
        name: IMAGE,
        version: "6.12.1-1",
        suite: "trixie",
        bytes: 34_000_000,
        unpacked: 2048,
        sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      },
    ]);
    expect(missing).toEqual([]);
  });

  test("contain neither a removed suite, nor its packages that apt still knows", async () => {
    const apt = new FakeApt();
    apt.addKernel("5.10.0-46-cloud-amd64", "5.10.1-1", "bullseye");
    apt.addKernel("6.12.1+deb13-cloud-amd64", "6.12.1-1", "trixie");
    apt.answer("update", "Err:4 http://mirror.test/debian bullseye Release\n  404  Not Found\n");
    apt.answer("update.status", "100");
    const { packages, suites, missing } = await new Archive(apt.cache, ADDRESS).lists();
    expect(packages.map(({ name }) => name)).toEqual([IMAGE]);
    expect(suites).not.toContain("bullseye");
    expect(missing).toEqual(["bullseye: 404  Not Found"]);
  });

  test("keep the packages of a suite whose server did not answer", async () => {
    const apt = new FakeApt();
    apt.addKernel("6.12.1+deb13-cloud-amd64", "6.12.1-1", "trixie");
    apt.answer("update", "Err:4 http://mirror.test/debian trixie InRelease\n  Connection reset\n");
    const { packages, missing } = await new Archive(apt.cache, ADDRESS).lists();
    expect(packages.map(({ name }) => name)).toEqual([IMAGE]);
    expect(missing).toEqual(["trixie: Connection reset"]);
  });

  test("report that a security suite is missing because the address of the security archive is unknown", async () => {
    const apt = new FakeApt();
    const archive = new Archive(apt.cache, mirrorArchive("http://mirror.test/other"));
    expect((await archive.lists()).missing).toContain(
      "trixie-security: the address of the security archive is unknown",
    );
  });

  test.each([
    ["Could not resolve 'mirror.test'", "ERR_LAB_NETWORK", "check the network"],
    ["404  Not Found [IP: 127.0.0.1 80]", "ERR_LAB_NETWORK", "404  Not Found"],
    [
      "could not be verified: NO_PUBKEY 648ACFD622F3D138",
      "ERR_LAB_ARCHIVE",
      "debian-archive-keyring",
    ],
  ])("cause an error if all queries fail with %j", async (reason, code, message) => {
    const apt = new FakeApt();
    apt.failUpdate(reason);
    await expect(new Archive(apt.cache, ADDRESS).lists()).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message),
    });
  });

  test("cause an error with apt's message if apt cannot query them", async () => {
    const apt = new FakeApt();
    apt.answer("update", "");
    apt.answer("update.err", "E: The list of sources could not be read.\n");
    apt.answer("update.status", "100");
    await expect(new Archive(apt.cache, ADDRESS).lists()).rejects.toMatchObject({
      code: "ERR_LAB_TOOL",
      message: "apt-get failed with status 100: E: The list of sources could not be read.",
    });
  });

  test("cause an error that names the full disk", async () => {
    const apt = new FakeApt();
    apt.answer("update.err", "E: Write error - write (28: No space left on device)\n");
    await expect(new Archive(apt.cache, ADDRESS).lists()).rejects.toMatchObject({
      code: "ERR_LAB_DISK_FULL",
    });
  });

  test.each([
    ["apt-get", "apt"],
    ["apt-config", "apt"],
    ["apt-cache", "apt"],
  ])(
    "cause an error if the program %s is missing, and the error names the program's package",
    async (program, from) => {
      const apt = new FakeApt();
      const bin = temporaryFolder();
      // Creates a PATH without the missing program, but with the other programs of apt and the programs that the
      // scripts use.
      const others = ["apt-get", "apt-config", "apt-cache"].filter((name) => name !== program);
      for (const name of others) symlinkSync(join(apt.folder, "bin", name), join(bin, name));
      symlinkSync("/bin/cat", join(bin, "cat"));
      vi.stubEnv("PATH", bin);
      await expect(new Archive(apt.cache, ADDRESS).lists()).rejects.toMatchObject({
        code: "ERR_LAB_TOOL",
        message: `${program} is not on this machine; install it (Debian's package ${from})`,
      });
    },
  );
});

describe("the download of a kernel package", () => {
  /**
   * Starts the download of one kernel package; returns the promised files, the folder, the reported progress and the
   * packages.
   */
  async function download(apt: FakeApt, signal?: AbortSignal) {
    const folder = await apt.cache.folder("downloads", "x");
    const archive = new Archive(apt.cache, ADDRESS);
    const { packages } = await archive.lists();
    const told: [number, string | undefined][] = [];
    const tell = (bytes: number, of: Package | undefined): void => {
      told.push([bytes, of?.name]);
    };
    const files = archive.download(packages, folder, tell, signal);
    return { files, folder, told, packages };
  }

  function withKernel(fault: keyof typeof FAULTS | undefined): FakeApt {
    const apt = new FakeApt();
    apt.addKernel("6.12.1+deb13-cloud-amd64", "6.12.1-1", "trixie");
    apt.answer("fault", fault === undefined ? "" : FAULTS[fault]);
    return apt;
  }

  test("returns the packages' files, and reports its progress", async () => {
    const { files, folder, told, packages } = await download(withKernel(undefined));
    const bytes = packages[0]?.bytes ?? 0;
    expect(await files).toEqual([join(folder, `${IMAGE}_6.12.1-1_amd64.deb`)]);
    expect(told).toEqual([
      [Math.round(bytes / 2), IMAGE],
      [bytes, IMAGE],
    ]);
  });

  test.each([
    ["offline", "ERR_LAB_NETWORK", "the next call resumes it"],
    ["gone", "ERR_LAB_GONE", "404"],
    ["unlisted", "ERR_LAB_GONE", "was not found"],
    ["mismatch", "ERR_LAB_DAMAGED", "Hash Sum mismatch"],
    ["full", "ERR_LAB_DISK_FULL", "NODE_KVM_CACHE"],
    ["short", "ERR_LAB_DAMAGED", "fetch it again"],
    ["nothing", "ERR_LAB_TOOL", "left no file"],
  ] as const)("fails with an error because of %s: %s", async (fault, code, message) => {
    const { files } = await download(withKernel(fault));
    await expect(files).rejects.toMatchObject({ code, message: expect.stringContaining(message) });
  });

  test.each(["short", "mismatch"] as const)("keeps no damaged file (%s)", async (fault) => {
    const { files, folder } = await download(withKernel(fault));
    await expect(files).rejects.toThrow(IMAGE);
    expect(existsSync(folder) ? readdirSync(folder) : []).toEqual([]);
  });

  test.each(["hang", "deaf"] as const)(
    "that is interrupted during %s leaves no process",
    async (fault) => {
      const apt = withKernel(fault);
      const controller = new AbortController();
      const { files, folder } = await download(apt, controller.signal);
      const ended = expect(files).rejects.toMatchObject({ code: "ERR_LAB_INTERRUPTED" });
      await vi.waitFor(() => expect(apt.read("pids")).toMatch(/^\d+ \d+\n$/), 30_000);
      controller.abort();
      await ended;
      const pids = apt.read("pids").trim().split(" ");
      // A killed process closes its descriptors before it ends, so one of the two may still be ending.
      await expect
        .poll(() => pids.filter((pid) => isRunning(pid)), { timeout: 30_000 })
        .toEqual([]);
      expect(existsSync(folder)).toBe(true);
    },
  );
});

/** Returns whether a process exists; a zombie process does not count. */
function isRunning(pid: string): boolean {
  const path = `/proc/${pid}/stat`;
  return existsSync(path) && !/\) Z /.test(readFileSync(path, "latin1"));
}
