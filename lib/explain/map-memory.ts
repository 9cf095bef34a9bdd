/**
 * Explains why guest memory could not be mapped: missing huge pages, refused advice, unsuitable files. kvm/memory maps
 * the memory.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { release } from "node:os";
import { known, type Reasons, type Refusal, type Rule } from "./refusal.ts";
import { claim, fault, open } from "./verdict.ts";

const MM = "/sys/kernel/mm";
const PAGE = 4096;

/** Returns the sysfs directory of a pool of huge pages; tests use another directory than /sys. */
function poolOf({ sent }: Refusal): { pool: string; name: string; size: number } | undefined {
  const { pageSize, sysfs = MM } = sent;
  if (typeof pageSize !== "number" || typeof sysfs !== "string") return undefined;
  const root = `${sysfs}/hugepages`;
  const name = `huge pages of ${pageSize / 2 ** 20} MiB`;
  return { pool: `${root}/hugepages-${pageSize / 1024}kB`, name, size: pageSize };
}

const noPool: Rule = (refusal) => {
  const found = poolOf(refusal);
  if (found === undefined) return undefined;
  // In a container without sysfs, the sizes of the kernel's pools are unknown.
  const isMounted = existsSync(`${refusal.sent["sysfs"] ?? MM}`);
  return claim(isMounted ? !existsSync(found.pool) : undefined, `this kernel has no ${found.name}`);
};

const smallPool: Rule = (refusal) => {
  const found = poolOf(refusal);
  const { byteLength } = refusal.sent;
  if (found === undefined || typeof byteLength !== "number") return undefined;
  const { pool, name, size } = found;
  const count = (file: string): number | undefined =>
    known(() => Number(readFileSync(`${pool}/${file}`, "latin1")));
  const [all, reserved] = [count("free_hugepages"), count("resv_hugepages")];
  if (all === undefined || reserved === undefined) return undefined;
  const needed = Math.ceil(byteLength / size);
  const free = all - reserved;
  return claim(
    free < needed,
    `${needed} ${name} are needed, but ${free} are free; ${pool}/nr_hugepages sets the number of pages`,
  );
};

const offsetOf = ({ sent }: Refusal): number =>
  typeof sent["offset"] === "number" ? sent["offset"] : 0;

/** The causes of a failed mmap that apply only to guest memory. */
export const explainMap: Reasons = {
  EINVAL: {
    "no pool of huge pages": noPool,
    "offset inside a page": (refusal) =>
      claim(
        offsetOf(refusal) % PAGE !== 0,
        `the offset ${offsetOf(refusal)} is not a multiple of ${PAGE}`,
      ),
    "end of the file": (refusal) => {
      const { path, byteLength } = refusal.sent;
      if (typeof path !== "string" || byteLength !== undefined) return undefined;
      const size = known(() => statSync(path).size);
      const offset = offsetOf(refusal);
      return claim(
        size === undefined ? undefined : size <= offset,
        `the file has no content at offset ${offset}`,
      );
    },
  },
  ENODEV: {
    "no regular file": ({ sent: { path } }) => {
      if (typeof path !== "string") return undefined;
      const isFile = known(() => statSync(path).isFile());
      return fault(isFile === false ? "only regular files can be guest memory" : undefined);
    },
    "file system without mmap": ({ sent: { path } }) =>
      open(typeof path === "string" ? "the file system cannot map its files" : undefined),
  },
  ENOMEM: { "pool of huge pages": smallPool },
};

/** The causes of errors of memfd_create. */
export const MEMFD_CREATE: Reasons = {
  ENODEV: { "no pool of huge pages": noPool },
  EINVAL: { "no pool of huge pages": noPool },
};

/** MADV_POPULATE_WRITE exists since Linux 5.14. */
const POPULATES = [5, 14] as const;

function isBefore([major, minor]: readonly [number, number], version: string): boolean | undefined {
  const [has, and] = version.split(".").map(Number);
  if (has === undefined || and === undefined || Number.isNaN(has + and)) return undefined;
  return has < major || (has === major && and < minor);
}

const advice =
  (name: string, judge: Rule): Rule =>
  (refusal) =>
    refusal.sent["advice"] === name ? judge(refusal) : undefined;

const withoutFolder =
  (folder: string, text: string): Rule =>
  ({ sent: { sysfs = MM } }) =>
    claim(existsSync(`${sysfs}`) ? !existsSync(`${sysfs}/${folder}`) : undefined, text);

/** The causes of errors of madvise. */
export const MADVISE: Reasons = {
  EINVAL: {
    "no transparent huge pages": advice(
      "MADV_HUGEPAGE",
      withoutFolder("transparent_hugepage", "this kernel has no transparent huge pages"),
    ),
    "no merging of pages": advice(
      "MADV_MERGEABLE",
      withoutFolder("ksm", "this kernel does not merge pages (CONFIG_KSM)"),
    ),
    "old kernel": advice("MADV_POPULATE_WRITE", ({ sent: { kernel = release() } }) =>
      claim(isBefore(POPULATES, `${kernel}`), "populating memory needs Linux 5.14"),
    ),
  },
  // mm/madvise.c:madvise_populate returns EFAULT
  EFAULT: {
    "end of the file": advice("MADV_POPULATE_WRITE", () =>
      open("the file ends before the end of the memory"),
    ),
    "page that cannot be read": advice("MADV_POPULATE_WRITE", () =>
      open("a page is not available, such as one of an exhausted pool of huge pages"),
    ),
  },
};
