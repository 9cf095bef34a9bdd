/** Tests of one boot in Bochs: its configuration, its ports, and its end. */
import { chmodSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
  type BochsOptions,
  bochsConfiguration,
  bootBochs,
  isAmdModel,
} from "../../../../lib/lab/bochs/bochs.ts";
import { ROM_ADDRESS, writeDisk } from "../../../../lib/lab/bochs/disk.ts";
import { findBochs } from "../../../../lib/lab/bochs/parts.ts";
import { LabCache } from "../../../../lib/lab/cache/cache.ts";
import { temporaryFolder } from "../temporary.ts";

const SECTOR = 512;
const PREFERRED = 0x100_0000;

let folder = "";
beforeEach(() => {
  folder = temporaryFolder();
  mkdirSync(join(folder, "run"));
  writeFileSync(join(folder, "vmlinuz"), tinyKernel());
  writeFileSync(join(folder, "initrd"), "the initrd");
});

afterEach(() => {
  vi.unstubAllEnvs();
});

/** Creates a minimal bzImage: two sectors of real-mode code, and a body. */
function tinyKernel(): Buffer {
  const image = Buffer.alloc(2 * SECTOR);
  image.writeUInt8(1, 0x1f1);
  image.writeBigUInt64LE(BigInt(PREFERRED), 0x258);
  image.writeUInt32LE(0x20_0000, 0x260);
  return Buffer.concat([image, Buffer.from("protected mode")]);
}

/** Replaces Bochs by a program that runs in the machine's folder. */
function start(script: string, more: Partial<BochsOptions> = {}): ReturnType<typeof bootBochs> {
  const program = join(folder, "bochs");
  writeFileSync(program, `#!/bin/sh\necho $$ >pid\n${script}\n`);
  chmodSync(program, 0o755);
  ports.splice(0, ports.length, "", "", "", "");
  return bootBochs({
    vmlinuz: join(folder, "vmlinuz"),
    initrd: join(folder, "initrd"),
    cpu: "corei7_haswell_4770",
    memory: 64,
    timeout: 20_000,
    silence: 20_000,
    parts: { program, bios: "/b", vgaBios: "/v" },
    folder: join(folder, "run"),
    onPort: (port, bytes) => {
      ports[port] = `${ports[port]}${bytes}`;
    },
    ...more,
  });
}
const ports: string[] = [];

function isAlive(): boolean {
  try {
    process.kill(Number(readFileSync(join(folder, "run/pid"), "utf8")), 0);
    return true;
  } catch {
    return false; // ESRCH
  }
}

describe("a boot in Bochs", () => {
  test("passes on the output of each port, including the last bytes", async () => {
    const end = await start(
      "printf log >port0; printf out >port1; printf err >port2; sleep 0.3; printf end >port3; printf more >>port0; exit 1",
    );
    expect(end).toMatchObject({ why: "ended" });
    expect(ports).toEqual(["logmore", "out", "err", "end"]);
  });

  test("passes on a port's output while it runs", async () => {
    const controller = new AbortController();
    const boot = start("printf up >port3; exec sleep 1000", {
      signal: controller.signal,
      onPort: () => controller.abort(),
    });
    await expect(boot).rejects.toMatchObject({ code: "ERR_LAB_INTERRUPTED" });
    expect(isAlive()).toBe(false);
  });

  test("is killed if no port has output for too long", async () => {
    expect(await start("exec sleep 1000", { silence: 300 })).toMatchObject({ why: "silent" });
    expect(isAlive()).toBe(false);
  });

  test("has a time limit, even if it prints all the time", async () => {
    const script = "while :; do echo beat >>port3; sleep 0.1; done";
    expect(await start(script, { timeout: 600 })).toMatchObject({ why: "timeout" });
    expect(isAlive()).toBe(false);
  });

  test("reads the BIOS images from a folder that no other user can enter", async () => {
    const [bios, vgaBios] = [join(folder, "bios"), join(folder, "vga")];
    writeFileSync(bios, "its BIOS");
    writeFileSync(vgaBios, "of VGA", { mode: 0o600 });
    const images = "sed -n 's/.*romimage: file=\"\\(.*\\)\"/\\1/p' bochsrc";
    await start(`cat $(${images} | grep -v 0xd0000) >port1; exit 1`, {
      parts: { program: join(folder, "bochs"), bios, vgaBios },
    });
    expect(ports[1]).toBe("its BIOSof VGA");
  });

  test.skipIf(process.geteuid?.() !== 0)(
    "by root runs as a separate user, from a folder that this user cannot enter (skipped if the tests do not run as root)",
    async () => {
      await start("grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs)' /proc/self/status >port1; exit 1");
      expect(ports[1]).toMatch(
        /^Uid:\t(?!0\t)(\d+)\t.*\nCapEff:\t0+\nCapBnd:\t0+\nNoNewPrivs:\t1\n$/,
      );
    },
  );

  test("whose configuration Bochs rejects fails with Bochs's message", async () => {
    const boot = start(
      "echo 'Bochs x86 Emulator'; echo \">>PANIC<< unknown cpu model 'nonsense'\"; exit 1",
    );
    await expect(boot).rejects.toMatchObject({
      code: "ERR_LAB_TOOL",
      message: expect.stringContaining("unknown cpu model 'nonsense'"),
    });
  });
});

test("the Bochs configuration names one CPU, four ports and the ROM that starts the kernel", () => {
  const parts = { bios: "/b", vgaBios: "/v" };
  const text = bochsConfiguration({ cpu: "ryzen", memory: 512, parts });
  expect(text).toContain("cpu: model=ryzen, count=1,");
  expect(text.match(/^com[1-4]: enabled=1, mode=file, dev="port[0-3]"$/gm)).toHaveLength(4);
  expect(text).toContain('optromimage1: file="rom", address=0xd0000\n');
  expect(text).toContain("megs: 512\n");
});

test("CPU models of AMD are recognised by their names", () => {
  const models = ["ryzen", "trinity_apu", "zambezi", "core2_penryn_t9600", "corei7_skylake_x"];
  expect(models.filter(isAmdModel)).toEqual(["ryzen", "trinity_apu", "zambezi"]);
});

/** Returns the rows of the ROM's table, which contain the destinations of the sectors. */
function rowsOf(rom: Uint8Array): readonly (readonly [number, number, number])[] {
  const view = new DataView(rom.buffer, rom.byteOffset, rom.byteLength);
  const rows = Array.from({ length: 20 }, (_, i) => 0x100 + i * 12);
  return rows
    .filter((row) => view.getUint16(row + 4, true) > 0)
    .map((row) => [
      view.getUint32(row, true),
      view.getUint16(row + 4, true),
      view.getUint32(row + 8, true),
    ]);
}

describe("the disk of a machine in Bochs", () => {
  const write = (memory = 64): Promise<Uint8Array> =>
    writeDisk(join(folder, "disk"), {
      vmlinuz: join(folder, "vmlinuz"),
      initrd: join(folder, "initrd"),
      append: "console=ttyS0",
      memory,
    });

  test("contains the setup code, the command line, the kernel and the initrd, each beginning at a separate sector", async () => {
    const rom = await write();
    const disk = readFileSync(join(folder, "disk"));
    const initrd = 63 * 2 ** 20 - 4096;
    expect(rowsOf(rom)).toEqual([
      [0x90000, 2, 0],
      [0x9e000, 1, 2],
      [0x100000, 1, 3],
      [initrd, 1, 4],
    ]);
    expect(disk.toString("latin1", 2 * SECTOR).split(/\0+/)).toEqual([
      "console=ttyS0",
      "protected mode",
      "the initrd",
      "",
    ]);
    expect([disk.readUInt32LE(0x218), disk.readUInt32LE(0x21c)]).toEqual([initrd, 10]);
    expect(disk.readUInt32LE(0x228)).toBe(0x9e000);
  });

  test("has the length of a whole number of cylinders in Bochs's geometry", async () => {
    await write();
    expect(readFileSync(join(folder, "disk")).length % (16 * 63 * SECTOR)).toBe(0);
  });

  test("is read in parts, because one BIOS command reads a limited number of sectors", async () => {
    truncateSync(join(folder, "initrd"), 70 * 2 ** 20);
    const rows = rowsOf(await write(256)).slice(3);
    expect(rows.map(([, sectors]) => sectors)).toEqual([64512, 64512, 14336]);
    expect(rows.map(([, , lba]) => lba)).toEqual([4, 64516, 129028]);
  });

  test("has a ROM that a BIOS accepts: signature, length, and a checksum of zero", async () => {
    const rom = await write();
    expect(Array.from(rom.subarray(0, 3))).toEqual([0x55, 0xaa, rom.length / SECTOR]);
    expect(rom.reduce((sum, byte) => sum + byte, 0) % 256).toBe(0);
    expect(ROM_ADDRESS % 2048).toBe(0);
  });

  test("fails with the required size if the machine has too little memory", async () => {
    await expect(write(18)).rejects.toThrow(
      "18 MiB are too little for this kernel and its files: it needs 20",
    );
  });
});

describe("the programs and files of Bochs", () => {
  test("are missing if no emulator was built, and the error explains how to build it", async () => {
    vi.stubEnv("NODE_KVM_BOCHS", "");
    await expect(findBochs(new LabCache(join(folder, "cache")))).rejects.toMatchObject({
      code: "ERR_LAB_TOOL",
      message: expect.stringContaining("node-kvm lab build-bochs"),
    });
  });

  test("are missing if the path of the emulator does not exist, and the error has the path", async () => {
    const path = join(folder, "nothing");
    await expect(findBochs(new LabCache(join(folder, "cache")), path)).rejects.toThrow(path);
  });
});
