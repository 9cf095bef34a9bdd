/** Builds the addons in prebuilds/ for any Linux on x86-64, with glibc and with musl. elf.js checks the result. */
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { definedNames, findingsOf, prebuiltFile, TARGETS } from "./elf.js";

// usage: node scripts/prebuild.js [--mirror http://HOST/debian] [linux-x64] [linuxmusl-x64]
//
// Without a target, the script builds both, and fails if linux-x64 cannot be built.
// If linuxmusl-x64 cannot be built, the script prints one line with the reason.
// The script needs clang 19 (C++ compiler), make, python3, apt-get, dpkg-deb, readelf and Node's headers, but not root.
// The script downloads 18 MB of old Debian packages from the archive that apt is set up for, or from --mirror.
// The script verifies the packages' signatures and unpacks the packages below build/prebuild; it installs nothing.

const root = fileURLToPath(new URL("..", import.meta.url));
const work = join(root, "build/prebuild");
const COMPILER = "clang++-19";
const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

/** The required commands, each with its Debian package. */
const TOOLS = [
  [COMPILER, "clang-19"],
  ["make", "make"],
  ["python3", "python3"],
  ["readelf", "binutils"],
  ["apt-get", "apt"],
  ["dpkg-deb", "dpkg"],
];

/**
 * The build settings of each target. A program runs on systems with the C library of its sysroot or a newer version.
 * The sysroot for glibc therefore comes from Debian 11, with glibc 2.31. The addon uses only functions of glibc up to
 * version 2.28.
 */
const SYSROOTS = {
  "linux-x64": {
    packages: {
      bullseye: [
        "libc6",
        "libc6-dev",
        "linux-libc-dev",
        "libgcc-10-dev",
        "libgcc-s1",
        "libstdc++-10-dev",
      ],
    },
    compile: (folder) => [`--sysroot=${folder}`, `--gcc-install-dir=${folder}/${GCC}/10`],
    link: () => ({ before: ["-static-libstdc++", "-static-libgcc"], after: [] }),
  },
  // Debian has no C++ library for musl, so LLVM's libc++ is used. libc++ needs only functions that both C libraries
  // have, and functions that native/prebuild/musl.cc defines. elf.js compares the result with the names that musl
  // defines.
  "linuxmusl-x64": {
    packages: {
      bookworm: [
        "musl",
        "musl-dev",
        "linux-libc-dev",
        "libgcc-12-dev",
        "libc++-19-dev",
        "libc++abi-19-dev",
        "libunwind-19-dev",
      ],
    },
    compile: (folder) => [
      "--target=x86_64-linux-musl",
      `--sysroot=${folder}`,
      "-nostdinc",
      "-D_LIBCPP_HAS_MUSL_LIBC",
      ...[
        `${folder}/usr/lib/llvm-19/include/c++/v1`,
        `${output(COMPILER, ["-print-resource-dir"])}/include`,
        `${folder}/usr/include/x86_64-linux-musl`,
        `${folder}/usr/include`,
      ].flatMap((path) => ["-isystem", path]),
    ],
    link: (folder) => ({
      before: [
        "-nostdlib",
        "-Wno-unused-command-line-argument",
        `${folder}/usr/lib/x86_64-linux-musl/crti.o`,
        `${folder}/${GCC}/12/crtbeginS.o`,
      ],
      after: [
        "-fPIC",
        join(root, "native/prebuild/musl.cc"),
        ...[`${folder}/usr/lib/llvm-19/lib`, `${folder}/lib/x86_64-linux-musl`].map(
          (path) => `-L${path}`,
        ),
        "-Wl,-Bstatic",
        "-lc++",
        "-lc++abi",
        "-lunwind",
        "-Wl,-Bdynamic",
        "-lc",
        `${folder}/${GCC}/12/crtendS.o`,
        `${folder}/usr/lib/x86_64-linux-musl/crtn.o`,
      ],
    }),
    names: (folder) => definedNames(join(folder, "lib/x86_64-linux-musl/libc.so")),
  },
};
const GCC = "usr/lib/gcc/x86_64-linux-gnu";

/**
 * Hides the symbols of the static C++ library, because two addons with different C++ libraries must not share symbols.
 */
const EXPORTS = `{
  global: napi_register_module_v1; node_api_module_get_api_version_v1;
  local: *;
};
`;

function output(command, args, options = {}) {
  return execFileSync(command, args, { encoding: "utf8", stdio: "pipe", ...options }).trim();
}

class Problem extends Error {}

function checkTools() {
  const isMissing = ([command]) =>
    spawnSync(command, ["--version"], { stdio: "ignore" }).error !== undefined;
  const missing = TOOLS.filter(isMissing);
  if (missing.length > 0) {
    const names = missing.map(([command]) => command).join(", ");
    const packages = missing.map(([, name]) => name).join(" ");
    throw new Problem(`${names} missing: apt-get install ${packages} (on Debian 12 or later)`);
  }
  if (!existsSync(KEYRING)) {
    throw new Problem(`${KEYRING} missing: apt-get install debian-archive-keyring`);
  }
}

/** Returns the address of the Debian archive that apt is set up for. */
function configuredMirror() {
  const format = "$(REPO_URI) $(RELEASE)";
  const args = ["indextargets", "-o", "Dir::State::lists=/dev/null/none", "--no-release-info"];
  const lines = output("apt-get", [...args, "--format", format]).split("\n");
  const addresses = lines
    .map((line) => line.split(" "))
    .filter(([, suite]) =>
      /^(bullseye|bookworm|trixie|forky|sid|(old)*stable|testing)$/.test(suite),
    )
    .map(([address]) => address.replace(/\/+$/, ""));
  const found = addresses.find((address) => address.endsWith("/debian")) ?? addresses[0];
  if (found !== undefined) return found;
  throw new Problem(
    "apt's configuration names no Debian archive: pass --mirror http://HOST/debian",
  );
}

/** Makes the sysroot's links relative, because an absolute link would refer to a file of this system. */
function relink(folder, top = folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) relink(path, top);
    if (!entry.isSymbolicLink()) continue;
    const target = readlinkSync(path);
    if (!target.startsWith("/")) continue;
    rmSync(path);
    symlinkSync(relative(folder, join(top, target)), path);
  }
}

/** Downloads and unpacks the packages of one target, if they are not unpacked yet. */
function sysroot(target, mirror) {
  const folder = join(work, `sysroot-${target}`);
  if (existsSync(folder)) return folder;
  const apt = join(work, "apt");
  const partial = `${folder}.partial`;
  rmSync(partial, { recursive: true, force: true });
  for (const path of [partial, join(apt, "lists/partial"), join(apt, "archives/partial")]) {
    mkdirSync(path, { recursive: true });
  }
  const { packages } = SYSROOTS[target];
  const suites = Object.keys(packages);
  const list = join(apt, "sources.list");
  const source = (suite) => `deb [arch=amd64 signed-by=${KEYRING}] ${mirror} ${suite} main\n`;
  writeFileSync(list, suites.map(source).join(""));
  const options = [
    `Dir::Etc::sourcelist=${list}`,
    "Dir::Etc::sourceparts=-",
    `Dir::State::lists=${join(apt, "lists")}`,
    `Dir::Cache=${apt}`,
    "Acquire::Languages=none",
    "APT::Sandbox::User=root",
    "Debug::NoLocking=1",
  ].flatMap((option) => ["-o", option]);
  const run = (...args) => {
    const { status, stderr } = spawnSync("apt-get", ["-q", ...options, ...args], {
      cwd: partial,
      encoding: "utf8",
    });
    const reason = /^E: .*/m.exec(stderr)?.[0] ?? stderr.trim().split("\n").at(-1);
    if (status !== 0 || /^(E|Err)\b/m.test(stderr)) {
      throw new Problem(`apt-get ${args[0]} from ${mirror} failed: ${reason}`);
    }
  };
  run("update", "--error-on=any");
  run("download", ...suites.flatMap((suite) => packages[suite].map((name) => `${name}/${suite}`)));
  for (const name of readdirSync(partial)) {
    if (!name.endsWith(".deb")) continue;
    output("dpkg-deb", ["-x", join(partial, name), partial]);
    rmSync(join(partial, name));
  }
  relink(partial);
  renameSync(partial, folder);
  return folder;
}

/** Writes the compiler that node-gyp calls: clang with the sysroot's headers and libraries. */
function writeCompiler(folder, target, root) {
  const { compile, link } = SYSROOTS[target];
  const { before, after } = link(root);
  const exports = join(folder, "exports.map");
  writeFileSync(exports, EXPORTS);
  const linking = [...before, `-Wl,--version-script=${exports}`, "-Wl,--as-needed", "-s"];
  const quote = (words) => words.map((word) => `'${word}'`).join(" ");
  const compiler = join(folder, "compiler");
  writeFileSync(
    compiler,
    [
      "#!/bin/sh",
      "isLinking=",
      'for word; do if [ "$word" = -shared ]; then isLinking=1; fi; done',
      `if [ -n "$isLinking" ]; then set -- ${quote(linking)} "$@" ${quote(after)}; fi`,
      `exec ${COMPILER} ${quote(compile(root))} -ffile-prefix-map=${quote([`${folder}/`])}= "$@"`,
      "",
    ].join("\n"),
  );
  chmodSync(compiler, 0o755);
  return compiler;
}

/**
 * Builds with the repository's binding.gyp, in a separate folder, because the addon of this system must stay in build/.
 */
function build(target, mirror) {
  const system = sysroot(target, mirror);
  const folder = join(work, target);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  copyFileSync(join(root, "binding.gyp"), join(folder, "binding.gyp"));
  symlinkSync(join(root, "native"), join(folder, "native"));
  const compiler = writeCompiler(folder, target, system);
  const prefix = dirname(dirname(process.execPath));
  const hasHeaders = existsSync(join(prefix, "include/node/node_api.h"));
  const { status, stdout, stderr } = spawnSync("npx", ["node-gyp", "rebuild"], {
    cwd: folder,
    encoding: "utf8",
    maxBuffer: 2 ** 26,
    env: {
      ...process.env,
      CC: compiler,
      CXX: compiler,
      ...(hasHeaders ? { npm_config_nodedir: prefix } : {}),
    },
  });
  if (status !== 0) {
    process.stderr.write(stdout + stderr);
    throw new Problem("node-gyp rebuild failed; its output is above");
  }
  const built = join(folder, "build/Release/node_kvm.node");
  const findings = findingsOf(built, TARGETS[target], SYSROOTS[target].names?.(system));
  if (findings.length > 0) throw new Problem(`the built file ${findings.join("; ")}`);
  const file = prebuiltFile(root, target);
  mkdirSync(dirname(file), { recursive: true });
  copyFileSync(built, file);
  const sum = createHash("sha256").update(readFileSync(file)).digest("hex");
  console.log(`${relative(root, file)}: ${statSync(file).size} bytes, SHA-256 ${sum}`);
}

function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { mirror: { type: "string" } },
  });
  const unknown = positionals.filter((name) => !Object.hasOwn(TARGETS, name));
  if (unknown.length > 0) {
    throw new Problem(
      `unknown target ${unknown.join(", ")}; known: ${Object.keys(TARGETS).join(", ")}`,
    );
  }
  checkTools();
  const mirror = values.mirror?.replace(/\/+$/, "") ?? configuredMirror();
  const targets = positionals.length > 0 ? positionals : Object.keys(TARGETS);
  for (const target of targets) {
    try {
      build(target, mirror);
    } catch (error) {
      const isOptional = positionals.length === 0 && target === "linuxmusl-x64";
      if (!(error instanceof Problem) || !isOptional) throw error;
      rmSync(dirname(prebuiltFile(root, target)), { recursive: true, force: true });
      console.error(`prebuild: without linuxmusl-x64: ${error.message}`);
    }
  }
}

try {
  main();
} catch (error) {
  if (!(error instanceof Problem)) throw error;
  console.error(`prebuild: ${error.message}`);
  process.exitCode = 1;
}
