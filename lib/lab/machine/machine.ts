/**
 * Runs one command in a disposable machine, under any kernel, with a working KVM. The result of a run is a value, even
 * if the kernel crashed.
 *
 * guest.ts makes the machine's root, init.ts contains its first process, ports.ts reads its output, qemu.ts and
 * ../bochs/ start the emulators, and snapshot.ts saves machines.
 */
import { randomBytes } from "node:crypto";
import { mkdir, open } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { bootBochs, isAmdModel } from "../bochs/bochs.ts";
import { type BochsParts, findBochs } from "../bochs/parts.ts";
import { LabCache } from "../cache/cache.ts";
import { LabError } from "../error.ts";
import { unpackVmlinux } from "../kernels/bzimage.ts";
import type { Kernel } from "../kernels/kernels.ts";
import {
  formatModuleParam,
  type ModuleParam,
  refuseIgnoredParams,
} from "../kernels/module-params.ts";
import { moduleChain } from "../kernels/modules.ts";
import { diskFull } from "../process/command.ts";
import type { BootEnd } from "./emulator.ts";
import {
  baseArchives,
  heldEntries,
  kernelEntries,
  restoredEntries,
  type Work,
  workEntries,
} from "./guest.ts";
import { guestPath, NO_PORTS, WORK_PORT } from "./init.ts";
import { appendFile, appendInitramfs, encodeInitramfs, type InitramfsEntry } from "./initramfs.ts";
import { crashReport } from "./kernel-log.ts";
import { type PortListeners, Ports, portLimits } from "./ports.ts";
import { boot, findQemu, qemuArguments, type RunningMachine } from "./qemu.ts";
import {
  copyMemory,
  findSnapshot,
  MachineToSave,
  restoreDevices,
  type Saver,
  SNAPSHOTS,
  type Snapshot,
  saveDevices,
  saveSnapshot,
  snapshotName,
} from "./snapshot.ts";

/** The emulator: QEMU emulates SVM only; Bochs emulates VMX, and SVM for AMD's models. */
export type EmulatorName = "qemu" | "bochs";

/** The options of a run: the command and the machine. Times are in milliseconds. */
export interface LabOptions extends Work, PortListeners {
  readonly kernel: Kernel;
  /** The emulator; by default QEMU. */
  readonly emulator?: EmulatorName;
  /** The path of the user's own Bochs; by default `$NODE_KVM_BOCHS`, or the Bochs that was built into the cache. */
  readonly bochs?: string;
  /**
   * The name of a CPU model of the emulator. Examples are `max` (the default), `EPYC-Milan` and `max,-la57` for QEMU,
   * and `corei7_haswell_4770` (the default), `core2_penryn_t9600` and `ryzen` for Bochs.
   */
  readonly cpu?: string;
  /** The parameters of the kernel's modules; none by default. */
  readonly params?: readonly ModuleParam[];
  /** Further arguments of the kernel, such as `transparent_hugepage=never`; none by default. */
  readonly kernelArguments?: readonly string[];
  /** The machine's memory, MiB; by default 1024. */
  readonly memory?: number;
  /**
   * The number of CPUs of QEMU's machine; by default 1, as in Bochs. With several CPUs, threads run in parallel more
   * often. But QEMU 7.2 has hung with several CPUs. It has also crashed a kernel that patched its own code; a kernel
   * does this when the first VM is created.
   */
  readonly smp?: number | undefined;
  /** The time limit for boot and command together; by default 5 minutes, or 15 minutes in Bochs. */
  readonly timeout?: number;
  /** The time without output after which the machine is booted once more; by default 60 s, or 5 minutes in Bochs. */
  readonly silence?: number;
  /** A signal that ends the machine; the promise is then rejected with `ERR_LAB_INTERRUPTED`. */
  readonly signal?: AbortSignal;
  readonly cache?: LabCache;
  /** The options for restoring a saved machine instead of booting, if possible; see {@link Restore}. */
  readonly restore?: Restore;
  /** The archive of a root file system that replaces the lab's own; its init must use the protocol of init.ts. */
  readonly base?: string;
  /**
   * The maximum number of bytes that the command may print on each output; by default 64 MiB, or 1 GiB if the bytes are
   * passed on.
   */
  readonly mostOutput?: number;
  /**
   * A function that is called with the reason when the machine boots again; output and log then start from the
   * beginning. The reason is that the emulator hung, or that a saved machine could not be restored.
   */
  readonly onRetry?: (why: string) => void;
  /** A function that is called before the machine is started, also for a machine that is booted only to be saved. */
  readonly onStart?: (how: MachineStart) => void;
}

/** The start of a machine: booted for its work, booted to be saved, or restored. */
export type MachineStart = "boot" | "save" | "restore";

/**
 * The options for a machine that is prepared, saved once, and restored for each run; only QEMU with one CPU supports
 * this. If no saved machine exists and no machine can be saved, {@link LabOptions.command} runs after a boot.
 */
export interface Restore {
  /**
   * The command that is started before the machine is saved. The command writes `ready` to {@link WORK_PORT} and reads
   * its work from there. By default, init waits for work, and the work is the files and the command of the run.
   */
  readonly command?: readonly string[];
  /** Returns the work for the command of the saved machine; each restored machine gets the work with another seed. */
  readonly work?: (seed: string) => Uint8Array;
}

/** The common members of all results. */
export interface LabRun {
  /** The whole log of the kernel. */
  readonly kernelLog: string;
  /**
   * The lines of the kernel's log that report a WARN, BUG or Oops; any such line is a failure, regardless of the
   * command's status.
   */
  readonly warnings: readonly string[];
  /** The command's output, up to its limit; only the last 64 KiB if `onStdout` was called with the output. */
  readonly stdout: Buffer;
  /** As `stdout`. */
  readonly stderr: Buffer;
  /** The number of boots: 2 if the emulator hung at first. */
  readonly attempts: number;
  /** The duration of the last boot, from the emulator's start to its end. */
  readonly after: number;
  /** Whether the machine was restored; its log then starts with the kernel's log from before it was saved. */
  readonly restored: boolean;
}

/** The result of a run. */
export type LabResult = LabRun &
  (
    | {
        /** The command has ended. */
        readonly kind: "exited";
        readonly status: number;
        /** The requested files that exist, by path. */
        readonly files: ReadonlyMap<string, Uint8Array>;
      }
    | {
        /** The machine ended before the command and init had ended, for example by a panic or a triple fault. */
        readonly kind: "crashed";
        /** The end of the kernel's log, from the first report of a fault on. */
        readonly oops: string;
      }
    | {
        /**
         * The machine was killed because it was silent for too long (`silent`, twice), or because it was not ready in
         * time (`timeout`).
         */
        readonly kind: "hung";
        readonly why: "silent" | "timeout";
      }
    | {
        /** The machine was killed because the guest's output on a serial port was too long or malformed. */
        readonly kind: "refused";
        readonly why: string;
      }
    | {
        /** The kernel has no /dev/kvm on this CPU. */
        readonly kind: "no-kvm";
        readonly why: string;
      }
  );

/** The default memory of a machine, MiB. */
export const MEMORY = 1024;

/** The defaults. Bochs is slower than QEMU, and one second of its guest's time may take several seconds. */
export const DEFAULTS = {
  qemu: { cpu: "max", timeout: 300_000, silence: 60_000 },
  bochs: { cpu: "corei7_haswell_4770", timeout: 900_000, silence: 300_000 },
} as const;

/** Returns the KVM module for a CPU model of an emulator. */
function vendorModuleOf(emulator: EmulatorName, cpu: string): "kvm_amd" | "kvm_intel" {
  return emulator === "qemu" || isAmdModel(cpu) ? "kvm_amd" : "kvm_intel";
}

/**
 * Runs a command in a new machine.
 *
 * @throws {@link LabError} if no machine can be started: QEMU, busybox or a module is missing, the disk is full, or
 *   the signal was raised.
 */
export async function runInLab(given: LabOptions): Promise<LabResult> {
  const options = { ...given, wanted: (given.wanted ?? []).map(guestPath) };
  const cache = options.cache ?? LabCache.default();
  await using scratch = await cache.scratch();
  const base =
    options.base === undefined
      ? await baseArchives(cache, options.root, options.signal)
      : [options.base];
  const emulator = options.emulator ?? "qemu";
  const vendor = vendorModuleOf(emulator, options.cpu ?? DEFAULTS[emulator].cpu);
  const modules = await moduleChain(options.kernel, vendor, scratch.path, options.signal);
  const parts: Parts = { options, cache, scratch: scratch.path, base, modules };
  const restored = await restoreMachine(parts);
  if (restored !== undefined && restored.end.why !== "silent") {
    return judge(restored, 1, true, options);
  }
  if (restored !== undefined) options.onRetry?.(HUNG);
  const bochs =
    emulator === "bochs" ? await findBochs(cache, options.bochs, options.signal) : undefined;
  const initrd = await writeInitrd(parts, workEntries(options));
  const image = bochs === undefined ? await directImage(parts) : undefined;
  const vmlinuz = image ?? options.kernel.vmlinuz;
  const once = (folder: string): Promise<Attempt> => {
    options.onStart?.("boot");
    return writing(scratch.path, () => attempt(options, { vmlinuz, initrd, folder, bochs }));
  };
  const first = await once(join(scratch.path, "1"));
  const before = restored === undefined ? 0 : 1;
  if (first.end.why !== "silent" || before > 0) return judge(first, before + 1, false, options);
  options.onRetry?.(HUNG);
  return judge(await once(join(scratch.path, "2")), 2, false, options);
}

const HUNG = "the emulator hung";

/** The files that are common to all boots of a run. */
interface Parts {
  readonly options: LabOptions;
  readonly cache: LabCache;
  /** The folder for this run. */
  readonly scratch: string;
  readonly base: readonly string[];
  /** The kernel's modules, unpacked, in the order of loading. */
  readonly modules: readonly string[];
}

/** Writes the archives that a kernel unpacks; only the last archive is specific to this machine. */
async function writeInitrd(
  { scratch, base, modules, options }: Parts,
  own: readonly InitramfsEntry[],
): Promise<string> {
  const initrd = join(scratch, "initrd");
  await writing(scratch, async () => {
    const file = await open(initrd, "w");
    try {
      for (const path of base) await appendFile(file, path);
      await appendInitramfs(file, [...kernelEntries(modules, options.params), ...own]);
    } finally {
      await file.close();
    }
  });
  return initrd;
}

/**
 * Runs the work in a restored machine; if the cache contains no saved machine, a machine is saved first.
 *
 * @returns `undefined` if no machine can be restored; the machine must then be booted.
 */
async function restoreMachine(parts: Parts): Promise<Attempt | undefined> {
  const { options, cache, scratch } = parts;
  const { restore, smp = 1, emulator = "qemu", signal } = options;
  if (restore === undefined || emulator !== "qemu" || smp !== 1) return undefined;
  const work = await workOf(options, restore);
  if (work.length > MOST_WORK) return undefined;
  try {
    const { name, snapshot } = await savedMachine(parts, restore);
    const folder = join(scratch, "0");
    await mkdir(folder, { mode: 0o700 });
    await copyMemory(snapshot, folder, signal);
    try {
      const kept = { snapshot, work };
      const place = { vmlinuz: "", initrd: "", folder, bochs: undefined, kept };
      options.onStart?.("restore");
      const restored = await writing(scratch, () => attempt(options, place));
      // A restored machine that hung once could hang again.
      if (restored.end.why === "silent") await cache.remove(SNAPSHOTS, name);
      return restored;
    } catch (error) {
      if (!isTrouble(error)) throw error;
      options.onRetry?.(`the saved machine could not be restored: ${error.message}`);
      await cache.remove(SNAPSHOTS, name);
      return undefined;
    }
  } catch (error) {
    if (!isTrouble(error)) throw error;
    return undefined;
  }
}

/** Whether a machine that could not be saved or restored may still be booted. */
function isTrouble(error: unknown): error is LabError {
  return error instanceof LabError && error.code !== "ERR_LAB_INTERRUPTED";
}

/** A guest reads 30 kB of work per second from a serial port, and its kernel buffers about 64 kB. */
const MOST_WORK = 16_384;

async function workOf(options: LabOptions, { work }: Restore): Promise<Uint8Array> {
  const seed = randomBytes(32).toString("hex");
  if (work !== undefined) return work(seed);
  const pieces: Uint8Array[] = [];
  for await (const piece of encodeInitramfs(restoredEntries(options, seed))) {
    pieces.push(piece);
    if (pieces.reduce((sum, { length }) => sum + length, 0) > MOST_WORK) break;
  }
  return Buffer.concat(pieces);
}

async function savedMachine(
  parts: Parts,
  { command }: Restore,
): Promise<{ readonly name: string; readonly snapshot: Snapshot }> {
  const { options, cache, scratch, base, modules } = parts;
  const { kernel, cpu = DEFAULTS.qemu.cpu, memory = MEMORY, kernelArguments, signal } = options;
  const words = [
    ...qemuArguments({ vmlinuz: "", initrd: "", cpu, memory, kernelArguments, kept: {} }),
    ...base.map((path) => basename(dirname(path))),
    ...(command ?? []),
    ...(options.params ?? []).map(formatModuleParam),
  ];
  const own = options.base === undefined ? [] : [options.base];
  const files = [kernel.vmlinuz, ...modules, ...own];
  const name = await snapshotName({ kernel: kernel.name, files, words }, findQemu(), signal);
  await using _lock = await cache.lock(`${SNAPSHOTS}.${name}`, signal);
  const found = await findSnapshot(cache, name);
  if (found !== undefined) return { name, snapshot: found };
  const vmlinuz = (await directImage(parts)) ?? kernel.vmlinuz;
  const initrd = await writeInitrd(parts, heldEntries(command));
  const save: Saver = async ({ ram, state }) => {
    const folder = join(scratch, "saved");
    await using kept = await MachineToSave.prepare(folder, memory, state);
    options.onStart?.("save");
    const saved = await attempt(options, { vmlinuz, initrd, folder, bochs: undefined, kept });
    if (!saved.isSaved || saved.end.why !== "ended") {
      throw new LabError("ERR_LAB_TOOL", "the machine ended before it could be saved");
    }
    await kept.copyMemory(ram, signal);
    return Buffer.from(saved.ports.log.text);
  };
  return { name, snapshot: await saveSnapshot(cache, name, memory, save, signal) };
}

/** Returns the unpacked kernel, which QEMU starts faster; `undefined` if it cannot be unpacked. */
async function directImage({ options, scratch }: Parts): Promise<string | undefined> {
  const { kernel, signal } = options;
  if (kernel.vmlinux !== undefined) return kernel.vmlinux;
  const vmlinux = join(scratch, "vmlinux");
  const isThere = await writing(scratch, () => unpackVmlinux(kernel.vmlinuz, vmlinux, signal));
  return isThere ? vmlinux : undefined;
}

/** The result of one boot. */
interface Attempt {
  readonly end: BootEnd;
  readonly ports: Ports;
  /** Whether the machine was saved in this boot. */
  readonly isSaved: boolean;
}

/** The files of a boot on this host. */
interface Place {
  /** The path of the bzImage, or of the kernel that was unpacked from it. */
  readonly vmlinuz: string;
  readonly initrd: string;
  /** The folder for the boot's files, which the boot creates. */
  readonly folder: string;
  /** The files of Bochs; if omitted, QEMU boots the kernel. */
  readonly bochs: BochsParts | undefined;
  /**
   * The destination to which the waiting machine is saved; or the snapshot from which it is restored, with its work.
   */
  readonly kept?: MachineToSave | { readonly snapshot: Snapshot; readonly work: Uint8Array };
}

async function attempt(options: LabOptions, place: Place): Promise<Attempt> {
  const { vmlinuz, initrd, folder, bochs, kept } = place;
  const isSaving = kept instanceof MachineToSave;
  const limits = portLimits(options.mostOutput);
  const ports = new Ports(options.wanted ?? [], isSaving ? {} : options, limits);
  let isReady = (): void => undefined;
  const ready = new Promise<void>((resolve) => {
    isReady = resolve;
  });
  let isSaved = false;
  const onStart = async (machine: RunningMachine): Promise<void> => {
    if (kept === undefined) return;
    if (!isSaving) {
      await restoreDevices(machine.monitor, machine.stateFd);
      machine.send(WORK_PORT, Buffer.from(`${kept.work.length}\n`));
      machine.send(WORK_PORT, kept.work);
      return;
    }
    await ready;
    await saveDevices(machine.monitor, kept);
    // A restored machine does not send this message again, but its init has counted the message as sent.
    if (ports.stdout.length + ports.stderr.length > 0) {
      throw new LabError("ERR_LAB_TOOL", "the guest printed something before it waited");
    }
    isSaved = true;
    machine.end();
  };
  const defaults = DEFAULTS[bochs === undefined ? "qemu" : "bochs"];
  const machine = {
    vmlinuz,
    initrd,
    cpu: options.cpu ?? defaults.cpu,
    memory: options.memory ?? MEMORY,
    smp: options.smp,
    kernelArguments: options.kernelArguments,
    timeout: options.timeout ?? defaults.timeout,
    silence: options.silence ?? defaults.silence,
    signal: options.signal,
    onPort: (port: number, bytes: Buffer) => {
      const pending = ports.hear(port, bytes);
      if (ports.isReady) isReady();
      return pending;
    },
    kept: kept === undefined ? undefined : { state: isSaving ? undefined : kept.snapshot.state },
    onStart,
  };
  await mkdir(folder, { recursive: true });
  if (kept !== undefined && !isSaving) ports.log.push(kept.snapshot.log);
  const end = await (bochs === undefined
    ? boot({ ...machine, folder, isOver: () => ports.isEnded })
    : bootBochs({ ...machine, parts: bochs, folder }));
  ports.log.end();
  return { end, ports, isSaved };
}

function judge(
  { end, ports }: Attempt,
  attempts: number,
  restored: boolean,
  { params = [] }: LabOptions,
): LabResult {
  const { text: kernelLog, warnings } = ports.log;
  refuseIgnoredParams(kernelLog, params);
  const [stdout, stderr] = [ports.stdout.bytes, ports.stderr.bytes];
  const { after } = end;
  const run: LabRun = { kernelLog, warnings, stdout, stderr, attempts, after, restored };
  if (end.why === "refused") return { ...run, kind: "refused", why: end.reason };
  if (end.why !== "ended") return { ...run, kind: "hung", why: end.why };
  if (kernelLog.includes(NO_PORTS) && warnings.length === 0) {
    const remedy = "build it with CONFIG_SERIAL_8250_NR_UARTS=4 or more";
    throw new LabError(
      "ERR_LAB_NOT_A_KERNEL",
      `this kernel has fewer than four serial ports; ${remedy}`,
    );
  }
  const { status, files, whyNoKvm } = ports;
  if (ports.isEnded && whyNoKvm !== undefined) {
    return { ...run, kind: "no-kvm", why: reasonWhyNoKvm(whyNoKvm, kernelLog) };
  }
  if (!ports.isEnded || status === undefined) {
    return { ...run, kind: "crashed", oops: crashReport(kernelLog) };
  }
  whole("stdout", ports.stdout.length, status.stdout);
  whole("stderr", ports.stderr.length, status.stderr);
  return { ...run, kind: "exited", status: status.status, files };
}

function whole(name: string, arrived: number, sent: number): void {
  if (arrived === sent) return;
  throw new LabError(
    "ERR_LAB_DAMAGED",
    `the guest sent ${sent} bytes of ${name}, ${arrived} arrived`,
  );
}

/**
 * Returns the reason that insmod printed, and a reason from the kernel's log, such as `kvm_amd: SVM not supported by
 * CPU 0`.
 */
function reasonWhyNoKvm(insmod: string, log: string): string {
  const said = log
    .split("\n")
    .findLast((line) => /\b(kvm(_amd|_intel)?|SVM|has_svm)\b.*: /.test(line));
  const why = [insmod, said?.replace(/^\[[ \d.]+\] /, "")].filter((text) => (text ?? "") !== "");
  return why.length === 0 ? "the kernel made no /dev/kvm" : why.join("; ");
}

async function writing<T>(folder: string, write: () => Promise<T>): Promise<T> {
  try {
    return await write();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code !== "ENOSPC" && code !== "EDQUOT") throw error;
    throw diskFull(`the machine's memory image in ${folder}`, error);
  }
}
