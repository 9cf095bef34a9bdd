/**
 * `node-kvm explore`: compares a kernel's KVM with the model of its CPUID life cycle, in the lab. The program of
 * lib/explore runs in the guest; this file starts it, reads its lines and prints the result.
 */
import { spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { DisagreementMessage, ExploreWork } from "../explore/message.ts";
import { formatSequence } from "../explore/operation.ts";
import { parseSequence, SequenceError } from "../explore/parse.ts";
import { explorerProgram } from "../lab/machine/installation.ts";
import { DEFAULTS, type EmulatorName, runInLab } from "../lab/machine/machine.ts";
import { KERNEL_ROW_NAMES } from "../oracle/index.ts";
import { packageFolder } from "../package.ts";
import { printable, printableJson } from "../report/printable.ts";
import { STATUS } from "./exit-status.ts";
import { problemOf, Received, toReport, toText } from "./explore-report.ts";
import { CommandError, reasonOf } from "./failure.ts";
import { cutShort, interruptible } from "./interrupt.ts";
import { findKernel, refuseUnusedModules } from "./lab-kernel.ts";
import { checkReproStyle, type ReproStyle } from "./repro-style.ts";

/** The options of the command. */
export interface ExploreOptions {
  /** The name of a kernel in the catalogue, or the path of the user's own kernel. */
  readonly kernel: string | undefined;
  /** The folder of the modules of the user's own kernel. */
  readonly modules: string | undefined;
  readonly emulator: EmulatorName;
  readonly bochs: string | undefined;
  readonly cpu: string | undefined;
  /** The seed of the first sequence; by default a random one. */
  readonly seed: number | undefined;
  readonly steps: number;
  /** Rows that the model leaves out although they hold on the kernel. */
  readonly without: readonly string[];
  /** The path of a file with a list of operations, which is executed instead of generated lists. */
  readonly replay: string | undefined;
  /** The folder for the programs that reproduce a disagreement. */
  readonly repro: string | undefined;
  /** The style of the C program; `program` if omitted. */
  readonly reproStyle?: ReproStyle | undefined;
  /** The limit for boot and exploration together, in seconds. */
  readonly timeout: number;
  readonly json: boolean;
  /** Whether this host's KVM is explored instead of a kernel in the lab. */
  readonly onThisHost: boolean;
}

/** The time in seconds after which a run of the guest is interrupted. */
const RUN_SECONDS = 20;
const MOST_SEED = 2 ** 31;

/** Explores a kernel, and prints the result; returns the exit status. */
export async function exploreKernel(options: ExploreOptions): Promise<number> {
  refuseHost(options);
  checkReproStyle(options);
  refuseUnknownRows(options.without);
  if (options.kernel !== undefined) refuseUnusedModules([options.kernel], options.modules);
  const replay = options.replay === undefined ? undefined : readReplay(options.replay);
  const seed = options.seed ?? randomInt(MOST_SEED);
  const work: ExploreWork = {
    seed,
    steps: options.steps,
    without: options.without,
    runSeconds: RUN_SECONDS,
    ...(replay === undefined ? {} : { replay }),
    ...(options.reproStyle === undefined ? {} : { reproStyle: options.reproStyle }),
  };
  const received = new Received();
  const trouble = await interruptible((signal) =>
    options.onThisHost
      ? runHere(work, received, signal)
      : runInGuest(options, work, received, signal),
  );
  const report = toReport(work, received, trouble);
  if (options.repro !== undefined && received.disagreement !== undefined) {
    writePrograms(options.repro, received.disagreement);
  }
  process.stdout.write(options.json ? `${printableJson(report)}\n` : toText(report, received));
  return { agreement: STATUS.ok, disagreement: STATUS.finding, trouble: STATUS.trouble }[
    report.verdict
  ];
}

function refuseHost({ kernel, onThisHost }: ExploreOptions): void {
  if (kernel === undefined && !onThisHost) {
    throw new CommandError(
      "name a kernel for the lab with --kernel; random calls may crash this host, so its own KVM is " +
        "explored only with --on-this-host-i-mean-it",
    );
  }
  if (kernel !== undefined && onThisHost) {
    throw new CommandError("--kernel is for the lab; leave out --on-this-host-i-mean-it");
  }
}

function refuseUnknownRows(rows: readonly string[]): void {
  const known: readonly string[] = KERNEL_ROW_NAMES;
  const unknown = rows.find((row) => !known.includes(row));
  if (unknown === undefined) return;
  throw new CommandError(
    `--without: unknown row ${printable(unknown)}; known are ${known.join(", ")}`,
  );
}

/** Reads a list of operations, and checks it before a machine boots. */
function readReplay(path: string): string {
  try {
    const text = readFileSync(path, "utf8");
    parseSequence(text);
    return text;
  } catch (error) {
    const reason = error instanceof SequenceError ? error.message : reasonOf(error);
    throw new CommandError(`--replay ${printable(path)}: ${reason}`);
  }
}

/** Explores a kernel in the lab; returns a sentence if the machine did not end in order. */
async function runInGuest(
  options: ExploreOptions,
  work: ExploreWork,
  received: Received,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { emulator, bochs, timeout } = options;
  const kernel = await findKernel(options.kernel ?? "", options.modules, signal);
  const cpu = options.cpu ?? DEFAULTS[emulator].cpu;
  process.stderr.write(
    `node-kvm: exploring ${printable(kernel.name)} in ${emulator}, CPU ${printable(cpu)}, seed ${work.seed}\n`,
  );
  const decoder = new TextDecoder();
  const result = await runInLab({
    kernel,
    emulator,
    cpu,
    root: "claims",
    command: ["node", explorerProgram(), JSON.stringify(work)],
    timeout: timeout * 1000,
    signal,
    ...(bochs === undefined ? {} : { bochs }),
    onStdout: (bytes) => received.take(decoder.decode(bytes, { stream: true })),
    onRetry: () => received.restart(),
  });
  if (result.kind === "hung") cutShort();
  return problemOf(result, received);
}

/** Explores this host's KVM; returns a sentence if the program did not end in order. */
async function runHere(
  work: ExploreWork,
  received: Received,
  signal: AbortSignal,
): Promise<string | undefined> {
  const program = join(packageFolder(), "dist", "explore", "main.js");
  const child = spawn(process.execPath, [program, JSON.stringify(work)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const kill = (): void => {
    child.kill("SIGKILL");
  };
  signal.addEventListener("abort", kill, { once: true });
  createInterface({ input: child.stdout }).on("line", (line) => received.take(`${line}\n`));
  const [status, end] = (await once(child, "close")) as [number | null, string | null];
  signal.removeEventListener("abort", kill);
  return status === 0 ? undefined : `the program ended with ${end ?? `status ${status}`}`;
}

/** Writes the list, the TypeScript and the C of a disagreement. */
function writePrograms(folder: string, found: DisagreementMessage): void {
  const name = found.seed === undefined ? "explore-replay" : `explore-seed-${found.seed}`;
  const { vm, operations } = found;
  try {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `${name}.json`), formatSequence({ vm, operations }));
    writeFileSync(join(folder, `${name}.ts`), found.typescript);
    writeFileSync(join(folder, `${name}.c`), found.c);
  } catch (error) {
    throw new CommandError(`--repro ${printable(folder)}: ${reasonOf(error)}`);
  }
}
