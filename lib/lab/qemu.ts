/**
 * One boot of one kernel in QEMU, without hardware virtualisation: the command line and four serial
 * ports. What the guest says on the ports is for machine.ts to understand.
 */
import type { Readable } from "node:stream";
import {
  type BootEnd,
  type BootOptions,
  FIRST_FD,
  KERNEL_ARGUMENTS,
  PORTS,
  runEmulator,
} from "./emulator.ts";
import { LabError } from "./error.ts";
import { onPath } from "./search-path.ts";

export type { BootEnd, BootOptions };

/**
 * An interrupt line for each. A PC's third and fourth port share those of the first two; QEMU tells
 * the kernel by ACPI that these don't. With one each, no port waits for another.
 */
const IRQS = [4, 3, 5, 7] as const;

/**
 * The whole log on a 16550 costs no measurable time in TCG: 25 kB at some 500 kB/s. Closing a VM waits for RCU, which
 * takes several ticks of the clock unless it is told to hurry.
 */
const APPEND = `console=ttyS0 ${KERNEL_ARGUMENTS} rcupdate.rcu_expedited=1`;

/**
 * QEMU's own filter of system calls: no new program, no change of user, no obsolete call. The
 * machine is emulated by threads, which it may make.
 */
const SANDBOX = [
  "-sandbox",
  "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
];

/** Says QEMU's arguments; `-cx16` because QEMU 7.2 corrupts the flags in cmpxchg16b. */
export function qemuArguments(
  options: Pick<BootOptions, "vmlinuz" | "initrd" | "cpu" | "memory" | "smp">,
): readonly string[] {
  return [
    ...["-accel", "tcg,thread=multi", "-cpu", `${options.cpu},-cx16`],
    ...["-m", String(options.memory), "-smp", String(options.smp ?? 1)],
    ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
    ...PORTS.flatMap((port) => [
      ...["-chardev", `socket,id=port${port},fd=${FIRST_FD + port}`],
      ...["-device", `isa-serial,chardev=port${port},index=${port},irq=${IRQS[port]}`],
    ]),
    ...["-kernel", options.vmlinuz, "-initrd", options.initrd, "-append", APPEND],
  ];
}

/**
 * Boots a kernel and waits until the machine is off, by itself or because it had to be killed.
 *
 * @throws {@link LabError} `ERR_LAB_TOOL` when QEMU is missing or refuses its command line,
 *   `ERR_LAB_INTERRUPTED` when the signal came; no process is left then.
 */
export async function boot(options: BootOptions): Promise<BootEnd> {
  const program = findQemu();
  try {
    return await start(program, withoutSandbox.has(program) ? [] : SANDBOX, options);
  } catch (error) {
    // A QEMU that was built without seccomp says so before anything else.
    if (!(error instanceof LabError && error.message.includes("-sandbox"))) throw error;
    withoutSandbox.add(program);
    return start(program, [], options);
  }
}

const withoutSandbox = new Set<string>();

function start(
  program: string,
  sandbox: readonly string[],
  options: BootOptions,
): Promise<BootEnd> {
  return runEmulator(
    {
      name: "QEMU",
      program,
      files: [options.vmlinuz, options.initrd],
      args: ([vmlinuz = options.vmlinuz, initrd = options.initrd]) => [
        ...sandbox,
        ...qemuArguments({ ...options, vmlinuz, initrd }),
      ],
      sockets: PORTS.length,
      listen: (child, hear) => {
        for (const port of PORTS) {
          const stream = child.stdio[FIRST_FD + port] as Readable;
          // A machine that is ended may leave bytes unread; how it ended is known from the process.
          stream.on("error", () => undefined);
          stream.on("data", (bytes: Buffer) => hear(port, bytes));
        }
        return () => undefined;
      },
      refusal: (status, output) =>
        status === 0 ? undefined : output.trim().split("\n").slice(-3).join("; "),
    },
    options,
  );
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
