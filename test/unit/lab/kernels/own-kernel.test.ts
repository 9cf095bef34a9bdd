/** Tests of a user's own kernel: an image and its modules, or a built tree. */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { ownKernel } from "../../../../lib/lab/kernels/kernels.ts";
import { temporaryFolder } from "../temporary.ts";
import { tinyImage, tinyModule } from "./tiny-module.ts";

describe("--kernel with the path of the user's own kernel", () => {
  const RELEASE = "6.17.13+own";

  /** Writes files into a folder of the test. */
  function put(files: Readonly<Record<string, Buffer | string>>): string {
    const folder = temporaryFolder();
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), content);
    }
    return folder;
  }

  test("accepts a bzImage and a folder of modules", async () => {
    const vmlinuz = join(put({ vmlinuz: tinyImage(RELEASE) }), "vmlinuz");
    const modules = put({ "deep/kvm.ko": tinyModule("", RELEASE) });
    const name = `own:${RELEASE}`;
    expect(await ownKernel({ vmlinuz, modules })).toEqual({
      name,
      release: RELEASE,
      vmlinuz,
      modules,
    });
  });

  test("finds the modules in a folder next to a bzImage", async () => {
    const modules = put({ bzImage: tinyImage(RELEASE), "kvm.ko.xz": "" });
    const vmlinuz = join(modules, "bzImage");
    expect(await ownKernel({ vmlinuz })).toMatchObject({ vmlinuz, modules });
  });

  test.each(["", "arch/x86/boot/bzImage"])(
    "accepts a path in a built source tree: the tree's path followed by %j",
    async (inside) => {
      const image = "arch/x86/boot/bzImage";
      const tree = put({ [image]: tinyImage(RELEASE), "arch/x86/kvm/kvm.ko": "" });
      const { vmlinuz, modules } = await ownKernel({ vmlinuz: join(tree, inside) });
      expect([join(vmlinuz), join(modules, ".")]).toEqual([join(tree, image), join(tree, ".")]);
    },
  );

  test("accepts a kernel that has no loadable modules", async () => {
    const builtin = "kernel/arch/x86/kvm/kvm.ko\n";
    const folder = put({ vmlinuz: tinyImage(RELEASE), "modules.builtin": builtin });
    expect(await ownKernel({ vmlinuz: folder })).toMatchObject({ release: RELEASE });
  });

  test("uses the label that the user passed as the kernel's name", async () => {
    const vmlinuz = put({ vmlinuz: tinyImage(RELEASE), "kvm.ko": "" });
    expect(await ownKernel({ vmlinuz, label: "patched" })).toMatchObject({ name: "own:patched" });
  });

  test("uses the path as the name of a kernel without a release", async () => {
    const folder = put({ vmlinuz: tinyImage(""), "kvm.ko": "" });
    const name = `own:${join(folder, "vmlinuz")}`;
    expect(await ownKernel({ vmlinuz: folder })).toMatchObject({ name, release: "" });
  });

  test.each([
    ["is not there", "missing", "does not exist"],
    ["is an ELF file", "vmlinux", "is not a bzImage but an ELF file"],
    ["is empty", "empty", "is not a bzImage but something else"],
    ["is a folder without one", "folder", "contains no arch/x86/boot/bzImage"],
  ])("rejects a path that %s", async (_, name, message) => {
    const folder = put({ vmlinux: tinyModule("", ""), empty: "", "folder/README": "" });
    await expect(ownKernel({ vmlinuz: join(folder, name) })).rejects.toMatchObject({
      code: "ERR_LAB_NOT_A_KERNEL",
      message: expect.stringContaining(message),
    });
  });

  test("fails if no modules are found, and the error asks for their path", async () => {
    const vmlinuz = put({ vmlinuz: tinyImage(RELEASE) });
    await expect(ownKernel({ vmlinuz })).rejects.toMatchObject({
      code: "ERR_LAB_MODULE",
      message: expect.stringContaining("--modules"),
    });
  });
});
