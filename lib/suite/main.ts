/**
 * The command that judges claims without vitest, and prints the same JSON report as `node-kvm test --reporter json`.
 * The lab runs this command in its guests, where starting vitest takes 10 s. The command judges the claims of the
 * suite, which are part of the command's bundle, or the claims of a program (program.ts). By default, the command
 * prints each verdict on standard error as soon as the claim was judged.
 */
import { closeSync, openSync, readSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { KvmError } from "../errors.ts";
import { guest } from "../guest/index.ts";
import { Kvm, vendorModule } from "../index.ts";
import { boundTexts } from "../report/evidence.ts";
import { printable } from "../report/printable.ts";
import { isGreen, type Report, type Result } from "../report/result.ts";
import { hostFacts } from "./host-facts.ts";
import { judgeInProcess, needsOwnProcesses, ProcessEnded, printInProcess } from "./isolation.ts";
import { judgeClaims } from "./judge.ts";
import { LoadError, loadProgram } from "./program.ts";
import { registeredClaims } from "./registry.ts";

const OPTIONS = {
  /** Prints the names of all claims as a JSON array, without judging a claim. */
  list: { type: "boolean" },
  /** Judges only claims whose `id: sentence` contains this text. */
  pattern: { type: "string" },
  /** Loads the claims of the program in this file. */
  program: { type: "string" },
  /** Judges only a share of the claims: `0/2` is every second claim from the first one on. */
  share: { type: "string" },
  /** Judges only the claims of this file, in this process. */
  file: { type: "string" },
  /** Loads all claims, and then waits on this port for its work. */
  held: { type: "string" },
  /** The path of a file that exists while the command waits; the command removes the file when the work arrives. */
  mark: { type: "string" },
  /** The folder into which the command writes the program that it receives as work. */
  folder: { type: "string" },
  /** Judges all claims this many times before the command waits for its work. */
  warm: { type: "string" },
  /** Judges each file in its own process, even if no file needs one. */
  "own-processes": { type: "boolean" },
  /**
   * Selects the output: `report` prints only a report at the end, and `lines` prints each result as a line. Without
   * this option, the command prints a report at the end, and progress on standard error.
   */
  print: { type: "string" },
  /** Reports the calls of each claim that fails or deviates. */
  evidence: { type: "boolean" },
} as const;

const TROUBLE = 2;

/**
 * Judges the claims with the options of the command line. Returns the exit status: 0 if no claim fails, 1 if a claim
 * fails or no claim was judged, 2 if the program cannot be loaded or if a file's process ends without results.
 */
export async function runBundle(args: readonly string[]): Promise<number> {
  // Errors get no reasons, because the ioctls that gather evidence must not affect the claims.
  process.env["NODE_KVM_EXPLAIN"] = "0";
  const { values } = parseArgs({ args: [...args], options: OPTIONS, strict: true });
  try {
    return await run(values);
  } catch (error) {
    if (!(error instanceof LoadError || error instanceof ProcessEnded)) throw error;
    print(2, `node-kvm: ${printable(error.message)}\n`);
    return TROUBLE;
  }
}

type Options = ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>["values"];

async function run(options: Options): Promise<number> {
  const { held, file } = options;
  if (options.evidence === true) collectEvidence();
  if (options.program !== undefined) await loadProgram(options.program);
  if (options.list === true) {
    print(1, JSON.stringify(registeredClaims().map(({ name }) => name)));
    return 0;
  }
  const { pattern, program, share } = held === undefined ? options : await waitForWork(options);
  if (held !== undefined && program !== undefined) await loadProgram(program);
  const own = file === undefined && (options["own-processes"] === true || needsOwnProcesses());
  if (own && options.print === "lines") return printFiles({ pattern, program, share });
  const onResult = printerOf(options.print);
  const results = own
    ? judgeFiles({ pattern, program, share, print: options.print }, onResult)
    : await judgeHere({ pattern, share, file }, onResult);
  const report: Report = {
    kernel: release(),
    vendor: vendorModule() ?? "none",
    host: hostFacts(),
    results: boundTexts(results),
  };
  if (options.print !== "lines") print(1, `${JSON.stringify(report, null, 2)}\n`);
  if (file !== undefined) return 0;
  if (results.length === 0) print(2, `node-kvm: no claim contains "${pattern ?? ""}"\n`);
  return results.length > 0 && isGreen(report) ? 0 : 1;
}

/** Makes the claims of this process, and of its child processes, report their calls; see reproducer.ts. */
function collectEvidence(): void {
  process.env["NODE_KVM_EVIDENCE"] = "1";
}

/** Returns the function that prints each result immediately. */
function printerOf(how: string | undefined): (result: Result) => void {
  if (how === "lines") return (result) => print(1, `${JSON.stringify(result)}\n`);
  if (how === "report") return () => undefined;
  return ({ verdict, id }) => print(2, `${verdict} ${id}\n`);
}

/** The work that a waiting command receives. */
interface HeldWork {
  readonly pattern?: string | undefined;
  /** Whether the claims that fail or deviate report their calls. */
  readonly evidence?: boolean | undefined;
  /** The text of a program; if omitted, the claims of this bundle are judged. */
  readonly program?: string | undefined;
  /** The share of the claims, as the option `share`; all claims by default. */
  readonly share?: string | undefined;
  /** Random bytes in hexadecimal, which are different in each run. */
  readonly seed: string;
}

/**
 * Writes `ready` to a port, and then reads its work from the port: a line with the length, followed by JSON. The lab
 * saves the machine while this function waits; each restored machine continues here.
 */
async function waitForWork(
  options: Options,
): Promise<Pick<HeldWork, "pattern" | "share"> & { readonly program?: string }> {
  // The guest programs load the assembler, and build the tables of the modes, before the machine is saved, because this
  // takes a second under emulation.
  for (const mode of ["real", "protected", "long", "user"] as const) {
    guest(mode, (g) => g.sync(1).done());
  }
  for (let i = 0; i < Number(options.warm ?? 0); i += 1) {
    using _held = holdVcpu();
    await judgeClaims(registeredClaims());
  }
  const port = openSync(options.held ?? "", "r+");
  print(port, "ready\n");
  const work = JSON.parse(readBytes(port, Number(readLine(port))).toString()) as HeldWork;
  closeSync(port);
  if (options.mark !== undefined) rmSync(options.mark);
  writeFileSync("/dev/urandom", Buffer.from(work.seed, "hex"));
  process.env["NODE_KVM_SEED"] = work.seed;
  const { pattern, share } = work;
  if (work.evidence === true) collectEvidence();
  if (work.program === undefined) return { pattern, share };
  const program = join(options.folder ?? "", "program.json");
  writeFileSync(program, work.program);
  return { pattern, program, share };
}

/** Reads a line of ASCII, and returns it without the newline. */
function readLine(port: number): string {
  let line = "";
  for (;;) {
    const byte = readBytes(port, 1).toString("latin1");
    if (byte === "\n") return line;
    line += byte;
  }
}

function readBytes(port: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; ) {
    const read = readSync(port, bytes, at, length - at, null);
    if (read === 0) throw new Error("the port ended before the whole work was read");
    at += read;
  }
  return bytes;
}

async function judgeHere(
  options: Readonly<Record<"pattern" | "share" | "file", string | undefined>>,
  onResult: (result: Result) => void,
): Promise<readonly Result[]> {
  const { file, ...chosen } = options;
  // A process that judges a single file holds no vCPU, because this vCPU would be the first of the process.
  const held = file === undefined ? holdVcpu() : undefined;
  const files = file === undefined ? undefined : [file];
  try {
    return await judgeClaims(registeredClaims(), { ...chosen, files, onResult });
  } finally {
    held?.[Symbol.dispose]();
  }
}

/** Judges each file in its own process. The processes print progress, except if the option `print` is set. */
function judgeFiles(
  options: Readonly<Record<"pattern" | "program" | "share" | "print", string | undefined>>,
  onResult: (result: Result) => void,
): readonly Result[] {
  using _held = holdVcpu();
  const isSilent = options.print !== undefined;
  return fileRuns({ ...options, print: isSilent ? "report" : undefined }).flatMap((args) => {
    const results = judgeInProcess(args);
    if (isSilent) for (const result of results) onResult(result);
    return results;
  });
}

/**
 * Judges each file in its own process. Each process prints each result as a line. If a claim ends its process, earlier
 * results and the results of other files are not lost.
 *
 * @returns the exit status.
 */
function printFiles(
  options: Readonly<Record<"pattern" | "program" | "share", string | undefined>>,
): number {
  using _held = holdVcpu();
  const ends = fileRuns({ ...options, print: "lines" }).map(printInProcess);
  const early = ends.filter((end) => end !== undefined);
  for (const end of early) print(2, `node-kvm: ${printable(end)}\n`);
  return early.length === 0 ? 0 : TROUBLE;
}

/** Returns the arguments of Node.js for each file of claims. */
function fileRuns(options: Readonly<Record<string, string | undefined>>): readonly string[][] {
  const more = Object.entries(options).flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name}=${value}`],
  );
  const files = new Set(registeredClaims().map(({ file }) => file));
  return Array.from(files, (file) => [process.argv[1] ?? "", ...more, "--file", file]);
}

/**
 * Creates a vCPU that exists during the whole run. Without such a vCPU, KVM patches the kernel's code whenever a claim
 * creates its first vCPU and closes its last vCPU. An emulator must then translate the patched code again, which takes
 * a tenth of the run.
 */
function holdVcpu(): Disposable | undefined {
  const stack: Disposable[] = [];
  const close = (): void => {
    for (const handle of stack.reverse()) handle[Symbol.dispose]();
  };
  const keep = <T extends Disposable>(handle: T): T => {
    stack.push(handle);
    return handle;
  };
  try {
    keep(keep(keep(Kvm.open()).createVm()).createVcpu(0));
    return { [Symbol.dispose]: close };
  } catch (error) {
    close();
    // If KVM is not usable, no vCPU is held, and each claim is skipped with the reason.
    if (!(error instanceof KvmError)) throw error;
    return undefined;
  }
}

/** The delay before a write to a full pipe is repeated, in milliseconds. */
const RETRY_MS = 1;

/** Writes a whole text synchronously, because the process may exit right after this call. */
function print(descriptor: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) at += writePart(descriptor, bytes.subarray(at));
}

/**
 * Writes as many bytes as a descriptor accepts, and returns their number. The number is 0 if the descriptor is a full
 * pipe, because Node.js makes the pipe of `process.stdout` non-blocking.
 */
function writePart(descriptor: number, bytes: Uint8Array): number {
  try {
    return writeSync(descriptor, bytes);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
    return 0;
  }
}
