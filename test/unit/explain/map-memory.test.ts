/** Tests of the reasons why guest memory could not be mapped, with constructed evidence. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { why } from "./refused.ts";

const GIB = 2 ** 30;

/** Creates a directory like the kernel's sysfs directory, with this number of pages of 1 GiB. */
function poolOf(free: number, reserved: number): string {
  const directory = mkdtempSync(join(tmpdir(), "node-kvm-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const pool = join(directory, "hugepages", "hugepages-1048576kB");
  mkdirSync(pool, { recursive: true });
  writeFileSync(join(pool, "free_hugepages"), `${free}\n`);
  writeFileSync(join(pool, "resv_hugepages"), `${reserved}\n`);
  return directory;
}

describe("the reason of a failed mmap() with huge pages", () => {
  const refusal = { byteLength: 2 * GIB + 1, pageSize: GIB };
  const sent = (free: number, more = {}): Readonly<Record<string, unknown>> => ({
    ...refusal,
    sysfs: poolOf(free, 2),
    ...more,
  });

  test.each(["mmap EINVAL", "memfd_create ENODEV", "memfd_create EINVAL"])(
    "is that the kernel has no pages of this size: %s",
    (call) => {
      expect(why(call, sent(4, { pageSize: 2 ** 21 }))).toBe(
        "this kernel has no huge pages of 2 MiB",
      );
    },
  );

  test("is stated only as a possible cause if sysfs is not mounted", () => {
    expect(why("mmap EINVAL", { ...refusal, sysfs: "/nowhere" })).toBe(
      "either this kernel has no huge pages of 1024 MiB, or another cause",
    );
  });

  test("counts the free huge pages, except for the reserved pages", () => {
    const given = sent(4);
    expect(why("mmap ENOMEM", given)).toBe(
      "3 huge pages of 1024 MiB are needed, but 2 are free; " +
        `${given["sysfs"]}/hugepages/hugepages-1048576kB/nr_hugepages sets the number of pages`,
    );
  });

  test("names the other causes if enough huge pages are free", () => {
    expect(why("mmap ENOMEM", sent(5))).toMatch(/^either there is not enough memory/);
    expect(why("mmap EINVAL", sent(4))).toBeUndefined();
  });

  test.each([
    { pageSize: GIB, byteLength: GIB, sysfs: 5 },
    { pageSize: "1 GiB", byteLength: GIB },
    { byteLength: GIB },
    { pageSize: GIB },
  ])("does not count huge pages for %o", (given) => {
    expect(why("mmap ENOMEM", given)).toMatch(/^either there is not enough memory/);
  });

  test.each(["free_hugepages", "resv_hugepages"])(
    "does not count huge pages if %s is unknown",
    (file) => {
      const given = sent(0);
      rmSync(`${given["sysfs"]}/hugepages/hugepages-1048576kB/${file}`);
      expect(why("mmap ENOMEM", given)).toMatch(/^either there is not enough memory/);
    },
  );

  test("is not the number of huge pages for EMFILE", () => {
    expect(why("memfd_create EMFILE", sent(4, { pageSize: 2 ** 21 }))).toMatch(/ulimit -n/);
  });
});

describe("the reason of a failed madvise()", () => {
  const sysfs = (): string => poolOf(0, 0);

  test.each([
    ["MADV_HUGEPAGE", "this kernel has no transparent huge pages"],
    ["MADV_MERGEABLE", "this kernel does not merge pages (CONFIG_KSM)"],
    ["MADV_DONTDUMP", undefined],
  ])("for %s is that the kernel does not support this advice: %s", (advice, reason) => {
    expect(why("madvise EINVAL", { advice, sysfs: sysfs() })).toBe(reason);
  });

  test("is absent for MADV_HUGEPAGE and MADV_MERGEABLE if the kernel supports them", () => {
    const directory = sysfs();
    mkdirSync(join(directory, "transparent_hugepage"));
    mkdirSync(join(directory, "ksm"));
    const sent = { sysfs: directory };
    expect(why("madvise EINVAL", { ...sent, advice: "MADV_HUGEPAGE" })).toBeUndefined();
    expect(why("madvise EINVAL", { ...sent, advice: "MADV_MERGEABLE" })).toBeUndefined();
  });

  test.each([
    ["5.13.0", "populating memory needs Linux 5.14"],
    ["5.14.0", undefined],
    ["6.1.0-rc1", undefined],
    ["4.19.2", "populating memory needs Linux 5.14"],
    ["6", "either populating memory needs Linux 5.14, or another cause"],
    ["6.x", "either populating memory needs Linux 5.14, or another cause"],
    ["made up", "either populating memory needs Linux 5.14, or another cause"],
  ])("for MADV_POPULATE_WRITE on Linux %s: %s", (kernel, reason) => {
    expect(why("madvise EINVAL", { advice: "MADV_POPULATE_WRITE", kernel })).toBe(reason);
  });
});

describe("the reason of a failed call to map a file", () => {
  const path = import.meta.filename;

  test.each([
    [
      "mmap EINVAL",
      { path, offset: 100, byteLength: 4096 },
      "the offset 100 is not a multiple of 4096",
    ],
    ["mmap EINVAL", { path, offset: 2 ** 30 }, "the file has no content at offset 1073741824"],
    ["mmap EINVAL", { path, offset: 0 }, undefined],
    [
      "mmap EINVAL",
      { path: "/nowhere/at/all", offset: 4096 },
      "either the file has no content at offset 4096, or another cause",
    ],
    ["mmap EINVAL", { path: 5, offset: 4096 }, undefined],
    ["mmap ENODEV", { path: 5 }, undefined],
    ["mmap ENODEV", {}, undefined],
    ["mmap EINVAL", { path, offset: 2 ** 30, byteLength: 4096 }, undefined],
    ["mmap ENODEV", { path: "/dev/null" }, "only regular files can be guest memory"],
    ["mmap ENODEV", { path }, "either the file system cannot map its files, or another cause"],
  ])("is stated for %s with %o: %s", (call, sent, reason) => {
    expect(why(call, sent)).toBe(reason);
  });
});
