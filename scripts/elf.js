/** Checks that a built addon loads on every system that the package is for. prebuild.js builds the addons. */
import { execFileSync } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

// usage: node scripts/elf.js [--musl] FILE...
//
// Without a file, the script checks the files of prebuilds/. It prints one line for each finding.
// The exit status is 1 if there is a finding, or if there is no file.
// The script needs readelf (Debian package binutils).

/**
 * The glibc version that Node.js 20 needs. A file that needs a newer glibc would exclude systems that Node.js supports.
 */
const GLIBC = [2, 28];

/** The functions that Node.js calls to load an addon. */
const EXPORTS = ["napi_register_module_v1", "node_api_module_get_api_version_v1"];

/** The prefixes of symbols that Node.js defines. */
const NODE = /^(napi|node_api|uv)_/;

/** The rules of each C library: the libraries and the versions of symbols that a file may need. */
const LIBRARIES = {
  glibc: {
    needed: ["libc.so.6", "libpthread.so.0", "libm.so.6", "libdl.so.2", "ld-linux-x86-64.so.2"],
    isAllowedVersion: (version) => {
      const [, major, minor] = /^GLIBC_(\d+)\.(\d+)(\.\d+)?$/.exec(version)?.map(Number) ?? [];
      return major < GLIBC[0] || (major === GLIBC[0] && minor <= GLIBC[1]);
    },
  },
  // musl has no symbol versions, and resolves any library name that starts with "libc." to itself.
  musl: { needed: ["libc.so"], isAllowedVersion: () => false },
};

function readelf(option, file) {
  const env = { ...process.env, LC_ALL: "C" };
  return execFileSync("readelf", ["--wide", option, file], {
    encoding: "utf8",
    env,
    stdio: "pipe",
  });
}

/** Returns the lines of readelf's table of dynamic symbols that match. */
function symbolsOf(file) {
  return readelf("--dyn-syms", file)
    .split("\n")
    .flatMap((line) => {
      const [number, , , type, binding, , section, name] = line.trim().split(/\s+/);
      if (!/^\d+:$/.test(number) || name === undefined || type === "SECTION") return [];
      const [symbol, version] = name.split(/@+/);
      return [{ symbol, version, binding, isDefined: section !== "UND" }];
    });
}

/** Returns the names that a shared library defines. */
export function definedNames(file) {
  return new Set(symbolsOf(file).flatMap((row) => (row.isDefined ? [row.symbol] : [])));
}

/**
 * Returns a sentence for each reason why a file does not load on all systems with this C library.
 *
 * @param {string} file
 * @param {"glibc" | "musl"} library
 * @param {Set<string>} [known] the names that the C library defines; without it, musl's names are not checked.
 */
export function findingsOf(file, library, known) {
  const { needed, isAllowedVersion } = LIBRARIES[library];
  const header = readelf("--file-header", file);
  const dynamic = readelf("--dynamic", file);
  const [stack = ""] = readelf("--program-headers", file).match(/GNU_STACK.*/) ?? [];
  const symbols = symbolsOf(file);
  const all = (text, pattern) => Array.from(text.matchAll(pattern), ([, value]) => value);
  const libraries = all(dynamic, /\(NEEDED\).*\[(.*)\]/g);
  const paths = all(dynamic, /\((R(?:UN)?PATH|TEXTREL)\)/g);
  const hasStaticTls = /\(FLAGS\).*STATIC_TLS/.test(dynamic);
  const exported = symbols.flatMap((row) => (row.isDefined ? [row.symbol] : []));
  const imported = symbols.filter((row) => !row.isDefined);
  const versions = new Set(imported.flatMap(({ version }) => version ?? []));
  const isDefinedElsewhere = ({ symbol, version, binding }) =>
    version !== undefined ||
    binding === "WEAK" ||
    NODE.test(symbol) ||
    (library === "musl" && (known === undefined || known.has(symbol)));
  return [
    ...(/Class: +ELF64/.test(header) && /Machine: .*X86-64/.test(header) ? [] : ["is not x86-64"]),
    ...libraries.filter((name) => !needed.includes(name)).map((name) => `needs ${name}`),
    ...Array.from(versions)
      .filter((version) => !isAllowedVersion(version))
      .map((version) => `needs ${version}`),
    ...paths.map((name) => `has ${name}`),
    ...(hasStaticTls && library === "musl" ? ["has static TLS, which musl refuses"] : []),
    ...(/ RW +0x/.test(stack) ? [] : ["has an executable stack"]),
    ...imported
      .filter((row) => !isDefinedElsewhere(row))
      .map(({ symbol }) => `needs ${symbol}, which neither Node.js nor ${library} defines`),
    ...exported.filter((name) => !EXPORTS.includes(name)).map((name) => `exports ${name}`),
    ...EXPORTS.filter((name) => !exported.includes(name)).map((name) => `does not export ${name}`),
  ];
}

/** The C library of each folder of prebuilds/. */
export const TARGETS = { "linux-x64": "glibc", "linuxmusl-x64": "musl" };

/** Returns the path of the addon for one target: `prebuilds/linux-x64/node_kvm.node`. */
export function prebuiltFile(root, target) {
  return join(root, "prebuilds", target, "node_kvm.node");
}

function main(args) {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const named = args.filter((arg) => arg !== "--musl");
  const library = args.includes("--musl") ? "musl" : "glibc";
  const files =
    named.length > 0
      ? named.map((file) => [file, library])
      : Object.entries(TARGETS).map(([target, of]) => [prebuiltFile(root, target), of]);
  const present = files.filter(([file]) => named.length > 0 || existsSync(file));
  if (present.length === 0) console.error("elf: prebuilds/ is empty; npm run prebuilds makes it");
  const findings = present.flatMap(([file, of]) =>
    findingsOf(file, of).map((finding) => `${file} ${finding}`),
  );
  for (const finding of findings) console.error(finding);
  return present.length === 0 || findings.length > 0 ? 1 : 0;
}

if (
  process.argv[1] !== undefined &&
  realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)
) {
  process.exitCode = main(process.argv.slice(2));
}
