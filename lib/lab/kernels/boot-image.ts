/** The head of a bzImage (Documentation/arch/x86/boot.rst): whether it is one, and of which release. */
import { open, stat } from "node:fs/promises";
import { LabError } from "../error.ts";

const HEADER = 0x202;
const KERNEL_VERSION = 0x20e;
/** The version's address is counted from here. */
const SETUP = 0x200;
const HEAD_BYTES = 0x10000;

/**
 * Reads the release, what `uname -r` says, from a bzImage; `""` when it does not tell.
 *
 * @throws {@link LabError} `ERR_LAB_NOT_A_KERNEL` when the file is something else.
 */
export async function bootImageRelease(path: string): Promise<string> {
  const head = await readHead(path);
  if (head.toString("latin1", HEADER, HEADER + 4) !== "HdrS") {
    const what = head.toString("latin1", 1, 4) === "ELF" ? "an ELF file" : "something else";
    const remedy = "give the bzImage (arch/x86/boot/bzImage of a built tree, or /boot/vmlinuz-*)";
    throw new LabError("ERR_LAB_NOT_A_KERNEL", `${path} is no bzImage but ${what}; ${remedy}`);
  }
  const offset = head.readUInt16LE(KERNEL_VERSION);
  if (offset === 0) return "";
  const [release = ""] = head.toString("latin1", SETUP + offset).split(/[\s\0]/, 1);
  return release;
}

async function readHead(path: string): Promise<Buffer> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isFIFO() === true) {
    throw new LabError("ERR_LAB_NOT_A_KERNEL", `the kernel ${path} is a pipe; give a file`);
  }
  const file = await open(path).catch((cause: unknown) => {
    throw new LabError("ERR_LAB_NOT_A_KERNEL", `the kernel ${path} cannot be read`, cause);
  });
  try {
    const head = Buffer.alloc(HEAD_BYTES);
    await file.read(head, 0, HEAD_BYTES, 0);
    return head;
  } catch (cause) {
    throw new LabError("ERR_LAB_NOT_A_KERNEL", `the kernel ${path} cannot be read`, cause);
  } finally {
    await file.close();
  }
}
