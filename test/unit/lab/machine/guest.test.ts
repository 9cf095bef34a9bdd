/** Tests of the content of a guest's root file system. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { kernelEntries, type Work, workEntries } from "../../../../lib/lab/machine/guest.ts";
import type { InitramfsEntry } from "../../../../lib/lab/machine/initramfs.ts";
import { guestFolder } from "../../../../lib/lab/machine/installation.ts";

const folder = mkdtempSync(join(tmpdir(), "guest-"));
afterAll(() => rmSync(folder, { recursive: true }));

function text(entries: readonly InitramfsEntry[], path: string): string {
  const entry = entries.find((candidate) => candidate.path === path);
  return String((entry as { content?: Uint8Array } | undefined)?.content);
}

/** Runs the guest's script on this host. */
function command(work: Work): string {
  const script = text(workEntries({ cwd: folder, ...work }), "/lab/command");
  return execFileSync("sh", ["-c", script], { encoding: "utf8" });
}

describe("the initramfs of one lab exec", () => {
  test("passes every word of the command unchanged", () => {
    const words = ["a b", "it's", "$HOME", "`x`", "*", "", "back\\slash", "new\nline", "=", "-n"];
    expect(command({ command: ["printf", "%s|", ...words] })).toBe(`${words.join("|")}|`);
  });

  test("sets the environment of the command", () => {
    expect(command({ command: ["sh", "-c", 'echo "$A-$B"'], env: { A: "it's", B: "x=y" } })).toBe(
      "it's-x=y\n",
    );
  });

  test("starts the command in the package's folder, below node_modules", () => {
    expect(text(workEntries({ command: ["true"] }), "/lab/command")).toContain(
      `cd '${guestFolder()}' `,
    );
    expect(guestFolder()).toMatch(/\/node_modules\/node-kvm$/);
  });

  test("contains the host files with their modes and bytes", () => {
    const host = join(folder, "program");
    writeFileSync(host, "x", { mode: 0o755 });
    const entries = workEntries({
      command: ["/p"],
      files: { "/p": host, "/q": Buffer.from("bytes") },
    });
    expect(entries).toContainEqual({
      kind: "file",
      path: "/p",
      content: { from: host },
      mode: 0o755,
    });
    expect(text(entries, "/q")).toBe("bytes");
  });

  test("contains a host folder with its modes, links and empty folders", () => {
    const host = join(folder, "tree");
    mkdirSync(join(host, "sub/empty"), { recursive: true });
    writeFileSync(join(host, "sub/run"), "x", { mode: 0o750 });
    symlinkSync("sub/run", join(host, "link"));
    const entries = workEntries({ command: ["true"], files: { "/x": host } });
    const below = entries.filter(({ path }) => path === "/x" || path.startsWith("/x/"));
    expect(below.toSorted((a, b) => a.path.localeCompare(b.path))).toMatchObject([
      { kind: "directory", path: "/x" },
      { kind: "symlink", path: "/x/link", target: "sub/run" },
      { kind: "directory", path: "/x/sub" },
      { kind: "directory", path: "/x/sub/empty" },
      { kind: "file", path: "/x/sub/run", content: { from: join(host, "sub/run") }, mode: 0o750 },
    ]);
  });

  test("rejects a host folder that contains a pipe, and the error names the pipe", () => {
    const host = join(folder, "odd");
    mkdirSync(host);
    execFileSync("mkfifo", [join(host, "pipe")]);
    expect(() => workEntries({ command: ["true"], files: { "/x": host } })).toThrow(
      `${join(host, "pipe")}, the file for /x/pipe in the guest, is neither a file nor a folder`,
    );
  });

  test("passes standard input to the command", () => {
    const entries = workEntries({ command: ["cat"], stdin: Buffer.from("input") });
    expect(text(entries, "/lab/stdin")).toBe("input");
    expect(text(entries, "/lab/command")).toMatch(/'cat' <\/lab\/stdin\n$/);
    expect(text(workEntries({ command: ["cat"] }), "/lab/command")).toMatch(/'cat'\n$/);
  });

  test("rejects a missing host file, and the error names the file", () => {
    expect(() => workEntries({ command: ["/p"], files: { "/p": join(folder, "none") } })).toThrow(
      `${join(folder, "none")}, the file for /p in the guest, does not exist`,
    );
  });

  test.each(["x", "", "./x", "a\nb", "/a\nb", "/a\u001b[2J"])(
    "rejects the guest path %j for a copied file, a requested file and the working directory",
    (path) => {
      const refusal = expect.objectContaining({
        code: "ERR_LAB_FILE",
        message: expect.stringMatching(
          /^the guest path ".*" (is not absolute|has a control character)/,
        ),
      });
      expect(() => workEntries({ command: ["x"], files: { [path]: Buffer.from("") } })).toThrow(
        refusal,
      );
      expect(() => workEntries({ command: ["x"], wanted: [path] })).toThrow(refusal);
      expect(() => workEntries({ command: ["x"], cwd: path })).toThrow(refusal);
    },
  );

  test.each([
    ["/a/../b", "/b"],
    ["/a//b", "/a/b"],
    ["/a/", "/a"],
  ])(
    "rejects the guest path %j, and the error names the path's normalised form",
    (path, wanted) => {
      expect(() => workEntries({ command: ["x"], files: { [path]: Buffer.from("") } })).toThrow(
        `the guest path "${path}" is not normalised: write "${wanted}"`,
      );
    },
  );

  test("rejects a host file of 2 GiB", () => {
    const path = join(folder, "large");
    writeFileSync(path, "");
    truncateSync(path, 2 ** 31);
    expect(() => workEntries({ command: ["x"], files: { "/x": path } })).toThrow(
      `${path} has 2.1 GB: a file for the guest must be smaller than 2 GiB`,
    );
  });

  test("lists the requested guest paths, one per line", () => {
    expect(text(workEntries({ command: ["x"], wanted: ["/a", "/b c"] }), "/lab/wanted")).toBe(
      "/a\n/b c\n",
    );
  });
});

test("the kernel's part of an initramfs lists the modules in load order", () => {
  const entries = kernelEntries(["/m/irqbypass.ko", "/m/kvm.ko", "/m/kvm-amd.ko"]);
  expect(text(entries, "/lab/modules/order")).toBe("irqbypass.ko\nkvm.ko\nkvm-amd.ko\n");
  expect(entries).toContainEqual({
    kind: "file",
    path: "/lab/modules/kvm-amd.ko",
    content: { from: "/m/kvm-amd.ko" },
  });
});
