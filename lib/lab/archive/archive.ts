/**
 * Queries Debian's package archive through apt, with separate folders and a separate configuration: lists, packages and
 * source packages. No package is installed. address.ts finds the address, debian-package.ts unpacks a package, and
 * kernels/catalogue.ts combines packages to kernels.
 */
import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import type { LabCache } from "../cache/cache.ts";
import { sha256 } from "../cache/manifest.ts";
import { LabError } from "../error.ts";
import { commandError, diskFull, isDiskFull, type Output, run, runOk } from "../process/command.ts";
import type { ArchiveAddress } from "./address.ts";

/** A package of the archive. */
export interface Package {
  readonly name: string;
  readonly version: string;
  /** The oldest suite that contains the package. */
  readonly suite: string;
  /** The size of the package's file. */
  readonly bytes: number;
  /** The size of the file's content after unpacking. */
  readonly unpacked: number;
  readonly sha256: string;
}

/** One file of a source package. */
export interface SourceFile {
  /** The source package. */
  readonly name: string;
  readonly version: string;
  readonly suite: string;
  readonly file: string;
  readonly sha256: string;
}

/** The content of the archive's lists. */
export interface Lists {
  readonly packages: readonly Package[];
  /** The suites that exist and were read. */
  readonly suites: readonly string[];
  /** The suites whose lists could not be fetched, each with apt's reason. */
  readonly missing: readonly string[];
}

/** The suites with kernels of interest, oldest first. The archive may have removed some of these suites. */
const SUITES = [
  "bullseye",
  "bullseye-security",
  "bookworm",
  "bookworm-security",
  "bookworm-backports",
  "trixie",
  "trixie-security",
  "trixie-backports",
  "sid",
  "experimental",
] as const;

/** Debian 13 and later also name this keyring .pgp. */
const KEYRINGS = [
  "/usr/share/keyrings/debian-archive-keyring.gpg",
  "/usr/share/keyrings/debian-archive-keyring.pgp",
] as const;

/** The disk space of a first update: 83 MB of lists, and 40 MB while they are downloaded. */
const LISTS_BYTES = 130_000_000;
/** The maximum disk space of the files of a kernel that the cache stores. */
const KEPT_BYTES = 25_000_000;
/** apt waits 30 s for a silent server and tries three times; the lab's limit is longer. */
const STALL_MS = 180_000;
const KERNEL_PACKAGES = /^linux-(image|binary|modules)-\d\S*-cloud-amd64$/;
const NETWORK_OPTION = /^Acquire::(?!IndexTargets|Languages|GzipIndexes|PDiffs)\S+ ".*";$/;
/** Options that make apt accept unsigned data, or weaken the checks of gpgv and TLS; they are never copied. */
const WEAKENING = /^Acquire::(?:\S+::)?(?:Allow|Verify-|Check-|Max-|Min-|gpgv|sqv)/i;

/** The settings that make apt use the lab's configuration. */
interface Setup {
  readonly env: Readonly<Record<string, string>>;
  /** Command-line arguments with the paths of the lab's folders. */
  readonly places: readonly string[];
}

/** An archive, and the folders of the cache in which apt keeps its lists. */
export class Archive {
  readonly #cache: LabCache;
  readonly #address: ArchiveAddress;

  /** Stores the archive and the folders; does not run apt. */
  constructor(cache: LabCache, address: ArchiveAddress) {
    this.#cache = cache;
    this.#address = address;
  }

  /**
   * Fetches the archive's lists and returns their kernel packages.
   *
   * @throws {@link LabError} `ERR_LAB_NETWORK` if no suite's list could be fetched.
   */
  async lists(signal?: AbortSignal): Promise<Lists> {
    await this.#cache.need(LISTS_BYTES, "the archive's list");
    const setup = await this.#configure(signal);
    const { env, places } = setup;
    const options = { env, signal, stallMs: STALL_MS };
    const args = ["update", "-q", "-o", "APT::Status-Fd=3", ...places];
    const update = await run("apt-get", args, options);
    if (isDiskFull(update.stderr)) throw diskFull("apt-get update");
    const failed = failures(update);
    if (update.status !== 0 && failed.size === 0) throw commandError(update);
    if (this.#address.security === undefined) {
      const why = "the address of the security archive is unknown";
      for (const suite of SUITES.filter(isSecurity)) failed.set(suite, why);
    }
    const suites = SUITES.filter((suite) => !failed.has(suite));
    if (suites.length === 0) throw unreachable(this.#address.main, failed, update);
    // If the archive has removed a suite, apt still has the suite's old list. If a suite could not be fetched, its old
    // list remains valid.
    const gone = new Set(
      [...failed].filter(([, why]) => why.includes("404")).map(([name]) => name),
    );
    return {
      packages: await this.#packages(gone, setup, signal),
      suites,
      missing: [...failed].map(([suite, why]) => `${suite}: ${why}`),
    };
  }

  /**
   * Downloads packages into a folder and resumes partial downloads; returns the paths of the package files.
   *
   * @throws {@link LabError} `ERR_LAB_NETWORK`, `ERR_LAB_DAMAGED` or `ERR_LAB_DISK_FULL`.
   */
  async download(
    packages: readonly Package[],
    folder: string,
    onProgress: (done: number, of: Package | undefined) => void,
    signal?: AbortSignal,
  ): Promise<readonly string[]> {
    const size = packages.reduce((sum, { bytes, unpacked }) => sum + bytes + unpacked, 0);
    await this.#cache.need(size + KEPT_BYTES, `unpacking ${packages[0]?.name ?? "nothing"}`);
    const { env, places } = await this.#configure(signal);
    const total = packages.reduce((sum, { bytes }) => sum + bytes, 0);
    const names = packages.map(({ name, version }) => `${name}=${version}`);
    const args = ["download", "-q", "-o", "APT::Status-Fd=3", ...places, ...names];
    const output = await run("apt-get", args, {
      cwd: folder,
      env,
      signal,
      stallMs: STALL_MS,
      onStatus: (line) => {
        const [, percent, file] = /^dlstatus:\d+:([\d.]+):.*?(\d+) of \d+/.exec(line) ?? [];
        if (percent === undefined) return;
        onProgress(Math.round((total * Number(percent)) / 100), packages[Number(file) - 1]);
      },
    });
    if (output.status !== 0) throw await downloadError(output, packages, folder);
    return Promise.all(packages.map((wanted) => checkedFile(wanted, folder)));
  }

  /**
   * Downloads the upstream archive of a source package into a folder; returns its path.
   *
   * The other files of the source package are not needed, and the archive may have removed them.
   *
   * @throws {@link LabError} `ERR_LAB_NETWORK`, `ERR_LAB_GONE` or `ERR_LAB_DAMAGED`.
   */
  async source(wanted: SourceFile, folder: string, signal?: AbortSignal): Promise<string> {
    const { name, version, suite, file } = wanted;
    const keyring = KEYRINGS.find((path) => existsSync(path)) ?? KEYRINGS[0];
    const sources = `deb-src [signed-by=${keyring}] ${this.#address.main} ${suite} main\n`;
    const { env, places } = await this.#configure(signal, "apt-source", sources);
    const options = { cwd: folder, env, signal, stallMs: STALL_MS };
    const update = await run("apt-get", ["update", "-q", ...places], options);
    const failed = failures(update);
    if (failed.size > 0) throw unreachable(this.#address.main, failed, update);
    if (update.status !== 0) throw commandError(update);
    const args = ["source", "-q", "--download-only", ...places, `${name}=${version}`];
    const output = await run("apt-get", args, options);
    const path = join(folder, file);
    if (!existsSync(path)) {
      if (output.status === 0) {
        throw new LabError("ERR_LAB_GONE", `the source package ${name} no longer contains ${file}`);
      }
      throw await downloadError(output, [wanted], folder);
    }
    if ((await sha256(path)) === wanted.sha256) return path;
    await rm(path);
    const what = `${file} is not the expected file (sha256 ${wanted.sha256})`;
    throw new LabError("ERR_LAB_DAMAGED", `${what}; the file was removed: fetch it again`);
  }

  async #packages(
    gone: ReadonlySet<string>,
    { env, places }: Setup,
    signal: AbortSignal | undefined,
  ): Promise<readonly Package[]> {
    const ask = async (command: string, ...words: readonly string[]): Promise<string> =>
      String(await runOk("apt-cache", [command, ...places, ...words], { env, signal }));
    const all = await ask("pkgnames", "linux-");
    const names = all.split("\n").filter((name) => KERNEL_PACKAGES.test(name));
    if (names.length === 0) return [];
    const madison = await ask("madison", ...names);
    const suites = suitesOf(madison, gone);
    const show = await ask("show", ...names);
    return show.split("\n\n").flatMap((paragraph) => {
      const fields = new Map(
        paragraph.split("\n").map((line) => [line.split(":", 1)[0], line.replace(/^\S*:\s*/, "")]),
      );
      const name = fields.get("Package") ?? "";
      const version = fields.get("Version") ?? "";
      const suite = suites.get(`${name} ${version}`);
      const hash = fields.get("SHA256");
      if (suite === undefined || hash === undefined) return [];
      const unpacked = Number(fields.get("Installed-Size") ?? 0) * 1024;
      return [{ name, version, suite, bytes: Number(fields.get("Size")), unpacked, sha256: hash }];
    });
  }

  /** Writes the lab's configuration of apt; returns the settings that make apt use only the lab's configuration. */
  async #configure(
    signal?: AbortSignal,
    folder = "apt",
    sources: string = this.#sources(),
  ): Promise<Setup> {
    const apt = await this.#cache.folder(folder);
    const lists = await this.#cache.folder(folder, "lists");
    // The lab uses the network options of this machine's apt, such as proxies, certificates and timeouts.
    // The lab does not use other options of this machine's apt, such as hooks after an update.
    const dump = String(await runOk("apt-config", ["dump", "Acquire"], { signal }));
    const configuration = [
      ...dump.split("\n").filter((line) => NETWORK_OPTION.test(line) && !WEAKENING.test(line)),
      'Acquire::Languages "none";',
      'Acquire::GzipIndexes "true";',
      'Acquire::PDiffs "false";',
      'APT::Architecture "amd64";',
      'APT::Architectures { "amd64"; };',
      // If root starts apt, apt otherwise changes to a user that cannot read a cache in a home folder.
      'APT::Sandbox::User "root";',
      'Dir::Etc::main "/dev/null";',
      'Dir::Etc::parts "/dev/null";',
      'Dir::Etc::preferences "/dev/null";',
      'Dir::Etc::preferencesparts "/dev/null";',
      'Dir::Etc::sourceparts "/dev/null";',
      'Dir::State::status "/dev/null";',
      'Dir::Cache::pkgcache "";',
      'Dir::Cache::srcpkgcache "";',
    ];
    await this.#cache.write(join(folder, "apt.conf"), `${configuration.join("\n")}\n`);
    await this.#cache.write(join(folder, "sources.list"), sources);
    return {
      env: { APT_CONFIG: join(apt, "apt.conf") },
      // Paths are passed as arguments, because a path in apt's configuration file cannot contain a quote.
      places: [
        ["Dir::Etc::sourcelist", join(apt, "sources.list")],
        ["Dir::State", apt],
        ["Dir::State::lists", lists],
        ["Dir::Cache", apt],
      ].flatMap(([option, path]) => ["-o", `${option}=${path}`]),
    };
  }

  #sources(): string {
    const keyring = KEYRINGS.find((path) => existsSync(path)) ?? KEYRINGS[0];
    // The expiry date is not checked, because packages of a suite with an expired Release file are still needed.
    const options = `[arch=amd64 signed-by=${keyring} check-valid-until=no]`;
    const { main, security } = this.#address;
    return SUITES.map((suite) => {
      const base = isSecurity(suite) ? security : main;
      return base === undefined ? "" : `deb ${options} ${base} ${suite} main\n`;
    }).join("");
  }
}

/** Returns the suites whose lists apt could not fetch or verify, with the reasons. */
function failures({ stdout, stderr }: Output): Map<string, string> {
  const lines = String(stdout).split("\n");
  const failed = new Map<string, string>();
  for (const [i, line] of lines.entries()) {
    const [, suite] = /^Err:\d+ \S+ ([\w-]+)/.exec(line) ?? [];
    if (suite !== undefined) failed.set(suite, (lines[i + 1] ?? "").trim());
  }
  for (const [, suite = ""] of stderr.matchAll(
    /^[EW]: The repository '\S+ ([\w-]+) \S+' is not signed\.?$/gm,
  )) {
    const why = failed.get(suite);
    failed.set(
      suite,
      why === undefined ? "its index is not signed" : `its index is not signed: ${why}`,
    );
  }
  return failed;
}

/** Returns the first suite of each package and version, from the output of `apt-cache madison`. */
function suitesOf(madison: string, gone: ReadonlySet<string>): Map<string, string> {
  const suites = new Map<string, string>();
  for (const line of madison.split("\n")) {
    const [name = "", version = "", source = ""] = line.split("|").map((text) => text.trim());
    const [, suite] = / ([\w-]+)\/main /.exec(source) ?? [];
    const key = `${name} ${version}`;
    if (suite === undefined || gone.has(suite)) continue;
    if (!suites.has(key)) suites.set(key, suite);
  }
  return suites;
}

function unreachable(base: string, failed: Map<string, string>, output: Output): LabError {
  const why = [...new Set(failed.values())].slice(0, 2).join("; ");
  if (/signatures|NO_PUBKEY|not signed/.test(why)) {
    const remedy = "install Debian's keys (the package debian-archive-keyring)";
    const sentence = `the archive ${base} has no signature that can be checked: ${why}; ${remedy}`;
    return new LabError("ERR_LAB_ARCHIVE", sentence);
  }
  const words = why === "" ? commandError(output).message : why;
  const remedy =
    "check the network and apt's proxy settings, or name another archive with --mirror";
  return new LabError(
    "ERR_LAB_NETWORK",
    `the archive ${base} cannot be reached: ${words}; ${remedy}`,
  );
}

async function downloadError(
  output: Output,
  packages: readonly Pick<Package, "name">[],
  folder: string,
): Promise<LabError> {
  const { stderr } = output;
  if (isDiskFull(stderr)) return diskFull("apt-get download");
  const what = packages.map(({ name }) => name).join(", ");
  const errors = stderr.split("\n").filter((line) => line.startsWith("E:"));
  const words = errors.map((line) => line.slice(2).trim()).join("; ");
  if (/Hash Sum mismatch|unexpected size/.test(stderr)) {
    await rm(folder, { recursive: true, force: true });
    const remedy =
      "the damaged file was removed; fetch it again, or from another archive with --mirror";
    return new LabError("ERR_LAB_DAMAGED", `${what}: the package is damaged: ${words}; ${remedy}`);
  }
  if (/Unable to locate package|was not found|no longer|404/.test(stderr)) {
    const remedy = "`node-kvm lab kernels` lists the kernels that the archive has now";
    return new LabError(
      "ERR_LAB_GONE",
      `${what}: the archive no longer has it: ${words}; ${remedy}`,
    );
  }
  const kept = "the downloaded part is kept, and the next call resumes it";
  const remedy = "check the network and apt's proxy settings";
  return new LabError("ERR_LAB_NETWORK", `${what} cannot be fetched: ${words}; ${remedy}; ${kept}`);
}

async function checkedFile(wanted: Package, folder: string): Promise<string> {
  const found = (await readdir(folder)).find((name) => name.startsWith(`${wanted.name}_`));
  if (found === undefined) {
    throw new LabError("ERR_LAB_TOOL", `apt-get download left no file of ${wanted.name}`);
  }
  const path = join(folder, found);
  if ((await sha256(path)) === wanted.sha256) return path;
  await rm(path);
  const what = `${basename(path)} is not the package that the archive's list names`;
  throw new LabError("ERR_LAB_DAMAGED", `${what}; the file was removed: fetch it again`);
}

function isSecurity(suite: string): boolean {
  return suite.endsWith("-security");
}
