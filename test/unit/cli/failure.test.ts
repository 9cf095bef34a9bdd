/** Tests of failing commands: the exit status, and one line on standard error without a stack. */
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { command, MAIN, type Ran } from "./command.ts";

vi.setConfig({ testTimeout: 60_000 });

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "failure-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const NO_ADDON = { NODE_KVM_ADDON: "/nowhere/node_kvm.node" };
const KERNEL = ["--kernel", "/nowhere/bzImage"];

describe("with the reporter ktap, a failure ends with status 1, because kselftest's runner.sh takes 2 for an expected failure", () => {
  test.each<readonly string[]>([
    ["test", "--reporter", "ktap", "--nosuch"],
    ["test", "--nosuch", "--reporter", "ktap"],
    ["test", "--reporter", "ktap", "/nowhere/a.claims.ts"],
    ["test", "--reporter", "ktap", "--repro-all"],
    ["lab", "run", ...KERNEL, "--reporter", "ktap"],
    ["lab", "run", "--reporter", "ktap"],
  ])("%j", (...args) => {
    const { status, stderr } = command(args);
    expect(stderr).toMatch(/^node-kvm/);
    expect(status).toBe(1);
  });

  test("a host without a device, which --require-kvm makes a failure", () => {
    const env = { NODE_KVM_DEVICE: "/nowhere/kvm" };
    expect(command(["test", "--reporter", "ktap", "--require-kvm"], { env }).status).toBe(1);
    expect(command(["test", "--require-kvm"], { env }).status).toBe(2);
  });
});

describe("an expected failure of node-kvm prints one line and ends with status 2, or 125 for lab exec", () => {
  test.each<[args: readonly string[], status: number, line: RegExp]>([
    [["nosuch"], 2, /^node-kvm: unknown command 'nosuch'; see node-kvm --help$/],
    [
      ["info", "--jsn"],
      2,
      /^node-kvm info: unknown option '--jsn' \(Did you mean --json\?\); see /,
    ],
    [
      ["test", "--reporter", "xml"],
      2,
      /^node-kvm test: option '--reporter <name>' argument 'xml' is inv/,
    ],
    [
      ["test", "--repro", "/dev/null/c"],
      2,
      /^node-kvm: --repro: \/dev\/null\/c cannot be written: /,
    ],
    [["cpuid", "diff", "supported", "nosuch"], 2, /^node-kvm: nosuch .* cannot be read: ENOENT/],
    [
      ["cpuid", "diff", "-", "-"],
      2,
      /^node-kvm: standard input contains one file: name "-" only once$/,
    ],
    [["lab", "run"], 2, /^node-kvm lab run: required option '--kernel <names>' not specified; /],
    [["lab", "run", ...KERNEL], 2, /^node-kvm: the kernel \/nowhere\/bzImage does not exist$/],
    [
      ["lab", "run", "--kernel", "6.12", "--output", "/nowhere/r.html"],
      2,
      /^node-kvm: --output: \/nowhere\/r\.html cannot be written: ENOENT: no such file or directory$/,
    ],
    [["lab", "run", ...KERNEL, "--parallel", "1000000000"], 2, /whole number from 1 to 256; see /],
    [
      ["lab", "run", "--kernel", "6.12", "--modules", "/tmp"],
      2,
      /--modules is for a kernel of your own/,
    ],
    [
      ["lab", "exec", "--kernel", "6.12", "--modules", "/tmp", "--", "true"],
      125,
      /--modules is for a kernel/,
    ],
    [
      ["lab", "run", ...KERNEL, "nosuch"],
      2,
      /no claim contains "nosuch"; node-kvm test --list lists/,
    ],
    [["lab", "kernels", "--refetch"], 2, /--refetch needs --fetch; see /],
    [["lab", "cache", "--verify", "--empty"], 2, /--verify and --empty exclude each other/],
    [["test", "--repro-style", "selftest"], 2, /--repro-style needs --repro/],
    [["explore", "--kernel", "6.12", "--repro-style", "program"], 2, /--repro-style needs --repro/],
    [["test", "--evidence"], 2, /--evidence has an effect only with --reporter json/],
    [
      ["lab", "run", "--kernel", "6.12", "--evidence", "--reporter", "junit"],
      ...([2, /--evidence has an effect only with --reporter json/] as const),
    ],
    [["test", "--repro-all"], 2, /--repro-all needs --repro, which names the folder/],
    [["lab", "run", ...KERNEL, "--parallel", "0"], 2, /whole number from 1 to 256; see /],
    [["lab", "run", ...KERNEL, "--parallel", "1e1"], 2, /whole number from 1 to 256; see /],
    [
      ["lab", "bisect", "nosuch"],
      2,
      /^node-kvm lab bisect: needs --good and --bad, or --script; see /,
    ],
    [
      ["lab", "bisect", "x", "--script"],
      128,
      /^node-kvm lab bisect: --script needs --kernel; see /,
    ],
    [
      ["lab", "bisect", "set-257", "--script", ...KERNEL],
      128,
      /^node-kvm: --kernel: \/nowhere\/bzImage does not exist$/,
    ],
    [
      ["lab", "bisect", "set-257", "--script", "--kernel", "/tmp", "--modules", "/nowhere/m"],
      128,
      /^node-kvm: --modules: \/nowhere\/m does not exist$/,
    ],
    [
      ["lab", "exec", "--kernel", "6.12", "ls", "-l"],
      125,
      /unknown option '-l'; the command with its options comes after --, as in: lab exec --kernel 6\.12 -- ls -l \/; see /,
    ],
    [
      ["completion", "csh"],
      2,
      /^node-kvm completion: .*'csh' is invalid for argument 'shell'\. Allowed choices are bash, zsh, fish; see /,
    ],
    [["lab", "exec"], 125, /^node-kvm lab exec: required option '--kernel <name>' not specified; /],
    [["lab", "exec", ...KERNEL], 125, /^node-kvm lab exec: missing required argument 'command'; /],
    [["lab", "exec", ...KERNEL, "--", "true"], 125, /^node-kvm: the kernel \/nowhere/],
    [
      ["lab", "exec", ...KERNEL, "--timeout", "2147484", "--", "true"],
      125,
      /'--timeout <seconds>' argument '2147484' is invalid\. Use a whole number from 1 to 2147483; see /,
    ],
    [
      ["lab", "exec", ...KERNEL, "--memory", "1", "--", "true"],
      125,
      /Use a whole number from 256 to 1048576; see /,
    ],
    [
      ["lab", "exec", ...KERNEL, "--file", `${MAIN}:rel`, "--", "true"],
      125,
      /main\.js:rel: the guest path "rel" is not absolute$/,
    ],
    [
      ["lab", "exec", ...KERNEL, "--file", "/nowhere/x:/x", "--", "true"],
      125,
      /^node-kvm: --file \/nowhere\/x:\/x: \/nowhere\/x cannot be read: ENOENT/,
    ],
    [
      ["lab", "exec", ...KERNEL, "--file", "a:/b:/c", "--", "true"],
      125,
      /name one path, or two with one colon between them$/,
    ],
    [
      ["lab", "exec", ...KERNEL, "--out", "rel", "--", "true"],
      125,
      /^node-kvm: --out rel: the guest path "rel" is not absolute$/,
    ],
    [
      ["lab", "exec", ...KERNEL, "--out", "/x:/dev/null/x", "--", "true"],
      125,
      /^node-kvm: --out \/x:\/dev\/null\/x: \/dev\/null\/x cannot be written: ENOTDIR/,
    ],
    [
      ["lab", "exec", ...KERNEL, "--log", "/nowhere/log", "--", "true"],
      125,
      /^node-kvm: --log: \/nowhere\/log cannot be written: ENOENT/,
    ],
  ])("node-kvm %j: status %i", (args, status, line) => {
    const ran = command(args);
    expect(ran.stderr.trimEnd()).toMatch(line);
    expect(ran.stderr.split("\n")).toHaveLength(2);
    expect(ran).toMatchObject({ status, stdout: "" });
  });

  test("cpuid show, if the addon is missing", () => {
    const ran = command(["cpuid", "show"], { env: NO_ADDON });
    expect(ran.stderr).toMatch(
      /^node-kvm: node-kvm's addon could not be loaded \(.*NODE_KVM_ADDON names .*\n$/,
    );
    expect(ran).toMatchObject({ status: 2, stdout: "" });
  });

  test("test, if the addon is missing", () => {
    const ran = command(["test", "resend-get"], { env: NO_ADDON });
    expect(ran.stderr).toMatch(/^node-kvm: node-kvm's addon could not be loaded \(.*\n$/);
    expect(ran).toMatchObject({ status: 2, stdout: "" });
  });

  test("test, if vitest is missing", () => {
    // The folder contains this package and its dependencies, but not vitest.
    const root = resolve(MAIN, "../../..");
    const installed = join(folder, "node_modules/node-kvm");
    mkdirSync(installed, { recursive: true });
    for (const part of ["package.json", "test/kvm"]) {
      cpSync(join(root, part), join(installed, part), { recursive: true });
    }
    cpSync(resolve(MAIN, "../.."), join(installed, "dist"), { recursive: true });
    for (const name of ["commander", "iced-x86"]) {
      symlinkSync(join(root, "node_modules", name), join(folder, "node_modules", name));
    }
    const ran = command(["test"], {
      main: join(installed, "dist/cli/main.js"),
      env: { NODE_KVM_ADDON: join(root, "build/Release/node_kvm.node") },
    });
    const lines = ran.stderr.trimEnd().split("\n");
    expect(lines.at(-1)).toMatch(
      /^node-kvm: vitest cannot be loaded; .*npm install --save-dev vitest@4/,
    );
    expect(ran.stderr).not.toMatch(/^ {4}at /m);
    expect(ran).toMatchObject({ status: 2, stdout: "" });
  });
});

test("node-kvm info without the addon prints the reason and the remedy, and ends with status 1", () => {
  const ran = command(["info"], { env: NO_ADDON });
  expect(ran.stdout).toMatch(
    /^problem {8}node-kvm's addon could not be loaded .*NODE_KVM_ADDON names/m,
  );
  expect(ran).toMatchObject({ status: 1, stderr: "" });
});

test("node-kvm info --json without the addon prints JSON", () => {
  const { stdout } = command(["info", "--json"], { env: NO_ADDON });
  expect(JSON.parse(stdout)).toMatchObject({ problem: expect.stringContaining("addon") });
});

test.each([[[]], [["lab"]], [["cpuid"]]])(
  "node-kvm %j prints its help and a message that a command is missing, and ends with status 2",
  (args) => {
    const ran = command(args);
    expect(ran.stderr).toMatch(/^Usage: node-kvm/);
    expect(ran.stderr.trimEnd().split("\n").at(-1)).toMatch(/^node-kvm.*: name a command: /);
    expect(ran).toMatchObject({ status: 2, stdout: "" });
  },
);

const COMMANDS = [
  [],
  ["info"],
  ["test"],
  ["cpuid"],
  ...["dump", "show", "diff", "compare", "baseline", "portable", "lint"].map((name) => [
    "cpuid",
    name,
  ]),
  ...["convert", "query", "model", "needs", "page"].map((name) => ["cpuid", name]),
  ["lab"],
  ["lab", "kernels"],
  ["lab", "run"],
  ["lab", "exec"],
  ["lab", "bisect"],
  ["lab", "build-bochs"],
];

/** Returns the --help output of a command; each command runs only once. */
const helps = new Map<string, Ran>();
function help(args: readonly string[]): Ran {
  const name = args.join(" ");
  const ran = helps.get(name) ?? command([...args, "--help"]);
  helps.set(name, ran);
  return ran;
}

describe("--help", () => {
  test.each(COMMANDS.map((args) => [args]))("of node-kvm %j fits 80 columns", (args) => {
    const { stdout, stderr, status } = help(args);
    expect(stdout.split("\n").filter((line) => line.length > 80)).toEqual([]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  });

  const leaves = COMMANDS.filter(([first, second]) =>
    ["cpuid", "lab"].includes(first ?? "cpuid") ? second !== undefined : true,
  );

  test.each(leaves.map((args) => [args]))("of node-kvm %j lists its exit statuses", (args) => {
    const { stdout } = help(args);
    const list = stdout.slice(stdout.indexOf("Exit status:"));
    expect(list).toMatch(/^Exit status:\n/);
    expect(list).toMatch(/^ {2}(2 {2}|125).*usage error/m);
    expect(list).toMatch(/^ {2}130 {2}interrupted/m);
  });

  test("of lab exec describes the lab's exit statuses, the defaults, and the folder for scripts", () => {
    const { stdout } = help(["lab", "exec"]);
    const statuses = Array.from(stdout.matchAll(/^ {2}(\d{3}) {2}\S/gm), ([, status]) => status);
    expect(statuses).toEqual(["121", "122", "123", "124", "125", "130"]);
    const words = stdout.replaceAll(/\s+/g, " ");
    for (const fact of [
      "default: max, or corei7_haswell_4770 in Bochs",
      "default: 1024",
      "default: 300, or 900 in Bochs",
      'a script that imports "node-kvm" must be in that folder or below it',
      "/usr/lib/node_modules/node-kvm/mine.mjs -- node mine.mjs",
      "at most 64 MiB",
    ]) {
      expect(words).toContain(fact);
    }
  });
});
