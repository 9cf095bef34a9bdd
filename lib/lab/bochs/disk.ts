/**
 * The disk from which Bochs starts a kernel, because Bochs has no option `-kernel`. The disk contains the data that a
 * boot loader would read from files; an option ROM copies the data into memory and starts the kernel.
 *
 * The PC's BIOS calls an option ROM before it searches for a boot device, so no partition, file system or boot loader
 * is needed. The files are not compressed: the ROM reads 140 MB, and the kernel's first line appears 2.5 s after the
 * start of Bochs. Documentation/arch/x86/boot.rst describes the kernel's boot protocol.
 */
import { type FileHandle, open, stat } from "node:fs/promises";
import { Assembler, mem } from "../../guest/index.ts";
import { LabError } from "../error.ts";
import { appendFile } from "../machine/initramfs.ts";

/** The kernel that is started. */
export interface DiskOptions {
  readonly vmlinuz: string;
  readonly initrd: string;
  /** The kernel's command line. */
  readonly append: string;
  /** The machine's memory, MiB. */
  readonly memory: number;
}

/** The physical address of the option ROM. The ROM's code uses the segment that begins there. */
export const ROM_ADDRESS = 0xd0000;
const ROM_BYTES = 2048;

const SECTOR = 512;
/** Bochs's disks have whole cylinders: 16 heads of 63 sectors. */
const CYLINDER = 16 * 63 * SECTOR;
/**
 * The maximum number of sectors of one READ SECTORS EXT command: below 65536, so that each read ends at a multiple of 1
 * MiB.
 */
const MOST_SECTORS = 63 * 1024;

/**
 * The addresses of the kernel's real-mode code and protected-mode code, and the end of the heap in the real-mode
 * segment (boot.rst).
 */
const SETUP = 0x90000;
const HEAP_END = 0xe000;
const PROTECTED = 0x100000;
/** The initramfs ends below the end of memory, where the BIOS stores its ACPI tables. */
const TABLES = 2 ** 20;

/** A run of sectors that the ROM copies into memory. */
interface Piece {
  readonly address: number;
  readonly lba: number;
  readonly sectors: number;
}

/**
 * Writes the disk, and returns the option ROM that belongs to it.
 *
 * @throws {@link LabError} `ERR_LAB_NOT_A_KERNEL` when the memory is too small for the parts.
 */
export async function writeDisk(path: string, options: DiskOptions): Promise<Uint8Array> {
  const kernel = await open(options.vmlinuz);
  const disk = await open(path, "w");
  try {
    const image = await kernel.readFile();
    const { size } = await stat(options.initrd);
    const { setup, initrd } = prepare(image, size, options);
    const pieces: Piece[] = [];
    let end = 0;
    const place = async (address: number, write: () => Promise<void>): Promise<void> => {
      const from = end;
      await write();
      end = await pad(disk, SECTOR);
      pieces.push(...split(address, from / SECTOR, (end - from) / SECTOR));
    };
    await place(SETUP, () => disk.writeFile(setup));
    await place(SETUP + HEAP_END, () => disk.writeFile(`${options.append}\0`));
    await place(PROTECTED, () => disk.writeFile(image.subarray(setup.length)));
    await place(initrd, () => appendFile(disk, options.initrd));
    await pad(disk, CYLINDER);
    return encodeRom(pieces);
  } finally {
    await disk.close();
    await kernel.close();
  }
}

/** Fills in the boot loader's fields in the header of the kernel's real-mode code. */
function prepare(
  image: Buffer,
  initrdBytes: number,
  { memory }: DiskOptions,
): { readonly setup: Buffer; readonly initrd: number } {
  const setup = Buffer.from(image.subarray(0, ((image[0x1f1] || 4) + 1) * SECTOR));
  const initrd = Math.floor((memory * 2 ** 20 - TABLES - initrdBytes) / 4096) * 4096;
  // The address to which the kernel unpacks itself, and the size that it needs there.
  const kernelEnd = Number(setup.readBigUInt64LE(0x258)) + setup.readUInt32LE(0x260);
  if (initrd < Math.max(kernelEnd, PROTECTED + image.length)) {
    const least = Math.ceil((kernelEnd + initrdBytes + TABLES) / 2 ** 20);
    const sentence = `${memory} MiB are too little for this kernel and its files: it needs ${least}`;
    throw new LabError("ERR_LAB_NOT_A_KERNEL", sentence);
  }
  setup.writeUInt8(0xff, 0x210); // type_of_loader: undefined
  setup.writeUInt8(setup.readUInt8(0x211) | 0x80, 0x211); // loadflags: there is a heap
  setup.writeUInt16LE(HEAP_END - 0x200, 0x224); // heap_end_ptr
  setup.writeUInt32LE(initrd, 0x218);
  setup.writeUInt32LE(initrdBytes, 0x21c);
  setup.writeUInt32LE(SETUP + HEAP_END, 0x228); // cmd_line_ptr
  return { setup, initrd };
}

function split(address: number, lba: number, sectors: number): readonly Piece[] {
  return Array.from({ length: Math.ceil(sectors / MOST_SECTORS) }, (_, i) => ({
    address: address + i * MOST_SECTORS * SECTOR,
    lba: lba + i * MOST_SECTORS,
    sectors: Math.min(MOST_SECTORS, sectors - i * MOST_SECTORS),
  }));
}

/** Pads the file to a multiple of a size; returns the length of the file. */
async function pad(file: FileHandle, multiple: number): Promise<number> {
  const { size } = await file.stat();
  const length = Math.ceil(size / multiple) * multiple;
  if (length > size) await file.writeFile(new Uint8Array(length - size));
  return length;
}

/** The ports of the first disk, and the command READ SECTORS EXT. */
const DISK = { data: 0x1f0, count: 0x1f2, device: 0x1f6, command: 0x1f7 } as const;
const READ_EXT = 0x24;

/** The offsets of the fields in an element of the ROM's table; an element without sectors ends the table. */
const ROW = { address: 0, sectors: 4, lba: 8, bytes: 12 } as const;

/** Encodes the option ROM: its header, its code, a table of pieces, and a checksum. */
function encodeRom(pieces: readonly Piece[]): Uint8Array {
  const table = 0x100;
  const rom = Buffer.alloc(ROM_BYTES);
  rom.set([0x55, 0xaa, ROM_BYTES / SECTOR]);
  const gdt = table - 24;
  rom.set(loader(gdt + 16, table).assemble(3n), 3);
  rom.writeBigUInt64LE(0x00cf_9200_0000_ffffn, gdt + 8); // a data segment from address 0 with a size of 4 GiB
  rom.writeUInt16LE(15, gdt + 16);
  rom.writeUInt32LE(ROM_ADDRESS + gdt, gdt + 18);
  for (const [i, { address, sectors, lba }] of pieces.entries()) {
    const row = table + i * ROW.bytes;
    rom.writeUInt32LE(address, row + ROW.address);
    rom.writeUInt16LE(sectors, row + ROW.sectors);
    rom.writeUInt32LE(lba, row + ROW.lba);
  }
  const sum = rom.reduce((total, byte) => total + byte, 0);
  rom.writeUInt8(-sum & 0xff, ROM_BYTES - 1);
  return rom;
}

/** Writes the ROM's code: it copies the disk's pieces to their addresses, then jumps to the kernel's real-mode code. */
function loader(gdtr: number, table: number): Assembler {
  const g = new Assembler(16);
  const row = (size: 8 | 16 | 32, displacement: number) => mem(size, { base: "si", displacement });
  g.emit("Cli").emit("Cld");
  g.in(8, 0x92).or("al", 2).out(8, 0x92); // A20
  g.mov("ax", "cs").mov("ds", "ax");
  // Entering protected mode gives ES a limit of 4 GiB, which remains in real mode.
  g.lgdt(mem(16, { displacement: gdtr }));
  g.mov("eax", "cr0").or("al", 1).mov("cr0", "eax");
  g.mov("bx", 8).mov("es", "bx");
  g.and("al", 0xfe).mov("cr0", "eax");
  g.mov("si", table);
  g.label("piece").mov("bp", row(16, ROW.sectors)).test("bp", "bp").jcc("e", "start");
  g.mov("edi", row(32, ROW.address));
  g.mov("dx", DISK.device).mov("al", 0xe0).out(8, "dx");
  // With 48-bit addressing, the count and the address are written in two halves, the upper half first.
  g.mov("dx", DISK.count)
    .mov("al", row(8, ROW.sectors + 1))
    .out(8, "dx");
  g.inc("dx")
    .mov("al", row(8, ROW.lba + 3))
    .out(8, "dx");
  g.xor("ax", "ax").inc("dx").out(8, "dx").inc("dx").out(8, "dx");
  g.mov("dx", DISK.count).mov("al", row(8, ROW.sectors)).out(8, "dx");
  for (const byte of [0, 1, 2])
    g.inc("dx")
      .mov("al", row(8, ROW.lba + byte))
      .out(8, "dx");
  g.mov("dx", DISK.command).mov("al", READ_EXT).out(8, "dx");
  g.label("sector").mov("dx", DISK.command);
  g.label("wait").in(8, "dx").and("al", 0x88).cmp("al", 8).jcc("ne", "wait"); // wait until the disk is ready and has data
  g.mov("dx", DISK.data).mov("ecx", SECTOR / 2);
  g.emitWith("rep insw", (x86) => x86.Instruction.createRepInsw(32)); // read the data to ES:EDI
  g.dec("bp").jcc("ne", "sector");
  g.add("si", ROW.bytes).jmp("piece");
  g.label("start").mov("ax", SETUP >> 4);
  for (const segment of ["ds", "es", "fs", "gs", "ss"] as const) g.mov(segment, "ax");
  g.mov("sp", HEAP_END);
  return g
    .push((SETUP >> 4) + 0x20)
    .push(0)
    .retf();
}
