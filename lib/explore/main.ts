/**
 * The program that explores the KVM of the machine in which it runs, and prints the lines of message.ts. The command
 * `node-kvm explore` starts it in the lab's guests.
 */
import { writeSync } from "node:fs";
import { release } from "node:os";
import { Kvm, vendorModule } from "../index.ts";
import { changesOf, type KernelRowName, LifecycleModel, lifecycleHost } from "../oracle/index.ts";
import type { CStyle } from "../trace/index.ts";
import { explore, type Finding, shrunkFrom } from "./explore.ts";
import { fingerprintOf } from "./fingerprint.ts";
import { KvmSubject } from "./kvm-subject.ts";
import type { ExploreMessage, ExploreWork } from "./message.ts";
import { parseSequence } from "./parse.ts";
import { type PlayedStep, type PlayOptions, play } from "./play.ts";
import { reproducer } from "./reproducer.ts";
import { RunWatchdog } from "./run-watchdog.ts";
import { toTypeScript } from "./typescript.ts";
import { formatAnswers } from "./wording.ts";

const RETRY_MS = 5;

/** Prints a message as one line; the process may be ended right after this call. */
function print(message: ExploreMessage): void {
  const bytes = Buffer.from(`${JSON.stringify(message)}\n`);
  for (let at = 0; at < bytes.length; ) at += written(bytes.subarray(at));
}

/** Writes as many bytes as standard output accepts; 0 if it is a full pipe. */
function written(bytes: Uint8Array): number {
  try {
    return writeSync(1, bytes);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
    return 0;
  }
}

/** Prints a disagreement with its programs. */
function printDisagreement(
  finding: Omit<Finding, "seed"> & { readonly seed?: number },
  options: PlayOptions,
  watchdog: RunWatchdog,
  style: CStyle | undefined,
): void {
  const { shrunk, disagreement, seed, steps, tries, found } = finding;
  const [predicted, observed] = formatAnswers(disagreement.predicted, disagreement.observed);
  const name = seed === undefined ? "explore-replay" : `explore-seed-${seed}`;
  const about = { name, predicted, observed, ...(style === undefined ? {} : { style }) };
  const { c } = reproducer(shrunk, options, about, watchdog);
  const typescript = toTypeScript(shrunk, options.model, options.supported, {
    predicted,
    observed,
  });
  print({
    kind: "disagreement",
    ...(seed === undefined ? {} : { seed }),
    ...{ steps, tries, length: found.operations.length },
    ...shrunk,
    ...{ predicted, observed, typescript, c },
  });
}

/** Executes the work. */
function work(given: ExploreWork): void {
  const began = performance.now();
  using watchdog = new RunWatchdog(given.runSeconds * 1000);
  using kvm = Kvm.open();
  const supported = kvm.getSupportedCpuid();
  const host = lifecycleHost(supported);
  using subject = new KvmSubject(kvm, watchdog);
  const { rows } = fingerprintOf(subject, supported);
  const held = rows.flatMap(({ row, verdict }) => (verdict === "holds" ? [row] : []));
  const isLeftOut = (row: KernelRowName): boolean => given.without.includes(row);
  print({
    kind: "begin",
    kernel: release(),
    vendor: vendorModule() ?? "none",
    rows: held,
    undecided: rows.flatMap(({ row, reason }) => (reason === undefined ? [] : [{ row, reason }])),
    without: held.filter(isLeftOut),
  });
  const model = new LifecycleModel(host, changesOf(held.filter((row) => !isLeftOut(row))));
  const options: PlayOptions = { model, subject, supported };
  const { replay } = given;
  const result =
    replay === undefined
      ? explore({
          ...options,
          seed: given.seed,
          steps: given.steps,
          onSequence: (seed, steps) => print({ kind: "sequence", seed, steps }),
        })
      : replayed(replay, options);
  if (result.finding !== undefined) {
    printDisagreement(result.finding, options, watchdog, given.reproStyle);
  }
  const { steps, sequences, reach } = result;
  print({ kind: "end", steps, sequences, seconds: (performance.now() - began) / 1000, reach });
}

/** Executes one list. */
function replayed(text: string, options: PlayOptions) {
  const sequence = parseSequence(text);
  let steps = 0;
  const after = (_: PlayedStep): void => {
    steps += 1;
  };
  const disagreement = play(sequence, { ...options, after });
  const finding =
    disagreement === undefined
      ? undefined
      : { steps, ...shrunkFrom(sequence, disagreement, options) };
  return { steps, sequences: 1, reach: {}, finding };
}

try {
  work(JSON.parse(process.argv[2] ?? "{}") as ExploreWork);
} catch (error) {
  const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
  print({ kind: "trouble", message });
}
process.exit();
