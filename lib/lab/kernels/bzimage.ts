/**
 * Reads a bzImage (Documentation/arch/x86/boot.rst): its release, and the uncompressed kernel that it contains.
 *
 * QEMU starts an uncompressed kernel by its PVH entry, which saves the second that the emulated CPU needs for
 * unpacking. A bzImage that cannot be unpacked is not an error, because the emulator can boot the bzImage itself.
 */
import { open, readFile, rm, stat, writeFile } from "node:fs/promises";
import * as zlib from "node:zlib";
import { LabError } from "../error.ts";
import { run } from "../process/command.ts";
import { ELF64_LITTLE_ENDIAN } from "./modules.ts";

// Documentation/arch/x86/boot.rst
const SETUP_SECTS = 0x1f1;
const HEADER = 0x202;
const VERSION = 0x206;
const KERNEL_VERSION = 0x20e;
/** The offset in the file to which KERNEL_VERSION is relative. */
const SETUP = 0x200;
/** The number of bytes at the beginning of the file that contain the release. */
const HEAD_BYTES = 0x10000;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
/** The first version of the boot protocol with the fields of the payload. */
const WITH_PAYLOAD = 0x0208;
const SECTOR = 512;
/** Every payload ends with the size of its content after unpacking. */
const SIZE_BYTES = 4;

/** The formats of payloads: the first bytes of each, and the program that unpacks it. */
const FORMATS = [
  { magic: Buffer.of(0x1f, 0x8b), program: "gzip" },
  { magic: Buffer.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00), program: "xz" },
  { magic: Buffer.of(0x28, 0xb5, 0x2f, 0xfd), program: "zstd" },
  { magic: Buffer.of(0x02, 0x21, 0x4c, 0x18), program: "lz4" },
] as const;

/**
 * Reads the release (`uname -r`) from a bzImage; returns `""` if the file contains no release.
 *
 * @throws {@link LabError} `ERR_LAB_NOT_A_KERNEL` if the file is something else.
 */
export async function bootImageRelease(path: string): Promise<string> {
  const head = await readHead(path);
  if (head.toString("latin1", HEADER, HEADER + 4) !== "HdrS") {
    const what = head.toString("latin1", 1, 4) === "ELF" ? "an ELF file" : "something else";
    const remedy = "give the bzImage (arch/x86/boot/bzImage of a built tree, or /boot/vmlinuz-*)";
    throw new LabError("ERR_LAB_NOT_A_KERNEL", `${path} is not a bzImage but ${what}; ${remedy}`);
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

/**
 * Unpacks a bzImage into a file.
 *
 * @returns whether QEMU can start the file. QEMU cannot start the file if the image has another format, if the program
 *   that unpacks it is missing or fails, or if the kernel has no PVH entry (`CONFIG_PVH`).
 * @throws {@link LabError} `ERR_LAB_INTERRUPTED`, or the system's error if the file cannot be written.
 */
export async function unpackVmlinux(
  bzImage: string,
  into: string,
  signal?: AbortSignal,
): Promise<boolean> {
  const image = await readFile(bzImage).catch(() => undefined);
  const payload = image === undefined ? undefined : payloadOf(image);
  if (payload === undefined) return false;
  const size = payload.readUInt32LE(payload.length - SIZE_BYTES);
  const vmlinux = await unpack(payload, into, signal);
  if (vmlinux?.length !== size || !hasPvhEntry(vmlinux)) return false;
  await writeFile(into, vmlinux);
  return true;
}

/** Finds the packed kernel; `undefined` if the file is not a bzImage with the fields of the payload. */
function payloadOf(image: Buffer): Buffer | undefined {
  if (image.length < PAYLOAD_LENGTH + 4) return undefined;
  if (image.toString("latin1", HEADER, HEADER + 4) !== "HdrS") return undefined;
  if (image.readUInt16LE(VERSION) < WITH_PAYLOAD) return undefined;
  // A setup_sects of 0 means 4 sectors; the boot sector itself is not counted.
  const sectors = (image.readUInt8(SETUP_SECTS) || 4) + 1;
  const start = sectors * SECTOR + image.readUInt32LE(PAYLOAD_OFFSET);
  const end = start + image.readUInt32LE(PAYLOAD_LENGTH);
  return end <= image.length && end - start > SIZE_BYTES ? image.subarray(start, end) : undefined;
}

async function unpack(
  payload: Buffer,
  into: string,
  signal: AbortSignal | undefined,
): Promise<Buffer | undefined> {
  const format = FORMATS.find(({ magic }) => payload.subarray(0, magic.length).equals(magic));
  if (format === undefined) return undefined;
  // The payload ends with the unpacked size. The size is part of the gzip format; other programs would reject the size
  // as garbage.
  const packed = format.program === "gzip" ? payload : payload.subarray(0, -SIZE_BYTES);
  if (format.program === "gzip") return orUndefined(() => zlib.gunzipSync(packed));
  // Node.js has zstd since 22.15.
  const { zstdDecompressSync } = zlib as { zstdDecompressSync?: (bytes: Buffer) => Buffer };
  if (format.program === "zstd" && zstdDecompressSync !== undefined) {
    return orUndefined(() => zstdDecompressSync(packed));
  }
  const file = `${into}.packed`;
  await writeFile(file, packed);
  try {
    const { status, stdout } = await run(format.program, ["-dc", file], { signal });
    return status === 0 ? stdout : undefined;
  } catch (error) {
    if (error instanceof LabError && error.code === "ERR_LAB_TOOL") return undefined;
    throw error;
  } finally {
    await rm(file, { force: true });
  }
}

function orUndefined(unpacked: () => Buffer): Buffer | undefined {
  try {
    return unpacked();
  } catch {
    return undefined; // the payload is damaged; the boot of the kernel reports this
  }
}

// elf.h
const E_PHOFF = 0x20;
const E_PHENTSIZE = 0x36;
const E_PHNUM = 0x38;
const PT_NOTE = 4;
const P_OFFSET = 0x08;
const P_FILESZ = 0x20;
const NOTE_HEADER = 12;
/** The note with the entry point of a PVH guest (xen/interface/elfnote.h). */
const XEN_ELFNOTE_PHYS32_ENTRY = 18;

/** Whether an ELF file has the note with the PVH entry point, which QEMU requires. */
function hasPvhEntry(elf: Buffer): boolean {
  if (elf.toString("latin1", 0, ELF64_LITTLE_ENDIAN.length) !== ELF64_LITTLE_ENDIAN) return false;
  try {
    const first = Number(elf.readBigUInt64LE(E_PHOFF));
    const [size, count] = [elf.readUInt16LE(E_PHENTSIZE), elf.readUInt16LE(E_PHNUM)];
    const headers = Array.from({ length: count }, (_, i) => elf.subarray(first + i * size));
    return headers
      .filter((header) => header.readUInt32LE(0) === PT_NOTE)
      .some((header) => {
        const start = Number(header.readBigUInt64LE(P_OFFSET));
        const end = start + Number(header.readBigUInt64LE(P_FILESZ));
        return hasPvhNote(elf.subarray(start, end));
      });
  } catch {
    return false; // of the code above, only a read beyond the end of the bytes throws
  }
}

function hasPvhNote(notes: Buffer): boolean {
  const padded = (length: number): number => (length + 3) & ~3;
  for (let at = 0; at + NOTE_HEADER <= notes.length; ) {
    const [nameSize, size, type] = [0, 4, 8].map((i) => notes.readUInt32LE(at + i)) as [
      number,
      number,
      number,
    ];
    const name = notes.toString("latin1", at + NOTE_HEADER, at + NOTE_HEADER + nameSize);
    if (type === XEN_ELFNOTE_PHYS32_ENTRY && name === "Xen\0") return true;
    at += NOTE_HEADER + padded(nameSize) + padded(size);
  }
  return false;
}
