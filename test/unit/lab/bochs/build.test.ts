/** Tests of building Bochs: the patches match exactly, and only the known source is built. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { applyFix, buildBochs, FIXES } from "../../../../lib/lab/bochs/build.ts";
import { BUILT } from "../../../../lib/lab/bochs/parts.ts";
import { LabCache } from "../../../../lib/lab/cache/cache.ts";
import { temporaryFolder } from "../temporary.ts";

/** The lines of the source that the patches change. */
const SOURCE: Readonly<Record<string, string>> = {
  "cpu/vmx.cc": [
    "  BX_CPU_THIS_PTR in_vmx_guest = true;",
    "      if (! IsValidPageAlignedPhyAddr(vm->pid_addr)) {",
    "",
  ].join("\n"),
  "cpu/svm.cc": "  BX_CPU_THIS_PTR in_svm_guest = true;\n",
  "cpu/flag_ctrl_pro.cc": [
    "  if (BX_CPU_THIS_PTR in_svm_guest && SVM_V_INTR_MASKING) {",
    "     if (! SVM_HOST_IF)",
    "",
    "     mask_event(BX_EVENT_SVM_VIRQ_PENDING);",
    "  }",
    "     mask_event(BX_EVENT_SVM_VIRQ_PENDING);",
    "",
  ].join("\n"),
  "cpu/xsave.cc": [
    "      if ((requested_feature_bitmap & feature_mask) != 0)",
    "      {",
    "        if (format & feature_mask)",
    "          offset += xsave_restore[feature].len;",
    "      }",
    "    }",
    "",
  ].join("\n"),
};

const FIXED: Readonly<Record<string, string>> = {
  "cpu/vmx.cc": [
    "  BX_CPU_THIS_PTR in_vmx_guest = true;",
    "  handleInterruptMaskChange();",
    "      if (! IsValidPhyAddr(vm->pid_addr) || (vm->pid_addr & 0x3f)) {",
    "",
  ].join("\n"),
  "cpu/svm.cc": "  BX_CPU_THIS_PTR in_svm_guest = true;\n  handleInterruptMaskChange();\n",
  "cpu/flag_ctrl_pro.cc": [
    "  if (BX_CPU_THIS_PTR in_svm_guest && SVM_V_INTR_MASKING) {",
    "     if (! SVM_HOST_IF)",
    "",
    "     if (SVM_HOST_IF) unmask_event(BX_EVENT_PENDING_INTR | BX_EVENT_PENDING_LAPIC_INTR);",
    "     mask_event(BX_EVENT_SVM_VIRQ_PENDING);",
    "  }",
    "     mask_event(BX_EVENT_SVM_VIRQ_PENDING);",
    "",
  ].join("\n"),
  "cpu/xsave.cc": [
    "      if ((requested_feature_bitmap & feature_mask) != 0)",
    "      {",
    "      }",
    "",
    "      if (format & feature_mask)",
    "        offset += xsave_restore[feature].len;",
    "    }",
    "",
  ].join("\n"),
};

describe("the fixes to the source of Bochs", () => {
  test("have their number in the name of the cache entry", () => {
    expect(BUILT.name).toBe(`bochs-3.0-fixed-${FIXES.length}`);
  });

  test("change five places in four files", () => {
    const fixed = Object.entries(SOURCE).map(([file, text]) => {
      const fixes = FIXES.filter((fix) => fix.file === file);
      return [file, fixes.reduce(applyFix, text)];
    });
    expect(FIXES).toHaveLength(5);
    expect(Object.fromEntries(fixed)).toEqual(FIXED);
  });

  test.each(FIXES)("reject a $file without the expected line", (fix) => {
    expect(() => applyFix("int main;\n", fix)).toThrow(`${fix.file} has 0 places, not one,`);
  });

  test.each(FIXES)("reject a $file with the expected line twice", (fix) => {
    const text = SOURCE[fix.file] ?? "";
    expect(() => applyFix(text + text, fix)).toThrow(`${fix.file} has 2 places, not one,`);
  });
});

let folder = "";
let cache: LabCache;
beforeEach(() => {
  folder = temporaryFolder();
  cache = new LabCache(join(folder, "cache"));
  mkdirSync(join(folder, "bin"));
  vi.stubEnv("PATH", `${join(folder, "bin")}:${process.env["PATH"]}`);
  script("apt-config", "");
  script("make", "cat cpu/*.cc >bochs");
  script("g++", "");
  script("strip", 'cp "$3" "$2"');
});

afterEach(() => {
  vi.unstubAllEnvs();
});

function script(name: string, text: string): void {
  const path = join(folder, "bin", name);
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
}

/** Creates an archive with this source; returns the options for it. */
function publish(
  files: Readonly<Record<string, string>>,
): NonNullable<NonNullable<Parameters<typeof buildBochs>[1]>["source"]> {
  const root = join(folder, "tree");
  for (const [name, text] of Object.entries({ ...files, configure: "#!/bin/sh\n" })) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text, { mode: 0o755 });
  }
  const tarball = join(folder, "bochs_3.0+dfsg.orig.tar.xz");
  execFileSync("tar", ["-cJf", tarball, "-C", folder, "tree"]);
  // The archive no longer has the .dsc, so apt fails, but apt has already downloaded the other files.
  script(
    "apt-get",
    `case $1 in source) cp "${tarball}" .; echo "E: Failed to fetch x.dsc  404" >&2; exit 100;; esac`,
  );
  return {
    name: "bochs",
    version: "3.0+dfsg-1",
    suite: "trixie",
    file: "bochs_3.0+dfsg.orig.tar.xz",
    sha256: createHash("sha256").update(readFileSync(tarball)).digest("hex"),
  };
}

const mirror = "http://mirror.test/debian";

describe("the build of Bochs", () => {
  test("stores only the fixed program in the cache", async () => {
    const path = await buildBochs(cache, { mirror, source: publish(SOURCE) });
    const names = ["cpu/flag_ctrl_pro.cc", "cpu/svm.cc", "cpu/vmx.cc", "cpu/xsave.cc"];
    const all = names.map((name) => FIXED[name]);
    expect(readFileSync(path, "utf8")).toBe(all.join(""));
    expect(readdirSync(dirname(path)).toSorted()).toEqual(["bochs", "manifest.json"]);
    expect(readdirSync(join(cache.root, "building"))).toEqual([]);
  });

  test("downloads only the source, from the archive's address", async () => {
    await buildBochs(cache, { mirror, source: publish(SOURCE) });
    const lines = readFileSync(join(cache.root, "apt-source/sources.list"), "utf8");
    expect(lines).toMatch(
      /^deb-src \[signed-by=\S+\] http:\/\/mirror\.test\/debian trixie main\n$/,
    );
  });

  test("is not repeated if the program is in the cache", async () => {
    const path = await buildBochs(cache, { mirror, source: publish(SOURCE) });
    script("apt-get", "exit 1");
    expect(await buildBochs(cache, { mirror })).toBe(path);
  });

  test("rejects a source with an unknown checksum", async () => {
    publish(SOURCE);
    await expect(buildBochs(cache, { mirror })).rejects.toMatchObject({
      code: "ERR_LAB_DAMAGED",
      message: expect.stringContaining("bochs_3.0+dfsg.orig.tar.xz is not the expected file"),
    });
    expect(existsSync(join(cache.root, "tools"))).toBe(false);
  });

  test("rejects a source that a fix does not match", async () => {
    const source = publish({ ...SOURCE, "cpu/svm.cc": "" });
    await expect(buildBochs(cache, { mirror, source })).rejects.toThrow("cpu/svm.cc has 0 places");
    expect(readdirSync(join(cache.root, "building"))).toEqual([]);
  });

  test("fails with a reason if the archive has removed the source", async () => {
    script(
      "apt-get",
      'case $1 in source) echo "E: Unable to find a source package: 404" >&2; exit 100;; esac',
    );
    await expect(buildBochs(cache, { mirror })).rejects.toMatchObject({ code: "ERR_LAB_GONE" });
  });

  test("fails with the message of the compiler", async () => {
    script("make", "echo 'cpu.cc:1: error: no' >&2; exit 2");
    const source = publish(SOURCE);
    await expect(buildBochs(cache, { mirror, source })).rejects.toThrow("cpu.cc:1: error: no");
  });

  test("fails without a compiler, and the error names the package of the compiler", async () => {
    vi.stubEnv("PATH", join(folder, "empty"));
    await expect(buildBochs(cache, { mirror })).rejects.toThrow("apt-get install g++");
  });
});
