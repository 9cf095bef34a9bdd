/** Tests of a kernel's modules: their fields, their dependencies, and their order. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import {
  findModules,
  loadOrder,
  moduleChain,
  moduleClosure,
  parseModuleInfo,
} from "../../../../lib/lab/kernels/modules.ts";
import { temporaryFolder } from "../temporary.ts";
import { elf, tinyModule } from "./tiny-module.ts";

const RELEASE = "6.12.1-test";
const KVM: Readonly<Record<string, string>> = {
  "kernel/virt/lib/irqbypass.ko": "",
  "kernel/arch/x86/kvm/kvm.ko": "irqbypass",
  "kernel/arch/x86/kvm/kvm-amd.ko": "kvm,ccp",
  "kernel/arch/x86/kvm/kvm-intel.ko": "kvm",
  "kernel/drivers/crypto/ccp/ccp.ko": "",
};

/** Writes modules with the given paths and dependencies into a folder of the test. */
function tree(modules: Readonly<Record<string, string>>): string {
  const folder = temporaryFolder();
  for (const [path, depends] of Object.entries(modules)) {
    put(folder, path, tinyModule(depends, RELEASE));
  }
  return folder;
}

function put(folder: string, path: string, content: Buffer | string): void {
  mkdirSync(join(folder, path, ".."), { recursive: true });
  writeFileSync(join(folder, path), content);
}

const names = (paths: readonly string[]): readonly string[] => paths.map((path) => basename(path));

describe("parseModuleInfo() of a kernel module", () => {
  test("reads a module's dependencies and its release", () => {
    const info = parseModuleInfo(tinyModule("kvm,kvm-helper", RELEASE), "x.ko");
    expect(info).toEqual({ release: RELEASE, depends: ["kvm", "kvm_helper"] });
  });

  test("reads a module that has no dependencies", () => {
    expect(parseModuleInfo(tinyModule("", RELEASE), "x.ko").depends).toEqual([]);
  });

  test.each([
    ["is not an ELF64 file", Buffer.from("MZ, a program of another system")],
    ["is not an ELF64 file", Buffer.alloc(0)],
    ["is truncated", tinyModule("kvm", RELEASE).subarray(0, 0x60)],
    ["is truncated", tinyModule("kvm", RELEASE).subarray(0, 0x20)],
    ["has no .modinfo", elf(".strings", "depends=kvm\0")],
  ])("fails with the file name for a module that %s", (why, content) => {
    expect(() => parseModuleInfo(content, "/lib/x.ko")).toThrow(
      expect.objectContaining({
        code: "ERR_LAB_MODULE",
        message: `/lib/x.ko is not a usable module: it ${why}`,
      }),
    );
  });

  test("does not confuse .modinfo with a section whose name only starts with .modinfo", () => {
    expect(() => parseModuleInfo(elf(".modinfo.old", "depends=kvm\0"), "x.ko")).toThrow(
      "it has no .modinfo",
    );
  });
});

describe("moduleChain() of kernel modules", () => {
  test.each([
    ["kvm_amd", ["irqbypass.ko", "kvm.ko", "ccp.ko", "kvm-amd.ko"]],
    ["kvm_intel", ["irqbypass.ko", "kvm.ko", "kvm-intel.ko"]],
  ] as const)("returns the dependencies of %s before the module itself", async (module, order) => {
    const into = join(temporaryFolder(), "made");
    const chain = await moduleChain({ release: RELEASE, modules: tree(KVM) }, module, into);
    expect(names(chain)).toEqual(order);
    expect(chain.map((path) => join(path, ".."))).toEqual(order.map(() => into));
  });

  test.each([
    ["ko.gz", (content: Buffer) => gzipSync(content)],
    ["ko.xz", (content: Buffer) => execFileSync("xz", ["-c"], { input: content })],
  ])("unpacks a module with the suffix .%s", async (ending, pack) => {
    const plain = tinyModule("", RELEASE);
    const modules = temporaryFolder();
    put(modules, `kvm-intel.${ending}`, pack(plain));
    const into = temporaryFolder();
    const chain = await moduleChain({ release: RELEASE, modules }, "kvm_intel", into);
    expect(chain).toEqual([join(into, "kvm-intel.ko")]);
    expect(readFileSync(join(into, "kvm-intel.ko"))).toEqual(plain);
  });

  test("omits modules that modules.builtin lists", async () => {
    const modules = tree({ "kvm-intel.ko": "kvm" });
    put(modules, "modules.builtin", "kernel/arch/x86/kvm/kvm.ko\nkernel/virt/lib/irqbypass.ko\n");
    const kernel = { release: RELEASE, modules };
    expect(names(await moduleChain(kernel, "kvm_intel", temporaryFolder()))).toEqual([
      "kvm-intel.ko",
    ]);
  });

  test("fails with the name of a missing module and the searched folder", async () => {
    const modules = tree({ "kvm-amd.ko": "kvm" });
    const chain = moduleChain({ release: RELEASE, modules }, "kvm_amd", temporaryFolder());
    await expect(chain).rejects.toMatchObject({
      code: "ERR_LAB_MODULE",
      message: expect.stringContaining(`there is no module kvm below ${modules}`),
    });
  });

  test("rejects modules of another kernel release", async () => {
    const kernel = { release: "6.12.2-test", modules: tree(KVM) };
    await expect(moduleChain(kernel, "kvm_intel", temporaryFolder())).rejects.toMatchObject({
      code: "ERR_LAB_MODULE",
      message: expect.stringContaining(`was built for ${RELEASE}, the kernel is 6.12.2-test`),
    });
  });

  test("accepts modules of any release for a kernel without a release", async () => {
    const kernel = { release: "", modules: tree(KVM) };
    expect(await moduleChain(kernel, "kvm_intel", temporaryFolder())).toHaveLength(3);
  });

  test("fails with the name of a module that cannot be unpacked", async () => {
    const modules = temporaryFolder();
    put(modules, "kvm-amd.ko.xz", "not xz at all");
    await expect(
      moduleChain({ release: RELEASE, modules }, "kvm_amd", temporaryFolder()),
    ).rejects.toMatchObject({
      code: "ERR_LAB_MODULE",
      message: expect.stringContaining("kvm-amd.ko.xz is not a usable module: xz cannot unpack it"),
    });
  });

  test("fails with the name of a missing folder", async () => {
    const kernel = { release: "", modules: "/nowhere/at/all" };
    await expect(moduleChain(kernel, "kvm_amd", temporaryFolder())).rejects.toMatchObject({
      code: "ERR_LAB_MODULE",
      message: expect.stringContaining("/nowhere/at/all cannot be read"),
    });
  });

  test("ends if it is interrupted", async () => {
    const kernel = { release: RELEASE, modules: tree(KVM) };
    const chain = moduleChain(kernel, "kvm_amd", temporaryFolder(), AbortSignal.abort());
    await expect(chain).rejects.toMatchObject({ code: "ERR_LAB_INTERRUPTED" });
  });
});

describe("loadOrder() of kernel modules", () => {
  test("loads a dependency of two modules only once", async () => {
    const kernel = { release: RELEASE, modules: tree(KVM) };
    const order = await loadOrder(kernel, ["kvm-intel", "kvm-amd"], temporaryFolder());
    expect(names(order)).toEqual([
      "irqbypass.ko",
      "kvm.ko",
      "kvm-intel.ko",
      "ccp.ko",
      "kvm-amd.ko",
    ]);
  });

  test("terminates for modules that depend on each other", async () => {
    const kernel = { release: RELEASE, modules: tree({ "a.ko": "b", "b.ko": "a" }) };
    expect(names(await loadOrder(kernel, ["a"], temporaryFolder()))).toEqual(["b.ko", "a.ko"]);
  });
});

describe("findModules()", () => {
  test("prefers a module in updates/ to a module with the same name in another folder", async () => {
    const folder = tree({ "kernel/kvm.ko": "", "updates/dkms/kvm.ko": "" });
    expect((await findModules(folder)).files.get("kvm")).toBe(join(folder, "updates/dkms/kvm.ko"));
  });

  test("ignores files that are not modules", async () => {
    const folder = tree({ "kvm.ko.debug": "", "kvm.kos": "", "x.ko": "" });
    expect([...(await findModules(folder)).files.keys()]).toEqual(["x"]);
  });
});

test("moduleClosure() returns each named module with its dependencies, and ignores missing modules", async () => {
  const found = await findModules(tree(KVM));
  const paths = await moduleClosure(found, ["kvm_intel", "9p"]);
  expect(names(paths)).toEqual(["kvm-intel.ko", "kvm.ko", "irqbypass.ko"]);
});
