/**
 * Boots one kernel in Bochs, which also emulates Intel's VMX: writes the configuration and reads four serial ports.
 * build.ts builds Bochs, disk.ts makes the disk, parts.ts finds the files, and machine/machine.ts interprets the
 * guest's output.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type BootEnd,
  type BootOptions,
  FIRST_FD,
  type Hear,
  KERNEL_ARGUMENTS,
  PORTS,
  runEmulator,
} from "../machine/emulator.ts";
import { ROM_ADDRESS, writeDisk } from "./disk.ts";
import type { BochsParts } from "./parts.ts";

/** The options of a boot, and the files that it needs. */
export interface BochsOptions extends BootOptions {
  readonly parts: BochsParts;
  /** An empty folder for this machine. */
  readonly folder: string;
}

/**
 * The kernel's command line. Mitigations and KASLR are disabled to save time; clearcpuid=580 disables FSRM, because CPU
 * models with FSRM end in a double fault at boot.
 */
const APPEND = `console=ttyS0,115200 ${KERNEL_ARGUMENTS} nokaslr mitigations=off clearcpuid=580`;

/** The interval in milliseconds at which the files of the ports are read. */
const POLL_MS = 100;

/** Whether a CPU model of Bochs is an AMD model, whose KVM module is kvm_amd. */
export function isAmdModel(cpu: string): boolean {
  return /^(amd|athlon|turion|phenom|zambezi|trinity|ryzen)/.test(cpu);
}

/**
 * Returns Bochs's configuration. Bochs searches its working directory for a file whose name contains no folder.
 *
 * `ips` is the number of instructions in a second of the guest's time. With `sync=none`, this value of `ips` was
 * measured to be the fastest; idle time of the guest is skipped. The serial ports are files to which Bochs writes each
 * byte at once.
 */
export function bochsConfiguration(
  options: Pick<BochsOptions, "cpu" | "memory"> & {
    readonly parts: Pick<BochsParts, "bios" | "vgaBios">;
  },
): string {
  const { cpu, memory, parts } = options;
  const lines = [
    "config_interface: textconfig",
    "display_library: nogui",
    `romimage: file="${parts.bios}"`,
    `vgaromimage: file="${parts.vgaBios}"`,
    `optromimage1: file="rom", address=0x${ROM_ADDRESS.toString(16)}`,
    `megs: ${memory}`,
    `cpu: model=${cpu}, count=1, ips=50000000, reset_on_triple_fault=0, ignore_bad_msrs=1`,
    "clock: sync=none",
    "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14",
    `ata0-master: type=disk, path="disk", mode=flat, cylinders=0`,
    "boot: disk",
    ...PORTS.map((port) => `com${port + 1}: enabled=1, mode=file, dev="port${port}"`),
    'log: "log"',
    "panic: action=fatal",
    ...["error", "info", "debug"].map((level) => `${level}: action=ignore`),
    "mouse: enabled=0",
  ];
  return `${lines.join("\n")}\n`;
}

/**
 * Boots a kernel and waits until the machine has powered off or was killed.
 *
 * @throws {@link LabError} `ERR_LAB_TOOL` if Bochs rejects its configuration, `ERR_LAB_INTERRUPTED` after the
 *   signal; no process is left then.
 */
export async function bootBochs(options: BochsOptions): Promise<BootEnd> {
  const { folder, kernelArguments = [] } = options;
  const append = [APPEND, ...kernelArguments].join(" ");
  const rom = await writeDisk(join(folder, "disk"), { ...options, append });
  await writeFile(join(folder, "rom"), rom);
  // The arguments of this function are the paths by which Bochs can open `files`.
  const [bios, vgaBios] = [`/proc/self/fd/${FIRST_FD}`, `/proc/self/fd/${FIRST_FD + 1}`];
  const configuration = bochsConfiguration({ ...options, parts: { bios, vgaBios } });
  await writeFile(join(folder, "bochsrc"), configuration);
  return runEmulator(
    {
      name: "Bochs",
      program: options.parts.program,
      isPrivate: true,
      files: [options.parts.bios, options.parts.vgaBios],
      args: () => ["-q", "-f", "bochsrc"],
      sockets: 0,
      listen: (_, hear) => follow(folder, hear),
      refusal: (_, output) => complaint(output),
    },
    options,
  );
}

function portFile(folder: string, port: number): string {
  return join(folder, `port${port}`);
}

/** Passes on the bytes that Bochs appends to the ports' files; the last read is after the end of Bochs. */
function follow(folder: string, hear: Hear): () => void {
  const buffer = Buffer.alloc(2 ** 16);
  const files = new Map<number, number>();
  const paused = new Set<number>();
  const read = (isEnded: boolean): void => {
    for (const port of PORTS) {
      if (paused.has(port) && !isEnded) continue;
      const file = files.get(port) ?? openIfThere(portFile(folder, port));
      if (file === undefined) continue;
      files.set(port, file);
      for (let n = readSync(file, buffer); n > 0; n = readSync(file, buffer)) {
        const pending = hear(port, Buffer.from(buffer.subarray(0, n)));
        if (!(pending instanceof Promise) || isEnded) continue;
        paused.add(port);
        const resume = (): void => void paused.delete(port);
        pending.then(resume, resume);
        break;
      }
    }
  };
  const timer = setInterval(read, POLL_MS, false);
  return () => {
    clearInterval(timer);
    read(true);
    for (const file of files.values()) closeSync(file);
    files.clear();
  };
}

/** Bochs creates a port's file when it writes the first byte. */
function openIfThere(path: string): number | undefined {
  try {
    return openSync(path, "r");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/**
 * The result is read from the output of Bochs, because its exit status is useless: Bochs treats a power-off as a panic.
 */
function complaint(output: string): string {
  const lines = output.split("\n").map((line) => line.trim());
  const panics = lines.filter((line) => /panic|error|unknown|not supported/i.test(line));
  const words = panics.length > 0 ? panics : lines.filter((line) => /[a-z]/i.test(line));
  return words.slice(-3).join("; ");
}
