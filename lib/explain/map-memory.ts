/** Why guest memory could not be mapped: huge pages, advices, files. Mapping it is kvm/guest-memory.ts. */
import { existsSync, readFileSync } from "node:fs";

const [EINVAL, ENOMEM, ENODEV] = [22, 12, 19];
const HUGE_PAGES = "/sys/kernel/mm/hugepages";

/** A refused call for memory of huge pages. */
export interface HugePagesRefusal {
  readonly errno: number;
  readonly byteLength: number;
  /** Bytes a page. */
  readonly pageSize: number;
}

/**
 * Says why there is no memory of huge pages of this size; `undefined` when we do not know.
 *
 * @param directory - where the kernel says how many there are; another one in tests.
 */
export function explainHugePages(
  { errno, byteLength, pageSize }: HugePagesRefusal,
  directory: string = HUGE_PAGES,
): string | undefined {
  const name = `huge pages of ${pageSize / 2 ** 20} MiB`;
  const pool = `${directory}/hugepages-${pageSize / 1024}kB`;
  if (!existsSync(pool)) return `this kernel has no ${name}`;
  if (errno !== ENOMEM) return undefined;
  const count = (file: string): number => Number(readFileSync(`${pool}/${file}`, "latin1"));
  const needed = Math.ceil(byteLength / pageSize);
  const free = count("free_hugepages") - count("resv_hugepages");
  if (!(free < needed)) return undefined;
  return `${needed} ${name} are needed and ${free} are free; ${pool}/nr_hugepages sets how many there are`;
}

const ADVICE_NEEDS: Readonly<Record<string, string>> = {
  MADV_HUGEPAGE: "this kernel has no transparent huge pages",
  MADV_MERGEABLE: "this kernel merges no pages (CONFIG_KSM)",
  MADV_POPULATE_WRITE: "populating memory needs Linux 5.14",
};

/** Says why madvise() refused; `undefined` when we do not know. */
export function explainAdvice(advice: string, errno: number): string | undefined {
  return errno === EINVAL ? ADVICE_NEEDS[advice] : undefined;
}

/** A refused call for memory that shows a file. */
export interface FileRefusal {
  readonly call: string;
  readonly errno: number;
  readonly offset: number;
  readonly byteLength: number | undefined;
}

/** Says why a file could not be mapped; `undefined` when we do not know. */
export function explainMapFile(refusal: FileRefusal): string | undefined {
  const { call, errno, offset, byteLength } = refusal;
  if (call !== "mmap") return undefined;
  if (errno === ENODEV) return "only regular files can be guest memory";
  if (errno !== EINVAL) return undefined;
  if (offset % 4096 !== 0) return `the offset ${offset} is not a multiple of 4096`;
  return byteLength === undefined ? `the file has nothing at offset ${offset}` : undefined;
}
