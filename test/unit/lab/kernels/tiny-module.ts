/** Creates the smallest file that parses as a kernel module: an ELF header, `.modinfo`, and the section names. */

/** Creates a module with these dependencies, for a kernel release. */
export function tinyModule(depends: string, release: string): Buffer {
  return elf(
    ".modinfo",
    `depends=${depends}\0name=tiny\0vermagic=${release} SMP preempt mod_unload \0`,
  );
}

/** Creates an ELF64 file with one section of this name and content. */
export function elf(name: string, content: string): Buffer {
  const names = `\0${name}\0.shstrtab\0`;
  const header = Buffer.alloc(0x40);
  const contentAt = header.length;
  const namesAt = contentAt + content.length;
  header.write("\u007fELF\u0002\u0001\u0001", "latin1");
  header.writeBigUInt64LE(BigInt(namesAt + names.length), 0x28); // e_shoff
  header.writeUInt16LE(0x40, 0x3a); // e_shentsize
  header.writeUInt16LE(3, 0x3c); // e_shnum
  header.writeUInt16LE(2, 0x3e); // e_shstrndx
  return Buffer.concat([
    header,
    Buffer.from(content + names, "latin1"),
    Buffer.alloc(0x40),
    section(1, contentAt, content.length),
    section(name.length + 2, namesAt, names.length),
  ]);
}

function section(name: number, offset: number, size: number): Buffer {
  const header = Buffer.alloc(0x40);
  header.writeUInt32LE(name, 0);
  header.writeBigUInt64LE(BigInt(offset), 0x18);
  header.writeBigUInt64LE(BigInt(size), 0x20);
  return header;
}

/** Creates a file with the header of a bzImage of this release; `""` omits the release. */
export function tinyImage(release: string): Buffer {
  const image = Buffer.alloc(0x400);
  image.write("HdrS", 0x202, "latin1");
  image.writeUInt16LE(release === "" ? 0 : 0x100, 0x20e);
  image.write(`${release} (builder@host) #1 SMP\0`, 0x300, "latin1");
  return image;
}
