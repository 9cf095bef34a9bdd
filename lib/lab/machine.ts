/**
 * A disposable machine: any command under any kernel, with a KVM that works. It is booted for one
 * command, and what came of it is a value, a crash of the kernel included.
 */
import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { bootBochs, isAmdModel } from "./bochs.ts";
import { type BochsParts, findBochs } from "./bochs-parts.ts";
import { LabCache } from "./cache.ts";
import { diskFull } from "./command.ts";
import type { BootEnd } from "./emulator.ts";
import { LabError } from "./error.ts";
import { baseArchives, kernelEntries, type Work, workEntries } from "./guest.ts";
import { guestPath, NO_PORTS } from "./init.ts";
import { appendFile, appendInitramfs } from "./initramfs.ts";
import { crashReport } from "./kernel-log.ts";
import type { Kernel } from "./kernels.ts";
import { moduleChain } from "./modules.ts";
import { type PortListeners, Ports, portLimits } from "./ports.ts";
import { boot } from "./qemu.ts";
import { unpackVmlinux } from "./vmlinux.ts";

/** What emulates the machine: QEMU has SVM only; Bochs VMX, and SVM for AMD's models. */
export type EmulatorName = "qemu" | "bochs";

/** What is run where. Times are milliseconds. */
export interface LabOptions extends Work, PortListeners {
  readonly kernel: Kernel;
  /** QEMU when left out. */
  readonly emulator?: EmulatorName;
  /** The user's own Bochs; else `$NODE_KVM_BOCHS`, else the one that was built into the cache. */
  readonly bochs?: string;
  /**
   * A CPU model of the emulator's. QEMU: `max` when left out, `EPYC-Milan`, `max,-la57`; Bochs:
   * `corei7_haswell_4770` when left out, `core2_penryn_t9600`, `ryzen`.
   */
  readonly cpu?: string;
  /** The machine's memory, MiB; 1024 when left out. */
  readonly memory?: number;
  /**
   * How many CPUs QEMU's machine has; 1 when left out, as Bochs's always has. With more, threads meet
   * more often, but QEMU 7.2 has hung and has crashed a kernel that patches its own text, as it does
   * when a first VM is made.
   */
  readonly smp?: number | undefined;
  /** For boot and command together; five minutes when left out, 15 in Bochs. */
  readonly timeout?: number;
  /** How long the whole machine may be dead before it is booted once more; 60 s, or 5 min, when left out. */
  readonly silence?: number;
  /** Ends the machine; the promise is then rejected with `ERR_LAB_INTERRUPTED`. */
  readonly signal?: AbortSignal;
  readonly cache?: LabCache;
  /** The archive of another root than the lab's own; its init must speak as init.ts's does. */
  readonly base?: string;
  /** How many bytes the command may print on each output; 64 MiB, or 1 GiB where it is passed on. */
  readonly mostOutput?: number;
  /** Hears that the emulator hung and the machine boots again: output comes from its beginning. */
  readonly onRetry?: () => void;
}

/** What every run leaves. */
export interface LabRun {
  /** The kernel's log, whole. */
  readonly kernelLog: string;
  /** Its lines that report a WARN, BUG or Oops: a failure, whatever the command says. */
  readonly warnings: readonly string[];
  /** What the command printed, as far as it may; only the last 64 KiB where `onStdout` took it. */
  readonly stdout: Buffer;
  /** As `stdout`. */
  readonly stderr: Buffer;
  /** How many boots it took: 2 when the emulator hung at first. */
  readonly attempts: number;
  /** How long the last of them took, from QEMU's start to its end. */
  readonly after: number;
}

/** What came of a run. */
export type LabResult = LabRun &
  (
    | {
        /** The command ended. */
        readonly kind: "exited";
        readonly status: number;
        /** What was wanted and is there, by path. */
        readonly files: ReadonlyMap<string, Uint8Array>;
      }
    | {
        /** The machine ended before the command or init did: a panic, or a triple fault. */
        readonly kind: "crashed";
        /** The log from the first sign of trouble. */
        readonly oops: string;
      }
    | {
        /** It was killed: dead for too long (`silent`, twice), or not ready in time (`timeout`). */
        readonly kind: "hung";
        readonly why: "silent" | "timeout";
      }
    | {
        /** It was killed, because of what the guest wrote to its serial ports: too much, or nonsense. */
        readonly kind: "refused";
        readonly why: string;
      }
    | {
        /** The kernel has no /dev/kvm on this CPU. */
        readonly kind: "no-kvm";
        readonly why: string;
      }
  );

const MEMORY = 1024;

/** What holds when nothing is said. Bochs is slower, and a second of its guest's may be many of ours. */
export const DEFAULTS = {
  qemu: { cpu: "max", timeout: 300_000, silence: 60_000 },
  bochs: { cpu: "corei7_haswell_4770", timeout: 900_000, silence: 300_000 },
} as const;

/** Which of KVM's two modules drives a CPU model of an emulator's. */
function vendorModuleOf(emulator: EmulatorName, cpu: string): "kvm_amd" | "kvm_intel" {
  return emulator === "qemu" || isAmdModel(cpu) ? "kvm_amd" : "kvm_intel";
}

/**
 * Runs a command in a machine of its own.
 *
 * @throws {@link LabError} when there is no machine: QEMU, busybox or a module is missing, the disk
 *   is full, the signal came.
 */
export async function runInLab(options: LabOptions): Promise<LabResult> {
  const cache = options.cache ?? LabCache.default();
  await using scratch = await cache.scratch();
  const initrd = join(scratch.path, "initrd");
  const work = { ...options, wanted: (options.wanted ?? []).map(guestPath) };
  const base =
    options.base === undefined
      ? await baseArchives(cache, options.root, options.signal)
      : [options.base];
  const emulator = options.emulator ?? "qemu";
  const vendor = vendorModuleOf(emulator, options.cpu ?? DEFAULTS[emulator].cpu);
  const modules = await moduleChain(options.kernel, vendor, scratch.path, options.signal);
  await writing(scratch.path, async () => {
    const file = await open(initrd, "w");
    try {
      for (const path of base) await appendFile(file, path);
      await appendInitramfs(file, [...kernelEntries(modules), ...workEntries(work)]);
    } finally {
      await file.close();
    }
  });
  const bochs =
    emulator === "bochs" ? await findBochs(cache, options.bochs, options.signal) : undefined;
  const image = bochs === undefined ? await directImage(options, scratch.path) : undefined;
  const vmlinuz = image ?? options.kernel.vmlinuz;
  const once = (folder: string): Promise<Attempt> =>
    writing(scratch.path, () => attempt(work, { vmlinuz, initrd, folder, bochs }));
  const first = await once(join(scratch.path, "1"));
  if (first.end.why !== "silent") return judge(first, 1);
  options.onRetry?.();
  return judge(await once(join(scratch.path, "2")), 2);
}

/** Names the unpacked kernel, which QEMU starts sooner; `undefined` when there is none to be had. */
async function directImage(
  { kernel, signal }: LabOptions,
  scratch: string,
): Promise<string | undefined> {
  if (kernel.vmlinux !== undefined) return kernel.vmlinux;
  const vmlinux = join(scratch, "vmlinux");
  const isThere = await writing(scratch, () => unpackVmlinux(kernel.vmlinuz, vmlinux, signal));
  return isThere ? vmlinux : undefined;
}

/** What one boot has said. */
interface Attempt {
  readonly end: BootEnd;
  readonly ports: Ports;
}

/** What a boot finds on this machine's disk. */
interface Place {
  /** The bzImage, or what is packed in it. */
  readonly vmlinuz: string;
  readonly initrd: string;
  /** Where it may put files; it makes the folder. */
  readonly folder: string;
  /** Bochs's parts; without them it is QEMU that boots. */
  readonly bochs: BochsParts | undefined;
}

async function attempt(options: LabOptions, place: Place): Promise<Attempt> {
  const { vmlinuz, initrd, folder, bochs } = place;
  const ports = new Ports(options.wanted ?? [], options, portLimits(options.mostOutput));
  const defaults = DEFAULTS[bochs === undefined ? "qemu" : "bochs"];
  const machine = {
    vmlinuz,
    initrd,
    cpu: options.cpu ?? defaults.cpu,
    memory: options.memory ?? MEMORY,
    smp: options.smp,
    timeout: options.timeout ?? defaults.timeout,
    silence: options.silence ?? defaults.silence,
    signal: options.signal,
    onPort: (port: number, bytes: Buffer) => ports.hear(port, bytes),
  };
  await mkdir(folder);
  const end = await (bochs === undefined
    ? boot({ ...machine, folder, isOver: () => ports.isEnded })
    : bootBochs({ ...machine, parts: bochs, folder }));
  ports.log.end();
  return { end, ports };
}

function judge({ end, ports }: Attempt, attempts: number): LabResult {
  const { text: kernelLog, warnings } = ports.log;
  const [stdout, stderr] = [ports.stdout.bytes, ports.stderr.bytes];
  const run: LabRun = { kernelLog, warnings, stdout, stderr, attempts, after: end.after };
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

/** The kernel says why itself, if the module asked: `kvm_amd: SVM not supported by CPU 0`. */
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
