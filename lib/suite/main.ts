/**
 * The command of a bundle of claims: it judges them without vitest and prints the report as JSON, which is what
 * `node-kvm test --reporter json` prints. The lab runs it in its guests, where starting vitest takes 10 s. Each
 * verdict is a line on standard error as soon as it is known.
 */
import { closeSync, openSync, readSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";
import { KvmError } from "../errors.ts";
import { guest } from "../guest/index.ts";
import { Kvm, kernelRelease, vendorModule } from "../index.ts";
import { isGreen, type Report, type Result } from "../report/result.ts";
import { judgeInProcess, needsOwnProcesses } from "./isolation.ts";
import { judgeClaims } from "./judge.ts";
import { registeredClaims } from "./registry.ts";

const OPTIONS = {
  /** Prints the names of all claims, as a JSON array, and judges none. */
  list: { type: "boolean" },
  /** Only claims whose `id: sentence` contains this. */
  pattern: { type: "string" },
  /** Only the claims of this file, in this process. */
  file: { type: "string" },
  /** Waits on this port for its work: what it judges then. It has loaded all claims by that time. */
  held: { type: "string" },
  /** The file that is there while it waits; it is removed when the work has come. */
  mark: { type: "string" },
  /** Judges all claims so many times before it waits. */
  warm: { type: "string" },
  /** Each file in a process of its own, also where no file needs one. */
  "own-processes": { type: "boolean" },
} as const;

/** Runs the claims of this bundle as the command line says; returns the exit status, 0 when no claim fails. */
export function runBundle(args: readonly string[]): number {
  // A search for a reason must not change what the claims observe.
  process.env["NODE_KVM_EXPLAIN"] = "0";
  const { values } = parseArgs({ args: [...args], options: OPTIONS, strict: true });
  if (values.list === true) {
    print(1, JSON.stringify(registeredClaims().map(({ name }) => name)));
    return 0;
  }
  const { file } = values;
  const { pattern } = values.held === undefined ? values : waitForWork({ ...values });
  const own = file === undefined && (values["own-processes"] === true || needsOwnProcesses());
  const results = own ? judgeFiles(pattern) : judgeHere(pattern, file);
  const report: Report = { kernel: kernelRelease(), vendor: vendorModule() ?? "none", results };
  print(1, `${JSON.stringify(report, null, 2)}\n`);
  if (file !== undefined) return 0;
  if (results.length === 0) print(2, `node-kvm: no claim contains "${pattern ?? ""}"\n`);
  return results.length > 0 && isGreen(report) ? 0 : 1;
}

/** What a held runner is given to do. */
interface HeldWork {
  readonly pattern?: string;
  /** Bytes in hexadecimal that no other run has. */
  readonly seed: string;
}

/**
 * Says that it is ready, on a port, and waits there for its work: a line with its length, then JSON. In between the
 * machine is saved, and it goes on in each that is restored.
 */
function waitForWork(options: {
  readonly held?: string;
  readonly mark?: string;
  readonly warm?: string;
}): HeldWork {
  // The first program that is assembled loads the assembler, which takes an emulated CPU a second.
  guest("long", (g) => g.sync(1).done());
  for (let i = 0; i < Number(options.warm ?? 0); i += 1) {
    using _held = holdVcpu();
    judgeClaims(registeredClaims());
  }
  const port = openSync(options.held ?? "", "r+");
  print(port, "ready\n");
  const work = JSON.parse(readBytes(port, Number(readLine(port))).toString()) as HeldWork;
  closeSync(port);
  if (options.mark !== undefined) rmSync(options.mark);
  writeFileSync("/dev/urandom", Buffer.from(work.seed, "hex"));
  process.env["NODE_KVM_SEED"] = work.seed;
  return work;
}

/** Reads a line of ASCII, without its end. */
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
    if (read === 0) throw new Error("the port ended before the work was whole");
    at += read;
  }
  return bytes;
}

function judgeHere(pattern: string | undefined, file: string | undefined): readonly Result[] {
  // The process that judges one file has no such VM: its first vCPU would be this one.
  const held = file === undefined ? holdVcpu() : undefined;
  try {
    return judgeClaims(registeredClaims(), {
      pattern,
      ...(file === undefined ? {} : { files: [file] }),
      onResult: ({ verdict, id }) => print(2, `${verdict} ${id}\n`),
    });
  } finally {
    held?.[Symbol.dispose]();
  }
}

function judgeFiles(pattern: string | undefined): readonly Result[] {
  using _held = holdVcpu();
  const files = new Set(registeredClaims().map(({ file }) => file));
  const more = pattern === undefined ? [] : ["--pattern", pattern];
  return Array.from(files).flatMap((file) =>
    judgeInProcess([process.argv[1] ?? "", ...more, "--file", file]),
  );
}

/**
 * Makes a vCPU that lives as long as the run. Without one, KVM patches the kernel's text whenever a claim's first
 * vCPU comes and its last one goes, and an emulator has to translate that text again: a tenth of the run.
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
    // Without a usable KVM each claim is skipped with the reason.
    if (!(error instanceof KvmError)) throw error;
    return undefined;
  }
}

/** Writes all of a text at once: the process may end right after. */
function print(descriptor: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) at += writeSync(descriptor, bytes, at);
}
