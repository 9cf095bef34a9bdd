/** The program every-ioctl.js and its output: the rows, and whether the kernel handled the call. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The program's path on this host. */
export const PROGRAM: string = fileURLToPath(new URL("every-ioctl.js", import.meta.url));

/** One (ioctl, fd) pair. */
export interface Row {
  readonly ioctl: string;
  readonly fd: "sys" | "vm" | "vcpu" | "dev";
  /** The oldest of Linux 6.1, 6.12 and 7.2 that has it. */
  readonly since: string;
}

/** The result of one row's call. */
export interface Answer {
  /** `KVM_GET_REGS vcpu`. */
  readonly row: string;
  /** `ok`, an errno's name, or another error's text. */
  readonly answer: string;
  /** Whether the addon issued this ioctl on this kind of descriptor. */
  readonly reached: boolean;
}

/** The ioctl whose method selects how it runs. */
const OTHER_NAMES: Readonly<Record<string, string>> = { run: "runSync" };

/** The method of an ioctl: `KVM_SET_CPUID2` is `setCpuid2`. */
export function methodOf(ioctl: string): string {
  const name = ioctl
    .replace(/^KVM_/, "")
    .toLowerCase()
    .replaceAll(/_([a-z0-9])/g, (_, next: string) => next.toUpperCase());
  return OTHER_NAMES[name] ?? name;
}

/** Whether the result is from the kernel and not from this package. */
export function isKernels({ answer, reached }: Answer): boolean {
  return reached && /^(ok|E[A-Z0-9]+)$/.test(answer);
}

/** Reads kvm-ioctls.tsv. */
export function readRows(): readonly Row[] {
  const file = join(import.meta.dirname, "../../../gen/facts/kvm-ioctls.tsv");
  const [, ...lines] = readFileSync(file, "utf8").trimEnd().split("\n");
  return lines.map((line) => {
    const [ioctl = "", fd = "", , , , , since = ""] = line.split("\t");
    return { ioctl, fd: fd as Row["fd"], since };
  });
}
