/**
 * Tests of the option that names a kernel: a value with a slash is a path, any other value is a name of the catalogue.
 */

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { chdir, cwd } from "node:process";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { findKernel } from "../../../lib/cli/lab-kernel.ts";
import { FakeApt } from "../lab/archive/fake-apt.ts";
import { tinyImage, tinyModule } from "../lab/kernels/tiny-module.ts";
import { temporaryFolder } from "../lab/temporary.ts";

vi.setConfig({ testTimeout: 60_000 });

const RELEASE = "6.12.1+deb13-cloud-amd64";
const before = cwd();
const find = (word: string): ReturnType<typeof findKernel> =>
  findKernel(word, undefined, new AbortController().signal);

beforeEach(() => {
  const apt = new FakeApt();
  apt.addKernel(RELEASE, "6.12.1-1", "trixie");
  vi.stubEnv("NODE_KVM_CACHE", apt.cache.root);
  chdir(temporaryFolder());
  mkdirSync("6.12");
  writeFileSync("6.12/vmlinuz", tinyImage("6.12.0-own"));
  writeFileSync("6.12/kvm.ko", tinyModule("", "6.12.0-own"));
  writeFileSync("bzImage", tinyImage("6.12.0-own"));
});
afterEach(() => {
  chdir(before);
  vi.unstubAllEnvs();
});

test("a folder in the current directory with the name of a kernel is not used as the kernel", async () => {
  expect((await find("6.12")).name).toBe(RELEASE);
});

test.each(["./6.12", `${join(".", "6.12")}/`])(
  "--kernel with the path %s selects the user's own kernel",
  async (word) => {
    expect((await find(word)).name).toBe("own:6.12.0-own");
  },
);

test("the error about an unknown kernel name that is also a file explains how to write a path", async () => {
  await expect(find("bzImage")).rejects.toMatchObject({
    code: "ERR_LAB_UNKNOWN_KERNEL",
    message: expect.stringMatching(
      /^no kernel has the name "bzImage"; .*with a slash: \.\/bzImage$/,
    ),
  });
});
