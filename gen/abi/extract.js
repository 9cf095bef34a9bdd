/**
 * Extracts facts from headers: macros and ioctl numbers with gcc, struct layouts with gdb. The extraction is only
 * needed to renew gen/facts/kvm-abi.json. layouts.js chooses the TypeScript names.
 */

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";

/**
 * @typedef {{ name: string, offset: number, type: string, c: string, size?: number,
 *   dims?: number[], bits?: [number, number], fields?: Field[] }} Field
 * @typedef {{ kind: string, size: number, fields: Field[] }} Struct
 * @typedef {{ request: number, argument: string | null }} Request
 * @typedef {{ source: { name: string, version: string, sha256: string },
 *   constants: Record<string, string>, requests: Record<string, Request>,
 *   structs: Record<string, Struct> }} Facts
 */

const layoutScript = join(import.meta.dirname, "..", "layout.py");
const includes = ["linux/kvm.h", "linux/kvm_para.h"].map((name) => `#include <${name}>\n`).join("");
const interesting =
  /^(KVM|KVM_\w+|MSR_KVM_\w+|KVMIO|GUEST_MEMFD_\w+|SYNC_REGS_\w+|[A-Z]{2}_VECTOR)$/;

/**
 * Calls `work` with a temporary directory, and removes the directory afterwards.
 * @template T @param {(dir: string) => T} work
 */
function inTemporaryDirectory(work) {
  const dir = mkdtempSync(join(tmpdir(), "kvm-abi-"));
  try {
    return work(dir);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/**
 * Runs gcc on C text with only these headers in the search path.
 * @param {string} headers @param {string} text @param {string[]} options
 * @returns {{ out: string, errors: string }}
 */
function gcc(headers, text, options) {
  const fixed = ["-x", "c", "-std=gnu11", "-nostdinc", "-I", headers, "-fno-diagnostics-color"];
  try {
    const out = execFileSync("gcc", [...fixed, ...options, "-"], {
      input: text,
      encoding: "utf8",
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, LC_ALL: "C" },
    });
    return { out, errors: "" };
  } catch (error) {
    if (error instanceof Error && "stderr" in error) {
      return { out: "", errors: String(error.stderr) };
    }
    throw error;
  }
}

/**
 * Selects the macros that are integer constants on x86: compiles one line for each macro; gcc reports the lines of all
 * other macros. The `| 0` makes a string an error; without it, gcc would accept the address of the string as a
 * constant.
 * @param {string} headers @param {string[]} names
 */
function integers(headers, names) {
  const lines = names.map((name, i) => `enum { e${i} = ((${name}) | 0) != 0 };\n`);
  const text = `${includes}#line 1 "probe"\n${lines.join("")}`;
  const { errors } = gcc(headers, text, ["-fsyntax-only", "-fmax-errors=0"]);
  const bad = new Set([...errors.matchAll(/^probe:(\d+):/gm)].map(([, line]) => Number(line) - 1));
  return names.filter((_, i) => !bad.has(i));
}

/**
 * Evaluates integer macros by running a program that prints them, in decimal.
 * @param {string} headers @param {string[]} names @returns {Map<string, string>}
 */
function evaluate(headers, names) {
  const prints = names.map(
    (name) =>
      `printf((${name}) < 0 ? "${name} %lld\\n" : "${name} %llu\\n", ` +
      `(unsigned long long)(${name}));\n`,
  );
  const text = `${includes}int printf(const char *, ...);\nint main(void) {\n${prints.join("")}}\n`;
  return inTemporaryDirectory((dir) => {
    const program = join(dir, "print");
    const { errors } = gcc(headers, text, ["-w", "-o", program]);
    if (errors) throw new Error(errors);
    const lines = execFileSync(program, { encoding: "utf8" }).trimEnd().split("\n");
    return new Map(lines.map((line) => /** @type {[string, string]} */ (line.split(" ", 2))));
  });
}

/**
 * Finds the macros that are ioctl requests, and their C types: redefines `_IO*` and expands each
 * name with the preprocessor.
 * @param {string} headers @param {string[]} names @returns {Map<string, string | null>}
 */
function requestArguments(headers, names) {
  const meaning = ["_IO", "_IOR", "_IOW", "_IOWR"]
    .map((macro) => `#undef ${macro}\n#define ${macro}(type, nr, ...) @IO __VA_ARGS__\n`)
    .join("");
  // The name is also printed as a string, because the preprocessor does not expand strings.
  const asked = names.map((name) => `"${name}" ${name}\n`).join("");
  const { out } = gcc(headers, `${includes}${meaning}${asked}`, ["-E", "-P"]);
  const found = out.matchAll(/^"(\w+)" @IO ?(.*)$/gm);
  return new Map([...found].map(([, name = "", argument]) => [name, argument?.trim() || null]));
}

/** @param {string} headers @returns {{ structs: Record<string, Struct>, enumerators: Record<string, number> }} */
function layouts(headers) {
  return inTemporaryDirectory((dir) => {
    const object = join(dir, "layout.o");
    const options = ["-g", "-fno-eliminate-unused-debug-types", "-c", "-o", object];
    const { errors } = gcc(headers, `${includes}int anchor;\n`, options);
    if (errors) throw new Error(errors);
    const args = ["-nx", "-batch", "-x", layoutScript, object];
    return JSON.parse(execFileSync("gdb", args, { encoding: "utf8" }));
  });
}

/** Hashes every header that gcc reads, names and contents. @param {string} headers */
function fingerprint(headers) {
  const { out } = gcc(headers, includes, ["-M"]);
  const files = out.split(/[\s\\]+/).filter((name) => name.endsWith(".h"));
  const hash = createHash("sha256");
  for (const file of files.toSorted()) {
    hash
      .update(`${relative(headers, file)}\0`)
      .update(readFileSync(file))
      .update("\0");
  }
  return hash.digest("hex");
}

/** @template T @param {Iterable<[string, T]>} entries @returns {Record<string, T>} */
const sorted = (entries) =>
  Object.fromEntries([...entries].toSorted(([a], [b]) => (a < b ? -1 : 1)));

/**
 * Reads UAPI headers (a directory with linux/ and asm/) and returns the facts, sorted by name.
 * @param {string} directory
 * @param {string} version the kernel's, e.g. "7.2": the headers do not contain it
 * @returns {Facts}
 */
export function extract(directory, version) {
  const headers = resolve(directory);
  const { out } = gcc(headers, includes, ["-E", "-dM"]);
  const macros = [...out.matchAll(/^#define (\w+) \S/gm)].map(([, name = ""]) => name);
  const names = integers(
    headers,
    macros.filter((name) => interesting.test(name)),
  );
  const values = evaluate(headers, names);
  const requestTypes = requestArguments(headers, names);
  const { structs, enumerators } = layouts(headers);
  for (const [name, value] of Object.entries(enumerators)) values.set(name, String(value));
  const constants = [...values].filter(([name]) => !requestTypes.has(name));
  const requests = [...requestTypes].map(
    /** @returns {[string, Request]} */
    ([name, argument]) => [name, { request: Number(values.get(name)), argument }],
  );
  return {
    source: { name: `Linux ${version} UAPI`, version, sha256: fingerprint(headers) },
    constants: sorted(constants),
    requests: sorted(requests),
    structs,
  };
}

/**
 * Formats facts as JSON with one fact per line, because a diff between kernels should be readable.
 * @param {Facts} facts
 */
export function printFacts(facts) {
  /** @param {unknown} value @param {number} depth @returns {string} */
  const print = (value, depth) => {
    if (typeof value !== "object" || value === null || JSON.stringify(value).length < 120) {
      return JSON.stringify(value);
    }
    const [open, close] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
    const items = Object.entries(value).map(([key, item]) => {
      const label = Array.isArray(value) ? "" : `${JSON.stringify(key)}: `;
      return `${" ".repeat(depth + 1)}${label}${print(item, depth + 1)}`;
    });
    return `${open}\n${items.join(",\n")}\n${" ".repeat(depth)}${close}`;
  };
  return `${print(facts, 0)}\n`;
}
