/**
 * Runs the program every-ioctl.js and reads the output of the program: for each call, whether the kernel handled the
 * ioctl.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The path of the program on this host. */
export const PROGRAM: string = fileURLToPath(new URL("every-ioctl.js", import.meta.url));

/** An (ioctl, fd) pair of the table. */
export interface Row {
  readonly ioctl: string;
  readonly fd: "sys" | "vm" | "vcpu" | "dev";
  /** The oldest kernel that has the ioctl: Linux 6.1, 6.12 or 7.2. */
  readonly since: string;
}

/** The result of the call for one pair. */
export interface Answer {
  /** `KVM_GET_REGS vcpu`. */
  readonly row: string;
  /** `ok`, the name of an errno, or the text of another error. */
  readonly answer: string;
  /** Whether the addon issued this ioctl on this kind of descriptor. */
  readonly reached: boolean;
}

/** Methods whose name differs from the name of the ioctl. */
const OTHER_NAMES: Readonly<Record<string, string>> = { run: "runSync" };

/** Returns the name of an ioctl's method: `setCpuid2` for `KVM_SET_CPUID2`. */
export function methodOf(ioctl: string): string {
  const name = ioctl
    .replace(/^KVM_/, "")
    .toLowerCase()
    .replaceAll(/_([a-z0-9])/g, (_, next: string) => next.toUpperCase());
  return OTHER_NAMES[name] ?? name;
}

/** Returns whether the result is from the kernel and not from this package. */
export function isKernels({ answer, reached }: Answer): boolean {
  return reached && /^(ok|E[A-Z0-9]+)$/.test(answer);
}

/** Reads the (ioctl, fd) pairs of kvm-ioctls.tsv. */
export function readRows(): readonly Row[] {
  const file = join(import.meta.dirname, "../../../gen/facts/kvm-ioctls.tsv");
  const [, ...lines] = readFileSync(file, "utf8").trimEnd().split("\n");
  return lines.map((line) => {
    const [ioctl = "", fd = "", , , , , since = ""] = line.split("\t");
    return { ioctl, fd: fd as Row["fd"], since };
  });
}
