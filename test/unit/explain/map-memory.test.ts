/** Claims about why guest memory could not be mapped, told from constructed facts. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  explainAdvice,
  explainHugePages,
  explainMapFile,
} from "../../../lib/explain/map-memory.ts";

const [EINVAL, ENOMEM, ENODEV, ENOENT] = [22, 12, 19, 2];
const GIB = 2 ** 30;

/** A directory like the kernel's, with so many pages of 1 GiB. */
function poolOf(free: number, reserved: number): string {
  const directory = mkdtempSync(join(tmpdir(), "node-kvm-"));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const pool = join(directory, "hugepages-1048576kB");
  mkdirSync(pool);
  writeFileSync(join(pool, "free_hugepages"), `${free}\n`);
  writeFileSync(join(pool, "resv_hugepages"), `${reserved}\n`);
  return directory;
}

describe("huge pages", () => {
  const refusal = { errno: ENOMEM, byteLength: 2 * GIB + 1, pageSize: GIB };

  test("of a size that the kernel has not are no pages", () => {
    expect(explainHugePages({ ...refusal, errno: EINVAL }, "/nowhere")).toBe(
      "this kernel has no huge pages of 1024 MiB",
    );
  });

  test("that are too few are counted, without those that are promised", () => {
    const directory = poolOf(4, 2);
    expect(explainHugePages(refusal, directory)).toBe(
      "3 huge pages of 1024 MiB are needed and 2 are free; " +
        `${directory}/hugepages-1048576kB/nr_hugepages sets how many there are`,
    );
  });

  test.each([
    ["there are enough", { ...refusal, byteLength: 2 * GIB }],
    ["it was not about memory", { ...refusal, errno: EINVAL }],
  ])("explain nothing when %s", (_, given) => {
    expect(explainHugePages(given, poolOf(4, 2))).toBeUndefined();
  });
});

describe("advice", () => {
  test.each([
    ["MADV_HUGEPAGE", "this kernel has no transparent huge pages"],
    ["MADV_MERGEABLE", "this kernel merges no pages (CONFIG_KSM)"],
    ["MADV_POPULATE_WRITE", "populating memory needs Linux 5.14"],
    ["MADV_DONTDUMP", undefined],
  ])("%s that is not known is explained as %s", (advice, reason) => {
    expect(explainAdvice(advice, EINVAL)).toBe(reason);
  });

  test("that fails for another reason is not explained", () => {
    expect(explainAdvice("MADV_POPULATE_WRITE", ENOMEM)).toBeUndefined();
  });
});

describe("a file", () => {
  test.each([
    ["mmap", ENODEV, 0, undefined, "only regular files can be guest memory"],
    ["mmap", EINVAL, 100, 4096, "the offset 100 is not a multiple of 4096"],
    ["mmap", EINVAL, 4096, undefined, "the file has nothing at offset 4096"],
    ["mmap", EINVAL, 4096, 0, undefined],
    ["mmap", ENOMEM, 100, undefined, undefined],
    ["open", ENODEV, 100, undefined, undefined],
    ["open", ENOENT, 0, undefined, undefined],
  ])(
    "refused by %s with errno %d at %d for %s bytes: %s",
    (call, errno, offset, byteLength, reason) => {
      expect(explainMapFile({ call, errno, offset, byteLength })).toBe(reason);
    },
  );
});
