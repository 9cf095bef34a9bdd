/**
 * A fake apt: shell scripts on the PATH that print files of the test. The fake packages are tar files; the fake
 * `dpkg-deb -x` unpacks them.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { vi } from "vitest";
import { LabCache } from "../../../../lib/lab/cache/cache.ts";
import { tinyImage, tinyModule } from "../kernels/tiny-module.ts";
import { temporaryFolder } from "../temporary.ts";

/** The faults of `apt-get download` as shell commands: errors, missing or bad files, and downloads that never end. */
export const FAULTS = {
  offline: `echo "E: Failed to fetch http://mirror.test/x.deb  Could not resolve 'mirror.test'" >&2; exit 100`,
  gone: `echo "E: Failed to fetch http://mirror.test/x.deb  404  Not Found" >&2; exit 100`,
  unlisted: `echo "E: Version '1' for 'x' was not found" >&2; exit 100`,
  mismatch: `echo "E: Failed to fetch http://mirror.test/x.deb  Hash Sum mismatch" >&2; exit 100`,
  full: `echo "E: Write error - write (28: No space left on device)" >&2; exit 100`,
  short: `for p in "$@"; do case $p in linux-*=*) printf short > "\${p%%=*}_1_amd64.deb";; esac; done; exit 0`,
  nothing: "exit 0",
  /**
   * Writes the ids of the script and of a child process, and waits to be killed; `hang` also writes the beginning of a
   * file.
   */
  wait: `sleep 1000 & echo $$ $! > "$FAKE/pids"; wait`,
  hang: `printf part > half_1_amd64.deb; sleep 1000 & echo $$ $! > "$FAKE/pids"; wait`,
  /** Writes both ids like `wait`, and ignores SIGTERM. */
  deaf: `trap "" TERM; sleep 1000 & echo $$ $! > "$FAKE/pids"; wait; wait`,
} as const;

const SCRIPTS: Readonly<Record<string, string>> = {
  "apt-config": `echo 'Acquire::http::Proxy "http://proxy.test:3128";'
echo 'Acquire::IndexTargets::deb::Packages::MetaKey "x";'
cat "$FAKE/acquire"`,
  "apt-get": `case $1 in
indextargets) cat "$FAKE/indextargets";;
update) cat "$FAKE/update"; cat "$FAKE/update.err" >&2; exit $(cat "$FAKE/update.status");;
download)
  . "$FAKE/fault"
  echo "dlstatus:1:50.0000:Retrieving file 1 of 1" >&3
  echo "pmstatus:not:for:us" >&3
  for p in "$@"; do
    case $p in linux-*=*) cp "$FAKE/pool/\${p%%=*}" "\${p%%=*}_\${p#*=}_amd64.deb";; esac
  done
  echo "dlstatus:1:100.0000:Retrieving file 1 of 1" >&3;;
esac`,
  "apt-cache": `case $1 in
pkgnames) cat "$FAKE/pkgnames";;
*) kind=$1; shift; for p in "$@"; do cat "$FAKE/pool/$p.$kind"; done;;
esac`,
  "dpkg-deb": `. "$FAKE/unpack-fault"; mkdir -p "$3" && tar -xf "$2" -C "$3"`,
};

/** A fake apt with its cache. */
export class FakeApt {
  /** The folder that contains the output of the scripts. */
  readonly folder: string = temporaryFolder();
  readonly cache: LabCache = new LabCache(join(temporaryFolder(), "cache"));
  readonly #names: string[] = [];

  /** Puts the fake apt first on the PATH until the end of the test. */
  constructor() {
    const bin = join(this.folder, "bin");
    mkdirSync(join(this.folder, "pool"));
    for (const [name, script] of Object.entries(SCRIPTS)) {
      const path = join(bin, name);
      mkdirSync(bin, { recursive: true });
      const log = `echo "${name} $*" >> "$FAKE/log"; printf '%s\\n' "$APT_CONFIG" > "$FAKE/config"`;
      writeFileSync(path, `#!/bin/sh\n${log}\n${script}\n`);
      chmodSync(path, 0o755);
    }
    vi.stubEnv("FAKE", this.folder);
    vi.stubEnv("PATH", `${bin}:${process.env["PATH"]}`);
    this.answer("indextargets", "http://mirror.test/debian/ trixie main\n");
    this.answer("update", "Get:1 http://mirror.test/debian trixie InRelease [1 kB]\n");
    this.answer("update.err", "");
    this.answer("acquire", "");
    this.answer("update.status", "0");
    for (const kind of ["fault", "unpack-fault"]) this.answer(kind, "");
    this.#publish();
  }

  /** Sets the output or the action of a script. */
  answer(name: string, text: string): void {
    writeFileSync(join(this.folder, name), text);
  }

  /** Returns the content of a file that the scripts wrote, or an empty string if the file does not exist. */
  read(name: string): string {
    const path = join(this.folder, name);
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  }

  /** Makes `apt-get update` fail for each suite of the archive with this reason. */
  failUpdate(reason: string): void {
    const suites = ["bullseye", "bookworm", "bookworm-backports", "trixie", "trixie-backports"];
    const security = ["bullseye-security", "bookworm-security", "trixie-security"];
    const all = [...suites, ...security, "sid", "experimental"];
    const lines = all.map((suite, i) => `Err:${i} http://mirror.test/debian ${suite} InRelease`);
    this.answer("update", lines.map((line) => `${line}\n  ${reason}\n`).join(""));
  }

  /** Adds a package with these files, or a package of this size that is never downloaded. */
  add(name: string, version: string, suite: string, what: Files | number): void {
    const path = join(this.folder, "pool", name);
    if (typeof what !== "number") pack(path, what);
    const content = typeof what === "number" ? Buffer.alloc(0) : readFileSync(path);
    const bytes = typeof what === "number" ? what : content.length;
    this.#names.push(name);
    const source = `http://mirror.test/debian ${suite}/main amd64 Packages`;
    this.answer(`pool/${name}.madison`, ` ${name} | ${version} | ${source}\n`);
    const sha256 = createHash("sha256").update(content).digest("hex");
    const common = { Package: name, Version: version, "Installed-Size": 2 };
    const fields = { ...common, Size: bytes, SHA256: sha256 };
    const lines = Object.entries(fields).map(([field, value]) => `${field}: ${value}\n`);
    this.answer(`pool/${name}.show`, `${lines.join("")}\n`);
    this.#publish();
  }

  /** Adds a kernel as one package, as Debian does for kernels up to 6.18. */
  addKernel(release: string, version: string, suite: string): void {
    const modules = `lib/modules/${release}/kernel`;
    this.add(`linux-image-${release}`, version, suite, {
      [`boot/vmlinuz-${release}`]: tinyImage(release),
      // A package with files is larger than a package that only depends on others.
      "usr/share/doc/padding": Buffer.alloc(200_000),
      [`${modules}/arch/x86/kvm/kvm.ko`]: tinyModule("irqbypass", release),
      [`${modules}/arch/x86/kvm/kvm-amd.ko`]: tinyModule("kvm", release),
      [`${modules}/virt/lib/irqbypass.ko`]: tinyModule("", release),
      [`${modules}/drivers/net/unwanted.ko`]: tinyModule("", release),
    });
  }

  /** Removes all packages. */
  clear(): void {
    this.#names.length = 0;
    this.#publish();
  }

  #publish(): void {
    this.answer("pkgnames", [...this.#names, "linux-base", "linux-doc"].join("\n"));
  }
}

/** The files of a package; each key is a path. */
export type Files = Readonly<Record<string, Buffer>>;

function pack(path: string, files: Files): void {
  const root = `${path}.root`;
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), content);
  }
  execFileSync("tar", ["-cf", path, "-C", root, "."]);
  rmSync(root, { recursive: true });
}
