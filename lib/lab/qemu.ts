/**
 * One boot of one kernel in QEMU, without hardware virtualisation: the command line, four serial
 * ports, deadlines. What the guest says on the ports is for machine.ts to understand.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import type { Readable } from "node:stream";
import { LabError } from "./error.ts";

/** What is booted, and for how long. Times are milliseconds. */
export interface BootOptions {
  readonly vmlinuz: string;
  readonly initrd: string;
  /** A CPU model of QEMU's, with features taken away or added: `EPYC-Milan`, `max,-la57`. */
  readonly cpu: string;
  /** MiB. */
  readonly memory: number;
  /** For the whole boot. */
  readonly timeout: number;
  /** Without a byte on any port. */
  readonly silence: number;
  readonly signal?: AbortSignal | undefined;
  /** Takes what the guest wrote to a serial port: ttyS0 is 0. */
  readonly onPort: (port: number, bytes: Buffer) => void;
}

/** How a boot ended. */
export interface BootEnd {
  /** By itself; or it was killed, because it was silent or took too long. */
  readonly why: "ended" | "silent" | "timeout";
  /** How long it took. */
  readonly after: number;
}

/** How many serial ports a machine has: as many as every kernel looks for. */
const PORTS = [0, 1, 2, 3] as const;

/**
 * An interrupt line for each. A PC's third and fourth port share those of the first two; QEMU tells
 * the kernel by ACPI that these don't. With one each, no port waits for another.
 */
const IRQS = [4, 3, 5, 7] as const;

/** The file descriptor behind port 0 in QEMU; the others follow. */
const FIRST_FD = 3;

/**
 * The kernel's command line.
 *
 * The whole log goes to the port as it is written, so that a crash or a hang keeps it: on a 16550
 * in TCG that costs no measurable time (25 kB at some 500 kB/s). The self-tests of the ciphers,
 * which `cryptomgr.notests` leaves out, cost half a second.
 */
const APPEND = "console=ttyS0 ignore_loglevel panic=-1 cryptomgr.notests 8250.nr_uarts=4";

/** Says QEMU's arguments; `-cx16` because QEMU 7.2 corrupts the flags in cmpxchg16b. */
export function qemuArguments(
  options: Pick<BootOptions, "vmlinuz" | "initrd" | "cpu" | "memory">,
): readonly string[] {
  return [
    ...["-accel", "tcg,thread=multi", "-cpu", `${options.cpu},-cx16`],
    ...["-m", String(options.memory), "-smp", "1"],
    ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
    ...PORTS.flatMap((port) => [
      ...["-chardev", `socket,id=port${port},fd=${FIRST_FD + port}`],
      ...["-device", `isa-serial,chardev=port${port},index=${port},irq=${IRQS[port]}`],
    ]),
    ...["-kernel", options.vmlinuz, "-initrd", options.initrd, "-append", APPEND],
  ];
}

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/**
 * Boots a kernel and waits until the machine is off, by itself or because it had to be killed.
 *
 * @throws {@link LabError} `ERR_LAB_TOOL` when QEMU is missing or refuses its command line,
 *   `ERR_LAB_INTERRUPTED` when the signal came; no process is left then.
 */
export async function boot(options: BootOptions): Promise<BootEnd> {
  interrupt(options.signal);
  const [program, ...args] = [...leash(), findQemu(), ...qemuArguments(options)] as [string];
  const started = performance.now();
  const child = spawn(program, args, {
    stdio: ["ignore", "ignore", "pipe", ...PORTS.map((): "pipe" => "pipe")],
    // A Ctrl-C at the terminal is for us; we end QEMU when we are ready.
    detached: true,
  });
  running.add(child);
  let why: BootEnd["why"] = "ended";
  const kill = (reason: BootEnd["why"]): void => {
    why = reason;
    child.kill("SIGKILL");
  };
  const abort = (): void => void child.kill("SIGKILL");
  const limit = setTimeout(kill, options.timeout, "timeout");
  const quiet = setTimeout(kill, options.silence, "silent");
  options.signal?.addEventListener("abort", abort, { once: true });
  try {
    let spoke = false;
    for (const port of PORTS) {
      (child.stdio[FIRST_FD + port] as Readable).on("data", (bytes: Buffer) => {
        spoke = true;
        quiet.refresh();
        options.onPort(port, bytes);
      });
    }
    const { status, stderr } = await end(child);
    interrupt(options.signal);
    if (why === "ended" && status !== 0 && !spoke) throw refusal(status, stderr);
    return { why, after: Math.round(performance.now() - started) };
  } finally {
    clearTimeout(limit);
    clearTimeout(quiet);
    options.signal?.removeEventListener("abort", abort);
    running.delete(child);
  }
}

async function end(
  child: ChildProcess,
): Promise<{ readonly status: number | null; readonly stderr: string }> {
  let stderr = "";
  child.stderr?.on("data", (bytes: Buffer) => {
    stderr += bytes.toString();
  });
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  return { status, stderr };
}

function interrupt(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  throw new LabError("ERR_LAB_INTERRUPTED", "interrupted; the machine was ended", signal.reason);
}

function refusal(status: number | null, stderr: string): LabError {
  const words = stderr.trim().split("\n").slice(-3).join("; ");
  return new LabError("ERR_LAB_TOOL", `QEMU did not start (status ${status}): ${words}`);
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

/** The kernel ends QEMU together with us, however we end; of util-linux, which few lack. */
function leash(): readonly string[] {
  const setpriv = onPath("setpriv");
  return setpriv === undefined ? [] : [setpriv, "--pdeathsig", "KILL"];
}

function onPath(program: string): string | undefined {
  const folders = (process.env["PATH"] ?? "").split(delimiter).filter((folder) => folder !== "");
  return folders.map((folder) => join(folder, program)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false; // whatever the reason, it is not the one to run
  }
}
