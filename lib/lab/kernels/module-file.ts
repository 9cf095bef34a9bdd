/** One kernel module's file: unpacking it, and reading what it says about itself in `.modinfo`. */
import { readFile } from "node:fs/promises";
import { extname } from "node:path";
import { LabError } from "../error.ts";
import { commandError, run } from "../process/command.ts";

/** What a module says about itself. */
export interface ModuleInfo {
  /** The release of the kernel it was built for. */
  readonly release: string;
  /** The modules it needs, with `_` for `-`. */
  readonly depends: readonly string[];
}

/** How a module may be packed, by the end of its file's name, and what unpacks it. */
export const COMPRESSIONS: Readonly<Record<string, string>> = {
  ".gz": "gzip",
  ".xz": "xz",
  ".zst": "zstd",
};

// elf.h: a module is a relocatable file for x86-64.
export const ELF64_LITTLE_ENDIAN: string = "\u007fELF\u0002\u0001";
const E_SHOFF = 0x28;
const E_SHENTSIZE = 0x3a;
const SH_NAME = 0x00;
const SH_OFFSET = 0x18;
const SH_SIZE = 0x20;

/** Reads a module's file, unpacked. */
export async function readModule(path: string, signal?: AbortSignal): Promise<Buffer> {
  const program = COMPRESSIONS[extname(path)];
  if (program === undefined) return readFile(path);
  const output = await run(program, ["-dc", path], { signal });
  if (output.status === 0) return output.stdout;
  throw broken(path, `${program} cannot unpack it`, commandError(output));
}

/**
 * Reads what a module needs and was built for.
 *
 * @param path for the error's text only.
 * @throws {@link LabError} `ERR_LAB_MODULE` when these bytes are no x86-64 module.
 */
export function parseModuleInfo(content: Buffer, path: string): ModuleInfo {
  const fields = new Map<string, string>();
  for (const field of modinfo(content, path).toString("latin1").split("\0")) {
    const at = field.indexOf("=");
    if (at > 0) fields.set(field.slice(0, at), field.slice(at + 1));
  }
  const [release = ""] = (fields.get("vermagic") ?? "").split(" ");
  const depends = (fields.get("depends") ?? "").split(",").filter((name) => name !== "");
  return { release, depends: depends.map((name) => name.replaceAll("-", "_")) };
}

function modinfo(content: Buffer, path: string): Buffer {
  if (content.toString("latin1", 0, 6) !== ELF64_LITTLE_ENDIAN)
    throw broken(path, "it is no ELF64");
  try {
    const [entrySize, count, namesIndex] = [0, 2, 4].map((i) =>
      content.readUInt16LE(E_SHENTSIZE + i),
    ) as [number, number, number];
    const first = Number(content.readBigUInt64LE(E_SHOFF));
    const section = (index: number): Buffer => content.subarray(first + index * entrySize);
    const names = bytesOf(content, section(namesIndex));
    for (let i = 0; i < count; i += 1) {
      const name = names.subarray(section(i).readUInt32LE(SH_NAME));
      if (name.toString("latin1", 0, 9) === ".modinfo\0") return bytesOf(content, section(i));
    }
  } catch (cause) {
    // The only thing that throws above is a read behind the end.
    throw broken(path, "it is cut short", cause);
  }
  throw broken(path, "it has no .modinfo");
}

function bytesOf(content: Buffer, section: Buffer): Buffer {
  const start = Number(section.readBigUInt64LE(SH_OFFSET));
  const end = start + Number(section.readBigUInt64LE(SH_SIZE));
  if (end > content.length) throw new RangeError("the section ends behind the file");
  return content.subarray(start, end);
}

function broken(path: string, why: string, cause?: unknown): LabError {
  return new LabError("ERR_LAB_MODULE", `${path} is not a usable module: ${why}`, cause);
}
