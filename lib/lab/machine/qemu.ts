/**
 * Boots one kernel in QEMU, without hardware virtualisation: makes the command line and reads four serial ports.
 * machine.ts interprets the guest's output.
 */
import type { Duplex } from "node:stream";
import { LabError } from "../error.ts";
import { onPath } from "../process/search-path.ts";
import {
  type BootEnd,
  type BootOptions,
  FIRST_FD,
  KERNEL_ARGUMENTS,
  PORTS,
  runEmulator,
} from "./emulator.ts";
import { Monitor } from "./qmp.ts";

export type { BootEnd, BootOptions };

/**
 * A PC's third and fourth port share the interrupt lines of the first two. In this machine, each port has its own
 * interrupt, which QEMU reports by ACPI; no port waits for another port.
 */
const IRQS = [4, 3, 5, 7] as const;

/**
 * Writing the whole log to a 16550 takes no measurable time in TCG: 25 kB at about 500 kB/s. Closing a VM waits for
 * RCU, which takes several clock ticks if it is not expedited.
 */
const APPEND = `console=ttyS0 ${KERNEL_ARGUMENTS} rcupdate.rcu_expedited=1`;

/**
 * QEMU's seccomp filter, which blocks exec, changes of the user, and obsolete system calls. New threads are allowed,
 * because QEMU's threads emulate the machine.
 */
const SANDBOX = [
  "-sandbox",
  "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
];

/** The options of a boot, and further options for a machine that is saved or restored. */
export interface QemuOptions extends BootOptions {
  /**
   * The files with the memory and devices of a machine that is saved or restored; if omitted, the machine's state is
   * lost at the end.
   */
  readonly kept?: KeptMachine | undefined;
  /**
   * A function that is called, after the start, with a machine that is saved or restored. If its promise is rejected,
   * the machine is ended and the promise of {@link boot} is also rejected.
   */
  readonly onStart?: (machine: RunningMachine) => Promise<void>;
}

/** A machine whose memory is the file {@link MEMORY_FILE} in its folder; the file has the size of the memory. */
export interface KeptMachine {
  /** The file with the state of the devices: the machine is restored from this file instead of booting. */
  readonly state?: string | undefined;
}

/** The name of the memory file in a machine's folder. */
export const MEMORY_FILE = "ram";

/** Controls a machine. */
export interface RunningMachine {
  readonly monitor: Monitor;
  /** The number of the descriptor of the state file in QEMU. */
  readonly stateFd: number;
  /** Writes bytes to one of the guest's serial ports. */
  readonly send: (port: number, bytes: Uint8Array) => void;
  /** Ends the machine. */
  readonly end: () => void;
}

const MONITOR_FD = FIRST_FD + PORTS.length;
/** The descriptors of files follow the descriptors of sockets. */
const STATE_FD = MONITOR_FD + 1;

/** Returns QEMU's arguments; they include `-cx16`, because QEMU 7.2 corrupts the flags in cmpxchg16b. */
export function qemuArguments(
  options: Pick<
    QemuOptions,
    "vmlinuz" | "initrd" | "cpu" | "memory" | "smp" | "kernelArguments" | "kept"
  >,
): readonly string[] {
  const { kept, kernelArguments = [] } = options;
  const append = [APPEND, ...kernelArguments].join(" ");
  return [
    ...["-accel", "tcg,thread=multi", "-cpu", `${options.cpu},-cx16`],
    ...["-m", String(options.memory), "-smp", String(options.smp ?? 1)],
    ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
    ...PORTS.flatMap((port) => [
      ...["-chardev", `socket,id=port${port},fd=${FIRST_FD + port}`],
      ...["-device", `isa-serial,chardev=port${port},index=${port},irq=${IRQS[port]}`],
    ]),
    ...(kept === undefined ? [] : keptArguments(kept, options.memory)),
    ...(kept?.state === undefined
      ? ["-kernel", options.vmlinuz, "-initrd", options.initrd, "-append", append]
      : ["-incoming", "defer"]),
  ];
}

/** A machine that is saved shares its memory with the file; a restored machine maps the file privately. */
function keptArguments({ state }: KeptMachine, memory: number): readonly string[] {
  const share = state === undefined ? "on" : "off";
  return [
    "-object",
    `memory-backend-file,id=ram,size=${memory}M,mem-path=${MEMORY_FILE},share=${share}`,
    ...["-machine", "pc,memory-backend=ram"],
    // Each start gets another machine identity, which makes kernels since 5.18 reseed their random numbers.
    ...["-device", "vmgenid,guid=auto"],
    ...["-chardev", `socket,id=monitor,fd=${MONITOR_FD}`, "-mon", "chardev=monitor,mode=control"],
  ];
}

/**
 * Boots a kernel or restores a machine, and waits until the machine has powered off or was killed.
 *
 * @throws {@link LabError} `ERR_LAB_TOOL` if QEMU is missing or rejects its command line or its state,
 *   `ERR_LAB_INTERRUPTED` after the signal; no process is left then.
 */
export async function boot(options: QemuOptions): Promise<BootEnd> {
  const program = findQemu();
  try {
    return await start(program, withoutSandbox.has(program) ? [] : SANDBOX, options);
  } catch (error) {
    // A QEMU without seccomp support reports the missing support before any other error.
    if (!(error instanceof LabError && error.message.includes("-sandbox"))) throw error;
    withoutSandbox.add(program);
    return start(program, [], options);
  }
}

const withoutSandbox = new Set<string>();

async function start(
  program: string,
  sandbox: readonly string[],
  options: QemuOptions,
): Promise<BootEnd> {
  const { kept } = options;
  const { state } = kept ?? {};
  let trouble: { readonly error: unknown } | undefined;
  const end = await runEmulator(
    {
      name: "QEMU",
      program,
      files: state === undefined ? [options.vmlinuz, options.initrd] : [state],
      args: ([vmlinuz = options.vmlinuz, initrd = options.initrd]) => [
        ...sandbox,
        ...qemuArguments({ ...options, vmlinuz, initrd }),
      ],
      sockets: PORTS.length + (kept === undefined ? 0 : 1),
      listen: (child, hear) => {
        for (const port of PORTS) {
          const stream = child.stdio[FIRST_FD + port] as Duplex;
          // A machine that has ended may leave unread bytes; the exit status of the process shows how it ended.
          stream.on("error", () => undefined);
          const resume = (): void => void stream.resume();
          stream.on("data", (bytes: Buffer) => {
            const pending = hear(port, bytes);
            const isAlive = child.exitCode === null && child.signalCode === null;
            if (!(pending instanceof Promise) || !isAlive) return;
            stream.pause();
            pending.then(resume, resume);
          });
          // A machine that has ended leaves at most the unread content of its sockets.
          child.once("exit", resume);
        }
        if (kept === undefined) return () => undefined;
        const machine: RunningMachine = {
          monitor: new Monitor(child.stdio[MONITOR_FD] as Duplex),
          stateFd: STATE_FD,
          send: (port, bytes) => void (child.stdio[FIRST_FD + port] as Duplex).write(bytes),
          end: () => void child.kill("SIGKILL"),
        };
        options.onStart?.(machine).catch((error: unknown) => {
          trouble ??= { error };
          machine.end();
        });
        return () => undefined;
      },
      refusal: (status, output) =>
        status === 0 || (status === null && trouble !== undefined)
          ? undefined
          : output.trim().split("\n").slice(-3).join("; "),
    },
    options,
  );
  // A machine that was killed for another reason does not reply to QMP commands either.
  if (trouble !== undefined && end.why === "ended") throw trouble.error;
  return end;
}

const QEMU = "qemu-system-x86_64";

/** Finds QEMU. @throws {@link LabError} `ERR_LAB_TOOL` with the package to install. */
export function findQemu(): string {
  const found = onPath(QEMU);
  if (found !== undefined) return found;
  throw new LabError(
    "ERR_LAB_TOOL",
    `${QEMU} is not on this machine; install it: apt-get install --no-install-recommends qemu-system-x86`,
  );
}
